"""Which index a collector keeps: what `[index]` says, opened."""

from collections.abc import Iterator
from contextlib import contextmanager

from base.stored import require_kept
from collector.index import Changeable, Index
from collector.index.postgres import PostgresIndex
from collector.index.sqlite import SqliteIndex
from collector.premises import Premises


def open_index(premises: Premises, *, any_version: bool = False) -> Changeable:
    """Return the index that the configuration of *premises* names.

    Raises:
        SetupError: Nothing is set up there yet; or it is missing or damaged, or of another
            version of this program; with *any_version* that is left to whoever asks.
        RetryableError: It cannot be used now.

    """
    where = premises.config().index
    if where.url:
        return PostgresIndex(where.url, connections=where.connections, any_version=any_version)
    require_kept(premises.index_file)
    return SqliteIndex(premises.index_file, any_version=any_version)


@contextmanager
def opened_index(premises: Premises) -> Iterator[Index]:
    """Open the index as a command needs it, beside a running server; close it after the block.

    Raises:
        SetupError: As `open_index`.

    """
    index = open_index(premises)
    try:
        yield index
    finally:
        index.close()
