"""Tiles have one name each, hold what the tree holds, and prove a whole log or nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import ForgedError, MalformedError, WireError
from wire.tile import (
    Tile,
    decode_entries,
    encode_entries,
    encode_hashes,
    parse_tile_name,
    tile_name,
    tiles_of,
    verified_entries,
)
from wire.tlog import Checkpoint, Tree, leaf_hash


@pytest.mark.parametrize(
    ("tile", "name"),
    [
        (Tile(level=0, index=0), "tile/0/000"),
        (Tile(level=0, index=1234067), "tile/0/x001/x234/067"),
        (Tile(level=2, index=1, width=3), "tile/2/001.p/3"),
        (Tile(level=None, index=5), "tile/entries/005"),
        (Tile(level=None, index=5000, width=255), "tile/entries/x005/000.p/255"),
    ],
)
def test_a_tile_is_named_as_the_specification_says(tile: Tile, name: str) -> None:
    """Three digits a folder, the width of a partial one at the end; and back."""
    assert tile_name(tile) == name
    assert parse_tile_name(name) == tile


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tile/0/0",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/8/000",
        "tile/00/000",
        "tile/data/000",
        "tile/0/001/000",
        "tile/0/x0001/000",
        "tile/0/\u0660\u0660\u0660",
        "tile/7/x999/999",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
        "tile/0/../000",
    ],
)
def test_what_names_no_tile_is_refused(name: str) -> None:
    """Another spelling of a name, and a tile of no log that could be."""
    with pytest.raises(MalformedError):
        parse_tile_name(name)


@given(st.integers(0, 1 << 40))
def test_the_tiles_of_a_size_have_names_of_their_own(size: int) -> None:
    """None twice, none that is not read back."""
    some = [tile for _, tile in zip(range(600), tiles_of(size), strict=False)]
    assert [parse_tile_name(tile_name(tile)) for tile in some] == some
    assert len(set(some)) == len(some)


def published(entries: list[bytes]) -> tuple[Checkpoint, dict[str, bytes]]:
    """Return a log of *entries*: its head, and its tiles by name."""
    tree = Tree(map(leaf_hash, entries))
    tiles = {}
    for tile in tiles_of(len(entries)):
        end = tile.start + tile.width
        tiles[tile_name(tile)] = (
            encode_entries(entries[tile.start : end])
            if tile.level is None
            else encode_hashes(tree.subtrees(tile.level, tile.start, tile.width))
        )
    return Checkpoint(origin="log.example/acme", size=len(entries), root=tree.root()), tiles


@settings(max_examples=30)
@given(st.integers(0, 1400), st.data())
def test_a_log_is_its_tiles(size: int, data: st.DataObject) -> None:
    """Every entry comes back; with one bit of any tile turned, none does."""
    entries = [b"%d" % n for n in range(size)]
    head, tiles = published(entries)
    assert verified_entries(head, tiles.__getitem__) == entries
    if size:
        name = data.draw(st.sampled_from(sorted(tiles)))
        at, bit = data.draw(st.integers(0, len(tiles[name]) - 1)), data.draw(st.integers(0, 7))
        bent = bytearray(tiles[name])
        bent[at] ^= 1 << bit
        with pytest.raises(WireError):
            verified_entries(head, (tiles | {name: bytes(bent)}).__getitem__)


def test_entries_of_another_log_do_not_lead_to_the_root() -> None:
    """All tiles fit together; the head is of something else."""
    head, _ = published([b"one", b"two"])
    _, tiles = published([b"one", b"zwei"])
    with pytest.raises(ForgedError, match="root"):
        verified_entries(head, tiles.__getitem__)


@pytest.mark.parametrize("bundle", [b"\0", b"\0\2a", b"\0\1a\0"])
def test_a_bundle_that_ends_early_is_refused(bundle: bytes) -> None:
    """Within a length, within an entry."""
    with pytest.raises(MalformedError):
        decode_entries(bundle)


def test_a_tree_gives_no_hash_that_it_has_not() -> None:
    """Neither past the end of a level, nor of a level that it does not reach."""
    tree = Tree(leaf_hash(b"%d" % n) for n in range(3))
    assert len(tree.subtrees(0, 0, 3)) == 3
    for level, start, count in ((0, 0, 4), (0, 3, 1), (1, 0, 1), (0, -1, 1)):
        with pytest.raises(ValueError, match="the tree has"):
            tree.subtrees(level, start, count)
