# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector exposure`: whom it concerns, when something may have been open."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from base.clock import NANOSECONDS, SystemClock
from base.errors import SetupError
from collector import policies
from collector.exposure.counts import in_words, told
from collector.exposure.notices import write_notices
from collector.exposure.report import Exposure, Span, exposure
from collector.index import Index
from collector.index.opening import opened_index
from collector.premises import Premises, our_premises
from collector.store.opening import open_store
from wire.ids import WallInstant

_FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
WHEN = click.DateTime(_FORMS)


@click.command("exposure")
@click.option(
    "--since",
    type=WHEN,
    metavar="TIME",
    required=True,
    help="From when on, in UTC: 2027-03-15, or 2027-03-15T09:30.",
)
@click.option("--until", type=WHEN, metavar="TIME", help="Until when; now, if left out.")
@click.option("--public", is_flag=True, help="To be published: no number of fewer than ten people.")
@click.option(
    "--notices",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder to make, with notices to people, authority and council.",
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def exposure_command(
    since: datetime, until: datetime | None, public: bool, notices: Path | None, as_json: bool
) -> None:
    """Say whom it concerns if something was open.

    How many people, which categories, who had what released under whose approval, whether
    it was encrypted, from when to when, and which drills have failed. Each batch that lay here
    at any moment of the time counts, and each is parsed: one that is not the frame that its
    device sealed counts as plaintext. With --notices it writes what has to be sent.

    \b
    Example:
      assent-collector exposure --since 2027-03-15
      assent-collector exposure --since 2027-03-15T09:30 --until 2027-03-15T11:00 --notices out
      assent-collector exposure --since 2027-03-15 --public --json
    """
    if public and notices is not None:
        raise click.UsageError("notices are for those concerned; leave out --public")
    now = WallInstant(SystemClock().now().wall)
    span = Span(since=_instant(since), until=now if until is None else _instant(until))
    if span.since >= span.until:
        raise click.UsageError("--since is before --until, and both are not in the future")
    if notices is not None and notices.exists():
        raise SetupError(f"{notices} is there already; notices go into a new folder")
    premises = our_premises()
    with opened_index(premises) as index:
        found = _found(premises, index, span)
        written = _notices(index, found, notices, now) if notices is not None else 0
    said = told(found, public=public)
    if as_json:
        click.echo(msgspec.json.encode(said))
        return
    for line in in_words(said):
        click.echo(line)
    if notices is not None:
        click.echo(f"{notices}  {written} notices, for you alone to send")


def _notices(index: Index, found: Exposure, folder: Path, now: WallInstant) -> int:
    with index.reading() as connection:
        current = policies.latest(connection)
    if current is None:
        raise SetupError("no policy was published here, so nobody can be concerned")
    return write_notices(index, found, current.policy, folder, now)


def _found(premises: Premises, index: Index, span: Span) -> Exposure:
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task("batches", total=None)
        store = open_store(premises, premises.config())
        return exposure(index, store, span, lambda done: bars.update(task, completed=done))


def _instant(at: datetime) -> WallInstant:
    return WallInstant(int(at.replace(tzinfo=UTC).timestamp()) * NANOSECONDS)
