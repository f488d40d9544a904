"""Frames as files: `ab/abcd...`, made by link(2), so that nothing is ever overwritten.

Order of `put`, and what a crash after each step leaves behind:

1. `incoming/abcd....<random>` is written and synced: a mark, unsettled, and no object;
2. it is linked as `ab/abcd...` and that folder is synced: mark and object, unsettled;
3. (the caller commits its index row;) `settle` removes the mark: the object alone.

All folders `ab` are made, and synced, when the store is opened: a folder that two requests made
at once could be taken for durable by the one that came second.

A mark without an index row means: the answer was never given, so object and mark go.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.durable import private_folder, remove, sync_folder, write_all
from wire.ids import BatchHash

_INCOMING: Final = "incoming"
_FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))  # a million frames: 4,000 in each


@dataclass(frozen=True, slots=True)
class Mark:
    """A file in `incoming/`: its batch may lack an index row."""

    batch: BatchHash
    path: Path

    def settle(self) -> None:
        """Remove the mark.  Not synced: a mark that comes back is settled again at start."""
        self.path.unlink(missing_ok=True)


class FileStore:
    """Frames below one folder of the local file system."""

    def __init__(self, root: Path) -> None:
        """Use *root*, making it where it is missing."""
        self._root = private_folder(root)
        self._incoming = private_folder(root / _INCOMING)
        for name in _FOLDERS:
            private_folder(root / name)
        sync_folder(root)

    def put(self, batch: BatchHash, frame: bytes) -> Mark:
        """Store *frame* durably, unless it is here already; steps 1 and 2."""
        mark = Mark(batch, self._incoming / f"{batch.hex()}.{secrets.token_hex(8)}")
        try:
            _write_new(mark.path, frame)
        except OSError:
            mark.settle()
            raise
        # A failure from here on leaves the mark: the object may be there in spite of it.
        path = self._path(batch)
        try:
            os.link(mark.path, path)
        except FileExistsError:  # the same bytes, the hash says so; this copy is one too many
            os.truncate(mark.path, 0)
        sync_folder(path.parent)
        return mark

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
            yield Mark(BatchHash(bytes.fromhex(path.name.partition(".")[0])), path)

    def _path(self, batch: BatchHash) -> Path:
        name = batch.hex()
        return self._root / name[:2] / name


def _write_new(path: Path, frame: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, frame)
        os.fsync(fd)  # of a new file: journaling file systems make its name durable too
    finally:
        os.close(fd)
