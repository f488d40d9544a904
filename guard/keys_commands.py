# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-guard keys`: other keys for this guard, by which the next policy names it.

Made and announced here; in use from the `trust` of a policy that names them (`guard.rings`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.durable import replace
from base.errors import SetupError
from guard.premises import Premises, our_premises
from guard.trust import OwnKeys, OwnWitness, load
from wire.guard_follows import (
    MOST_FOLLOWED,
    Three,
    sign_following,
    three_of,
    witness_followed,
)
from wire.ids import WallInstant
from wire.policy import FormerKeys, Guard, Policy, Witness, decode_policy


@click.group()
def keys() -> None:
    """Change the keys by which a policy names this guard.

    \b
    Example:
      assent-guard keys announce --out guard.json
    """


@keys.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it here, too.")
def announce(out: Path | None) -> None:
    """Make the keys that are to follow, once, and print them.

    As the next policy says it. Nothing changes yet but that months' keys are signed, and the
    log is cosigned, by both. The signing key of today gives its word for the next ones; so
    nobody is asked again. The parties put it into the next policy with `assent-govern guard
    rotate`, and sign. When this guard acts on that policy (`assent-guard trust`), it goes by
    the next keys from then on.

    \b
    Example:
      assent-guard keys announce --out guard.json
    """
    premises = our_premises()
    require_plausible_clock()
    policy = _settled(premises)
    if policy is None:
        raise SetupError("no policy is installed here yet, so there is nothing to change")
    premises.own_keys().check_named(policy)
    premises.chest().announce()
    coming = premises.next_keys()
    if coming is None:
        raise SetupError("some of the next keys are missing; run this again")
    entry = msgspec.json.format(msgspec.json.encode(_made(premises, coming, policy))) + b"\n"
    if out is not None:
        replace(out, entry, mode=0o644)
    click.echo(entry, nl=False)
    click.echo("Next: assent-govern guard rotate, by who writes the policy.", err=True)


@keys.command("take-back")
@click.option("--yes", is_flag=True, help="Do not ask.")
def take_back(yes: bool) -> None:
    """Destroy the keys that were announced.

    Another call makes others. A policy that names these and is not installed here yet is for
    nobody any more; when one was, they are the present ones, and stay.

    \b
    Example:
      assent-guard keys take-back
    """
    premises = our_premises()
    _settled(premises)
    if premises.next_keys() is None:
        raise SetupError("no next keys are announced")
    if not yes:
        click.confirm("Destroy the keys that were announced?", abort=True)
    premises.chest().take_back()
    click.echo("They are gone; the present ones stay.")


def beside(premises: Premises) -> Iterator[tuple[str, str]]:
    """Yield what `status` says of keys beside the present ones."""
    if premises.next_keys() is not None:
        yield "next keys", "are announced; assent-guard keys announce prints them"
    until = premises.chest().former_until()
    if until is not None:
        at = datetime.fromtimestamp(until // NANOSECONDS, UTC)
        yield "former keys", f"sign beside the present ones until {at:%Y-%m-%d %H:%M} UTC"


def _settled(premises: Premises) -> Policy | None:
    """Bring to its end what was interrupted; return the installed policy, if any."""
    now = WallInstant(SystemClock().now().wall)
    premises.settle(now)
    premises.chest().retire(now)
    installed = load(premises.policy_file)
    return decode_policy(installed.policy) if installed else None


def _made(premises: Premises, coming: OwnKeys | OwnWitness, policy: Policy) -> Guard | Witness:
    """Return what the next policy is to say of this guard, or of this witness alone."""
    if isinstance(coming, OwnKeys):
        word = sign_following(three_of(policy.guard), coming.three, premises.signing_key())
        return following(policy.guard, word, coming.three)
    own = premises.own_keys().witness
    (named,) = {each for each in policy.witnesses if each.key == own}
    return witness_followed(named, coming.witness, premises.witness_key())


def following(guard: Guard, word: FormerKeys, coming: Three) -> Guard:
    """Return *guard* by the keys that are *coming*, which follow its own by *word*."""
    signing_key, witness, lease_key = coming
    return msgspec.structs.replace(
        guard,
        signing_key=signing_key,
        witness=witness,
        lease_key=lease_key,
        follows=(*guard.follows, word)[-MOST_FOLLOWED:],
    )
