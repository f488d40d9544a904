"""Writes that survive a crash: complete or not at all, and on the disk when they return.

Order of `replace`: temporary file in the same folder, fsync of the file, rename, fsync of
the folder.  A crash before the rename leaves the old file and a `.tmp` that nobody reads and
`sweep` removes; a crash after it leaves the new one.
"""

import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write *data* as the whole content of *path*, durably.

    Raises:
        OSError: Nothing was changed (or, if the folder's fsync failed, it may have been).

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = _create(temporary, mode)
    except OSError as exc:
        exc.filename = str(path)  # the name that the caller knows
        raise
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Append *data* to *path*, durably.

    A crash in between can leave a part of *data* at the end: readers must tell by
    themselves whether the last record is whole.

    Raises:
        OSError: A part of *data* may have been written.

    """
    existed = path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    if not existed:
        sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove *path* if it is there, durably."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove the `.tmp` files of processes that were killed within `replace`.

    For whoever knows that nobody else is writing in *folder* now.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in *folder* durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def private_folder(path: Path) -> Path:
    """Return *path* as a folder that only its owner can enter, made where it is missing.

    So are the folders above it that are made: whoever may write there could swap this one.
    """
    for missing in reversed([p for p in path.parents if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def write_all(fd: int, data: bytes, write: Callable[[int, memoryview], int] = os.write) -> None:
    """Write all of *data*; a short write is continued, not believed."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


def _create(path: Path, mode: int) -> int:
    """Open a file that was not there before, so that it is nobody else's, nor a link of theirs.

    The name can be guessed, and *path* may be in a folder that others write to: where a
    person wants the rights key.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        path.unlink()  # of a process that was killed and had this number
        return os.open(path, flags, mode)
