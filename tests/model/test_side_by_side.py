"""Collectors side by side on one bucket: every order of a start and an upload of one batch.

One collector died between a frame and its row, and starts; the device comes to another one
meanwhile, or to the same one, while that looks at old marks.  Each call of the store, the look
into the index and the commit are a step, and all orders of these steps are taken, on a bucket in
memory.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from base.errors import RetryableError
from collector.store.bucket import Created, Listed
from collector.store.s3 import BucketStore, Mark
from tests.fakes.memory_bucket import FIRST, MemoryBucket
from tests.fakes.orders import Party, every_order
from wire.ids import BatchHash

FRAME = b"sealed"
BATCH = BatchHash(hashlib.sha256(FRAME).digest())
SECOND, THIRD = "b" * 16, "c" * 16


class Stepwise(MemoryBucket):
    """One party's way to a bucket: each call is a step."""

    def __init__(self, real: MemoryBucket, comes: Callable[[], None]) -> None:
        self._real, self._comes = real, comes

    def create(self, name: str, content: bytes) -> Created:
        self._comes()
        return self._real.create(name, content)

    def get(self, name: str) -> bytes | None:
        self._comes()
        return self._real.get(name)

    def names(self, folder: str) -> list[Listed]:
        self._comes()
        return self._real.names(folder)

    def remove(self, name: str) -> None:
        self._comes()
        self._real.remove(name)


class Turn(threading.local):
    """What the thread that uses a store says before each step."""

    def __init__(self) -> None:
        self.comes: Callable[[], None] = lambda: None

    def step(self) -> None:
        self.comes()


class World:
    """A bucket and an index that several collectors share."""

    def __init__(self) -> None:
        self.bucket = MemoryBucket()
        self.rows: set[BatchHash] = set()

    def store(self, collector: str, comes: Callable[[], None]) -> BucketStore:
        bucket = Stepwise(self.bucket, comes)
        return BucketStore(ingest=bucket, keep=bucket, prefix="t", collector=collector)

    def starts(self, collector: str) -> Party:
        def party(comes: Callable[[], None]) -> None:
            store = self.store(collector, comes)
            self._resolves(list(store.unsettled()), comes)

        return party

    def looks(self, store: BucketStore, marks: Sequence[Mark], turn: Turn) -> Party:
        """Return the look of a running collector at marks that are an hour old."""

        def party(comes: Callable[[], None]) -> None:
            turn.comes = comes
            self._resolves(marks, comes)

        return party

    def _resolves(self, marks: Sequence[Mark], comes: Callable[[], None]) -> None:
        def known(batch: BatchHash) -> bool:
            comes()
            return batch in self.rows

        for mark in marks:
            mark.resolve(known)

    def uploads(
        self, collector: str, store: BucketStore | None = None, turn: Turn | None = None
    ) -> Party:
        """Return an upload to this collector: the running one that has *store*, or another."""

        def party(comes: Callable[[], None]) -> None:
            if turn is not None:
                turn.comes = comes
            store_ = store or self.store(collector, comes)
            with suppress(RetryableError):  # the device comes again, later
                mark = store_.put(BATCH, FRAME)
                comes()
                self.rows.add(BATCH)
                mark.settle()

        return party

    def check(self, order: Sequence[int]) -> None:
        """Each row has its frame; the next starts bring all to rest, and uploads go on."""
        assert not self.rows or self.bucket.open().get(BATCH) == FRAME, order
        for collector in (FIRST, SECOND, THIRD):
            for mark in self.bucket.open(collector).unsettled():
                mark.resolve(lambda batch: batch in self.rows)
        assert list(self.bucket.objects.values()) == [FRAME] * len(self.rows), order
        self.bucket.open(THIRD).put(BATCH, FRAME).settle()


@pytest.mark.slow
@pytest.mark.parametrize("frame_was_there", [True, False])
def test_in_no_order_of_a_start_and_an_upload_a_row_is_without_its_frame(
    *, frame_was_there: bool, figure: Callable[[str], None]
) -> None:
    """The crash came after the frame, or between the mark and the frame."""
    world = World()

    def begin() -> Sequence[Party]:
        nonlocal world
        world = World()
        mark = world.bucket.open(FIRST).put(BATCH, FRAME)
        if not frame_was_there:
            world.bucket.open(FIRST).remove(mark.batch)
        return world.starts(FIRST), world.uploads(SECOND)

    orders = 0
    for order in every_order(begin):
        world.check(order)
        orders += 1
    figure(f"{orders} orders")
    assert orders > 1000


@pytest.mark.slow
def test_in_no_order_two_uploads_of_a_batch_disturb_each_other() -> None:
    """The device was sent to two collectors at once: both take it in, and it is one."""
    world = World()

    def begin() -> Sequence[Party]:
        nonlocal world
        world = World()
        return world.uploads(FIRST), world.uploads(SECOND)

    for order in every_order(begin):
        assert world.rows == {BATCH}, order
        world.check(order)


@pytest.mark.slow
@pytest.mark.parametrize("frame_was_there", [True, False])
def test_in_no_order_a_look_at_an_old_mark_takes_away_what_is_just_coming_in(
    *, frame_was_there: bool, figure: Callable[[str], None]
) -> None:
    """An upload broke off, and its batch comes again, while the same collector clears up."""
    world = World()

    def begin() -> Sequence[Party]:
        nonlocal world
        world = World()
        turn = Turn()
        store = world.store(FIRST, turn.step)
        old = store.put(BATCH, FRAME)
        if not frame_was_there:
            store.remove(BATCH)
        return world.looks(store, [old], turn), world.uploads(FIRST, store, turn)

    orders = 0
    for order in every_order(begin):
        world.check(order)
        orders += 1
    figure(f"{orders} orders")
    assert orders > 100
