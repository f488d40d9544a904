"""What was erased, once more, outside of the database with the keys.

A copy of `keys.sqlite` from before an erasure has the erased keys in it.  So each erasure is
written down here before its keys are deleted, one JSON object a line, and whoever opens the
database carries out again what it does not know of: an old copy that is put back opens nothing
that was erased.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from base.durable import sync_folder, write_all
from base.errors import RetryableError, SetupError
from base.stored import VERSION, refuse_newer
from wire.errors import UNREADABLE
from wire.ids import WallInstant
from wire.rights import Request

SUFFIX: Final = ".erased"


class Demanded(msgspec.Struct, frozen=True, kw_only=True, tag="demanded"):
    """A data subject's own request, by the SHA-256 that names it."""

    version: int = VERSION
    digest: bytes
    request: Request
    at: WallInstant


class Ordered(msgspec.Struct, frozen=True, kw_only=True, tag="ordered"):
    """By the guard's own hand; an empty category or month is every one."""

    version: int = VERSION
    subject: bytes
    category: str
    month: str
    at: WallInstant


Erasure: TypeAlias = Demanded | Ordered


class Erasures:
    """The file beside a database."""

    def __init__(self, database: Path) -> None:
        """It is the one of *database*."""
        self.path = database.with_suffix(SUFFIX)

    def add(self, erasure: Erasure) -> None:
        """Write *erasure* down, durably.

        Raises:
            RetryableError: There is no room, or the disk fails; nothing may be erased then.

        """
        line = msgspec.json.encode(erasure) + b"\n"
        try:
            with self._locked() as fd:
                self._drop_half_a_line(fd)
                write_all(fd, line)
                os.fsync(fd)
            sync_folder(self.path.parent)
        except OSError as exc:
            raise RetryableError(f"{self.path}: {exc.strerror}; nothing was erased") from exc

    def read(self) -> list[Erasure]:
        """Return all of them, the oldest first.

        Raises:
            SetupError: It is damaged, out of reach, or of a later version.

        """
        return [self._decoded(line) for line in self.lines().splitlines()]

    def lines(self) -> bytes:
        """Return all of them as they are written; half a line, which nobody counts on, goes.

        Raises:
            SetupError: They are out of reach.

        """
        try:
            with self._locked() as fd:
                self._drop_half_a_line(fd)
                return self.path.read_bytes()
        except OSError as exc:
            raise SetupError(f"{self.path}: {exc.strerror}; check who owns it") from exc

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Yield the file, open to be appended to, and ours: server and commands share it."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _decoded(self, line: bytes) -> Erasure:
        refuse_newer(line, self.path)
        try:
            found: Erasure = msgspec.json.decode(line, type=Erasure)
        except UNREADABLE as exc:
            raise self._damaged() from exc
        return found

    def _drop_half_a_line(self, fd: int) -> None:
        """Remove what a crash left at the end: nothing had been erased by then."""
        end = os.fstat(fd).st_size
        if not end or os.pread(fd, 1, end - 1) == b"\n":
            return
        data = os.pread(fd, end, 0)
        whole = data.rfind(b"\n") + 1
        if not data.startswith(b"{", whole):
            raise self._damaged()
        os.ftruncate(fd, whole)

    def _damaged(self) -> SetupError:
        return SetupError(
            f"{self.path} is damaged; nothing was changed: restore its newest copy, for without "
            "it nobody knows what was erased"
        )
