"""How the guard opens its SQLite files: durable, private, and forgetful of what is deleted."""

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa


def open_database(path: Path, tables: sa.MetaData) -> sa.Engine:
    """Return an engine on *path* (mode 0600), its tables made where they are missing.

    Every transaction takes the write lock at once (BEGIN IMMEDIATE), so that what it read
    is still true when it writes.  A commit is on the disk when it returns.  Deleted bytes
    are overwritten with zeros.
    """
    # SQLite would create the file with the umask's mode, and its -wal and -shm follow it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    tables.create_all(engine)
    return engine


def truncate_log(engine: sa.Engine) -> None:
    """Empty the write-ahead log, which otherwise keeps old pages, deleted keys among them."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _configure(raw: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3.Connection
    raw.isolation_level = None  # transactions are begun by _begin, not by the driver
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "foreign_keys=ON",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
