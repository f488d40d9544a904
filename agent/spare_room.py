"""A little room on the disk for the writes by which more of it becomes free.

On a full disk nothing more is captured; what waits should still leave, for that is what makes
room.  But a batch is marked before it is sent, noted when it was receipted, and a deletion is
written down before it is asked for: three small writes, and with no block left none of them
would succeed.  So a small file is kept for them; it is given up when one of them finds the
disk full, and made again once something was removed.
"""

import contextlib
import errno
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.disk import Disk
from agent.spool import DELETIONS, READY, SENT
from base import durable

FILE_NAME: Final = "spare-room"
SPARE_BYTES: Final = 256 << 10  # some ten times what the three writes take


class SpareRoom:
    """A disk on which those writes succeed once more after it is full."""

    def __init__(self, folder: Path, disk: Disk = durable) -> None:
        """Keep the spare file in *folder*; a full disk at the start has none."""
        self._spare = folder / FILE_NAME
        self._disk = disk
        self._keep()

    def replace(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Write *data* as the whole content of *path*; raises OSError."""
        self._write(path, lambda: self._disk.replace(path, data, mode=mode))

    def append(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Append *data* to *path*; raises OSError.

        Behind a part that the full disk had taken it stands on a line of its own.
        """
        before = _size(path)
        self._write(
            path,
            lambda: self._disk.append(
                path, b"\n" + data if _size(path) > before else data, mode=mode
            ),
        )

    def remove(self, path: Path) -> None:
        """Remove *path*; raises OSError."""
        self._disk.remove(path)
        self._keep()

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (full and _makes_room(path) and self._spare.exists()):
                raise
            self._disk.remove(self._spare)
            write()

    def _keep(self) -> None:
        if not self._spare.exists():
            with contextlib.suppress(OSError):
                # Random, for file systems that would keep zeros in no room at all.
                self._disk.replace(self._spare, secrets.token_bytes(SPARE_BYTES))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _makes_room(path: Path) -> bool:
    """Whether something leaves the disk after this write, and never because of it arrives."""
    # A record of a batch that is new there comes with its frame; one that is replaced is marked.
    marked = path.parent.name == READY and path.suffix == ".local" and path.exists()
    return marked or path.parent.name == DELETIONS or path.name == SENT
