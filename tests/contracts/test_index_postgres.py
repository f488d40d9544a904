"""What PostgreSQL alone can do to the index: go away, end a session, run full, be another's."""

import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import func, select

from base.errors import AssentError, RetryableError, SetupError
from base.stored import NewerError
from collector.index import FullError, postgres
from collector.index.postgres import PostgresIndex, parameters
from collector.index.tables import SCHEMA_VERSION, leaves, salts
from collector.log import append
from tests.fakes.indexes import PostgresPlace
from tests.fakes.postgres import FAST, Server, program, server
from tests.fakes.tls import WAIT_SECONDS
from wire.ids import WallInstant
from wire.leaf import Kind

AT: Final = WallInstant(1)


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """Return a server that tests may stop, damage and overload."""
    with server((*FAST, "max_connections=12")) as running:
        yield running


@pytest.fixture
def place(own: Server) -> PostgresPlace:
    return PostgresPlace(own, own.index())


@pytest.fixture
def index(place: PostgresPlace) -> Iterator[PostgresIndex]:
    with closing(place.open()) as opened:
        yield opened


def add(index: PostgresIndex) -> int:
    with index.writing() as connection:
        return append(connection, Kind.BATCH, b"x", AT)


def counted(index: PostgresIndex) -> int:
    with index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


def one_line(error: AssentError) -> str:
    line = str(error)
    assert "\n" not in line
    return line


# --- it goes away -----------------------------------------------------------------------


def all_connected(index: PostgresIndex, number: int = 3) -> None:
    """Have *number* connections in the pool, as a server has that was busy."""
    together = threading.Barrier(number)

    def read() -> None:
        with index.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
            together.wait(WAIT_SECONDS)

    threads = [threading.Thread(target=read) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_was_started_again_is_noticed_by_nobody(
    own: Server, index: PostgresIndex, how: signal.Signals
) -> None:
    """Neither who reads nor who writes gets an error, however many connections had died."""
    add(index)
    all_connected(index)
    own.stop(how)
    own.start()
    assert counted(index) == 1
    all_connected(index)
    own.stop(how)
    own.start()
    assert add(index) == 1


def test_while_the_server_is_away_it_is_said_and_afterwards_it_goes_on(
    own: Server, place: PostgresPlace, index: PostgresIndex
) -> None:
    """In one line each, to who reads, who writes, who starts and who forgets."""
    add(index)
    own.stop()
    try:
        for use in (
            lambda: counted(index),
            lambda: add(index),
            index.forget_deleted,
            lambda: place.open().close(),
        ):
            with pytest.raises(RetryableError, match="look whether it runs") as told:
                use()
            one_line(told.value)
    finally:
        own.start()
    assert counted(index) == 1
    assert add(index) == 1


def test_a_session_that_ends_within_a_transaction_leaves_nothing(
    place: PostgresPlace, index: PostgresIndex
) -> None:
    """It is told, for it is not known what the caller had read; asked again, it is done once."""

    def cut_short() -> None:
        with index.writing() as connection:
            append(connection, Kind.BATCH, b"x", AT)
            place.disconnect_all()
            append(connection, Kind.BATCH, b"y", AT)

    def cut_at_the_end() -> None:
        with index.writing() as connection:
            append(connection, Kind.BATCH, b"x", AT)
            place.disconnect_all()

    for cut in (cut_short, cut_at_the_end):
        with pytest.raises(RetryableError) as told:
            cut()
        one_line(told.value)
    assert counted(index) == 0
    assert add(index) == 0


def test_a_writer_that_hangs_is_ended_and_does_not_hold_up_the_others(
    place: PostgresPlace, index: PostgresIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute; here after a moment.  What it had written is not there."""
    begins = postgres._WRITING.replace(f"'{postgres.IDLE_SECONDS}s'", "'100ms'")  # noqa: SLF001
    with closing(place.open()) as other:
        monkeypatch.setattr(postgres, "_WRITING", begins)

        def hang() -> None:
            with index.writing() as connection:
                append(connection, Kind.BATCH, b"x", AT)
                monkeypatch.undo()
                assert add(other) == 0  # waits for the one that hangs
                append(connection, Kind.BATCH, b"y", AT)

        with pytest.raises(RetryableError, match="hung within a transaction"):
            hang()
        assert counted(other) == 1


# --- it refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("disk_full", FullError),
        ("out_of_memory", RetryableError),
        ("too_many_connections", RetryableError),
        ("lock_not_available", RetryableError),
        ("query_canceled", RetryableError),
        ("serialization_failure", RetryableError),
        ("read_only_sql_transaction", RetryableError),
        ("io_error", RetryableError),
        ("internal_error", RetryableError),
        ("insufficient_privilege", SetupError),
        ("undefined_table", SetupError),
        ("data_corrupted", SetupError),
        ("index_corrupted", SetupError),
    ],
)
def test_what_the_server_says_becomes_one_line_of_the_right_kind(
    index: PostgresIndex, state: str, kind: type[AssentError]
) -> None:
    """By its code, whatever its words and language; what stands below the first line stays out."""
    says = f"RAISE EXCEPTION 'said' USING ERRCODE = '{state}', DETAIL = 'of a device'"

    def refused() -> None:
        with index.writing() as connection:
            append(connection, Kind.BATCH, b"x", AT)
            connection.exec_driver_sql(f"DO $$ BEGIN {says}; END $$")

    with pytest.raises(kind) as told:
        refused()
    assert type(told.value) is kind
    assert "said" in one_line(told.value) or kind is FullError
    assert "of a device" not in str(told.value)
    assert counted(index) == 0


def test_when_all_of_its_connections_are_taken_it_is_said(
    place: PostgresPlace, index: PostgresIndex
) -> None:
    """By others, so that we get none; or by ourselves, so that we take no more than we may."""
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    try:
        with pytest.raises(psycopg.OperationalError):
            taken.extend(psycopg.connect(place.url) for _ in range(20))
        taken += [*_until_full(place.url)]
        with closing(PostgresIndex(place.url, any_version=True)) as late:
            with pytest.raises(RetryableError, match=r"too many clients|connection slots") as told:
                counted(late)
            one_line(told.value)
    finally:
        for connection in taken:
            connection.close()
    assert counted(index) == 0


def _until_full(url: str) -> "Iterator[psycopg.Connection[tuple[object, ...]]]":
    while True:
        try:
            yield psycopg.connect(url)
        except psycopg.OperationalError:
            return


def test_no_more_connections_are_made_than_the_configuration_allows(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds all of them busy waits, and is told when that takes too long."""
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.1)
    with (
        closing(PostgresIndex(place.url, connections=2)) as index,
        index.reading(),
        index.reading(),
        pytest.raises(RetryableError, match="all our connections are busy"),
    ):
        counted(index)


def test_damage_is_called_damage(own: Server, place: PostgresPlace) -> None:
    """A page of a table is overwritten while the server is down: restore, do not go on."""
    with closing(place.open()) as index:
        add(index)
    with place.connected() as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_relation_filepath('salts')").fetchone()
    assert row is not None
    own.stop()
    path = own.data / str(row[0])
    path.write_bytes(b"\xa5" * path.stat().st_size)
    own.start()
    with closing(place.open()) as index:
        with pytest.raises(SetupError, match="damaged; restore the newest copy") as told:
            counted_salts(index)
        one_line(told.value)


def counted_salts(index: PostgresIndex) -> int:
    with index.reading() as connection:
        return len(connection.execute(select(salts)).all())


# --- it is not what we need -------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///index.sqlite", "begins with postgresql://"),
        ("postgresql://ada:secret@db/assent", "has a password in it"),
        ("postgresql:///assent?password=secret", "has a password in it"),
        ("postgresql:///assent?colour=red", "colour"),
        ("postgresql://[::1/assent", "mend it"),
    ],
)
def test_a_url_that_will_not_do_is_refused_before_anything_is_asked(url: str, says: str) -> None:
    """Its secret is in no message."""
    with pytest.raises(SetupError, match=says) as told:
        PostgresIndex(url)
    assert "secret" not in one_line(told.value)


def test_what_libpq_knows_may_stand_in_the_url() -> None:
    """Services, certificates, several hosts; and what it says goes before what we would say."""
    known = parameters(
        "postgresql://one,two/assent?sslmode=verify-full&sslcert=c.pem&connect_timeout=3"
    )
    assert known["host"] == "one,two"
    assert (known["sslmode"], known["connect_timeout"]) == ("verify-full", "3")
    assert parameters("postgresql://?service=assent")["service"] == "assent"


def test_a_password_can_come_from_a_file(own: Server, tmp_path: Path) -> None:
    """As libpq looks for it: `passfile`, or ~/.pgpass."""
    with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
    rules = own.data / "pg_hba.conf"
    before = rules.read_text("utf-8")
    rules.write_text(f"local all guest scram-sha-256\n{before}", "utf-8")
    reload = "SELECT pg_reload_conf()"
    with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
        connection.execute(reload)
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:guest:secret\n", "utf-8")
    passfile.chmod(0o600)
    url = own.index().replace("assent@", "guest@")
    with closing(PostgresIndex(f"{url}&passfile={passfile}", any_version=True)) as index:
        with index.reading() as connection_of:
            assert connection_of.exec_driver_sql("SELECT current_user").scalar() == "guest"
        # A guest owns nothing, which is said as that.
        with pytest.raises(SetupError, match="has to own the tables"):
            add(index)


def test_a_database_that_is_missing_empty_or_in_another_encoding_is_no_index(own: Server) -> None:
    """Nothing is made in it: an empty one may be one that was lost."""
    with pytest.raises(RetryableError, match="does not exist"):
        PostgresIndex(own.url("nothing"))
    empty = own.empty()
    with pytest.raises(SetupError, match="holds no index; nothing was changed"):
        PostgresIndex(empty)
    with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(SetupError, match="make a database in UTF8"):
        PostgresIndex(own.url("latin"))


def test_a_server_that_is_too_old_is_refused(
    place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own number."""
    monkeypatch.setattr(postgres, "OLDEST_SERVER", 990000)
    with pytest.raises(SetupError, match="too old; PostgreSQL 99 or later"):
        place.open()


def test_an_index_is_made_once_and_never_over_another(own: Server) -> None:
    """`init` that was cut short may go on; one that found leaves changes nothing."""
    with closing(PostgresIndex(own.empty(), any_version=True)) as index:
        index.create()
        index.create()
        add(index)
        with pytest.raises(SetupError, match="holds an index already"):
            index.create()
        assert counted(index) == 1


# --- others change it -------------------------------------------------------------------


def test_a_collector_that_was_left_behind_by_a_migration_writes_nothing_more(
    index: PostgresIndex,
) -> None:
    """It looks in each transaction, so a newer collector beside it may begin at once."""
    add(index)
    with index.changing() as connection:
        index.note_version(connection, SCHEMA_VERSION + 1)
    with pytest.raises(NewerError):
        add(index)
    assert counted(index) == 1


def test_acknowledged_is_durable_whatever_the_server_has_been_told(
    own: Server, place: PostgresPlace
) -> None:
    """synchronous_commit = off is for other programs."""
    with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")
    wait_for(lambda: shown(place, "synchronous_commit") == "off")
    with closing(place.open()) as index, index.reading() as read:
        assert read.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    with psycopg.connect(own.url("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET synchronous_commit")


def shown(place: PostgresPlace, name: str) -> object:
    with place.connected() as connection:
        row = connection.execute(f"SHOW {name}").fetchone()
    return None if row is None else row[0]


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it does not come")


def test_no_sample_of_a_salt_is_kept_for_the_planner(
    place: PostgresPlace, index: PostgresIndex
) -> None:
    """ANALYZE copies values of a column into a table of its own, where nobody would erase them."""
    for _ in range(3):
        add(index)
    with place.connected() as connection:
        connection.execute("ANALYZE salts")
        asked = "SELECT attname FROM pg_stats WHERE tablename = 'salts'"
        assert "salt" not in {row[0] for row in connection.execute(asked)}


def test_the_server_of_the_tests_is_nobodys(own: Server) -> None:
    """It does not run as root, and its folder is its own."""
    owner = own.data.stat().st_uid
    assert owner != 0
    assert owner == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())


def test_a_dump_that_is_restored_goes_on_where_it_ended(
    own: Server, place: PostgresPlace, index: PostgresIndex, tmp_path: Path
) -> None:
    """As the guide says it, while others write; the log's next leaf is the next one."""
    for _ in range(3):
        add(index)
    dump, empty = tmp_path / "index.dump", own.empty()
    run = partial(subprocess.run, check=True, capture_output=True)
    run([program("pg_dump"), "--format=custom", f"--file={dump}", place.url])
    add(index)
    run([program("pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={empty}", str(dump)])
    with closing(PostgresPlace(own, empty).open()) as restored:
        assert counted(restored) == 3
        assert add(restored) == 3
    assert counted(index) == 4
