"""The guard's keys: one for each subject, category and month; erased ones are gone for good."""

import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from base.clock import NANOSECONDS
from base.errors import RetryableError, SetupError
from guard.database import StorageError, pragma
from guard.erasures import Erasures, Ordered
from guard.keys import ErasedError, Found, Keys, Missing, OutOfSeasonError
from tests.fakes.organisation import NOW, wall
from wire.category import Category
from wire.ids import SubjectId, WallInstant, key_id
from wire.rights import Demand, Request
from wire.xwing import public_key_of

ANN = SubjectId(b"a" * 16)
BEN = SubjectId(b"b" * 16)
MONTH = "2027-03"
AT = wall(NOW)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    opened = Keys(tmp_path / "keys.sqlite")
    yield opened
    opened.close()


def test_a_key_is_made_once_and_found_again(keys: Keys, tmp_path: Path) -> None:
    """The same question has the same answer, also after a restart."""
    public = keys.public_key(ANN, Category.KEYS, MONTH, AT)
    assert keys.public_key(ANN, Category.KEYS, MONTH, AT) == public
    keys.close()
    again = Keys(tmp_path / "keys.sqlite")
    found = again.find(ANN, Category.KEYS, MONTH)
    again.close()
    assert isinstance(found, Found)
    assert public_key_of(found.seed) == public
    assert found.key_id == key_id(public)


def test_each_subject_category_and_month_has_a_key_of_its_own(keys: Keys) -> None:
    """So that each can be erased alone."""
    publics = {
        keys.public_key(subject, category, month, AT)
        for subject in (ANN, BEN)
        for category in (Category.KEYS, Category.SCREEN)
        for month in ("2027-02", "2027-03", "2027-04")
    }
    assert len(publics) == 12


def test_threads_that_ask_at_once_get_one_key(keys: Keys) -> None:
    """No batch is sealed to a key that lost a race."""
    answers: list[bytes] = []

    def ask() -> None:
        answers.append(keys.public_key(ANN, Category.KEYS, MONTH, AT))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_a_key_is_made_in_season_only(keys: Keys) -> None:
    """Last, this and next month; what was made stays."""
    for month in ("2027-01", "2027-05", "2026-03"):
        with pytest.raises(OutOfSeasonError):
            keys.public_key(ANN, Category.KEYS, month, AT)
    january = wall(datetime(2027, 1, 1, tzinfo=UTC))
    keys.public_key(ANN, Category.KEYS, "2026-12", january)
    keys.public_key(ANN, Category.KEYS, "2026-12", AT)  # still there, though out of season
    december = wall(datetime(2027, 12, 31, tzinfo=UTC))
    keys.public_key(ANN, Category.KEYS, "2028-01", december)


@pytest.mark.parametrize(
    ("category", "month", "gone"),
    [
        (None, None, {("keys", "2027-02"), ("keys", "2027-03"), ("screen", "2027-03")}),
        (Category.KEYS, None, {("keys", "2027-02"), ("keys", "2027-03")}),
        (None, "2027-03", {("keys", "2027-03"), ("screen", "2027-03")}),
        (Category.KEYS, "2027-03", {("keys", "2027-03")}),
    ],
)
def test_forgetting_erases_what_was_asked_and_nothing_else(
    keys: Keys, category: Category | None, month: str | None, gone: set[tuple[str, str]]
) -> None:
    """A person, a category of a person, a month, or one key; other people keep theirs."""
    made = [(Category.KEYS, "2027-02"), (Category.KEYS, "2027-03"), (Category.SCREEN, "2027-03")]
    for subject in (ANN, BEN):
        for one in made:
            keys.public_key(subject, *one, AT)
    assert keys.forget(ANN, category, month, AT) == len(gone)
    for one in made:
        erased = keys.find(ANN, *one) is Missing.ERASED
        assert erased == ((one[0].value, one[1]) in gone)
        assert isinstance(keys.find(BEN, *one), Found)


def test_what_was_erased_is_never_made_again(keys: Keys) -> None:
    """Not even a key that had not been made yet; and erasing twice is no error."""
    assert keys.forget(ANN, Category.KEYS, None, AT) == 0
    assert keys.forget(ANN, Category.KEYS, None, AT) == 0
    with pytest.raises(ErasedError):
        keys.public_key(ANN, Category.KEYS, MONTH, AT)
    assert keys.find(ANN, Category.KEYS, MONTH) is Missing.ERASED
    keys.public_key(ANN, Category.SCREEN, MONTH, AT)
    assert keys.count().erasures == 1


def test_a_key_that_could_not_be_written_never_leaves(keys: Keys) -> None:
    """A full or broken disk is an error, not a key that nobody has."""
    pragma(keys._engine, "query_only=ON")  # noqa: SLF001 - to break what is inside
    with pytest.raises(StorageError):
        keys.public_key(ANN, Category.KEYS, MONTH, AT)
    with pytest.raises(StorageError):
        keys.forget(ANN, None, None, AT)
    pragma(keys._engine, "query_only=OFF")  # noqa: SLF001
    assert keys.find(ANN, Category.KEYS, MONTH) is Missing.NEVER_MADE


def test_an_erased_seed_is_in_no_file(keys: Keys, tmp_path: Path) -> None:
    """Overwritten in the database, and not left in its write-ahead log."""
    keys.public_key(ANN, Category.KEYS, MONTH, AT)
    found = keys.find(ANN, Category.KEYS, MONTH)
    assert isinstance(found, Found)

    def holds() -> list[str]:
        return [p.name for p in tmp_path.iterdir() if found.seed in p.read_bytes()]

    assert holds() != []  # the search does find what is there
    keys.forget(ANN, None, None, AT)
    assert holds() == []


def test_an_erasure_that_a_crash_cut_short_is_finished_at_the_next_start(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Crash after the commit*: the seed is still in the write-ahead log, and goes at start."""
    keys.public_key(ANN, Category.KEYS, MONTH, AT)
    found = keys.find(ANN, Category.KEYS, MONTH)
    assert isinstance(found, Found)
    with monkeypatch.context() as patch:
        patch.setattr("guard.keys.truncate_log", lambda _engine: None)
        keys.forget(ANN, None, None, AT)
    # As the disk is at this moment: closing the file in an orderly way would empty the log.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for path in tmp_path.glob("keys.*"):
        shutil.copy(path, crashed)

    def holds() -> list[str]:
        return [p.name for p in crashed.iterdir() if found.seed in p.read_bytes()]

    assert holds() == ["keys.sqlite-wal"]
    again = Keys(crashed / "keys.sqlite")
    assert holds() == []
    assert again.find(ANN, Category.KEYS, MONTH) is Missing.ERASED
    again.close()


def test_the_files_belong_to_the_guard_alone(keys: Keys, tmp_path: Path) -> None:
    """Mode 0600, the write-ahead log included."""
    keys.public_key(ANN, Category.KEYS, MONTH, AT)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


# --- an old copy ------------------------------------------------------------------------


def asks(category: Category | None = None) -> Request:
    """Return what ANN demands: that all of a category goes."""
    return Request(
        nonce=bytes(16),
        origin="https://collector.example",
        subject=ANN,
        demand=Demand.ERASE,
        category=category,
        made_at=AT,
    )


@pytest.mark.parametrize("how", ["demanded", "ordered"])
def test_an_old_copy_that_is_put_back_opens_nothing_that_was_erased(
    tmp_path: Path, how: str
) -> None:
    """What was not erased is there again, and what was made after an erasure stays."""
    file = tmp_path / "keys.sqlite"
    with closing(Keys(file)) as keys:
        keys.public_key(ANN, Category.KEYS, MONTH, AT)
        keys.public_key(ANN, Category.SCREEN, MONTH, AT)
        keys.public_key(BEN, Category.KEYS, MONTH, AT)
    old = file.read_bytes()
    with closing(Keys(file)) as keys:
        if how == "demanded":
            assert keys.erase(b"d" * 32, asks(Category.KEYS), AT).keys == 1
        else:
            assert keys.forget(ANN, Category.KEYS, None, AT) == 1
    file.write_bytes(old)
    for _ in range(2):
        with closing(Keys(file)) as keys:
            assert keys.find(ANN, Category.KEYS, MONTH) is Missing.ERASED
            assert isinstance(keys.find(ANN, Category.SCREEN, MONTH), Found)
            assert isinstance(keys.find(BEN, Category.KEYS, MONTH), Found)
            assert keys.count().erasures == 1


def test_a_key_that_was_made_after_an_erasure_is_not_erased_by_a_start(tmp_path: Path) -> None:
    """It is for what was agreed to since, also where the erasure has to be carried out again."""
    file, later = tmp_path / "keys.sqlite", WallInstant(AT + 1)
    with closing(Keys(file)) as keys:
        keys.erase(b"d" * 32, asks(), AT)
        keys.public_key(ANN, Category.KEYS, MONTH, later)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM requests")  # as if the copy were from before it
    with closing(Keys(file)) as keys:
        assert isinstance(keys.find(ANN, Category.KEYS, MONTH), Found)


def test_what_was_made_before_the_clock_was_set_back_is_erased_too(keys: Keys) -> None:
    """Else the guard would sign that it erased what it still has."""
    ahead = WallInstant(AT + 3600 * NANOSECONDS)
    keys.public_key(ANN, Category.KEYS, MONTH, ahead)
    gone = keys.erase(b"d" * 32, asks(), AT)
    assert (gone.keys, gone.erased_at) == (1, ahead)
    assert keys.find(ANN, Category.KEYS, MONTH) is Missing.ERASED


def test_an_erasure_that_was_only_written_down_is_carried_out_at_the_next_start(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two: the file with the erasures is the first."""
    keys.public_key(ANN, Category.KEYS, MONTH, AT)

    def crashes(_engine: object) -> None:
        raise StorageError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("guard.keys.transaction", crashes)
        with pytest.raises(StorageError):
            keys.forget(ANN, None, None, AT)
    assert isinstance(keys.find(ANN, Category.KEYS, MONTH), Found)
    with closing(Keys(tmp_path / "keys.sqlite")) as again:
        assert again.find(ANN, Category.KEYS, MONTH) is Missing.ERASED


def test_without_the_file_of_erasures_nothing_starts(keys: Keys, tmp_path: Path) -> None:
    """Whoever removes it could put an old copy back next."""
    keys.forget(ANN, None, None, AT)
    (tmp_path / "keys.erased").unlink()
    with pytest.raises(SetupError, match=r"keys\.erased lacks 1 erasures.* restore"):
        Keys(tmp_path / "keys.sqlite")


def test_half_a_line_at_its_end_was_no_erasure(keys: Keys, tmp_path: Path) -> None:
    """A crash while it was written; the next one stands on a line of its own."""
    keys.forget(ANN, Category.KEYS, None, AT)
    with (tmp_path / "keys.erased").open("ab") as file:
        file.write(b'{"type":"ordered","subj')
    keys.forget(BEN, Category.KEYS, None, AT)
    found = Erasures(tmp_path / "keys.sqlite").read()
    assert [each.subject for each in found if isinstance(each, Ordered)] == [ANN, BEN]
    with closing(Keys(tmp_path / "keys.sqlite")) as again:
        assert again.count().erasures == 2


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"no line", b'{"type":"ordered","version":2}\n', b"\xff\n"]
)
def test_a_damaged_or_later_file_of_erasures_is_said_and_left_alone(
    keys: Keys, tmp_path: Path, line: bytes
) -> None:
    """Nothing starts with half of what it should know."""
    keys.forget(ANN, None, None, AT)
    file = tmp_path / "keys.erased"
    file.write_bytes(file.read_bytes() + line)
    before = file.read_bytes()
    with pytest.raises(SetupError, match=r"keys\.erased .*nothing was changed"):
        Keys(tmp_path / "keys.sqlite")
    assert file.read_bytes() == before


def test_where_it_cannot_be_written_nothing_is_erased(keys: Keys, tmp_path: Path) -> None:
    """The keys stay until the erasure is sure to last."""
    keys.public_key(ANN, Category.KEYS, MONTH, AT)
    (tmp_path / "keys.erased").unlink(missing_ok=True)
    (tmp_path / "keys.erased").mkdir()
    with pytest.raises(RetryableError, match="nothing was erased"):
        keys.forget(ANN, None, None, AT)
    assert isinstance(keys.find(ANN, Category.KEYS, MONTH), Found)


def test_a_command_beside_a_running_guard_sees_all_or_nothing_of_an_erasure(
    keys: Keys, tmp_path: Path
) -> None:
    """Both open the files again and again; neither takes the other's erasure for a loss."""
    failed: list[Exception] = []

    def opens() -> None:
        try:
            for _ in range(20):
                Keys(tmp_path / "keys.sqlite").close()
        except SetupError as exc:
            failed.append(exc)

    thread = threading.Thread(target=opens)
    thread.start()
    for number in range(40):
        keys.erase(number.to_bytes(32), asks(), AT)
    thread.join()
    assert failed == []
    assert keys.count().erasures == 40
