"""What another user of this machine sees of our files, and what the store gives to its thief.

Another user: by owners and modes, of every folder on the way and of every file.  Mode bits tell
it whoever we run as, and an access control list shows in those of the group.  A thief of the
store: each object has to be a frame that its device sealed, and nothing else may lie there.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from collector.drill.probes import Hole, Who
from collector.store import BodyStore
from collector.store.files import LOCK
from wire.errors import WireError
from wire.frame import batch_hash, verify
from wire.ids import BatchHash

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PRIVATE: Final = ("*.key", "index.sqlite*")  # all else in a private folder, the folder keeps


@dataclass(frozen=True, slots=True)
class FileProbes:
    """Of files: below `root`, the folder of objects."""

    root: Path
    left_out = ""

    def places(self, turn: int, most: int) -> Iterator[Hole | None]:
        """Yield what others see of each folder, and of files."""
        yield from self._folders()
        yield from self._objects(turn, most)

    def batches(self, named: Iterable[BatchHash]) -> Iterator[Hole | None]:  # noqa: ARG002
        """Yield nothing more: `places` looks at each file."""
        return iter(())

    def _folders(self) -> Iterator[Hole | None]:
        yield _of_others(self.root, "the folder of batches", folder=True)
        for entry in sorted(os.scandir(self.root), key=lambda e: e.name):
            what = "the lock of the batches" if entry.name == LOCK else "a folder of batches"
            yield _of_others(Path(entry.path), what, folder=entry.name != LOCK)

    def _objects(self, turn: int, most: int) -> Iterator[Hole | None]:
        # To count them costs little, to look at them more.
        turns = max(1, -(-sum(1 for _ in self._files()) // most))
        for number, entry in enumerate(self._files()):
            if number % turns == turn % turns:
                yield self._of_file(entry)

    def _files(self) -> Iterator["os.DirEntry[str]"]:
        for folder in sorted(self.root.iterdir()):
            try:
                with os.scandir(folder) as entries:
                    yield from entries
            except OSError:
                continue  # `folders` says what is wrong with it

    def _of_file(self, entry: "os.DirEntry[str]") -> Hole | None:
        name = entry.name.partition(".")[0]
        try:
            batch = BatchHash(bytes.fromhex(name))
        except ValueError:
            return Hole(line="a file lies among the batches that is none of ours")
        found = _of_others(Path(entry.path), "a batch's file", folder=False)
        return None if found is None else Hole(line=found.line, batch=batch)


def of_premises(paths: Iterable[Path]) -> Iterator[Hole | None]:
    """Yield what others see of *paths*, folders of ours, and of keys and index in them."""
    for path in filter(Path.exists, paths):
        yield _of_others(path, f"the folder {path.name}", folder=True)
        for pattern in _PRIVATE:
            for each in sorted(path.glob(pattern)):
                yield _of_others(each, f"{path.name}/{each.name}", folder=False)


def of_object(
    store: BodyStore, batch: BatchHash, key: Ed25519PublicKey | None, what: str
) -> Hole | None:
    """Return what is wrong with an object for who has the store alone: it has to be sealed."""
    frame = store.get(batch)
    if not frame:
        return None  # deleted meanwhile: nobody gets it
    if batch_hash(frame) == batch and (key is None or is_sealed(frame, key)):
        return None
    line = f"{what} lies in the store and is not the frame that was sealed, for {Who.STORE}"
    return Hole(line=line, batch=batch)


def is_sealed(frame: bytes, key: Ed25519PublicKey) -> bool:
    """Whether these bytes are a frame, as the device with this key sealed it."""
    try:
        verify(frame, key)
    except WireError:
        return False
    return True


def _of_others(path: Path, what: str, *, folder: bool) -> Hole | None:
    """Return what is wrong with owner, mode or kind of *path*."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None  # gone meanwhile
    kind = stat.S_ISDIR if folder else stat.S_ISREG
    mode = stat.S_IMODE(found.st_mode)
    if not kind(found.st_mode):
        return Hole(line=f"{what} is no {'folder' if folder else 'file'} but leads elsewhere")
    if found.st_uid != os.geteuid():
        return Hole(line=f"{what} belongs to {Who.LOCAL_USER}")
    if mode & OTHERS:
        return Hole(line=f"{what} has mode {mode:o}: it is open to {Who.LOCAL_USER}")
    return None
