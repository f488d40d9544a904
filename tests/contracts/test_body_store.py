"""What every store of sealed batches has to keep, whatever is behind it."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from base.errors import RetryableError, SetupError
from collector.store import BodyStore
from collector.store.bucket import Created
from collector.store.files import LOCK, FileStore
from collector.store.s3 import STALE, TRIED_SECONDS, BucketStore, VersionsError
from tests.fakes.buckets import PREFIX, Rented
from tests.fakes.ceph import Ceph
from tests.fakes.memory_bucket import FIRST, MemoryBucket
from wire.ids import BatchHash

pytestmark = pytest.mark.slow

FRAME: Final = b"sealed" * 1000
BATCH: Final = BatchHash(hashlib.sha256(FRAME).digest())
OTHER: Final = BatchHash(hashlib.sha256(b"other").digest())
SECOND: Final = "b" * 16  # another collector


@dataclass(frozen=True)
class Place:
    """Where a store is: it can be opened again, and looked at from outside."""

    reopen: Callable[[], BodyStore]
    everything: Callable[[], dict[str, bytes]]


@contextmanager
def in_files(tmp_path: Path, _ceph: Callable[[], Ceph]) -> Iterator[Place]:
    """Lay it out in the local file system."""
    root = tmp_path / "objects"

    def everything() -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.is_file() and path.name != LOCK)
        return {str(path): path.read_bytes() for path in files}

    yield Place(lambda: FileStore(root), everything)


@contextmanager
def in_a_bucket(tmp_path: Path, ceph: Callable[[], Ceph]) -> Iterator[Place]:
    """Rent a bucket of a real S3 store, with the rights that our policy gives."""
    rented = Rented.of(ceph())
    yield Place(lambda: rented.open(tmp_path), rented.objects)


@contextmanager
def in_memory(_tmp_path: Path, _ceph: Callable[[], Ceph]) -> Iterator[Place]:
    """Take the fake with which tests try every order of things."""
    bucket = MemoryBucket()
    yield Place(bucket.open, lambda: dict(bucket.objects))


@pytest.fixture(params=(in_files, in_a_bucket, in_memory), ids=lambda place: place.__name__)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Return each place in turn; a bucket needs a real S3 store, which is started once."""
    laid_out: Callable[..., AbstractContextManager[Place]] = request.param
    with laid_out(tmp_path, lambda: request.getfixturevalue("ceph")) as place:
        yield place


@pytest.fixture
def reopen(place: Place) -> Callable[[], BodyStore]:
    """Return a function that opens the store on the same place again, as a new start does."""
    return place.reopen


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


@pytest.mark.parametrize("name", ["x", "", "ab", "é", BATCH.hex().upper(), BATCH.hex() + "00"])
def test_what_is_no_mark_is_left_alone(tmp_path: Path, name: str) -> None:
    """Whoever may write among the marks cannot keep a collector from starting."""
    bucket, root = MemoryBucket(), tmp_path / "objects"
    bucket.create(f"t/incoming/{name}/{FIRST}.more", b"")
    assert list(bucket.open().unsettled()) == []
    FileStore(root)
    (root / "incoming" / f"{name}.more").touch()
    assert list(FileStore(root).unsettled()) == []


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


def test_what_was_removed_is_nowhere_any_more(place: Place) -> None:
    """Not even where a mark was left behind: it is no second copy."""
    store = place.reopen()
    store.put(BATCH, FRAME)
    store.put(BATCH, FRAME)
    assert FRAME in place.everything().values()
    store.remove(BATCH)
    assert set(place.everything().values()) == {b""}


def test_a_start_keeps_what_the_index_knows(place: Place) -> None:
    """A crash between the row and `settle`: only the mark goes."""
    place.reopen().put(BATCH, FRAME)
    store = place.reopen()
    assert [mark.resolve(lambda batch: batch == BATCH) for mark in store.unsettled()] == [False]
    assert list(place.everything().values()) == [FRAME]


def test_a_start_removes_what_the_index_does_not_know(place: Place) -> None:
    """Two crashes before the row: nobody was given a receipt, so nothing stays."""
    for _ in range(2):
        place.reopen().put(BATCH, FRAME)
    store = place.reopen()
    assert [mark.resolve(lambda _: False) for mark in store.unsettled()][-1]
    assert place.everything() == {}
    assert place.reopen().get(BATCH) is None


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


def test_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    """0600 in 0700, where there are files."""
    FileStore(tmp_path / "objects").put(BATCH, FRAME)
    for path in (tmp_path / "objects").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_what_a_removal_that_was_cut_short_has_emptied_is_no_frame(tmp_path: Path) -> None:
    """The device sends it again: what is acknowledged then has to be there, all of it."""
    root = tmp_path / "objects"
    mark = FileStore(root).put(BATCH, FRAME)
    (root / BATCH.hex()[:2] / BATCH.hex()).write_bytes(b"")  # a crash between the two steps
    mark.settle()
    store = FileStore(root)
    again = store.put(BATCH, FRAME)
    assert store.get(BATCH) == FRAME
    again.settle()
    assert store.get(BATCH) == FRAME
    assert list(store.unsettled()) == []
    store.put(BATCH, FRAME).settle()
    assert store.get(BATCH) == FRAME


# --- several collectors on one bucket -------------------------------------------------------


@pytest.fixture
def rented(ceph: Ceph) -> Rented:
    return Rented.of(ceph)


def test_a_start_leaves_the_marks_of_a_living_collector_alone(
    rented: Rented, tmp_path: Path
) -> None:
    """They are not even shown to it; its own are."""
    ours, theirs = rented.open(tmp_path), rented.open(tmp_path, SECOND)
    theirs.put(BATCH, FRAME)
    ours.put(OTHER, b"other")
    assert [mark.batch for mark in rented.open(tmp_path).unsettled()] == [OTHER]
    assert [mark.batch for mark in rented.open(tmp_path, SECOND).unsettled()] == [BATCH]


def test_a_start_does_not_remove_what_another_collector_is_taking_in(
    rented: Rented, tmp_path: Path
) -> None:
    """The device came again, to another collector, whose row is yet to come."""
    rented.open(tmp_path).put(BATCH, FRAME)
    theirs = rented.open(tmp_path, SECOND).put(BATCH, FRAME)
    again = rented.open(tmp_path)
    assert [mark.resolve(lambda _: False) for mark in again.unsettled()] == [False]
    assert again.get(BATCH) == FRAME
    theirs.settle()  # after its row
    assert [mark.resolve(lambda _: True) for mark in again.unsettled()] == [False]
    assert list(rented.objects().values()) == [FRAME]


def test_what_nobody_comes_back_for_is_resolved_by_any_start(
    rented: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that was taken down for good; its mark is older than any upload can be."""
    rented.open(tmp_path).put(BATCH, FRAME)
    monkeypatch.setattr("collector.store.s3.STALE", 0 * STALE)
    other = rented.open(tmp_path, SECOND)
    assert [mark.resolve(lambda _: False) for mark in other.unsettled()] == [True]
    assert rented.objects() == {}


def test_while_a_frame_is_being_removed_none_of_its_name_is_taken_in(
    rented: Rented, tmp_path: Path
) -> None:
    """A start that died half-way left its flag: try again later, and its next start ends it."""
    crashed = rented.open(tmp_path)
    mark = crashed.put(BATCH, FRAME)
    other = rented.open(tmp_path, SECOND)

    def dies(_batch: BatchHash) -> bool:
        raise RetryableError("the index is away")

    with pytest.raises(RetryableError, match="the index is away"):
        mark.resolve(dies)
    with pytest.raises(RetryableError, match="just being removed"):
        other.put(BATCH, FRAME)
    again = rented.open(tmp_path)
    assert [one.resolve(lambda _: False) for one in again.unsettled()] == [True, True]
    other.put(BATCH, FRAME).settle()
    assert other.get(BATCH) == FRAME


# --- what a bucket has to be ------------------------------------------------------------------


def test_a_bucket_that_keeps_versions_is_refused_at_start(rented: Rented, tmp_path: Path) -> None:
    """What is deleted would stay readable."""
    rented.owner.keeps_versions(rented.name)
    with pytest.raises(SetupError, match="keeps old versions"):
        rented.open(tmp_path)


def test_versioning_that_is_switched_on_later_ends_uploads_and_deletions(
    rented: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame is where it was, so that the deletion can be completed when that is mended."""
    store = rented.open(tmp_path)
    store.put(BATCH, FRAME).settle()
    rented.owner.keeps_versions(rented.name)
    with pytest.raises(VersionsError):
        store.put(OTHER, b"other")
    monkeypatch.setattr("collector.store.s3.TRIED_SECONDS", -TRIED_SECONDS)
    with pytest.raises(VersionsError):
        store.remove(BATCH)
    assert store.get(BATCH) == FRAME
    assert store.get(OTHER) is None


class Overwriting(MemoryBucket):
    """A bucket of a store that takes no notice of If-None-Match."""

    def create(self, name: str, content: bytes) -> Created:
        self.objects.pop(name, None)
        return super().create(name, content)


def test_a_store_that_overwrites_is_refused_at_start() -> None:
    """It would let whoever comes second replace a batch."""
    bucket = Overwriting()
    store = BucketStore(ingest=bucket, keep=bucket, prefix=PREFIX, collector=SECOND)
    with pytest.raises(SetupError, match="overwrites objects in spite of If-None-Match"):
        store.probe()
    assert bucket.objects == {}


def test_other_bytes_under_the_name_of_a_batch_are_no_batch(rented: Rented, tmp_path: Path) -> None:
    """Whoever may create objects there could plant them; the device keeps what it has."""
    planted = f"{rented.name}/{PREFIX}/objects/{BATCH.hex()}/frame"
    assert rented.party(rented.ingest).asks("PUT", planted, b"planted").status == 200
    with pytest.raises(SetupError, match="other bytes under the name"):
        rented.open(tmp_path).put(BATCH, FRAME)


def test_what_a_worker_of_an_earlier_run_left_is_the_collector_s_to_clear() -> None:
    """While the run lasts, its workers may be uploading; other collectors never decide."""
    bucket = MemoryBucket()
    names = {"collector": FIRST, "run": "1" * 16}
    worker = BucketStore(ingest=bucket, keep=bucket, prefix="t", worker="2" * 16, **names)
    worker.put(BATCH, FRAME)
    of_this_run = BucketStore(ingest=bucket, keep=bucket, prefix="t", **names)
    of_the_next = BucketStore(ingest=bucket, keep=bucket, prefix="t", collector=FIRST, run="3" * 16)
    other = BucketStore(ingest=bucket, keep=bucket, prefix="t", collector=SECOND, run="3" * 16)
    assert list(of_this_run.unsettled()) == list(other.unsettled()) == []
    [mark] = of_the_next.unsettled()
    assert mark.resolve(lambda _: False)
    assert bucket.objects == {}


# --- files, several collectors on one file system -----------------------------------------


def test_an_old_mark_leaves_the_frame_of_who_is_taking_it_in_again(tmp_path: Path) -> None:
    """The last mark decides; both were of uploads that broke off: the frame goes."""
    store = FileStore(tmp_path / "objects")
    old = store.put(BATCH, FRAME)
    again = FileStore(tmp_path / "objects").put(BATCH, FRAME)
    assert not old.resolve(lambda _: False)
    assert store.get(BATCH) == FRAME
    assert again.resolve(lambda _: False)
    assert store.get(BATCH) is None
    assert list(store.unsettled()) == []


def test_who_comes_while_an_old_mark_is_judged_waits(tmp_path: Path) -> None:
    """Otherwise its frame would be there for it, and gone before its row is."""
    store = FileStore(tmp_path / "objects")
    old = store.put(BATCH, FRAME)
    comes = threading.Thread(target=lambda: FileStore(tmp_path / "objects").put(BATCH, FRAME))

    def unknown(_: BatchHash) -> bool:
        comes.start()
        comes.join(0.3)  # without a lock it would be done by then
        return False

    assert old.resolve(unknown)
    comes.join()
    assert store.get(BATCH) == FRAME
