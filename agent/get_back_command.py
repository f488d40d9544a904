# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-agent rights get-back`: fetch what was recorded of you, sealed to you alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent import get_back as core
from agent.own_shown import KEY, Count, asker_of
from base.command import a_day
from base.errors import RejectedError
from wire.category import Category


def _hash(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> frozenset[bytes]:
    try:
        found = frozenset(bytes.fromhex(text) for text in texts)
    except ValueError:
        found = frozenset({b""})
    if any(len(each) != 32 for each in found):
        raise click.BadParameter("a batch is named by 64 hexadecimal digits, as `batches` does")
    return found


@click.command("get-back")
@KEY
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write into; what it has already is not fetched again.",
)
@click.option("--from", "first", callback=a_day, metavar="DAY", help="Only from this day on (UTC).")
@click.option("--to", "last", callback=a_day, metavar="DAY", help="Only until this day (UTC).")
@click.option(
    "--batch",
    "hashes",
    multiple=True,
    callback=_hash,
    metavar="HASH",
    help="Only this batch, by its hash; repeatable.",
)
@click.argument("category", required=False, type=click.Choice([c.value for c in Category]))
def get_back(
    file: Path,
    folder: Path,
    first: str,
    last: str,
    hashes: frozenset[bytes],
    category: str | None,
) -> None:
    """Fetch what was recorded of you.

    Of CATEGORY, or of all. The log notes that you had it, the guard seals it to your rights key,
    and each batch becomes a file that nobody else can open, in a folder for you alone.
    age 1.3 or newer opens it. What was interrupted goes on when you type the same again.

    \b
    Examples:
      assent-agent rights get-back --key rights-key.txt --out mine
      assent-agent rights get-back --key rights-key.txt --out mine --from 2027-03-01 screen
      age -d -i rights-key.txt mine/2027-03-15-keys-6f3a....age > opened
    """
    wanted = core.Wanted(
        category=None if category is None else Category(category),
        first_day=first,
        last_day=last or "9999",
        batches=hashes,
    )
    with asker_of(file) as asker, _bar() as progress:
        count = Count(asker=asker)
        told = count.proved(asker.batches())
        tally = core.get_back(asker, told, wanted, folder, progress)
    _say(tally, folder)
    count.end()
    if tally.refused:
        raise RejectedError(
            f"{len(tally.refused)} batches could not be had; the lines above say why"
        )


def _say(tally: core.Tally, folder: Path) -> None:
    for name, why in tally.refused.items():
        click.echo(f"NOT HAD: {name}: {why}", err=True)
    before = f", {tally.there} were there already" if tally.there else ""
    click.echo(f"{tally.written} batches are written into {folder}{before}")
    if tally.written or tally.there:
        click.echo("they are sealed to you alone: age -d -i YOUR-RIGHTS-KEY-FILE FILE > opened")


@contextmanager
def _bar() -> Iterator[core.Progress]:
    """Give what shows on a terminal how far it has come; the agent itself loads none of it."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("batches", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
