"""What can be wrong with a file that a program reads: one function for each."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

GARBAGE: Final = b"\x00\xffnothing that anybody wrote\n"
FOREIGN: Final = {"colour": ["red", 1], "kind": "recipe"}


def unreadable(path: Path) -> None:
    """Nobody may read it."""
    path.chmod(0)


def empty(path: Path) -> None:
    """Nothing is in it."""
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    """Half of it is missing."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path: Path) -> None:
    """The JSON of some other program stands in it."""
    path.write_text(json.dumps(FOREIGN) + "\n", "utf-8")


def garbled(path: Path) -> None:
    """Something else stands in it, which is no text at all."""
    path.write_bytes(GARBAGE * 40)


def a_folder(path: Path) -> None:
    """A folder lies in its place."""
    path.unlink()
    path.mkdir(mode=0o700)


def newer(path: Path) -> None:
    """A later version of the program wrote it: of what has a number of its version."""
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 99")
        return
    first, newline, rest = path.read_bytes().partition(b"\n" if path.suffix == ".jsonl" else b"\0")
    document = json.loads(first)
    later = [{"version": 99}] if isinstance(document, list) else {**document, "version": 99}
    path.write_bytes(json.dumps(later).encode() + newline + rest)


def later_kind(path: Path) -> None:
    """A later version of the program wrote it: of what names its kind, or has known fields only."""
    document = json.loads(path.read_bytes())
    if "signed" in document:  # metadata of TUF
        document["signed"]["spec_version"] = "9.0.0"
    elif "kind" in document:
        document["kind"] = document["kind"].replace("-v1", "-v9")
    else:
        document["a_later_field"] = 1
    path.write_text(json.dumps(document), "utf-8")


Damage: TypeAlias = Callable[[Path], None]
DAMAGES: Final[tuple[Damage, ...]] = (unreadable, garbled, truncated, a_folder, empty, foreign)
