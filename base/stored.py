"""Files that a program keeps for itself carry a version, so that an older program can tell.

Who goes back to an older program, or restores a backup of a newer one, gets one line that
says so, and a file that nobody has touched.  Without the version it would look damaged, and
damaged files are put aside or made anew.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from base.errors import SetupError

VERSION: Final = 1


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """Common shape of what is stored as JSON; files from before there was a version have 1."""

    version: int = VERSION


class NewerError(SetupError):
    """A file is of a later version of this program, and stays as it is."""


def refuse_newer(data: bytes, path: Path, newest: int = VERSION) -> None:
    """Refuse *data*, an object or a list of them, if a later version of this program wrote it.

    What cannot be read at all is left to whoever reads it.

    Raises:
        NewerError: It names a version above *newest*.

    """
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode(data, type=Versioned | list[Versioned])
        parts = found if isinstance(found, list) else [found]
        if any(part.version > newest for part in parts):
            raise newer(path)


def require_kept(path: Path) -> None:
    """Go on only if a database is there that `init` made: a new one would know of nothing.

    Raises:
        SetupError: It is missing, empty or out of reach.

    """
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        found = 0
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; check who owns it") from exc
    if found == 0:
        raise SetupError(
            f"{path} is missing or empty; nothing was changed: restore the newest copy"
        )


def newer(path: Path | str) -> NewerError:
    """Return what to raise for a file of a later version."""
    return NewerError(
        f"{path} was written by a later version of this program; nothing was changed: "
        "install that version again"
    )
