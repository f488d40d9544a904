"""The durable writes that the agent's state makes, as one seam for tests to break.

`base.durable` is the real one; tests pass another that fails, fails but persists, or stops
half-way.  Everything that must survive a crash goes through here, and nothing else does.
"""

from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """What `base.durable` offers; see there for what each promises."""

    def replace(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Write the whole of a file, durably."""

    def append(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        """Append to a file, durably."""

    def remove(self, path: Path) -> None:
        """Remove a file if it is there, durably."""


class FolderDisk(Disk, Protocol):
    """The same for who renames files by itself."""

    def sync_folder(self, folder: Path) -> None:
        """Make renames and removals in a folder durable."""
