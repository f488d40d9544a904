"""Files that a person names on the command line; what is wrong with one is said in one line."""

import contextlib
from pathlib import Path

import msgspec

from base.errors import SetupError, line_of
from wire.errors import UNREADABLE, MalformedError
from wire.policy import Guard, Recipient, Witness


def read(path: Path) -> bytes:
    """Return what is in *path*.

    Raises:
        SetupError: It cannot be read.

    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SetupError(line_of(exc)) from exc


def read_text(path: Path) -> str:
    """Return the text in *path*.

    Raises:
        SetupError: It cannot be read, or is no text in UTF-8.

    """
    try:
        return read(path).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise SetupError(f"{path} is no text in UTF-8") from exc


def read_guard(path: Path) -> Guard | Witness:
    """Return what a guard, or a witness alone, says of how the next policy names it.

    Raises:
        MalformedError: It is none.

    """
    data = read(path)
    with contextlib.suppress(*UNREADABLE):
        return msgspec.json.decode(data, type=Witness)
    try:
        return msgspec.json.decode(data, type=Guard)
    except UNREADABLE as exc:
        raise MalformedError(f"{path} is no guard.json of assent-guard: {exc}") from exc


def read_recipient(path: Path) -> Recipient:
    """Return what a reader says of its key.

    Raises:
        MalformedError: It is none.

    """
    try:
        return msgspec.json.decode(read(path), type=Recipient)
    except UNREADABLE as exc:
        raise MalformedError(f"{path} is no recipient.json of assent-reader: {exc}") from exc
