# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-agent rights`: with the rights key alone, on any machine; here: withdraw and erase.

For whoever left, or whose device is lost.  The file of the rights key has what is needed:
the identity, and below it, as comments of an age identity file, the collector and the guard.
Nothing here can grant.
"""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from agent import config as configuration
from agent.handover import Answered, NoAnswer
from agent.transport import Door
from base.clock import SystemClock, require_plausible_clock
from base.errors import RejectedError, RetryableError, SetupError
from base.paths import paths_for
from base.process import become_undumpable
from wire.category import Category
from wire.collector_http import Carried, Enrolment, verify_carried
from wire.errors import WireError
from wire.ids import WallInstant
from wire.me_answers import Believed
from wire.policy import Policy
from wire.rights import (
    Demand,
    Request,
    SignedRequest,
    Speaker,
    rights_key_of,
    sign_request,
    subject_of,
)

NEEDED: Final = ("collector", "pin", "authority", "log", "guard")
NAMES: Final = (*NEEDED, "witness", "root")  # a file of an earlier version lacks these two


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the file of a rights key says; `log` and `guard` are the keys that receipts are of.

    `witness` (a key, too) and `root_sha256` (of the policies' root) are empty in older files.
    """

    identity: str
    origin: str
    pins: tuple[str, ...]
    ca_pem: str
    log: str
    guard: str
    witness: str = ""
    root_sha256: str = ""


def rights_card(identity: str, invitation: Enrolment, policy: Policy | None) -> str:
    """Return the text of a rights key's file: an age identity file with comments."""
    authority = base64.b64encode(invitation.ca_pem.encode()).decode("ascii")
    lines = [identity, f"# collector {invitation.origin}"]
    lines += [f"# pin {pin}" for pin in invitation.tls_pins]
    lines.append(f"# authority {authority}")
    if policy is not None:
        lines += [f"# log {policy.collector.log}", f"# guard {policy.guard.signing_key}"]
        lines += [f"# witness {policy.guard.witness}", f"# root {invitation.root_sha256}"]
    return "\n".join(lines) + "\n"


def read_card(path: Path) -> Card:
    """Return what the file of a rights key says.

    Raises:
        SetupError: It cannot be read, or something is missing.

    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path} cannot be read; give the file of your rights key") from exc
    said: dict[str, list[str]] = {name: [] for name in NAMES}
    identities = [line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-PQ-1")]
    for line in lines:
        name, _, value = line.removeprefix("#").strip().partition(" ")
        if line.startswith("#") and name in said and value.strip():
            said[name].append(value.strip())
    missing = [name for name in NEEDED if not said[name]]
    if len(identities) != 1 or missing:
        what = "one line AGE-SECRET-KEY-PQ-1..." if len(identities) != 1 else f"# {missing[0]} ..."
        raise SetupError(f"{path} is no whole file of a rights key: it lacks {what}")
    try:
        ca_pem = base64.b64decode(said["authority"][0], validate=True).decode("ascii")
    except ValueError as exc:
        raise SetupError(f"{path}: the line # authority is damaged; use another copy") from exc
    return Card(
        identity=identities[0],
        origin=said["collector"][0],
        pins=tuple(said["pin"]),
        ca_pem=ca_pem,
        log=said["log"][0],
        guard=said["guard"][0],
        witness="".join(said["witness"][:1]),
        root_sha256="".join(said["root"][:1]),
    )


def believed_of(card: Card) -> Believed:
    """Return the keys by which answers are checked."""
    public = rights_key_of(card.identity).public_key().public_bytes_raw()
    return Believed(
        origin=card.origin,
        log=card.log,
        witness=card.witness,
        guard=card.guard,
        subject=subject_of(public),
        rights_key=public,
    )


def request_of(
    card: Card, demand: Demand, category: Category | None, now: WallInstant
) -> SignedRequest:
    """Return the request, signed with the rights key."""
    key = rights_key_of(card.identity)
    public = key.public_key().public_bytes_raw()
    request = Request(
        nonce=secrets.token_bytes(16),
        origin=card.origin,
        subject=subject_of(public),
        demand=demand,
        category=category,
        made_at=now,
    )
    return sign_request(request, Speaker(key=key, rights_key=public))


def say(card: Card, signed: SignedRequest, door: Door) -> Carried:
    """Hand the request in; return what was proved of it.

    Raises:
        RetryableError: No answer that may be believed.
        RejectedError: The collector refused.

    """
    match door.demand(signed):
        case NoAnswer(why=why):
            raise RetryableError(f"{why}; nothing is done yet, try again later")
        case Answered(status=200, body=body):
            try:
                carried = verify_carried(body, signed.digest, card.log)
                if carried.guard is not None:
                    believed = believed_of(card).told_of(carried.named)
                    believed.verify_word(carried.guard, signed.digest)
            except WireError as exc:
                raise RejectedError(
                    f"the answer proves nothing ({exc}); do not believe it"
                ) from exc
            return carried
        case Answered(status=status, says=says):
            raise RejectedError(f"the collector answered {status}: {says}")


# --- commands -------------------------------------------------------------------------------

Command = Callable[..., None]
_KEY: Final = click.option(
    "--key",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of your rights key.",
)
_CATEGORY: Final = click.argument(
    "category", required=False, type=click.Choice([c.value for c in Category])
)


@click.group()
def rights() -> None:
    """See, withdraw and erase what is of you.

    With the rights key that you got at enrolment, on any machine that has this program, without
    the device. It cannot agree to anything.

    \b
    Example:
      assent-agent rights batches --key rights-key.txt
    """


@rights.command("withdraw")
@_KEY
@_CATEGORY
def withdraw(file: Path, category: str | None) -> None:
    """Take back your consent for CATEGORY, or all of it.

    The collector takes no more; a device of yours that still runs follows within seconds.

    \b
    Example:
      assent-agent rights withdraw --key rights-key.txt
    """
    _carry_out(file, Demand.WITHDRAW, category)
    click.echo("withdrawn: the collector takes nothing more that you agreed to before now")


@rights.command("erase")
@_KEY
@_CATEGORY
def erase(file: Path, category: str | None) -> None:
    """Withdraw, and erase what was sent of CATEGORY, or all of it.

    \b
    Example:
      assent-agent rights erase --key rights-key.txt screen
    """
    carried = _carry_out(file, Demand.ERASE, category)
    click.echo(f"the collector has deleted {carried.erased} batches; its log says so")
    if carried.guard is None:
        raise RetryableError(
            "NOT confirmed by the guard; the collector asks it again: run this once more later"
        )
    click.echo("the guard has erased its keys; its backups of them are gone in 7 days")


def _carry_out(file: Path, demand: Demand, category: str | None) -> Carried:
    become_undumpable()  # before the identity is read
    require_plausible_clock()
    card, now = read_card(file), WallInstant(SystemClock().now().wall)
    chosen = None if category is None else Category(category)
    proxy = configuration.proxy_of(configuration.load(paths_for("agent").config))
    door = Door(card.origin, card.pins, card.ca_pem, proxy=proxy)
    try:
        return say(card, request_of(card, demand, chosen, now), door)
    finally:
        door.close()
