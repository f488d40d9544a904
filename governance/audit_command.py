# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern audit`: what a collector's bundle proves, and what it does not."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from base.command import EXISTING_FILE
from base.errors import RejectedError, SetupError
from governance.audit.examine import Report, Trusted, examine
from governance.audit.reading import Bundle
from governance.files import read, read_text
from governance.options import JSON, now
from wire.days import DAY, day_of
from wire.errors import UNREADABLE, MalformedError
from wire.metadata import Root, metadata_of
from wire.tlog import unsigned_checkpoint

_DAY: Final = click.DateTime(formats=["%Y-%m-%d"])


class _Receipt(msgspec.Struct):
    """Of any document of the collector's that proves a leaf."""

    checkpoint: str


COUNTED: Final = (
    *("leaves", "policies", "consents", "demands", "orders"),
    *("batches", "erased", "releases"),
)


@click.command("audit")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--root",
    type=EXISTING_FILE,
    required=True,
    help="The policy's root.json, from a party and not from the collector.",
)
@click.option(
    "--seen",
    type=EXISTING_FILE,
    multiple=True,
    help="A checkpoint, or a receipt, that somebody was given by the collector; repeatable.",
)
@click.option(
    "--opened",
    type=EXISTING_FILE,
    multiple=True,
    help="A list of the batches that a reader can open, a hash in each line; repeatable.",
)
@click.option(
    "--at",
    "at",
    type=_DAY,
    metavar="YYYY-MM-DD",
    help="The day of the audit, instead of today.",
)
@JSON
def audit(
    bundle: Path,
    root: Path,
    seen: tuple[Path, ...],
    opened: tuple[Path, ...],
    at: datetime | None,
    as_json: bool,
) -> None:
    """Judge offline what a collector shows of its log.

    BUNDLE is what assent-collector audit-bundle wrote. From its log, the keys that your root
    leads to, and nothing else it is worked out again that the log only ever grew and is
    witnessed, that each batch is signed by its device under a consent and a policy that were
    in force, that each access was approved and logged, and that nothing was kept for too long.

    Every finding is one line: the rule, the leaf of the log, and what is wrong. Ends with 6 if
    there is any. What an audit cannot see stands in docs/guides/audit.md.

    \b
    Example:
      assent-govern audit audit-2027-03 --root root.json
      assent-govern audit audit-2027-03 --root root.json --seen receipt.json --opened mine.txt
    """
    opening = Bundle.open(bundle)
    trusted = Trusted(
        root=_root(root),
        now=_moment(at),
        seen=tuple(_checkpoint(path) for path in seen),
        opened=frozenset(name for path in opened for name in _hashes(path)),
    )
    with _progress() as progress:
        report = examine(opening, trusted, processes=_processors(), progress=progress)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        for finding in report.findings:
            click.echo(finding.line)
        _summarise(report)
    if report.findings:
        count = len(report.findings)
        said = "1 finding" if count == 1 else f"{count} findings"
        raise RejectedError(f"{bundle}: {said}; ask who runs the collector")


def _summarise(report: Report) -> None:
    hours, minutes = divmod(report.cosigned_at % DAY // 60, 60)
    when = f"{day_of(report.cosigned_at)} {hours:02d}:{minutes:02d} UTC"
    known = when if report.cosigned_at else "unknown: not witnessed"
    click.echo(f"bundle     {report.bundle}")
    click.echo(f"as of      {known}")
    for name in COUNTED:
        click.echo(f"{name:<10} {getattr(report, name)}")
    click.echo(f"drills     {report.drills}, of which {report.drills_failed} found something")
    if not report.findings:
        click.echo("nothing was found: what is here was agreed to, logged, witnessed and in time")


def _root(path: Path) -> bytes:
    """Return the root in a file: of anything else the audit would say that the bundle lies."""
    data = read(path)
    try:
        metadata_of(data, Root)
    except MalformedError as exc:
        raise SetupError(f"{path} is no root.json; ask a party that signed the policy") from exc
    return data


def _moment(at: datetime | None) -> int:
    if at is None:
        return int(now().timestamp())
    return int(at.replace(tzinfo=UTC).timestamp()) + DAY  # no calendar ends before it


def _checkpoint(path: Path) -> str:
    """Return the checkpoint in a file: a signed note, or a receipt that has one."""
    text = read_text(path)
    with suppress(*UNREADABLE):
        text = msgspec.json.decode(text, type=_Receipt).checkpoint
    try:
        unsigned_checkpoint(text)
    except MalformedError as exc:
        raise SetupError(f"{path} is no checkpoint, and no receipt with one: {exc}") from exc
    return text


def _hashes(path: Path) -> Iterator[bytes]:
    for number, line in enumerate(read_text(path).split(), 1):
        try:
            name = bytes.fromhex(line)
        except ValueError:
            name = b""
        if len(name) != 32:
            raise SetupError(f"{path}: entry {number} is no hash of a batch (64 digits)")
        yield name


def _processors() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows how far it is, on a terminal's standard error."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bars:
        tasks = {what: bars.add_task(what, total=None) for what in ("log", "batches")}
        yield lambda what, done, of: bars.update(tasks[what], completed=done, total=of)
