"""The guard's keys: one for each subject, category and month; erased ones are gone for good."""

import shutil
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guard.database import StorageError, pragma
from guard.keys import ErasedError, Found, Keys, Missing, OutOfSeasonError
from tests.fakes.organisation import NOW, wall
from wire.category import Category
from wire.ids import SubjectId, key_id
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
    for path in tmp_path.glob("keys.sqlite*"):
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
