"""How the guard opens its SQLite files: durable, private, and forgetful of what is deleted."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from base.errors import RetryableError, SetupError
from base.stored import newer

_READS: Final = "assent_reads"  # the option of a connection that begins no transaction
SCHEMA_VERSION: Final = 1  # files from before there was one have 0, and the same tables


class StorageError(RetryableError):
    """The guard's files cannot be read or written now; nothing was done."""


class DamagedError(SetupError):
    """A file of the guard is no database any more; it was not touched."""


def open_database(path: Path, tables: sa.MetaData) -> sa.Engine:
    """Return an engine on *path* (mode 0600), its tables made where they are missing.

    A `transaction` takes the write lock at once (BEGIN IMMEDIATE), so that what it read is
    still true when it writes.  A commit is on the disk when it returns.  Deleted bytes
    are overwritten with zeros.

    Raises:
        SetupError: It is damaged, or of a later version of this program.
        StorageError: It cannot be used now.

    """
    # SQLite would create the file with the umask's mode, and its -wal and -shm follow it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": 30},
        hide_parameters=True,  # an error must not carry pseudonyms or seeds into the log
    )
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    with _said(path), engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > SCHEMA_VERSION:
            raise newer(path)
        tables.create_all(connection)
        if found < SCHEMA_VERSION:
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return engine


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Commit what the block did when it ends, all of it or, on any error, nothing.

    Raises:
        StorageError: The disk is full, the file is locked for too long, or cannot be used.
        DamagedError: It is no database any more.

    """
    with _said(Path(engine.url.database or "")), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Read the file, each time as it is then, without holding up whoever writes.

    Raises:
        StorageError: It cannot be used now.
        DamagedError: It is no database any more.

    """
    with (
        _said(Path(engine.url.database or "")),
        engine.connect().execution_options(**{_READS: True}) as connection,
    ):
        yield connection


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what SQLite says of its file into one line; a defect of ours stays one."""
    try:
        yield
    except sa.exc.OperationalError as exc:
        raise StorageError(
            f"{path} cannot be used now: {exc.orig}; check the disk and who owns it"
        ) from exc
    except sa.exc.DatabaseError as exc:
        if type(exc) is not sa.exc.DatabaseError:
            raise
        raise DamagedError(
            f"{path} is damaged or no database: {exc.orig}; nothing was changed: restore it "
            "from your backup"
        ) from exc


def truncate_log(engine: sa.Engine) -> None:
    """Empty the write-ahead log, which otherwise keeps old pages, deleted keys among them."""
    pragma(engine, "wal_checkpoint(TRUNCATE)")


def pragma(engine: sa.Engine, what: str) -> None:
    """Run a PRAGMA outside of any transaction."""
    lent = engine.raw_connection()
    try:
        raw: Any = lent.dbapi_connection
        raw.execute(f"PRAGMA {what}").fetchall()
    finally:
        lent.close()


def _configure(raw: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3.Connection
    raw.isolation_level = None  # transactions are begun by _begin, not by the driver
    for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        raw.execute(f"PRAGMA {setting}")


def _begin(connection: sa.Connection) -> None:
    if not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
