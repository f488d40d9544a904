"""The index in a PostgreSQL database, where several collectors can work side by side.

Writers of one database are serial: each takes one advisory lock before anything else, and the
server lets go of it once their commit can be seen by everybody.  Readers see one snapshot.

A connection that died (the server was started again) is noticed by the statement that begins a
transaction; that one is tried once more on a new connection, which can repeat nothing, since
nothing was asked yet.  What fails later is told, and whoever asked asks again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

import psycopg
import psycopg_binary  # noqa: F401 - libpq; psycopg looks for it by name
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, RootTransaction, create_engine, event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from base.clock import NANOSECONDS, SystemClock
from base.errors import SetupError
from collector.index import BUSY_SECONDS
from collector.index.postgres_errors import error_of, no_connection
from collector.index.schema import check, create, require_current
from collector.index.tables import leaves

OLDEST_SERVER: Final = 130000  # PostgreSQL 13: older ones get no mends any more
CONNECTIONS: Final = 16
IDLE_SECONDS: Final = 60  # a writer that hangs for longer is ended by the server
REWRITE_NS: Final = 3600 * NANOSECONDS
_BEGIN: Final = "assent_begin"
_WRITERS: Final = int.from_bytes(b"assent", "big")  # the lock's name within the database
_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Read committed: what is read after the wait for the lock is what the one before has committed.
_WRITING: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; "
    f"SELECT pg_advisory_xact_lock({_WRITERS})"
)
_SESSION: Final = (
    "SET client_encoding = 'UTF8'; SET timezone = 'UTC'; "
    # Acknowledged is durable, whatever was thought good enough for other programs.
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
_VERSION: Final = "SELECT version FROM assent_schema"


class PostgresIndex:
    """Works on the database that a connection URI of libpq names."""

    is_shared: Final = True

    def __init__(
        self, url: str, *, connections: int = CONNECTIONS, any_version: bool = False
    ) -> None:
        """Connect to *url*; with *any_version* to look at the tables or to change them.

        Raises:
            SetupError: The URI is none or has a password in it, the server is too old, or there is
                no index of this version of this program.
            RetryableError: The server cannot be reached now.

        """
        known = parameters(url)
        self._place = _place(known)
        self._clock = SystemClock()
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=partial(self._connected, known),
            pool_size=min(8, connections),
            max_overflow=max(0, connections - 8),
            pool_timeout=BUSY_SECONDS,
            hide_parameters=True,  # an error must not carry ids into the log
        )
        event.listen(self._engine, "begin", _begin)
        self._rewriting = Lock()
        self._rewritten_at: int | None = None  # boot instant
        self._left = True  # perhaps: by whom was here before
        if not any_version:
            self._require_current()

    @property
    def place(self) -> str:
        """Which database of which server."""
        return self._place

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one snapshot; see `Index.reading`."""
        with self._said(), self._begun(_READING) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection that writes as the only one; see `Index.writing`."""
        with self.changing() as connection:
            # Others may have brought the tables to a later version since this one looked.
            check(int(connection.exec_driver_sql(_VERSION).scalar_one()), self._place)
            yield connection

    @contextmanager
    def moment(self, folder: Path) -> Iterator[Connection]:  # noqa: ARG002 - nothing is copied
        """Yield a connection to one snapshot: readers hold up nobody here."""
        with self.reading() as connection:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection

    def forget_deleted(self) -> None:
        """Have the server drop deleted rows, and once an hour write the salts' table anew.

        A vacuum leaves a deleted salt's bytes in its page until others take their place; the
        table that is written anew has none.  While that is done nobody can read a salt.
        """
        self._left = True
        self.forget_the_rest()

    def forget_the_rest(self) -> None:
        """Write the table anew if an hour is over and something was deleted since."""
        if not self._left:
            return
        now = self._clock.now().boot
        with self._rewriting, self._said(), self._outside() as connection:
            if self._rewritten_at is None or self._rewritten_at + REWRITE_NS <= now:
                self._left = False  # before: what is deleted meanwhile may stay, and sets it again
                if _rewrites(connection):
                    self._rewritten_at = now
                    return
                self._left = True
            connection.exec_driver_sql("VACUUM (SKIP_LOCKED) salts, batches, guard_keys")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # --- its tables ---------------------------------------------------------------------

    def create(self) -> None:
        """Make all tables in an empty database.

        Raises:
            SetupError: There is something in it already.

        """
        with self.changing() as connection:
            if self.version(connection) == 0:
                self.create_in(connection)
                return
            check(self.version(connection), self._place)
            # Nothing was ever written: an `init` that was cut short goes on.
            if connection.execute(select(leaves.c.number).limit(1)).first() is not None:
                raise SetupError(f"{self._place} holds an index already; nothing was changed")

    def create_in(self, connection: Connection) -> None:
        """Make them in the caller's transaction."""
        create(self, connection)

    def version(self, connection: Connection) -> int:
        """Return the one number of a table of its own; 0 where that is missing."""
        there = "SELECT to_regclass('assent_schema') IS NOT NULL"
        if not connection.exec_driver_sql(there).scalar_one():
            return 0
        return int(connection.exec_driver_sql(_VERSION).scalar() or 0)

    def note_version(self, connection: Connection, version: int) -> None:
        """Set that number, making the table where it is missing."""
        connection.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS assent_schema (version integer NOT NULL)"
        )
        connection.exec_driver_sql("DELETE FROM assent_schema")
        # Else the server would keep samples of salts apart, for its planner.
        connection.exec_driver_sql("ALTER TABLE salts ALTER COLUMN salt SET STATISTICS 0")
        connection.exec_driver_sql("INSERT INTO assent_schema VALUES (%s)", (version,))

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """Yield a transaction that writes as the only one, whichever version is there."""
        with self._said(), self._begun(_WRITING) as connection:
            yield connection

    def _require_current(self) -> None:
        try:
            with self.reading() as connection:
                require_current(self, connection)
        except BaseException:
            self.close()
            raise

    # --- its connections ----------------------------------------------------------------

    @contextmanager
    def _begun(self, begin: str) -> Iterator[Connection]:
        """Yield a connection in a transaction, which ends with the block."""
        connection, transaction = self._begins(begin)
        with connection, transaction:
            yield connection

    def _begins(self, begin: str) -> tuple[Connection, RootTransaction]:
        """Return a connection in a new transaction, tried again if the first one had died."""
        try:
            return self._begins_once(begin)
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
        return self._begins_once(begin)  # SQLAlchemy has thrown away all that are older

    def _begins_once(self, begin: str) -> tuple[Connection, RootTransaction]:
        connection = self._engine.connect()
        try:
            return connection, connection.execution_options(**{_BEGIN: begin}).begin()
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def _outside(self) -> Iterator[Connection]:
        """Yield a connection for what cannot be in a transaction."""
        with self._engine.connect() as connection:
            connection.execution_options(**{_BEGIN: ""})
            yield connection

    def _connected(self, known: dict[str, Any]) -> "psycopg.Connection[Any]":
        # SQLAlchemy begins and commits; the driver must not do so by itself as well.
        connection = psycopg.connect(**known, autocommit=True)
        try:
            self._check_server(connection)
            connection.execute(_SESSION)
            connection.execute(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_server(self, connection: "psycopg.Connection[Any]") -> None:
        info = connection.info
        if info.server_version < OLDEST_SERVER:
            oldest = OLDEST_SERVER // 10_000
            raise SetupError(f"{self._place} is too old; PostgreSQL {oldest} or later is needed")
        if (encoding := info.parameter_status("server_encoding")) != "UTF8":
            raise SetupError(f"{self._place} is in {encoding}; make a database in UTF8")

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what the server says into one line; a defect of ours stays one."""
        try:
            yield
        except NoConnectionError as exc:
            raise no_connection(self._place) from exc
        except DBAPIError as exc:
            said = error_of(exc, self._place)
            if said is None:
                raise
            raise said from exc


def parameters(url: str) -> dict[str, Any]:
    """Return what *url* says to libpq, and what we say where it does not.

    Raises:
        SetupError: It is no connection URI, or has a password in it.

    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise SetupError("[index] url begins with postgresql://")
    try:
        known = conninfo_to_dict(url)
    except psycopg.Error as exc:
        raise SetupError(f"[index] url: {' '.join(str(exc).split())}; mend it") from exc
    if "password" in known:
        raise SetupError(
            "[index] url has a password in it; that belongs into ~/.pgpass, or use a certificate"
        )
    ours = {"application_name": "assent-collector", "connect_timeout": "10"}
    return ours | {"tcp_user_timeout": "30000"} | known


def _place(known: dict[str, Any]) -> str:
    """Return how to call the database in a line for a person."""
    named = known.get("dbname") or known.get("service") or "its default"
    host = known.get("host") or known.get("hostaddr")
    return f"PostgreSQL database {named}" + (f" at {host}" if host else "")


def _rewrites(connection: Connection) -> bool:
    """Write the salts' table anew, unless somebody reads it for longer than others can wait."""
    connection.exec_driver_sql("SET lock_timeout = '2s'")
    try:
        connection.exec_driver_sql("VACUUM (FULL) salts")
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", None) != "55P03":
            raise
        return False
    finally:
        if not connection.invalidated:
            connection.exec_driver_sql(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
    return True


def _begin(connection: Connection) -> None:
    begin: str = connection.get_execution_options().get(_BEGIN, _READING)
    if begin:
        connection.exec_driver_sql(begin)
