"""Frames as objects of an S3 bucket, for one collector or several side by side.

    PREFIX/objects/<hash>/frame                       a frame
    PREFIX/incoming/<hash>/<collector>.<random>       a mark: an upload is under way, or broke off
    PREFIX/incoming/<hash>/removing.<collector>       a flag: a frame without a row is being removed
    PREFIX/probe/<random>                             what `probe` tries things with

Order of `put`, and what a crash after each step leaves behind:

1. the mark is made: unsettled, and no object;
2. flags are looked for: where there is one, nothing is taken in now;
3. the frame is created, which cannot overwrite: mark and object, unsettled;
4. (the caller commits its index row;) `settle` removes the mark: the object alone.

A start resolves the marks of its own collector, and those that are older than any upload can
be, because nobody will come back for them.  What keeps it from removing a frame that another
collector is just taking in is who looks when: `put` marks, then looks for flags, then creates;
`resolve` flags, then looks for the marks of others, then asks the index, then removes, then
takes the flag away.  Whoever comes second sees the first, and steps back: `put` with "try again
later", `resolve` by leaving the mark for another time.  Lists have to be consistent for that,
as those of AWS and Ceph are.  Its own marks a collector tells apart by memory: those that it
made since it was started are of uploads that may go on, all others of one that broke off.  Its
workers make theirs in names of their own, which begin with the collector's and with that of the
run of it that started them: those of another run are of workers that are dead.

Nothing here says how many bytes are free: nobody can tell.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from base.errors import AssentError, RetryableError, SetupError
from collector.store import batch_named
from collector.store.bucket import Bucket, Listed
from wire.ids import BatchHash

_log = logging.getLogger(__name__)

_REMOVING: Final = "removing"
# No upload lasts so long: a request, a transaction and each call of the store are bounded.
STALE: Final = timedelta(days=1)

# Whether the bucket keeps versions, each new object tells; before a deletion one has to have.
TRIED_SECONDS: Final = 60.0

_OVERWRITES: Final = (
    "the store overwrites objects in spite of If-None-Match, so a batch could be lost; take a "
    "store that knows it"
)


def frame_name(prefix: str, batch: BatchHash) -> str:
    """Return the name of the object that is the frame of *batch*."""
    return f"{prefix}/objects/{batch.hex()}/frame"


class VersionsError(SetupError):
    """The bucket keeps what is deleted."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An object below `incoming/`: its batch may lack an index row."""

    batch: BatchHash
    name: str
    store: "BucketStore"

    def settle(self) -> None:
        """Remove the mark; one that stays, because the store is away, is settled at a start."""
        try:
            self.store.keep.remove(self.name)
        except AssentError as exc:
            _log.warning("a mark stays until the next start: %s", exc)
        self.store.ended(self)

    def resolve(self, known: Callable[[BatchHash], bool]) -> bool:
        """Remove the frame unless the index *knows* it or another collector is taking it in."""
        return self.store.resolve(self, known)


class BucketStore:
    """Frames below one prefix of a bucket."""

    def __init__(
        self,
        *,
        ingest: Bucket,
        keep: Bucket,
        prefix: str,
        collector: str,
        run: str = "",
        worker: str = "",
    ) -> None:
        """Create as *ingest*, and read, list and remove as *keep*.

        *collector* is this one, *run* what it does between a start and an end, and *worker* who
        of that run this is, if it is one.
        """
        self._ingest, self.keep = ingest, keep
        self._prefix, self._workers, self._run = prefix, collector, run
        self._collector = collector + run + worker if worker else collector
        self._tried_at = -TRIED_SECONDS  # when the bucket last kept no version, monotonic
        self._now: datetime | None = None  # by the store's clock; known once a start has asked
        self._alive: set[str] = set()  # marks of uploads of this process that may still go on

    # --- what every store does ------------------------------------------------------------

    def put(self, batch: BatchHash, frame: bytes) -> Mark:
        """Store *frame* durably, unless it is here already; steps 1 to 3."""
        mark = self._mark(batch)
        try:
            self._put(mark, frame)
        except BaseException:
            self.ended(mark)
            raise
        return mark

    def _put(self, mark: Mark, frame: bytes) -> None:
        if self._flags(mark.batch):
            mark.settle()
            raise RetryableError("the rest of this batch is just being removed; again later")
        try:
            new = self._create(self._path(mark.batch), frame)
        except VersionsError:
            raise
        except (OSError, SetupError):  # nothing was stored; whenever that is not sure, it stays
            mark.settle()
            raise
        if not new:
            self._check_same(mark.batch)

    def ended(self, mark: Mark) -> None:
        """Note that the upload of *mark* does not go on, whether or not the mark is still there."""
        self._alive.discard(mark.name)

    def free_bytes(self) -> int | None:
        """Return None: a store answers with an error when it is full, and not before."""
        return None

    def get(self, batch: BatchHash) -> bytes | None:
        """Return the frame, or None."""
        return self.keep.get(self._path(batch))

    def remove(self, batch: BatchHash) -> None:
        """Remove the frame for good; marks hold no bytes of it.

        Versioning that somebody switched on since the start would keep it, readable: then it
        stays where it is, and its tombstone unswept, until that is mended.
        """
        if time.monotonic() > self._tried_at + TRIED_SECONDS:
            name = self._probe_name()
            self._create(name, b"")
            self.keep.remove(name)
        self.keep.remove(self._path(batch))

    def unsettled(self) -> Iterator[Mark]:
        """Yield the marks of this collector, and those of nobody any more."""
        self._now = self._clock()
        for one in self.keep.names(f"{self._prefix}/incoming"):
            batch = batch_named(one.name.split("/")[-2])
            if batch is not None and not self._is_of_others(one):
                yield Mark(batch, one.name, self)

    # --- several collectors -----------------------------------------------------------------

    def resolve(self, mark: Mark, known: Callable[[BatchHash], bool]) -> bool:
        """Decide about the frame of *mark*, whose own upload has ended; why so: see the module."""
        folder = self._incoming(mark.batch)
        flag = f"{folder}/{_REMOVING}.{self._collector}"
        self._create(flag, b"")
        if any(self._may_go_on(one) for one in self.keep.names(folder) if one.name != mark.name):
            self.keep.remove(flag)
            return False
        gone = not known(mark.batch)
        if gone:
            self.remove(mark.batch)
        self.keep.remove(mark.name)
        self.ended(mark)
        # Last: a crash or an error before this line leaves the flag, and it is resolved again.
        self.keep.remove(flag)
        return gone

    def _is_of_others(self, one: Listed) -> bool:
        """Whether a mark or flag is another collector's, who may be alive."""
        who = one.name.rpartition("/")[2].split(".")
        mine = self._collector in who or any(self._is_of_a_dead_worker(each) for each in who)
        return not mine and (self._now is None or one.at > self._now - STALE)

    def _is_of_a_dead_worker(self, who: str) -> bool:
        ours = who.startswith(self._workers) and who != self._workers
        return ours and not who.startswith(self._workers + self._run)

    def _may_go_on(self, one: Listed) -> bool:
        return one.name in self._alive or self._is_of_others(one)

    def _flags(self, batch: BatchHash) -> bool:
        found = self.keep.names(self._incoming(batch))
        return any(one.name.rpartition("/")[2].startswith(f"{_REMOVING}.") for one in found)

    # --- at start ---------------------------------------------------------------------------

    def probe(self) -> None:
        """Try whether the bucket does what is needed, with an object of no content.

        Raises:
            SetupError: It overwrites, keeps versions, or does not let us do something.
            RetryableError: It cannot be reached now.

        """
        name = self._probe_name()
        self._create(name, b"first")
        try:
            if self._create(name, b"second") or self.keep.get(name) != b"first":
                raise SetupError(_OVERWRITES)
        finally:
            self.keep.remove(name)
        if self.keep.get(name) is not None:
            raise SetupError("the store still gives what was deleted; take a consistent one")

    def _clock(self) -> datetime:
        """Return what time the store has: marks are dated by its clock, not by ours."""
        name = self._probe_name()
        self._create(name, b"")
        at = max(one.at for one in self.keep.names(f"{self._prefix}/probe"))
        self.keep.remove(name)
        return at

    def _create(self, name: str, content: bytes) -> bool:
        """Create an object; return whether there was none.

        Raises:
            VersionsError: It was made, and every deletion from now on would keep something.
            AssentError, OSError: As `Bucket.create`.

        """
        created = self._ingest.create(name, content)
        if created.kept_versions:
            raise VersionsError(
                "the bucket keeps old versions, so what is deleted would stay readable; take a "
                "bucket that never had versioning (or Object Lock) on"
            )
        if created.new:
            self._tried_at = time.monotonic()
        return created.new

    # --- names ------------------------------------------------------------------------------

    def _probe_name(self) -> str:
        return f"{self._prefix}/probe/{secrets.token_hex(8)}"

    def _path(self, batch: BatchHash) -> str:
        return frame_name(self._prefix, batch)

    def _incoming(self, batch: BatchHash) -> str:
        return f"{self._prefix}/incoming/{batch.hex()}"

    def _mark(self, batch: BatchHash) -> Mark:
        name = f"{self._incoming(batch)}/{self._collector}.{secrets.token_hex(8)}"
        self._alive.add(name)  # before anybody could see it
        try:
            self._create(name, b"")
        except BaseException:
            self._alive.discard(name)
            raise
        return Mark(batch, name, self)

    def _check_same(self, batch: BatchHash) -> None:
        """Check that what lies under this name is the batch: others may create objects here, too.

        Raises:
            SetupError: It is not.
            RetryableError: It is gone again.

        """
        found = self.keep.get(self._path(batch))
        if found is None:
            raise RetryableError("a batch was removed while it came in; again later")
        if hashlib.sha256(found).digest() != batch:
            raise SetupError(
                "the bucket has other bytes under the name of a batch; find out who may write "
                "there, and remove that object"
            )
