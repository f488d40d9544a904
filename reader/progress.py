"""How far a long command is: bars on a terminal's standard error, nothing anywhere else."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from reader.opening import Opened
from reader.verify import Opener, Result
from wire.ids import BatchHash


@contextmanager
def progress(*whats: str, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give what is told of each of *whats*: how many are done, of how many."""
    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn())
    # On standard error, so that it never stands between facts; a file there gets none of it.
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bars:
        tasks = {what: bars.add_task(what, total=None) for what in whats}
        yield lambda what, done, of: bars.update(tasks[what], completed=done, total=of)


def looked_at(opener: Opener, *, shown: bool) -> Iterator[tuple[BatchHash, Result]]:
    """Yield every batch here, opened, or with what is wrong with it."""
    here = sum(1 for _ in opener.library.batches())
    with progress("batches", shown=shown) as told:
        for done, each in enumerate(opener.each(), 1):
            told("batches", done, here)
            yield each


@contextmanager
def opening_again(
    opener: Opener, times: int, *, shown: bool
) -> Iterator[Callable[[BatchHash], Opened]]:
    """Give what opens a batch once more, and tells that it is one of *times*."""
    done = itertools.count(1)
    with progress("openings", shown=shown) as told:

        def opened(batch: BatchHash) -> Opened:
            told("openings", next(done), times)
            return opener.open(batch)

        yield opened
