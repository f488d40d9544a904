"""Frames as files: `ab/abcd...`, made by link(2), so that nothing is ever overwritten.

Order of `put`, and what a crash after each step leaves behind:

1. `incoming/abcd....<random>` is written and synced: a mark, unsettled, and no object;
2. it is linked as `ab/abcd...` and that folder is synced: mark and object, unsettled;
3. (the caller commits its index row;) `settle` removes the mark: the object alone.

`put_all` takes each step for several at once: the first sync of a journaling file system then
does the work of all, which is what a small file costs most.

All folders `ab` are made, and synced, when the store is opened: a folder that two requests made
at once could be taken for durable by the one that came second.

A mark without an index row means: the answer was never given, so object and mark go; unless the
batch has another mark, whose upload may go on: then that one decides.  `put` and `resolve` keep
out of each other's way by a lock, also where several collectors share a file system.
"""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.durable import private_folder, remove, sync_folder, write_all
from collector.store import batch_named
from wire.ids import BatchHash

_INCOMING: Final = "incoming"
_TRIES, _TRY_SECONDS = 100, 0.01  # for a lock that others share in turns
LOCK: Final = "lock"  # the one file beside the folders; nothing is in it
_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))  # a million frames: 4,000 in each


@dataclass(frozen=True, slots=True)
class Mark:
    """A file in `incoming/`: its batch may lack an index row."""

    batch: BatchHash
    path: Path
    store: "FileStore"

    @property
    def name(self) -> str:
        """Its file's."""
        return self.path.name

    def settle(self) -> None:
        """Remove the mark.  Not synced: a mark that comes back is settled again at start."""
        self.path.unlink(missing_ok=True)

    def resolve(self, known: Callable[[BatchHash], bool]) -> bool:
        """Remove the frame, unless the index *knows* it or somebody is taking it in again.

        Where uploads leave no gap the mark stays for another time: nobody waits for it.
        """
        with contextlib.ExitStack() as stack:
            if not self.store.alone(stack):
                return False
            gone = not self.store.has_other(self) and not known(self.batch)
            if gone:
                self.store.remove(self.batch)
            self.settle()
        return gone


class FileStore:
    """Frames below one folder of the local file system."""

    def __init__(self, root: Path) -> None:
        """Use *root*, making it where it is missing."""
        self._root = private_folder(root)
        self._incoming = private_folder(root / _INCOMING)
        self._lock = root / LOCK
        self._folders = tuple(private_folder(root / name) for name in _FOLDERS)
        sync_folder(root)

    def put(self, batch: BatchHash, frame: bytes) -> Mark:
        """Store *frame* durably, unless it is here already; steps 1 and 2."""
        [stored] = self.put_all([(batch, frame)])
        if isinstance(stored, OSError):
            raise stored
        return stored

    def put_all(self, frames: Sequence[tuple[BatchHash, bytes]]) -> list[Mark | OSError]:
        """Do so for several; an error is of that one alone."""
        with self._locked(fcntl.LOCK_SH):
            written = [self._written(batch, frame) for batch, frame in frames]
            linked = [self._linked(one) for one in [_synced(one) for one in written]]
        unsynced = self._unsynced({one.batch[0] for one in linked if isinstance(one, Mark)})
        return [unsynced.get(one.batch[0], one) if isinstance(one, Mark) else one for one in linked]

    def _written(self, batch: BatchHash, frame: bytes) -> "_Written | OSError":
        path = self._incoming / f"{batch.hex()}.{secrets.token_hex(8)}"
        mark = Mark(batch, path, self)
        try:
            return _Written(mark, _write_new(path, frame))
        except OSError as exc:
            with contextlib.suppress(OSError):
                mark.settle()
            return exc

    def _linked(self, mark: Mark | OSError) -> Mark | OSError:
        """Take step 2, but for its sync; a failure leaves the mark: the object may be there."""
        if isinstance(mark, OSError):
            return mark
        try:
            with contextlib.suppress(FileExistsError):
                os.link(mark.path, self._path(mark.batch))
                return mark
            if not self._path(mark.batch).stat().st_size:  # a removal empties, then removes
                self._replace(mark)
                return mark
            os.truncate(mark.path, 0)  # the same bytes, the hash says so; one copy is too many
        except OSError as exc:
            return exc
        return mark

    def _replace(self, mark: Mark) -> None:
        """Put the frame in the place of what a crash in `remove` has left of it.

        In one step: another upload of it, which did the same, may have been acknowledged.
        """
        second = mark.path.with_name(f"{mark.batch.hex()}.{secrets.token_hex(8)}")
        os.link(mark.path, second)  # a crash leaves one more mark
        second.replace(self._path(mark.batch))

    def _unsynced(self, folders: Iterable[int]) -> dict[int, OSError]:
        """Sync these folders; return which could not be."""
        failed = {}
        for number in folders:
            try:
                sync_folder(self._folders[number])
            except OSError as exc:
                failed[number] = exc
        return failed

    def free_bytes(self) -> int | None:
        """Return what the file system has left for who is not root."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def get(self, batch: BatchHash) -> bytes | None:
        """Return the frame, or None."""
        try:
            return self._path(batch).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, batch: BatchHash) -> None:
        """Empty and remove the frame, durably; a mark can be a second name of its bytes."""
        path = self._path(batch)
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path, 0)
        remove(path)

    def unsettled(self) -> Iterator[Mark]:
        """Yield the marks that a crash left."""
        for path in sorted(self._incoming.iterdir()):
            batch = batch_named(path.name.partition(".")[0])
            if batch is not None:
                yield Mark(batch, path, self)

    def marked(self, name: str) -> Mark:
        """Return the mark of that name."""
        return Mark(BatchHash(bytes.fromhex(name.partition(".")[0])), self._incoming / name, self)

    def alone(self, stack: contextlib.ExitStack) -> bool:
        """Let nobody put anything until *stack* ends, wherever they work; False: no chance."""
        for _ in range(_TRIES):
            with contextlib.suppress(BlockingIOError):
                stack.enter_context(self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB))
                return True
            time.sleep(_TRY_SECONDS)
        return False

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        # Opened each time: two threads with one descriptor would have one lock.
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def has_other(self, mark: Mark) -> bool:
        """Whether the batch of *mark* has another mark."""
        marks = self._incoming.glob(f"{mark.batch.hex()}.*")
        return any(path != mark.path for path in marks)

    def _path(self, batch: BatchHash) -> Path:
        return self._folders[batch[0]] / batch.hex()


@dataclass(frozen=True, slots=True)
class _Written:
    """A mark whose bytes may not be on the disk yet."""

    mark: Mark
    descriptor: int


def _write_new(path: Path, frame: bytes) -> int:
    """Return the descriptor of a new file with these bytes, which are on their way to the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, frame)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write; waits for nothing
    except BaseException:
        os.close(fd)
        raise
    return fd


def _synced(written: _Written | OSError) -> Mark | OSError:
    """Make the bytes durable; or take the mark away, for nothing refers to them yet."""
    if isinstance(written, OSError):
        return written
    try:
        os.fsync(written.descriptor)  # of a new file: journaling file systems sync its name too
    except OSError as exc:
        with contextlib.suppress(OSError):
            written.mark.settle()
        return exc
    finally:
        os.close(written.descriptor)
    return written.mark
