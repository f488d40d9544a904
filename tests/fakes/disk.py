"""Disks that break: at one durable write, in one of the ways in which disks break.

`BreakingDisk(at, how)` counts the durable writes and breaks the one numbered *at*.  After a
`Crash` the process counts as dead: only what is on the real disk goes on.
"""

import errno
import os
from enum import StrEnum, auto
from pathlib import Path

from base import durable


class How(StrEnum):
    """What happens to the write that breaks."""

    FAILS = auto()  # nothing was written, and it says so
    FULL = auto()  # the same, for want of room
    FULL_WITHIN = auto()  # a part was appended, then there was no room
    PERSISTS_BUT_FAILS = auto()  # all of it was written, and it says that it failed
    CRASHES_BEFORE = auto()
    CRASHES_WITHIN = auto()  # a part of it was written
    CRASHES_AFTER = auto()


class CrashError(BaseException):
    """The process is dead; nothing but the test may catch this."""


class BreakingDisk:
    """Breaks one write, once."""

    def __init__(self, at: int, how: How) -> None:
        self.at = at
        self.how = how
        self.writes = 0
        self.broke = False

    def replace(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        if self._breaks():
            part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            self._break(
                lambda: durable.replace(path, data, mode=mode),
                lambda: part.write_bytes(data[: len(data) // 2]),
            )
        durable.replace(path, data, mode=mode)

    def append(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        if self._breaks():
            self._break(
                lambda: durable.append(path, data, mode=mode),
                lambda: durable.append(path, data[: len(data) // 2], mode=mode),
            )
        durable.append(path, data, mode=mode)

    def remove(self, path: Path) -> None:
        if self._breaks():
            self._break(lambda: durable.remove(path), lambda: None)
        durable.remove(path)

    def sync_folder(self, folder: Path) -> None:
        if self._breaks():
            self._break(lambda: durable.sync_folder(folder), lambda: None)
        durable.sync_folder(folder)

    def _breaks(self) -> bool:
        self.writes += 1
        return self.writes == self.at

    def _break(self, whole, part) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - two closures
        self.broke = True
        match self.how:
            case How.FAILS:
                raise OSError(errno.EIO, "Input/output error")
            case How.FULL:
                raise OSError(errno.ENOSPC, "No space left on device")
            case How.FULL_WITHIN:
                part()
                raise OSError(errno.ENOSPC, "No space left on device")
            case How.PERSISTS_BUT_FAILS:
                whole()
                raise OSError(errno.EIO, "Input/output error")
            case How.CRASHES_BEFORE:
                raise CrashError
            case How.CRASHES_WITHIN:
                part()
                raise CrashError
            case How.CRASHES_AFTER:
                whole()
                raise CrashError
