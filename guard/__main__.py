# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-guard`: the second lock, run by representatives or an independent party."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from base.api import Door
from base.clock import SystemClock, require_plausible_clock
from base.command import EXISTING_FILE, a_name, epilog_of, run, version_option
from base.door import host_and_port
from base.durable import replace
from base.errors import SetupError
from base.logs import start_logging
from base.pki import Role, certificate_expires_at, client_uri
from base.process import become_undumpable, forbid_tracing
from base.serving import run_together
from guard import standstill
from guard.assembly import Guard
from guard.backup_commands import backup, restore_command
from guard.config import Config
from guard.keys_commands import beside, keys
from guard.listeners import bind, credentials_for, served
from guard.lock_facts import NO_LOCK, of_lock, remember
from guard.operate import document
from guard.premises import Card, Premises, move_in, our_premises
from guard.sweep import sweeping
from guard.tls_commands import tls
from guard.trust import OwnOrNext, check_successor, install, load, read_policy_set
from wire.category import Category
from wire.errors import WireError
from wire.ids import SubjectId, WallInstant
from wire.parties import signers
from wire.policy import Policy, policy_digest

CLIENT_DAYS = 90  # collector and readers are few, and are certified by hand
# What `status` says of a witness alone.
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog_of("assent-guard", "guard"),
)
@version_option()
def cli() -> None:
    """Hold the second lock: without it no reader's key opens a batch.

    Never to be run by the controller. Set up, in this order:

    \b
      assent-guard init --origin https://guard.council.example:8444 --tenant acme
      (the policy is drafted with what that printed, and signed by all parties)
      assent-guard trust acme/
      assent-guard certify --role collector client.csr --name main --out collector.pem
      assent-guard certify --role reader reader.csr --name training-team --out reader.pem
      assent-guard serve
    """
    forbid_tracing()  # most commands load a key, if only to name it


@cli.command()
@click.option("--origin", required=True, help="What callers connect to: https://host:port.")
@click.option("--tenant", required=True, help="Short name of the organisation, a-z 0-9 hyphen.")
@click.option(
    "--name", help="Name in its cosignatures, for ever; left out: HOST:PORT/TENANT/guard."
)
@click.option("--listen", help="host:port to listen on; the origin's own when left out.")
@click.option("--readers", help="What readers call, on a listener of their own: https://host:port.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="One more name or address it is reached by; repeatable.",
)
@click.option("--witness-only", is_flag=True, help="Watch the log and nothing else: no keys.")
@JSON
def init(
    origin: str,
    tenant: str,
    name: str | None,
    listen: str | None,
    readers: str | None,
    hosts: tuple[str, ...],
    witness_only: bool,
    as_json: bool,
) -> None:
    """Make a guard: its authority, certificate and keys.

    Prints what the policy and the collector need to know of it; `status` prints it again. With
    --witness-only it is one more witness of the log, beside the guard's own: for a party that runs
    neither the guard nor the collector.

    \b
    Example:
      assent-guard init --origin https://guard.council.example:8444 --tenant acme \\
          --readers https://guard.council.example:8446
    """
    require_plausible_clock()
    bare = origin.rstrip("/").removeprefix("https://")
    host, port = host_and_port(readers) if readers else ("", 0)
    config = Config(
        origin=origin.rstrip("/"),
        tenant=tenant,
        name=name or f"{bare}/{tenant}/{'witness' if witness_only else 'guard'}",
        witness_only=witness_only,
        listen=listen or (bare if ":" in bare else f"{bare}:443"),
        readers_listen=f"{host}:{port}" if readers else "",
    )
    premises = our_premises()
    move_in(premises, config, (*hosts, *([host] if host else [])))
    called = (readers or origin).rstrip("/")
    if as_json:
        facts = {**msgspec.to_builtins(premises.card()), "readers": called}
        click.echo(msgspec.json.format(msgspec.json.encode(facts)))
    else:
        _show_card(premises.card(), premises)
        _say_who_gets_what(called, witness_only=witness_only)


def _say_who_gets_what(called: str, *, witness_only: bool) -> None:
    if witness_only:
        click.echo("The policy names witness among its witnesses, with you as its party.")
        click.echo("The collector gets the rest: assent-collector connect-witness.")
        return
    click.echo(f"{'readers':15} {called}")
    click.echo("The policy names signing_key, witness and lease_key.")
    click.echo("Collector and readers get the rest.")


@cli.command()
@click.option("--listen", help="host:port instead of the configured one; port 0 chooses one.")
@click.option(
    "--port-file",
    type=click.Path(path_type=Path),
    help="Write the port here, those of other doors beside it.",
)
@click.option("--verbose", is_flag=True, help="Log more; never who or what.")
def serve(listen: str | None, port_file: Path | None, verbose: bool) -> None:
    """Answer collector and readers until stopped.

    \b
    Example:
      assent-guard serve --listen 127.0.0.1:8444
    """
    become_undumpable()  # before the first seed is read
    premises = our_premises()
    config = premises.config()
    if listen is not None:
        config = msgspec.structs.replace(config, listen=listen)
    config.check_addresses()
    require_plausible_clock()
    with premises.alone():
        premises.settle(_now())
        watching = premises.opened(SystemClock())
        start_logging("guard", premises.paths.logs, verbose=verbose, form=config.log_form)
        credentials_for(premises, Door.COLLECTOR).check()
        listeners = bind(config)
        if port_file is not None:
            listeners.announce(port_file)
        for door, port in listeners.ports.items():
            of_whom = "" if door is Door.COLLECTOR else f" for {door}"
            click.echo(f"guard {config.name} listens{of_whom} on port {port}", err=True)
        if load(premises.policy_file) is None:
            lacking = "cosigned" if config.witness_only else "released"
            click.echo(f"no policy yet, so nothing is {lacking}: run assent-guard trust", err=True)
        try:
            # A witness alone has no keys.
            runs_out = sweeping(watching) if isinstance(watching, Guard) else nullcontext()
            with runs_out:
                run_together(*served(listeners, watching, premises, config))
        finally:
            watching.close()


@cli.command("openapi")
def openapi_command() -> None:
    """Print what can be asked here, as an OpenAPI document.

    \b
    Example:
      assent-guard openapi
    """
    click.echo(document(), nl=False)


@cli.command()
@click.argument("csr", type=EXISTING_FILE)
@click.option(
    "--role",
    required=True,
    type=click.Choice([Role.READER.value, Role.COLLECTOR.value, Role.OPERATOR.value]),
    help="Who it is for: what each may ask is told apart by it.",
)
@click.option(
    "--name",
    required=True,
    callback=a_name,
    help="For a reader: as access requests will name it; for an operator: as in config.toml.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the certificate.",
)
@click.option(
    "--days",
    default=CLIENT_DAYS,
    show_default=True,
    type=click.IntRange(1, 366),
    help="How long the certificate is good.",
)
def certify(csr: Path, role: str, name: str, out: Path, days: int) -> None:
    """Certify a CSR of a reader, collector or operator.

    CSR is the file of a signing request: a reader's keygen makes reader.csr, a collector's init
    makes guard/client.csr. Again before the certificate runs out. An operator is let in while
    config.toml lists the name.

    \b
    Example:
      assent-guard certify --role reader reader.csr --name training-team --out reader.pem
    """
    premises = our_premises()
    require_plausible_clock()
    uri = client_uri(premises.config().tenant, Role(role), name)
    certificate = premises.authority().certify(csr.read_bytes(), uri, days)
    replace(out, certificate, mode=0o644)
    until = certificate_expires_at(certificate)
    click.echo(f"{out}  {uri}, until {until:%Y-%m-%d}; give it to {name}")


@cli.command()
@click.argument("folder", type=FOLDER)
@click.option("--root-sha256", help="Digest of root.json as the parties told you.")
@click.option("--yes", is_flag=True, help="Act on it without a question.")
def trust(folder: Path, root_sha256: str | None, yes: bool) -> None:
    """Act on the signed policy in FOLDER from now on.

    The first policy's root.json decides who can sign the next ones: compare its digest with
    the parties. A running guard takes the policy at its next request.

    \b
    Example:
      assent-guard trust acme/ --root-sha256 9f2c...
    """
    premises = our_premises()
    premises.config()
    require_plausible_clock()
    premises.settle(_now())  # what an interrupted `trust` left
    offered, installed = read_policy_set(folder), load(premises.policy_file)
    now = datetime.now(UTC)
    own = OwnOrNext(now=premises.own_keys(), announced=premises.next_keys())
    policy = check_successor(offered, installed, own, now)
    if policy.collector.tenant != premises.config().tenant:
        raise SetupError(f"this policy is for the tenant {policy.collector.tenant}, not ours")
    if root_sha256 is not None and root_sha256.lower() != offered.root_sha256:
        raise SetupError(
            f"root.json has the digest {offered.root_sha256}, another one; ask the parties which "
            "one is right"
        )
    signed = [
        party for party, is_signed in signers(offered.root, offered.targets).items() if is_signed
    ]
    click.echo(f"policy version {policy.version} of {policy.programme}, {policy.controller.name}")
    click.echo(f"signed by {' and '.join(signed)}")
    click.echo(f"root sha256 {offered.root_sha256}")
    click.echo(f"privacy review {policy.review}")
    if own.names_next(policy):
        click.echo("it names this guard's next keys, which take the place of the present ones")
    if not yes:
        click.confirm("Act on it?", abort=True)
    if not premises.config().witness_only:
        remember(premises, policy)
    # From here on each key does what this policy says; a crash leaves the files' names behind.
    install(premises.policy_file, offered)
    premises.settle(_now())
    click.echo("installed")


@cli.command()
@JSON
def status(as_json: bool) -> None:
    """Say what this guard holds, trusts and has seen; no secrets.

    \b
    Example:
      assent-guard status --json
    """
    premises = our_premises()
    facts = _facts(premises)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(facts)))
        return
    _show_card(premises.card(), premises)
    for name, said in beside(premises):
        click.echo(f"{name:15} {said}")
    click.echo(f"{'policy':15} {facts['policy_trouble'] or facts['policy']}")
    if facts["halted"]:
        click.echo(f"{'HALTED':15} {facts['halted']}")
    if facts["stopped"]:
        click.echo(f"{'STOPPED':15} {facts['stopped']}")
    for name in ("keys", "subjects", "erasures", "untold", "run_out", "log_size"):
        if facts[name] is not None:
            click.echo(f"{name:15} {facts[name]}")


@cli.command()
@click.option("--subject", required=True, help="The pseudonym, 32 hexadecimal digits.")
@click.option(
    "--category",
    type=click.Choice([c.value for c in Category]),
    help="Only the keys of this category; of all when left out.",
)
@click.option("--month", metavar="YYYY-MM", help="Only those of this month; of all when left out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(subject: str, category: str | None, month: str | None, yes: bool) -> None:
    """Erase keys of a data subject: all, or of a category or month.

    What was sealed to them cannot be opened any more, wherever copies lie. There is no way
    back, and no key for the same is made again. The collector hears of it within seconds,
    deletes what it has of it and tells the person's devices; `status` counts as untold what its
    log does not prove yet. Until your own backups of keys.sqlite have aged out, the erasure is
    pending.

    \b
    Example:
      assent-guard forget --subject 000102030405060708090a0b0c0d0e0f --category screen
    """
    if not re.fullmatch(r"[0-9a-fA-F]{32}", subject):
        raise click.BadParameter("a pseudonym has 32 hexadecimal digits", param_hint="--subject")
    if month is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise click.BadParameter("a month is written as in 2027-03", param_hint="--month")
    who = SubjectId(bytes.fromhex(subject))
    of = f"{category or 'every category'}, {month or 'every month'}"
    if not yes:
        click.confirm(f"Erase the keys of {subject}, {of}, for ever?", abort=True)
    premises = our_premises()
    premises.config()
    keys = premises.keys()
    try:
        gone = keys.forget(who, Category(category) if category else None, month, _now())
    finally:
        keys.close()
    click.echo(f"erased {gone} key{'s' if gone != 1 else ''} of {subject}: {of}")


def _now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)


def _facts(premises: Premises) -> dict[str, object]:
    policy, trouble = _installed(premises)
    witness = premises.witness(SystemClock())
    try:
        seen = witness.last_seen(policy.collector.log) if policy else None
    finally:
        witness.close()
    installed = load(premises.policy_file)
    return {
        **msgspec.to_builtins(premises.card()),
        "policy": f"version {policy.version} of {policy.programme}" if policy else None,
        "policy_digest": policy_digest(installed.policy).hex() if installed else None,
        "policy_trouble": trouble,
        **(NO_LOCK if premises.config().witness_only else of_lock(premises, policy)),
        "log_size": seen.size if seen else None,
    }


def _installed(premises: Premises) -> tuple[Policy | None, str | None]:
    installed = load(premises.policy_file)
    if installed is None:
        return None, "none is installed; run assent-guard trust FOLDER"
    try:
        return installed.verified(datetime.now(UTC)), None
    except WireError as exc:
        return None, str(exc)


def _show_card(card: Card, premises: Premises) -> None:
    lines: Sequence[tuple[str, str]] = (
        ("origin", card.origin),
        ("signing_key", card.signing_key),
        ("witness", card.witness),
        ("lease_key", card.lease_key),
        ("tls_pin", card.tls_pin),
        ("ca", str(premises.authority_file)),
    )
    for name, value in lines:
        if value:  # a witness alone has neither signing_key nor lease_key
            click.echo(f"{name:15} {value}")


for _command in standstill.COMMANDS:
    cli.add_command(_command)
cli.add_command(backup)
cli.add_command(restore_command)
cli.add_command(keys)
cli.add_command(tls)


def main() -> NoReturn:
    """Run the command line."""
    run(cli, "assent-guard", refusals=(WireError,))


if __name__ == "__main__":
    main()
