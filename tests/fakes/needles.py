"""A search for a thousand things at once, each in every disguise, in as much as a memory dump.

`demo.search` looks for one secret; here each needle is known by its first eight bytes, and a
window of data is compared to all of them in a few sweeps.  What is packed (zstd, gzip, zlib,
xz, bzip2) is unpacked, three levels deep; key records in a row are read as the text they spell.
"""

import base64
import bz2
import contextlib
import itertools
import lzma
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from backports import zstd

from demo.search import ALIGNMENTS, disguises

ANCHOR_BYTES: Final = 8
WINDOW_BYTES: Final = 16 << 20
OVERLAP_BYTES: Final = 4 << 10
DEEPEST: Final = 3
LARGEST_UNPACKED_BYTES: Final = 32 << 20
LARGEST_PACKED_BYTES: Final = 4 << 20  # of one member; a window cuts longer ones anyway
APART_BYTES: Final = 64  # two key records of one run, at most

_TABLE_BITS: Final = 22
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing
_PRESS: Final = re.compile(rb"letter\xa1([a-z])")

Words: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"
Where: TypeAlias = dict[str, set[str]]
"""What was found, by name, and where."""


def of_text(text: str) -> list[bytes]:
    """Return the disguises of a text, as `demo.search` knows them."""
    return list(disguises(text).values())


def of_bytes(secret: bytes) -> list[bytes]:
    """Return the disguises of a key: as it is, in hexadecimal, in base64 at each alignment."""
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *_base64(secret)]


def _base64(secret: bytes) -> Iterator[bytes]:
    for shift in range(ALIGNMENTS):
        text = base64.b64encode(bytes(shift) + secret).rstrip(b"=")
        # Without the letters that depend on what stands before or after, too.
        yield text[(0, 2, 3)[shift] : len(text) - ((shift + len(secret)) % 3 > 0)]


class Needles:
    """What is looked for: names, each with its disguises, none shorter than an anchor."""

    def __init__(self, named: Mapping[str, Iterable[bytes]]) -> None:
        self._by_anchor: dict[int, list[tuple[bytes, str]]] = defaultdict(list)
        for name, needles in named.items():
            for needle in needles:
                assert len(needle) >= ANCHOR_BYTES, f"{name} would be found by chance"
                anchor = int.from_bytes(needle[:ANCHOR_BYTES], "little")
                self._by_anchor[anchor].append((needle, name))
        self._anchors = np.array(sorted(self._by_anchor), dtype=np.uint64)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        self._table[_slot(self._anchors)] = True

    def in_bytes(self, data: bytes, depth: int = 0) -> set[str]:
        """Return the names of what is in *data*, also packed or typed."""
        found = set(self._plain(data))
        if typed := _typed(data):
            found |= set(self._plain(typed))
        if depth < DEEPEST:
            for unpacked in _unpacked(data):
                found |= self.in_bytes(unpacked, depth + 1)
        return found

    def in_file(self, path: Path) -> set[str]:
        """Return the names of what is in a file."""
        found: set[str] = set()
        with path.open("rb") as file:
            for start in itertools.count(0, WINDOW_BYTES - OVERLAP_BYTES):
                file.seek(start)
                data = file.read(WINDOW_BYTES)
                found |= self.in_bytes(data)
                if len(data) < WINDOW_BYTES:
                    return found
        raise AssertionError

    def in_folders(self, folders: Iterable[Path]) -> Where:
        """Return what is in the names and contents of the files below *folders*."""
        found: Where = defaultdict(set)
        for path in itertools.chain.from_iterable(folder.rglob("*") for folder in folders):
            names = self.in_bytes(str(path).encode())
            if path.is_file() and not path.is_symlink():
                names |= self.in_file(path)
            for name in names:
                found[name].add(str(path))
        return dict(found)

    def _plain(self, data: bytes) -> Iterator[str]:
        for shift in range(min(ANCHOR_BYTES, len(data) - ANCHOR_BYTES + 1)):
            words = np.frombuffer(data, "<u8", (len(data) - shift) // ANCHOR_BYTES, shift)
            (maybe,) = np.nonzero(self._table[_slot(words)])
            place = np.searchsorted(self._anchors, words[maybe]).clip(max=len(self._anchors) - 1)
            for at in maybe[self._anchors[place] == words[maybe]]:
                begin = shift + int(at) * ANCHOR_BYTES
                for needle, name in self._by_anchor[int(words[at])]:
                    if data.startswith(needle, begin):
                        yield name


def _slot(anchors: Words) -> Words:
    return (anchors * _SPREAD) >> np.uint64(64 - _TABLE_BITS)


def _typed(data: bytes) -> bytes:
    """Return what the key records in *data* spell, runs of them apart."""
    spelled, end = bytearray(), 0
    for press in _PRESS.finditer(data):
        if press.start() > end + APART_BYTES:
            spelled += b"\0"
        spelled += press[1]
        end = press.end()
    return bytes(spelled)


def _unpacked(data: bytes) -> Iterator[bytes]:
    view = memoryview(data)
    for magic, unpack in _MEMBERS:
        at = data.find(magic)
        while at >= 0:
            # A few bytes often look like it by chance.
            with contextlib.suppress(*_NOT_PACKED):
                yield unpack(view[at : at + LARGEST_PACKED_BYTES])
            at = data.find(magic, at + 1)


def _inflated(data: memoryview) -> bytes:
    return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(data, LARGEST_UNPACKED_BYTES)


_NOT_PACKED: Final = (zstd.ZstdError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)
_MEMBERS: Final[tuple[tuple[bytes, Callable[[memoryview], bytes]], ...]] = (
    (
        b"\x28\xb5\x2f\xfd",
        lambda data: zstd.ZstdDecompressor().decompress(data, LARGEST_UNPACKED_BYTES),
    ),
    (b"\x1f\x8b\x08", _inflated),
    *((b"\x78" + level, _inflated) for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")),
    (b"\xfd7zXZ\0", lambda data: lzma.LZMADecompressor().decompress(data, LARGEST_UNPACKED_BYTES)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, LARGEST_UNPACKED_BYTES)),
)
