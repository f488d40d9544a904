"""Places where an index can be: a SQLite file, or a database of a real PostgreSQL server."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from collector.index import Changeable
from collector.index.postgres import PostgresIndex
from collector.index.sqlite import SqliteIndex
from collector.premises import Premises
from tests.fakes.postgres import Server


class Place(Protocol):
    """Where one index is, with its tables."""

    @property
    def url(self) -> str:
        """What config.toml says of it; empty for a file."""
        ...

    @property
    def argument(self) -> str:
        """How another process is told of it; see `open_place`."""
        ...

    def open(self, *, any_version: bool = False) -> Changeable:
        """Open it once more, as another collector or a command does."""
        ...

    def copy(self) -> "Place":
        """Return a copy of its present state, while nobody is connected to it."""
        ...

    def holds(self, data: bytes) -> bool:
        """Whether *data* is anywhere in its files; of PostgreSQL in those of the tables."""
        ...


def open_place(argument: str) -> Changeable:
    """Open what `Place.argument` names."""
    if argument.startswith("postgresql:"):
        return PostgresIndex(argument)
    return SqliteIndex(Path(argument))


def in_index(premises: Premises, data: bytes) -> bool:
    """Whether *data* is anywhere in the files behind the index of a collector."""
    if url := premises.config().index.url:
        return in_database(url, data)
    return _in_files(premises.paths.state.glob("index.sqlite*"), data)


def in_database(url: str, data: bytes) -> bool:
    """Whether *data* is in the files of the tables of a database; its log is another matter."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        asked = "SELECT oid, current_setting('data_directory') FROM pg_database WHERE datname = "
        row = connection.execute(asked + "current_database()").fetchone()
    assert row is not None
    folder = Path(row[1]) / "base" / str(row[0])
    return _in_files(folder.iterdir(), data)


def _in_files(paths: Iterable[Path], data: bytes) -> bool:
    """Whether *data* is in one of *paths*; a cache or a log of the server may go away meanwhile."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if data in path.read_bytes():
                return True
    return False


@dataclass(frozen=True)
class SqlitePlace:
    """A file."""

    path: Path
    url: str = ""

    @property
    def argument(self) -> str:
        return str(self.path)

    def open(self, *, any_version: bool = False) -> SqliteIndex:
        return SqliteIndex(self.path, any_version=any_version)

    def copy(self) -> "SqlitePlace":
        copied = self.path.with_suffix(".copy")
        shutil.copy(self.path, copied)
        return replace(self, path=copied)

    def holds(self, data: bytes) -> bool:
        return _in_files(self.path.parent.glob("index.sqlite*"), data)


@dataclass(frozen=True)
class PostgresPlace:
    """A database."""

    server: Server
    url: str

    @property
    def argument(self) -> str:
        return self.url

    def open(self, *, any_version: bool = False) -> PostgresIndex:
        return PostgresIndex(self.url, any_version=any_version)

    def copy(self) -> "PostgresPlace":
        return replace(self, url=self.server.new(self._name))

    def holds(self, data: bytes) -> bool:
        return in_database(self.url, data)

    @contextlib.contextmanager
    def connected(self) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
        """Yield a connection past the index."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            yield connection

    def disconnect_all(self) -> None:
        """End every other session of this database, as an operator may."""
        ended = sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with self.connected() as connection:
            connection.execute(ended)

    @property
    def _name(self) -> str:
        return self.url.partition("@/")[2].partition("?")[0]
