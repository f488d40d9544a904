# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-collector audit-bundle`: what an auditor asks for."""

from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Connection, func, select

from base.clock import SystemClock, require_plausible_clock
from base.errors import RetryableError, SetupError
from collector.commands.audit_bundle import export
from collector.guard.client import GuardClient
from collector.guard.witnessed import Witnessed
from collector.guard.witnesses import WitnessDoor
from collector.index import Index
from collector.index.opening import opened_index
from collector.index.tables import leaves
from collector.log import Log
from collector.policies import in_force
from collector.premises import Premises, our_premises
from collector.refusal import RefusedError
from wire.ids import WallInstant
from wire.quorum import counted

TRIES: Final = 5  # the server beside us may have the witness cosign more than we look at


@click.command("audit-bundle")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder to make.",
)
def audit_bundle(out: Path) -> None:
    """Write what an auditor needs into a new folder.

    It runs beside the server. The folder gets the log and what opens its leaves: policies,
    consents, demands, tombstones, releases with their approvals, and of each batch its core
    and its device's signature. Nothing that was recorded is in it, sealed or not; of persons
    it has pseudonyms. The guard has to be there, since it cosigns the log. An auditor checks
    all of it with assent-govern audit, without us.

    \b
    Example:
      assent-collector audit-bundle --out audit-2027-03
    """
    premises = our_premises()
    require_plausible_clock()
    with opened_index(premises) as index:
        digest = write_bundle(premises, index, out)
    click.echo(f"{out}  the bundle {digest}")
    click.echo(f"next: the auditor runs assent-govern audit {out} --root root.json")


def write_bundle(premises: Premises, index: Index, out: Path) -> str:
    """Write the bundle of this moment into *out*; return its digest.

    Raises:
        SetupError: No guard is connected, or *out* is there already.
        RetryableError: The guard is away.

    """
    config = premises.config()
    if config.guard is None:
        raise SetupError("no guard is connected, so nobody cosigns the log; run connect-guard")
    if out.exists():
        raise SetupError(f"{out} is there already; a bundle goes into a new folder")
    witnessed = Witnessed(
        index=index,
        log=Log(index, premises.log_key(), config.log_name),
        guard=GuardClient(premises, config.guard),
        others=tuple(WitnessDoor(premises, each) for each in config.witnesses),
    )
    for left in reversed(range(TRIES)):
        with index.moment(out.parent) as connection:
            try:
                now = WallInstant(SystemClock().now().wall)
                head = witnessed.by_quorum(now, _size(connection))
            except RefusedError as exc:
                if not left:
                    raise RetryableError(f"{exc}; no bundle was written") from exc
                continue
            # By both keys while the guard changes its own; the bundle has what its policy names.
            return _export(connection, counted(head, in_force(connection).policy), out)
    raise RetryableError("the log was not cosigned; no bundle was written")


def _export(connection: Connection, head: str, out: Path) -> str:
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task("leaves", total=None)
        return export(
            connection,
            head,
            out,
            lambda done, of: bars.update(task, completed=done, total=of),
        )


def _size(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())
