"""The index: one SQLite file, write-ahead logged, synced at every commit.

`Index.reading` and `Index.writing` are the two ways in.  A writing transaction has the
file to itself from its first statement on (BEGIN IMMEDIATE), so what it reads is still
true when it commits; whoever comes meanwhile waits.  The command line writes to the same
file while the server runs.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, OperationalError

from base.errors import RetryableError, SetupError
from base.stored import newer
from collector.index.tables import SCHEMA_VERSION, metadata

BUSY_SECONDS: Final = 30
_BEGIN: Final = "assent_begin"


class FullError(RetryableError):
    """There is no room on the disk; nothing was written."""


class Index:
    """Opens the file, creating it where it is missing."""

    def __init__(self, path: Path) -> None:
        """Open *path*.

        Raises:
            SetupError: Not an index, or one of a later version of this program.
            RetryableError: The file cannot be used now.

        """
        # Made by us, not by SQLite, so that it and its -wal and -shm are the owner's alone.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            pool_size=8,
            max_overflow=64,
            hide_parameters=True,  # an error must not carry ids into the log
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        self._path = path
        self._create()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one state of the index throughout.

        Raises:
            RetryableError: The disk is full or fails, or the file cannot be opened now.
            SetupError: It is damaged.

        """
        with self._said(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection whose statements happen all, durably, or not at all.

        Raises:
            RetryableError: The disk is full, or somebody else kept the file for too long.
            SetupError: It is damaged.

        """
        with self._said(), self._engine.connect() as connection:
            connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
            with connection.begin():
                yield connection

    def copy(self, path: Path) -> None:
        """Write the state of this moment into a new file at *path*, for whoever reads for long.

        A reader who stayed would hold up every `forget_deleted`.
        """
        with self.reading() as connection, closing(sqlite3.connect(path)) as target:
            source = cast("sqlite3.Connection", connection.connection.driver_connection)
            source.backup(target)

    def forget_deleted(self) -> None:
        """Overwrite what was deleted: secure_delete did so in the file, this empties the -wal.

        A reader in the middle of a transaction can hold it up; then the next call does it.
        """
        with self._engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what SQLite says of its file into one line; a defect of ours stays one."""
        try:
            yield
        except OperationalError as exc:
            if _code_of(exc) == sqlite3.SQLITE_FULL:
                raise FullError(f"{self._path}: the disk is full; make room on it") from exc
            raise RetryableError(
                f"{self._path} cannot be used now: {exc.orig}; check the disk and who owns it"
            ) from exc
        except DatabaseError as exc:
            if type(exc) is not DatabaseError:
                raise
            raise SetupError(
                f"{self._path} is damaged or no index: {exc.orig}; nothing was changed: "
                "restore the newest copy"
            ) from exc

    def _create(self) -> None:
        with self.writing() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found == SCHEMA_VERSION:
                return
            if found != 0:
                raise newer(self._path)
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _code_of(exc: OperationalError) -> int:
    """Return SQLite's result code, without what extends it."""
    return getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    # SQLAlchemy begins and commits; the driver must not do so by itself as well.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql(options.get(_BEGIN, "BEGIN"))
