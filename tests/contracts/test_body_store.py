"""What every store of sealed batches has to keep, whatever is behind it."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.store import BodyStore
from collector.store.files import FileStore
from wire.ids import BatchHash

OPENERS: tuple[Callable[[Path], BodyStore], ...] = (FileStore,)
FRAME = b"sealed" * 1000
BATCH = BatchHash(hashlib.sha256(FRAME).digest())
OTHER = BatchHash(hashlib.sha256(b"other").digest())


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BodyStore]:
    """Return a function that opens the store on the same place again, as a new start does."""
    return lambda: request.param(tmp_path / "objects")


def test_what_was_put_is_there_after_a_restart(reopen: Callable[[], BodyStore]) -> None:
    """Durable when `put` returns."""
    reopen().put(BATCH, FRAME)
    assert reopen().get(BATCH) == FRAME
    assert reopen().get(OTHER) is None


def test_putting_the_same_bytes_again_changes_nothing(reopen: Callable[[], BodyStore]) -> None:
    """Create-only; two are one."""
    store = reopen()
    store.put(BATCH, FRAME).settle()
    store.put(BATCH, FRAME).settle()
    assert store.get(BATCH) == FRAME
    assert list(store.unsettled()) == []


def test_nothing_is_ever_overwritten(reopen: Callable[[], BodyStore]) -> None:
    """Even by a caller who gives other bytes the same name."""
    store = reopen()
    store.put(BATCH, FRAME)
    store.put(BATCH, b"other bytes")
    assert store.get(BATCH) == FRAME


def test_between_put_and_settle_a_batch_is_unsettled(reopen: Callable[[], BodyStore]) -> None:
    """A crash leaves it to the next start, once for each put."""
    first = reopen().put(BATCH, FRAME)
    second = reopen().put(BATCH, FRAME)
    assert [mark.batch for mark in reopen().unsettled()] == [BATCH, BATCH]
    first.settle()
    first.settle()
    assert [mark.batch for mark in reopen().unsettled()] == [BATCH]
    second.settle()
    assert list(reopen().unsettled()) == []
    assert reopen().get(BATCH) == FRAME


def test_removing_is_durable_and_does_not_mind_what_is_not_there(
    reopen: Callable[[], BodyStore],
) -> None:
    """And the batch could be put again: a tombstone is the index's affair."""
    store = reopen()
    store.put(BATCH, FRAME).settle()
    store.remove(BATCH)
    store.remove(BATCH)
    store.remove(OTHER)
    assert reopen().get(BATCH) is None
    store.put(BATCH, FRAME).settle()
    assert reopen().get(BATCH) == FRAME


def test_what_was_removed_is_in_no_file(reopen: Callable[[], BodyStore], tmp_path: Path) -> None:
    """Not even where a mark was left behind: it is no second copy."""
    store = reopen()
    store.put(BATCH, FRAME)
    store.put(BATCH, FRAME)
    store.remove(BATCH)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size] == []


def test_many_threads_may_put_the_same_batch(reopen: Callable[[], BodyStore]) -> None:
    """No half-written frame is ever seen."""
    store, seen = reopen(), []

    def work() -> None:
        store.put(BATCH, FRAME).settle()
        seen.append(store.get(BATCH))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [FRAME] * 8
    assert list(store.unsettled()) == []


def test_files_and_folders_are_their_owners_alone(
    reopen: Callable[[], BodyStore], tmp_path: Path
) -> None:
    """0600 in 0700, where there are files."""
    reopen().put(BATCH, FRAME)
    for path in (tmp_path / "objects").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
