"""The search for a secret finds it in every disguise, and nothing where there is nothing."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.search import Searcher, disguises, plant_controls

SECRET = "qwzyvuxquietz"


def test_every_planted_control_is_found(tmp_path: Path) -> None:
    """Plain, UTF-16, base64, zstd, and typed key by key inside zstd inside zstd."""
    expected = plant_controls(SECRET, tmp_path / "controls")
    found = {hit.disguise for hit in Searcher(SECRET).in_folders([tmp_path])}
    assert expected <= found


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    """Random bytes do not contain the secret."""
    (tmp_path / "noise").write_bytes(os.urandom(1 << 20))
    assert Searcher(SECRET).in_folders([tmp_path]) == []


def test_a_file_name_gives_it_away_too(tmp_path: Path) -> None:
    """What stands in a name is on the disk as well."""
    (tmp_path / SECRET).touch()
    assert Searcher(SECRET).in_folders([tmp_path])


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_base64_is_found_whatever_stands_around_it(before: bytes, after: bytes) -> None:
    """At each alignment the letters that depend on the secret alone are enough."""
    text = base64.b64encode(before + SECRET.encode() + after)
    assert list(Searcher(SECRET).in_bytes(text, "here"))


def test_a_secret_across_two_windows_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are read in parts that overlap."""
    monkeypatch.setattr("demo.search.WINDOW_BYTES", 8 << 10)
    (tmp_path / "large").write_bytes(bytes((8 << 10) - 5) + SECRET.encode() + bytes(9000))
    assert Searcher(SECRET).in_folders([tmp_path])


def test_a_secret_in_memory_is_found() -> None:
    """A process that holds it is found out."""
    kept = bytearray(SECRET.encode() * 2)
    assert kept
    try:
        hits = Searcher(SECRET).in_process(os.getpid())
    except PermissionError:
        pytest.fail("reading one's own memory must be allowed")
    assert hits


def test_a_secret_that_would_be_found_by_chance_is_refused() -> None:
    """Three letters are in every file."""
    with pytest.raises(ValueError, match="by chance"):
        disguises("abc")
