# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector`: set up, serve, and say what is here.

Every command works on the folders of this machine (`ASSENT_HOME` moves them).  Whoever can
run it can read sealed batches and open none.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from base import durable
from base.api import Door
from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.command import EXISTING_FILE, a_name, epilog_of, run, version_option
from base.crowd import LEAST
from base.logs import start_logging
from base.pki import Role
from base.process import forbid_core_files, forbid_tracing
from base.serving import Listeners, run_together
from collector import enrol, policies
from collector.assembly import Collector
from collector.check.command import check_command
from collector.commands import standstill
from collector.commands.audit import audit_bundle
from collector.commands.backup import backup_command, restore_command
from collector.commands.connect import connect_guard_command, connect_witness_command
from collector.commands.enrolment import jurisdiction, token
from collector.commands.migrate import migrate_command
from collector.commands.proof import list_consents
from collector.commands.rotate import ca, tls
from collector.commands.setup import move_in, still_to_do
from collector.commands.store_policy import store_policy
from collector.config import Config
from collector.drill.command import drill_command
from collector.drill.doors import withdraw
from collector.drill.gate import Gate
from collector.drill.schedule import scheduled
from collector.exposure.command import exposure_command
from collector.guard.watch import Watch
from collector.index.opening import opened_index
from collector.operators import facts
from collector.operators.app import document
from collector.premises import our_premises
from collector.rights.notices import Messenger
from collector.serving.listeners import bind, credentials_for, served
from wire.errors import WireError
from wire.ids import WallInstant

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
ANY_FILE = click.Path(dir_okay=False, path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog_of("assent-collector", "collector"),
)
@version_option()
def cli() -> None:
    """Store sealed batches of one tenant, and log what happens to them.

    From nothing to the first device:

    \b
      assent-collector init --origin https://collector.example:8443 --tenant acme
      (the guard certifies guard/client.csr, and gives its origin, tls_pin and ca)
      assent-collector connect-guard --origin https://guard.example:8444 --pin ... \\
          --ca guard-ca.pem --certificate collector.pem
      assent-collector publish acme-policy/
      assent-collector token --out ada.enrol.json
      assent-collector serve
    """
    # Most commands load a key: of the authority, the log or the server.  The server itself may be
    # looked into by its operator; it leaves no core file (`serve`).
    if click.get_current_context().invoked_subcommand != "serve":
        forbid_tracing()


# --- set up -----------------------------------------------------------------------------


@cli.command()
@click.option("--origin", required=True, help="What agents call: https://host[:port].")
@click.option("--tenant", required=True, help="Short name of the organisation: a-z, 0-9, '-'.")
@click.option("--listen", help="Host and port to listen on, if others than the origin's.")
@click.option("--readers", help="What readers call, on a listener of their own: https://host:port.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="One more name or address it is reached by; repeatable.",
)
@click.option("--index", help="A PostgreSQL database for the index: postgresql://host/name.")
@JSON
def init(
    origin: str,
    tenant: str,
    listen: str | None,
    readers: str | None,
    hosts: tuple[str, ...],
    index: str | None,
    as_json: bool,
) -> None:
    """Make keys, certificates and config.toml, once.

    Prints what a policy has to name.

    \b
    Example:
      assent-collector init --origin https://collector.example:8443 --tenant acme \\
          --readers https://collector.example:8445
    """
    require_plausible_clock()
    premises = our_premises()
    move_in(
        premises,
        origin=origin,
        tenant=tenant,
        listen=listen,
        readers=readers or "",
        hosts=hosts,
        index_url=index or "",
    )
    shown = {
        "origin": premises.config().origin,
        "readers": (readers or origin).rstrip("/"),
        "tenant": tenant,
        "tls_pin": premises.tls_pin(),
        "log_key": premises.log_verifier_key(),
        "lease_key": premises.lease_public_key(),
        "ca_pem": str(premises.client_authority),
        "guard_csr": str(premises.guard_folder / "client.csr"),
        "config": str(premises.config_file),
    }
    if as_json:
        click.echo(msgspec.json.encode(shown))
        return
    for name, value in shown.items():
        click.echo(f"{name:9} {value}")
    click.echo("A policy names origin, tenant, tls_pin, log_key and lease_key.")
    click.echo("The guard certifies guard_csr.")


@cli.command()
@click.argument("folder", type=EXISTING_FOLDER)
def publish(folder: Path) -> None:
    """Put the signed policy in FOLDER in force.

    FOLDER holds root.json, snapshot.json, targets.json and policy.json. The guard trusts the same
    folder: it renews the lease for nothing else.

    \b
    Example:
      assent-collector publish acme-policy/
    """
    premises = our_premises()
    config = premises.config()
    require_plausible_clock()
    published = policies.read_folder(folder, _now())
    policies.check_is_about(
        published,
        origin=config.origin,
        tenant=config.tenant,
        pin=premises.tls_pin(),
        log=premises.log_verifier_key(),
        lease_key=premises.lease_public_key(),
    )
    with opened_index(premises) as index, index.writing() as connection:
        new = policies.publish(connection, published, _now())
    said = "is in force now" if new else "was in force already"
    click.echo(f"Policy {published.digest.hex()} (version {published.policy.version}) {said}.")
    click.echo(f"It rests on the privacy review {published.policy.review}.")


@cli.command()
@click.option("--listen", help="Host and port instead of those in config.toml; port 0: any.")
@click.option("--port-file", type=ANY_FILE, help="Write the port here, those of others beside it.")
@click.option("--verbose", is_flag=True, help="Log more; never who or what.")
def serve(listen: str | None, port_file: Path | None, verbose: bool) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Requests under way are finished.

    \b
    Example:
      assent-collector serve --listen 127.0.0.1:0 --port-file port
    """
    forbid_core_files()  # nor of a worker: not every host has a unit that says so
    premises = our_premises()
    config = premises.config()
    if listen is not None:
        config = msgspec.structs.replace(config, listen=listen)
    config.check_addresses()
    require_plausible_clock()
    logs = premises.paths.make().logs
    start_logging("assent-collector", logs, verbose=verbose, form=config.log_form)
    credentials_for(premises, Door.DEVICES).check()
    with premises.alone() as lock:
        collector = Collector.open(premises, config=config, gate=Gate())
        listeners = bind(config)
        messenger = Messenger(collector.index, config.notify_command, collector.now)
        messenger.start()
        watch = Watch(collector)
        watch.begin()
        drills = scheduled(collector, premises, listeners)
        serves = served(listeners, collector, premises, watch, drills, lock)
        drills.begin(then=lambda: _announce(config, listeners, port_file))
        for line in still_to_do(collector):
            click.echo(line, err=True)
        try:
            run_together(*serves)
        finally:
            drills.end()
            withdraw(premises)
            watch.end()
            messenger.stop()
            collector.close()


def _announce(config: Config, listeners: Listeners, port_file: Path | None) -> None:
    """Say where it serves, once the first drill is over: who comes then is let in, or told why."""
    if port_file is not None:
        listeners.announce(port_file)
    for door, port in listeners.ports.items():
        click.echo(f"serving {config.origin if door is Door.DEVICES else door} on port {port}")


@cli.command("openapi")
def openapi_command() -> None:
    """Print what can be asked here, as an OpenAPI document.

    \b
    Example:
      assent-collector openapi
    """
    click.echo(document(), nl=False)


# --- devices and readers ----------------------------------------------------------------


cli.add_command(token)
cli.add_command(jurisdiction)


@cli.command()
@JSON
def devices(as_json: bool) -> None:
    """List the enrolled devices.

    What they sent is not shown to anybody.

    \b
    Example:
      assent-collector devices --json
    """
    with opened_index(our_premises()) as index, index.reading() as connection:
        known = facts.all_devices(connection)
    if as_json:
        click.echo(msgspec.json.encode(known))
        return
    table = Table("device", "jurisdiction", "enrolled", "certificate until", "revoked")
    for one in known:
        revoked = _day(one.revoked_at) if one.revoked_at is not None else ""
        days = (_day(one.enrolled_at), _day(one.certified_until), revoked)
        table.add_row(one.device[:16], one.jurisdiction, *days)
    Console().print(table)


cli.add_command(list_consents)
cli.add_command(audit_bundle)


@cli.command()
@click.argument("device", required=False)
@click.option("--reader", help="Revoke this reader instead of a device.")
def revoke(device: str | None, reader: str | None) -> None:
    """Refuse a device from its next request on.

    Six digits of the id DEVICE are enough, as `assent-collector devices` has it. There is no way
    back: that device is never enrolled again.

    \b
    Example:
      assent-collector revoke 3f1c9a
      assent-collector revoke --reader training-team
    """
    if (device is None) == (reader is None):
        raise click.UsageError("name one device, or one reader with --reader")
    with opened_index(our_premises()) as index, index.writing() as connection:
        if reader is not None:
            enrol.revoke_reader(connection, reader, _now())
            said = f"reader {reader}"
        else:
            said = f"device {enrol.revoke_device(connection, device or '', _now()).hex()}"
    click.echo(f"Revoked: {said}. What it sent stays, sealed.")


@cli.command()
@click.argument("request", type=EXISTING_FILE, metavar="CSR")
@click.option(
    "--role",
    type=click.Choice([Role.READER.value, Role.OPERATOR.value]),
    required=True,
    help="Who it is for: a reader fetches sealed batches, an operator sees numbers.",
)
@click.option(
    "--name",
    required=True,
    callback=a_name,
    help="Of a reader: as in policy and grants; of an operator: as in config.toml.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 365),
    default=90,
    show_default=True,
    help="How long the certificate is good.",
)
@click.option("--out", type=ANY_FILE, help="Where to write the certificate; printed if left out.")
def certify(request: Path, role: str, name: str, days: int, out: Path | None) -> None:
    """Certify the signing request of a reader or operator.

    CSR is the file of that request: a reader's keygen made it as reader.csr. Again before the
    certificate runs out. An operator is let in while config.toml lists the name.

    \b
    Example:
      assent-collector certify --role reader --name training-team reader.csr --out reader.pem
    """
    premises = our_premises()
    tenant = premises.config().tenant
    require_plausible_clock()
    registry = enrol.Registry(authority=premises.authority(), tenant=tenant, days=days)
    if role == Role.OPERATOR:
        made = registry.certify(request.read_bytes(), Role.OPERATOR, name)
    else:
        with opened_index(premises) as index, index.writing() as connection:
            made = enrol.certify_reader(connection, registry, request.read_bytes(), name, _now())
    if out is None:
        click.echo(made.certificate, nl=False)
        return
    durable.replace(out, made.certificate.encode("ascii"))
    click.echo(f"{out}  {role} {name}, until {_day(made.expires_at)}")


# --- status ---------------------------------------------------------------------------


@cli.command()
@JSON
def status(as_json: bool) -> None:
    """Say what is here: counts, nothing about one person.

    People are counted in tens; what they sent is not told at all.

    \b
    Example:
      assent-collector status --json
    """
    premises = our_premises()
    config = premises.config()
    card = facts.Card(
        origin=config.origin,
        tenant=config.tenant,
        tls_pin=premises.tls_pin(),
        log_key=premises.log_verifier_key(),
        lease_key=premises.lease_public_key(),
        ca_pem=str(premises.client_authority),
        guard=config.guard.origin if config.guard else "",
        witnesses=", ".join(each.origin for each in config.witnesses),
    )
    with opened_index(premises) as index, index.reading() as connection:
        found = facts.status(connection, card)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"HALTED: {found.why}" if found.halted else "not halted")
    if found.stopped:
        click.echo(f"STOPPED: {found.stopped}")
    if found.notices_wait:
        click.echo("notices wait to be delivered: see notify_command")
    for name in ("origin", "tenant", "tls_pin", "log_key", "lease_key", "ca_pem"):
        click.echo(f"{name:10} {getattr(found, name)}")
    version = f"version {found.policy_version}" if found.policy else "none yet: run publish"
    tens = {
        name: f"{count} or more" if count else f"fewer than {LEAST}"
        for name, count in found.in_tens.items()
    }
    lines = {
        "guard": found.guard or "none yet: run connect-guard",
        **({"witnesses": found.witnesses} if found.witnesses else {}),
        "policy": version,
        **found.counts,
        "witnessed": found.witnessed,
        "releases": found.releases,
        **tens,
    }
    for name, said in lines.items():
        click.echo(f"{name:10} {said}")


for _command in (
    *(backup_command, restore_command, migrate_command, store_policy, check_command),
    *(connect_guard_command, connect_witness_command),
    *(drill_command, exposure_command, tls, ca, *standstill.COMMANDS),
):
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command line."""
    run(cli, "assent-collector", refusals=(WireError,))


def _now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)


def _day(at: WallInstant) -> str:
    return f"{datetime.fromtimestamp(at / NANOSECONDS, UTC):%Y-%m-%d}"


if __name__ == "__main__":
    main()
