"""The index: who and what, never what is inside; and the log's leaves.

`Index` is what the rest of the collector knows.  Behind it is one SQLite file (`sqlite`, the
default) or a PostgreSQL database (`postgres`), where several collectors can work side by side.
What every index has to keep (tests/contracts holds each to it):

- `reading` sees one state throughout, whatever is committed meanwhile;
- `writing` has the index to itself: what it reads is still true when it commits, whoever comes
  meanwhile waits, and so leaves are numbered one after the other, in the order of commits;
- all of it happens, durably when the block is left, or nothing, also when a process is killed;
- what goes wrong behind it is `RetryableError`, `FullError` or `SetupError` with one line.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from sqlalchemy import Connection

from base.errors import RetryableError

BUSY_SECONDS: Final = 30.0  # for which a writer waits for the others


class FullError(RetryableError):
    """There is no room on the disk; nothing was written."""


class Index(Protocol):
    """Keeps the tables of `collector.index.tables`.  May be used by several threads."""

    @property
    def is_shared(self) -> bool:
        """Whether other collectors may work on it, beside the one that asks."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection that sees one state of the index throughout.

        Raises:
            RetryableError: It cannot be used now.
            SetupError: It is damaged, or somebody has to mend what is behind it.

        """
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """Yield a connection whose statements happen all, durably, or not at all.

        Raises:
            RetryableError: It cannot be used now, or somebody else kept it for too long.
            FullError: There is no room.
            SetupError: It is damaged, or somebody has to mend what is behind it.

        """
        ...

    def moment(self, folder: Path) -> AbstractContextManager[Connection]:
        """Yield a connection to the state of this moment, for whoever reads for long.

        *folder* may be used for a copy meanwhile.
        """
        ...

    def forget_deleted(self) -> None:
        """Overwrite what was deleted, as far as that is in our hands.

        A reader in the middle of a transaction can hold it up; then the next call does it.
        """
        ...

    def forget_the_rest(self) -> None:
        """Do what `forget_deleted` had to put off; asked every hour."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Changeable(Index, Protocol):
    """What can be brought to the tables of a later version (`collector.index.migration`)."""

    @property
    def place(self) -> str:
        """Where it is, for a person to read."""
        ...

    def version(self, connection: Connection) -> int:
        """Return which version's tables are there; 0 where there are none."""
        ...

    def note_version(self, connection: Connection, version: int) -> None:
        """Write down which version's tables are there now."""
        ...

    def changing(self) -> AbstractContextManager[Connection]:
        """Yield a writing transaction in which tables may change."""
        ...


FrameOf: TypeAlias = Callable[[bytes], bytes | None]  # the stored frame of a batch
