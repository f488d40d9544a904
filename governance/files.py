"""Files that a person names on the command line; what is wrong with one is said in one line."""

from pathlib import Path

from base.errors import SetupError, line_of


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
