"""The index as one SQLite file, write-ahead logged, synced at every commit.

A writing transaction has the file to itself from its first statement on (BEGIN IMMEDIATE).
The command line writes to the same file while the server runs.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError, OperationalError

from base.errors import RetryableError, SetupError
from collector.index import BUSY_SECONDS, FullError
from collector.index.schema import create, require_current

_BEGIN: Final = "assent_begin"


class SqliteIndex:
    """Opens the file, creating it where it is missing."""

    is_shared: Final = False  # one server, by its lock on the folder

    def __init__(self, path: Path, *, any_version: bool = False) -> None:
        """Open *path*; with *any_version* to look at it or to change its tables.

        Raises:
            SetupError: Not an index, or one of another version of this program.
            RetryableError: The file cannot be used now.

        """
        # Made by us, not by SQLite, so that it and its -wal and -shm are the owner's alone.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._engine = _engine(path, kept=8)
        self._writer = _engine(path, kept=1)
        self._path = path
        if not any_version:
            self._open_current()

    @property
    def place(self) -> str:
        """The file."""
        return str(self._path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one state throughout; see `Index.reading`."""
        with self._said(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection that has the file to itself; see `Index.writing`."""
        with self._said(), self._writer.connect() as connection:
            connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
            with connection.begin():
                yield connection

    @contextmanager
    def moment(self, folder: Path) -> Iterator[Connection]:
        """Yield a connection to a copy of the file: a reader who stayed holds up forgetting."""
        with TemporaryDirectory(dir=folder, prefix=".audit-") as name:
            copied = Path(name) / "index.sqlite"
            with closing(sqlite3.connect(copied)) as target:
                self.copy_to(target)
            with closing(SqliteIndex(copied)) as copy, copy.reading() as connection:
                yield connection

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy one state of the file into *target*; who writes meanwhile is not held up."""
        with self.reading() as connection:
            source = cast("sqlite3.Connection", connection.connection.driver_connection)
            source.backup(target)

    def forget_deleted(self) -> None:
        """Overwrite what was deleted: secure_delete did so in the file, this empties the -wal."""
        with self._engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def forget_the_rest(self) -> None:
        """Do it once more: a reader can have held it up."""
        self.forget_deleted()

    def close(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._engine.dispose()

    # --- its tables ---------------------------------------------------------------------

    def version(self, connection: Connection) -> int:
        """Return SQLite's own number for that, which the file's header has."""
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def note_version(self, connection: Connection, version: int) -> None:
        """Set that number; part of the transaction like everything else."""
        connection.exec_driver_sql(f"PRAGMA user_version = {version:d}")

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Yield a transaction in which tables are made anew, as SQLite wants that to be done."""
        with self._said(), self._engine.connect() as connection:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
            try:
                connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
                with connection.begin():
                    yield connection
                    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                        raise SetupError(f"{self._path} is damaged: a row lacks what it refers to")
            finally:
                cursor.execute("PRAGMA foreign_keys=ON")
                cursor.close()

    def _open_current(self) -> None:
        try:
            with self.writing() as connection:
                if self.version(connection) == 0:
                    create(self, connection)
                require_current(self, connection)
        except BaseException:
            self.close()
            raise

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


def _engine(path: Path, kept: int) -> Engine:
    """Return an engine that keeps so many connections, and uses the last one again.

    What a connection has read of the file it knows until another one commits.  So there is one
    that writes, as long as nobody else does meanwhile: it need not read what it wrote itself.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=kept,
        max_overflow=64,
        pool_use_lifo=True,
        hide_parameters=True,  # an error must not carry ids into the log
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


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
