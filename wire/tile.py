"""A log as files that never change: tiles of 256 hashes, bundles of 256 entries.

Source: https://c2sp.org/tlog-tiles.  A tile of level *L* holds the roots of complete
subtrees of 256^*L* leaves; the last one of a level may be partial, and has its width in its
name.  `verified_entries` is how who believes nobody reads a whole log.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from wire.errors import ForgedError, MalformedError
from wire.tlog import LARGEST_SIZE, TILE_HEIGHT, Checkpoint, Tree, leaf_hash

WIDTH: Final = 1 << TILE_HEIGHT
_LENGTH: Final = struct.Struct(">H")
# Levels end at 7: a tree has at most 2^63 leaves (tlog-checkpoint).
_NAME: Final = re.compile(
    r"tile/(?P<level>entries|[0-7])/(?P<index>(x\d{3}/){0,6}\d{3})(\.p/(?P<width>[1-9]\d{0,2}))?",
    re.ASCII,
)

Fetch = Callable[[str], bytes]  # the content of the tile of that name


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Which tile: of which level (None: a bundle of entries), which one of it, how wide."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def start(self) -> int:
        """The number of its first hash in its level."""
        return self.index * WIDTH


def tile_name(tile: Tile) -> str:
    """Return the path of *tile* below the log's prefix: three digits a folder."""
    level = "entries" if tile.level is None else str(tile.level)
    rest, last = divmod(tile.index, 1000)
    digits = f"{last:03}"
    while rest:
        rest, group = divmod(rest, 1000)
        digits = f"x{group:03}/{digits}"
    return f"tile/{level}/{digits}" + (f".p/{tile.width}" if tile.width < WIDTH else "")


def parse_tile_name(name: str) -> Tile:
    """Return the tile that *name* is the one name of.

    Raises:
        MalformedError: It is the name of none.

    """
    if (found := _NAME.fullmatch(name)) is None:
        raise MalformedError("this is no name of a tile")
    tile = Tile(
        level=None if found["level"] == "entries" else int(found["level"]),
        index=int(found["index"].replace("x", "").replace("/", "")),
        width=WIDTH if found["width"] is None else int(found["width"]),
    )
    if tile_name(tile) != name:  # zeros before the number, or a full tile called partial
        raise MalformedError("this is not how the name of that tile is written")
    if (tile.start + tile.width) * WIDTH ** (tile.level or 0) > LARGEST_SIZE:
        raise MalformedError("no log is so large")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield the tiles of a log of *size* leaves, bundles of entries first."""
    yield from _row(None, size)
    level = 0
    while size:
        yield from _row(level, size)
        level, size = level + 1, size // WIDTH


def _row(level: int | None, hashes: int) -> Iterator[Tile]:
    full, rest = divmod(hashes, WIDTH)
    for index in range(full):
        yield Tile(level=level, index=index)
    if rest:
        yield Tile(level=level, index=full, width=rest)


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return the content of a tile of these hashes."""
    return b"".join(hashes)


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return the content of a bundle of these entries, each below 64 KiB."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_entries(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        MalformedError: It ends within an entry.

    """
    entries, at = [], 0
    while at < len(bundle):
        start = at + _LENGTH.size
        if start > len(bundle):
            raise MalformedError("a bundle of entries ends within a length")
        at = start + int.from_bytes(bundle[at:start], "big")
        if at > len(bundle):
            raise MalformedError("a bundle of entries ends within an entry")
        entries.append(bundle[start:at])
    return entries


def verified_entries(checkpoint: Checkpoint, fetch: Fetch) -> list[bytes]:
    """Return all entries of the log whose head is *checkpoint*, which the caller has verified.

    Every tile is fetched and every hash in them computed again: that of each entry, and that
    of each subtree.

    Raises:
        ForgedError: The entries do not lead to the root, or a tile holds another hash.
        MalformedError: A bundle is none.

    """
    tree, entries = Tree(), list[bytes]()
    for tile in tiles_of(checkpoint.size):
        content = fetch(tile_name(tile))
        if tile.level is None:
            bundle = decode_entries(content)
            if len(bundle) != tile.width:
                raise ForgedError(f"a bundle has {len(bundle)} entries, not {tile.width}")
            entries += bundle
            for entry in bundle:
                tree.append(leaf_hash(entry))
        elif content != encode_hashes(tree.subtrees(tile.level, tile.start, tile.width)):
            raise ForgedError(f"{tile_name(tile)} does not hold the hashes of the log")
    if tree.root() != checkpoint.root:
        raise ForgedError("the entries do not lead to the root of the checkpoint")
    return entries
