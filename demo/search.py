"""Is a secret anywhere?  Searches files and the memory of processes, in many disguises.

A search that finds nothing proves something only when it would have found it: so
`plant_controls` first leaves the same secret in every disguise, and the caller checks that
each was found (`docs/threat-model.md`, "How silence is proved").

Disguises: plain, upper case, UTF-16 both ways, base64 at its three alignments, hexadecimal,
inside zstd (three levels deep), and typed, that is as a run of key records.
"""

import base64
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backports import zstd

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
LARGEST_UNPACKED_BYTES: Final = 32 << 20
DEEPEST: Final = 3
WINDOW_BYTES: Final = 16 << 20  # memory and files are read in windows of this size
OVERLAP_BYTES: Final = 4 << 10
ALIGNMENTS: Final = 3
SHORTEST_SECRET: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Where the secret was found, and in which disguise."""

    where: str
    disguise: str


def disguises(secret: str) -> dict[str, bytes]:
    """Return each byte string that would give *secret* away, by name.

    Raises:
        ValueError: The secret is so short that it would be found by chance.

    """
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"a secret of {len(secret)} characters is found by chance")
    plain = secret.encode()
    found = {
        "plain": plain,
        "upper case": secret.upper().encode(),
        "utf-16-le": secret.encode("utf-16-le"),
        "utf-16-be": secret.encode("utf-16-be"),
        "utf-32-le": secret.encode("utf-32-le"),
        "hexadecimal": plain.hex().encode(),
    }
    for shift in range(ALIGNMENTS):
        # Only the letters that depend on the secret alone, whatever stands around it.
        text = base64.b64encode(bytes(shift) + plain)
        skip = (0, 2, 3)[shift]
        keep = len(text) - (0, 3, 2)[(shift + len(plain)) % 3] - (text.endswith(b"=") * 1)
        found[f"base64/{shift}"] = text[skip:keep].rstrip(b"=")
    return found


def typed_pattern(secret: str) -> re.Pattern[bytes]:
    """Return what matches *secret* as key records in msgpack, whatever stands between.

    A press of "q" is `... a6 "letter" a1 "q" ...`; at most 64 bytes separate two presses.
    """
    letters = [b"letter\xa1" + re.escape(letter.encode()) for letter in secret[:SHORTEST_SECRET]]
    return re.compile(b".{0,64}".join(letters), re.DOTALL)


class Searcher:
    """Looks for one secret in bytes, files, folders and processes."""

    def __init__(self, secret: str) -> None:
        self._disguises = disguises(secret)
        self._typed = typed_pattern(secret)

    def in_bytes(self, data: bytes, where: str, depth: int = 0) -> Iterator[Hit]:
        """Yield each disguise found in *data*, also inside zstd frames in it."""
        for name, needle in self._disguises.items():
            if needle in data:
                yield Hit(where=where, disguise=name)
        if self._typed.search(data):
            yield Hit(where=where, disguise="typed")
        if depth < DEEPEST:
            for plain in _unpacked(data):
                for hit in self.in_bytes(plain, where, depth + 1):
                    yield Hit(where=hit.where, disguise=f"zstd, {hit.disguise}")

    def in_file(self, path: Path) -> Iterator[Hit]:
        """Yield each disguise found in one file."""
        try:
            with path.open("rb") as file:
                yield from self._in_windows(file.fileno(), 0, None, str(path))
        except FileNotFoundError:  # it went while we looked
            return

    def in_folders(self, folders: Sequence[Path]) -> list[Hit]:
        """Return each disguise found in the names and contents of all files below *folders*."""
        hits: list[Hit] = []
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                hits += self.in_bytes(str(path).encode(), f"the name of {path}")
                if path.is_file() and not path.is_symlink():
                    hits += self.in_file(path)
        return hits

    def in_process(self, pid: int) -> list[Hit]:
        """Return each disguise found in the writable memory of a process (needs root).

        Raises:
            PermissionError: The process may not be read by this user.

        """
        hits: list[Hit] = []
        maps = Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines()
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        try:
            for line in maps:
                span, permissions, *_ = line.split()
                if not permissions.startswith("rw") or "[v" in line:
                    continue
                start, end = (int(part, 16) for part in span.split("-"))
                hits += self._in_windows(memory, start, end, f"memory of process {pid}")
        finally:
            os.close(memory)
        return hits

    def _in_windows(self, fd: int, start: int, end: int | None, where: str) -> Iterator[Hit]:
        at = start
        while end is None or at < end:
            size = WINDOW_BYTES if end is None else min(WINDOW_BYTES, end - at)
            try:
                data = os.pread(fd, size, at)
            except OSError:  # a guard page
                return
            if not data:
                return
            yield from self.in_bytes(data, where)
            if len(data) < size or len(data) <= OVERLAP_BYTES:
                return
            at += len(data) - OVERLAP_BYTES


def plant_controls(secret: str, folder: Path) -> set[str]:
    """Leave *secret* in every disguise in *folder*; return the disguises to be found there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plain.txt").write_text(f"before {secret} after")
    (folder / "utf16.txt").write_text(f"before {secret} after", encoding="utf-16-le")
    (folder / "base64.txt").write_bytes(base64.b64encode(f"x{secret} after".encode()))
    (folder / "zstd.bin").write_bytes(b"head" + zstd.compress(f"in {secret} it".encode()) + b"tail")
    records = b"".join(b"\xa3key\xc3\xa6letter\xa1" + letter.encode() for letter in secret)
    (folder / "typed.bin").write_bytes(zstd.compress(zstd.compress(records)))
    return {"plain", "utf-16-le", "base64/1", "zstd, plain", "zstd, zstd, typed"}


def _unpacked(data: bytes) -> Iterator[bytes]:
    at = data.find(ZSTD_MAGIC)
    while at >= 0:
        with contextlib.suppress(zstd.ZstdError):  # four bytes that happen to look like zstd
            yield zstd.ZstdDecompressor().decompress(data[at:], max_length=LARGEST_UNPACKED_BYTES)
        at = data.find(ZSTD_MAGIC, at + 1)
