"""What every index has to keep, whatever is behind it: a SQLite file, or PostgreSQL."""

import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Select, delete, func, select
from sqlalchemy.exc import IntegrityError

from base.errors import RetryableError
from base.stored import NewerError
from collector.index import Changeable, FullError, postgres, sqlite
from collector.index.schema import OlderError
from collector.index.statements import insert
from collector.index.tables import (
    SCHEMA_VERSION,
    checkpoints,
    devices,
    leaves,
    readers,
    requests,
    salts,
)
from collector.log import append
from collector.rights.demands import MOST_PASSED_ON, OUTSTANDING
from tests.conftest import NewPlace, Size
from tests.fakes.doomed_writer import AT_ONCE
from tests.fakes.indexes import Place
from tests.fakes.tls import WAIT_SECONDS
from wire.ids import WallInstant
from wire.leaf import Kind
from wire.rights import Demand

ROOT: Final = Path(__file__).resolve().parents[2]
AT = WallInstant(1)
LARGEST: Final = (1 << 63) - 1


@pytest.fixture
def place(tmp_path: Path, new_place: NewPlace) -> Place:
    return new_place(tmp_path)


@pytest.fixture
def open_one(place: Place) -> Iterator[Callable[[], Changeable]]:
    """Return what opens the place once more: another collector, or a command beside it."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(place.open()))


@pytest.fixture
def index(open_one: Callable[[], Changeable]) -> Changeable:
    return open_one()


def add(connection: Connection, payload: bytes = b"x") -> int:
    return append(connection, Kind.BATCH, payload, AT)


def count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


def counted(index: Changeable) -> int:
    with index.reading() as connection:
        return count(connection)


# --- transactions -----------------------------------------------------------------------


def test_what_was_committed_is_there_for_everybody(
    index: Changeable, open_one: Callable[[], Changeable]
) -> None:
    """From the moment that the block is left, also after a restart."""
    with index.writing() as connection:
        assert add(connection) == 0
    assert counted(open_one()) == 1


def test_what_is_not_committed_is_nobodys(
    index: Changeable, open_one: Callable[[], Changeable]
) -> None:
    """Neither before the end nor after an error; and the number is given again."""
    other = open_one()

    def fail() -> None:
        with index.writing() as connection:
            add(connection)
            assert counted(other) == 0
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert counted(other) == 0
    with other.writing() as connection:
        assert add(connection) == 0


def test_a_row_that_breaks_a_rule_takes_the_whole_transaction_with_it(index: Changeable) -> None:
    """A second row of the same key, and a salt without its leaf: a defect, not a damaged index."""

    def twice() -> None:
        with index.writing() as connection:
            add(connection)
            connection.execute(leaves.insert().values(number=0, kind="x", entry=b"", at=AT))

    def lost() -> None:
        with index.writing() as connection:
            add(connection)
            connection.execute(salts.insert().values(leaf=77, salt=b"s" * 16))

    for breaks in (twice, lost):
        with pytest.raises(IntegrityError):
            breaks()
    assert counted(index) == 0


def test_a_reader_sees_one_state_throughout(
    index: Changeable, open_one: Callable[[], Changeable]
) -> None:
    """Whatever is committed meanwhile; the next one sees that."""
    other = open_one()
    with index.writing() as connection:
        add(connection)
    with index.reading() as connection:
        assert count(connection) == 1
        with other.writing() as another:
            add(another)
            another.execute(delete(salts))
        assert count(connection) == 1
        assert connection.execute(select(func.count()).select_from(salts)).scalar() == 1
    assert counted(index) == 2


def test_a_reader_does_not_write(index: Changeable) -> None:
    """PostgreSQL refuses it; SQLite has no such word, so nothing is left of it in either."""
    if not index.is_shared:
        return
    with index.reading() as connection, pytest.raises(Exception, match="read-only"):
        add(connection)
    assert counted(index) == 0


def test_a_writer_sees_what_the_one_before_has_committed(
    index: Changeable, open_one: Callable[[], Changeable]
) -> None:
    """Who waited for another does not go on from what was there before the wait."""
    other, begun, numbers = open_one(), threading.Event(), list[int]()

    def write() -> None:
        begun.set()
        with other.writing() as connection:
            numbers.append(add(connection))

    thread = threading.Thread(target=write)
    with index.writing() as connection:
        thread.start()
        assert begun.wait(WAIT_SECONDS)
        for n in range(20):
            assert add(connection) == n
        assert numbers == []
    thread.join(WAIT_SECONDS)
    assert numbers == [20]


def test_writers_are_serial(open_one: Callable[[], Changeable]) -> None:
    """Of many threads and several collectors: each number once, none left out, in their order."""
    indexes, each, failed = [open_one(), open_one()], 25, list[BaseException]()

    def write(index: Changeable) -> None:
        try:
            for _ in range(each):
                with index.writing() as connection:
                    before = count(connection)
                    assert add(connection) == before
        except BaseException as exc:  # noqa: BLE001 - told by the main thread
            failed.append(exc)

    threads = [threading.Thread(target=write, args=(index,)) for index in indexes * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with indexes[0].reading() as connection:
        numbers = connection.execute(select(leaves.c.number).order_by(leaves.c.number)).scalars()
        assert list(numbers) == list(range(each * len(threads)))


def test_who_waits_for_too_long_is_told_so_and_has_written_nothing(
    place: Place, index: Changeable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty seconds; here a moment.  Whoever was in the way is not disturbed."""
    for module in (postgres, sqlite):
        monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    with closing(place.open()) as other, index.writing() as connection:
        add(connection)
        with pytest.raises(RetryableError) as told, other.writing() as another:
            add(another)
        assert "\n" not in str(told.value)
    assert counted(index) == 1


# --- crashes ----------------------------------------------------------------------------


@pytest.mark.soak
def test_a_process_that_is_killed_in_the_middle_leaves_all_or_nothing(
    place: Place,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """What it was told is there, transactions are whole, and the next writer does not wait."""
    kills = size(share=4, full=200)
    told = -1
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.doomed_writer", place.argument],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(dice.randrange(1, 40)):  # never in the same place of a transaction
                told = int(writer.stdout.readline())
            threading.Event().wait(dice.random() * 0.01)
            writer.kill()
            rest = writer.stdout.read().split()
        told = int(rest[-1]) if rest else told
        with closing(place.open()) as index:
            with index.reading() as connection:
                numbers = list(
                    connection.execute(select(leaves.c.number).order_by(leaves.c.number)).scalars()
                )
                assert (
                    count(connection)
                    == connection.execute(select(func.count()).select_from(salts)).scalar()
                )
            assert numbers == list(range(len(numbers)))
            assert len(numbers) % AT_ONCE == 0
            assert len(numbers) > told
            with index.writing() as connection:
                for _ in range(AT_ONCE):
                    told = add(connection)
    figure(f"{kills} kills while writing: {told + 1} leaves, 0 lost, 0 in half")


def test_a_full_disk_is_said_and_nothing_of_the_transaction_is_there(index: Changeable) -> None:
    """And once there is room, it goes on."""
    with index.writing() as connection:
        add(connection)

    def fill() -> None:
        with index.writing() as connection:
            add(connection)
            if index.is_shared:  # the server's own words, with its own number for it
                says = "RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'"
                connection.exec_driver_sql(f"DO $$ BEGIN {says}; END $$")
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            try:
                for n in range(1000):
                    connection.execute(
                        leaves.insert().values(number=n + 5, kind="x", entry=b"e" * 4096, at=AT)
                    )
            finally:
                connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")

    with pytest.raises(FullError, match="full; make room") as told:
        fill()
    assert "\n" not in str(told.value)
    assert counted(index) == 1
    with index.writing() as connection:
        assert add(connection) == 1


# --- values -----------------------------------------------------------------------------


def test_values_come_back_as_they_were(index: Changeable) -> None:
    """The largest numbers, all bytes, none, and text of every kind."""
    texts = ["", "ada", "Ada", "zoë", "\N{PILE OF POO}\n'\"%s\\"]
    with index.writing() as connection:
        for n, text in enumerate(texts):
            connection.execute(
                devices.insert().values(
                    device=bytes(range(256)) * n,
                    public_key=b"",
                    enrolled_at=LARGEST,
                    certified_until=-LARGEST - 1,
                    label=text,
                )
            )
    with index.reading() as connection:
        rows = connection.execute(select(devices)).all()
    assert {row.label: len(row.device) // 256 for row in rows} == {
        t: n for n, t in enumerate(texts)
    }
    assert {(row.public_key, row.enrolled_at, row.certified_until) for row in rows} == {
        (b"", LARGEST, -LARGEST - 1)
    }
    assert all(row.device == bytes(range(256)) * (len(row.device) // 256) for row in rows)
    assert {row.revoked_at for row in rows} == {None}


def test_a_number_beyond_all_leaves_finds_nothing(index: Changeable) -> None:
    """A reader may ask for what comes after any number of 18 digits."""
    with index.reading() as connection:
        asked = select(leaves.c.number).where(leaves.c.number > 10**18 - 1)
        assert connection.execute(asked).first() is None


def test_text_is_sorted_by_its_bytes(index: Changeable) -> None:
    """Whatever the language of the database: days, names and their order are the same."""
    names = ["Z", "a", "B", "é", "-1", "01"]
    with index.writing() as connection:
        for name in names:
            connection.execute(
                readers.insert().values(
                    name=name, spki_sha256=b"", certified_at=0, certified_until=0
                )
            )
    with index.reading() as connection:
        found = connection.execute(select(readers.c.name).order_by(readers.c.name)).scalars().all()
        larger = connection.execute(select(readers.c.name).where(readers.c.name > "Z")).scalars()
        assert set(larger) == {"a", "é"}
    assert list(found) == sorted(names, key=str.encode)


def test_on_conflict_the_first_stays_or_the_last_is_taken(index: Changeable) -> None:
    """Both ways that our code uses, and without a conflict both write."""
    for note in ("one", "two"):
        with index.writing() as connection:
            last = {"last_note": note, "last_at": 7}
            new = insert(connection, checkpoints).values(size=3, note=note, witnessed_at=1, **last)
            connection.execute(new.on_conflict_do_update(index_elements=["size"], set_=last))
            again = insert(connection, readers).values(
                name="r", spki_sha256=note.encode(), certified_at=0, certified_until=0
            )
            connection.execute(again.on_conflict_do_nothing())
    with index.reading() as connection:
        kept = connection.execute(select(checkpoints)).one()
        assert (kept.note, kept.last_note) == ("one", "two")
        assert connection.execute(select(readers.c.spki_sha256)).scalar_one() == b"one"


def plan_of(connection: Connection, statement: Select[Any]) -> str:
    """Return how the database says that it would find what is asked, with values not known yet."""
    compiled = statement.compile(dialect=connection.dialect)
    names, values = compiled.positiontup, compiled.params
    given = values if names is None else tuple(values[name] for name in names)
    asks = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the table is small
    return "\n".join(map(str, connection.exec_driver_sql(f"{asks} {compiled}", given).all()))


def test_what_the_guard_has_yet_to_erase_is_found_without_looking_at_the_rest(
    index: Changeable,
) -> None:
    """In its order, from an index that has nothing else: demands stay for ever."""
    with index.writing() as connection:
        for number in range(40):
            row = dict.fromkeys(("digest", "subject", "by_device", "signed"), bytes([number]) * 16)
            demand = Demand.WITHDRAW if number % 2 else Demand.ERASE
            numbers = dict.fromkeys(("made_at", "received_at", "erased"), 1)
            leaf, word = add(connection), None if number > 35 else b"its word"
            days = dict.fromkeys(("first_day", "last_day"), "")
            values = row | numbers | days | {"demand": demand, "leaf": leaf, "guard": word}
            connection.execute(requests.insert().values(**values))
    with index.reading() as connection:
        assert connection.execute(OUTSTANDING).scalars().all() == [
            bytes([36]) * 16,
            bytes([38]) * 16,
        ]
        for statement in (OUTSTANDING, OUTSTANDING.where(requests.c.leaf > 36)):
            plan = plan_of(connection, statement.limit(MOST_PASSED_ON))
            assert "requests_outstanding" in plan, plan
            assert not re.search("TEMP B-TREE|Sort|Seq Scan|SCAN requests", plan), plan


# --- forgetting -------------------------------------------------------------------------


def salt_of(index: Changeable, number: int) -> bytes:
    with index.reading() as connection:
        asked = select(salts.c.salt).where(salts.c.leaf == number)
        return bytes(connection.execute(asked).scalar_one())


def erase(index: Changeable, number: int) -> None:
    with index.writing() as connection:
        connection.execute(delete(salts).where(salts.c.leaf == number))


def test_a_salt_that_was_forgotten_is_in_no_file(
    place: Place, index: Changeable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours are.  What PostgreSQL writes anew once an hour, it does here each time."""
    monkeypatch.setattr(postgres, "REWRITE_NS", 0)
    with index.writing() as connection:
        for _ in range(200):
            add(connection)
    gone, stays = salt_of(index, 100), salt_of(index, 101)
    assert place.holds(gone)
    erase(index, 100)
    index.forget_deleted()
    assert not place.holds(gone)
    assert place.holds(stays)
    assert salt_of(index, 101) == stays


def test_what_a_reader_held_up_is_forgotten_later(
    place: Place, open_one: Callable[[], Changeable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is not disturbed, nobody waits for long, and the hourly look does it."""
    monkeypatch.setattr(postgres, "REWRITE_NS", 0)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    index = open_one()
    with index.writing() as connection:
        add(connection)
    gone = salt_of(index, 0)
    with index.reading() as connection:
        assert count(connection) == 1
        assert connection.execute(select(func.count()).select_from(salts)).scalar() == 1
        erase(index, 0)
        index.forget_deleted()
        assert connection.execute(select(func.count()).select_from(salts)).scalar() == 1
        assert place.holds(gone)
    index.forget_the_rest()
    assert not place.holds(gone)


def test_a_moment_is_one_state_for_as_long_as_it_is_read(
    index: Changeable, open_one: Callable[[], Changeable], tmp_path: Path
) -> None:
    """An audit reads for minutes; uploads and forgetting go on beside it, and no copy is left."""
    with index.writing() as connection:
        add(connection)
    before = set(tmp_path.iterdir())
    with index.moment(tmp_path) as connection:
        assert count(connection) == 1
        with open_one().writing() as another:
            add(another)
        index.forget_deleted()
        assert count(connection) == 1
    assert counted(index) == 2
    assert {path for path in tmp_path.iterdir() if path.name.startswith(".audit")} == set()
    assert before <= set(tmp_path.iterdir())


# --- versions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "error", "says"),
    [
        (SCHEMA_VERSION - 1, OlderError, "run assent-collector migrate"),
        (SCHEMA_VERSION + 1, NewerError, "install that version again"),
    ],
)
def test_tables_of_another_version_are_left_alone(
    place: Place, index: Changeable, version: int, error: type[Exception], says: str
) -> None:
    """One line says what to do; a look at any version is possible for who brings it up to date."""
    with index.writing() as connection:
        add(connection)
        index.note_version(connection, version)
    with pytest.raises(error, match=says) as told:
        place.open()
    assert "\n" not in str(told.value)
    with closing(place.open(any_version=True)) as looked, looked.reading() as connection:
        assert looked.version(connection) == version
        assert count(connection) == 1
