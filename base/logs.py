"""Logs of a program: what it did, never what was captured, never who.

Lines go to standard error and, with a folder, to a rotating file of at most 5 x 1 MiB.
Messages are constants with numbers and reasons; no event, title, host name or path of a
captured program is ever an argument.  What the system or a library adds (a path in a home
folder, a name, an id) is hidden by `base.discretion` before a line is written.
"""

import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

from base.discretion import Discretion

LARGEST_BYTES: Final = 1 << 20
OLDER: Final = 4  # files kept besides the one that is written


def log_file(program: str, folder: Path) -> Path:
    """Return where *program* keeps its log; the older ones lie beside it as .1 to .4."""
    return folder / f"{program}.log"


def start_logging(program: str, folder: Path | None, *, verbose: bool = False) -> None:
    """Send this program's log to standard error and, where given, to a file in *folder*."""
    form = _Discreet("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    console = _Console(sys.stderr)
    console.setFormatter(form)
    root.addHandler(console)
    # At DEBUG it writes the paths of requests, and batches and consents are named in ours; of
    # an answer that was cut short it warns with a traceback, and the door says it in a line.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if folder is not None:
        kept = _OwnersAlone(
            log_file(program, folder), maxBytes=LARGEST_BYTES, backupCount=OLDER, encoding="utf-8"
        )
        kept.setFormatter(form)
        root.addHandler(kept)


class _Discreet(logging.Formatter):
    """Writes lines that say nothing of a person, tracebacks included."""

    def __init__(self, form: str) -> None:
        super().__init__(form)
        self._discretion = Discretion()

    def format(self, record: logging.LogRecord) -> str:
        return self._discretion.hide(super().format(record))


class _Unperturbed(logging.Handler):
    """A log that cannot be written (a full disk, a closed terminal) loses a line, and no more.

    The library would print a traceback in its place.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name
        if not isinstance(sys.exc_info()[1], OSError | ValueError):  # ValueError: it is closed
            super().handleError(record)


class _Console(_Unperturbed, logging.StreamHandler[TextIO]):
    """Standard error."""


class _OwnersAlone(_Unperturbed, logging.handlers.RotatingFileHandler):
    """A log that nobody else reads, whatever the umask; each file that it begins anew, too."""

    def _open(self) -> TextIOWrapper:
        fd = os.open(
            self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        return TextIOWrapper(os.fdopen(fd, "ab"), encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line for this file: a full disk is no defect, and standard error has it."""
