"""Logs of a program: what it did, never what was captured, never who.

A line is text for people or, in the form `json`, an object for programs: `at`, `level`,
`where`, `event` (the constant message, the same for each line of its kind), `numbers` (what
was put into it), `says` (both together), `trace`.

Lines go to standard error and, with a folder, to a rotating file of at most 5 x 1 MiB.
Messages are constants with numbers and reasons; no event, title, host name or path of a
captured program is ever an argument.  One record is one line, and steers no terminal on which
it is read; a traceback has a line for each line of code, and one for the error.  What the
system or a library adds (a path in a home folder, a name, an id) is hidden by
`base.discretion` before a line is written.
"""

import logging
import logging.handlers
import os
import sys
import traceback
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

import msgspec

from base.discretion import Discretion
from base.lines import LONGEST_MESSAGE, one_line, shown

LARGEST_BYTES: Final = 1 << 20
TRACE: Final = "trace"  # of a record that another process made: its traceback (`trace_of`)
_DEEPEST: Final = 10  # errors that led to each other, in one traceback
OLDER: Final = 4  # files kept besides the one that is written


def log_file(program: str, folder: Path) -> Path:
    """Return where *program* keeps its log; the older ones lie beside it as .1 to .4."""
    return folder / f"{program}.log"


class Form(StrEnum):
    """What a line of a log looks like."""

    TEXT = "text"
    JSON = "json"


def start_logging(
    program: str, folder: Path | None, *, verbose: bool = False, form: Form = Form.TEXT
) -> None:
    """Send this program's log to standard error and, where given, to a file in *folder*."""
    written = _Discreet("%(asctime)s %(levelname)-7s %(name)s: %(message)s", form)
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    console = _Console(sys.stderr)
    console.setFormatter(written)
    root.addHandler(console)
    # At DEBUG it writes the paths of requests, and batches and consents are named in ours; of
    # an answer that was cut short it warns with a traceback, and the door says it in a line.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if folder is not None:
        kept = _OwnersAlone(
            log_file(program, folder), maxBytes=LARGEST_BYTES, backupCount=OLDER, encoding="utf-8"
        )
        kept.setFormatter(written)
        root.addHandler(kept)


class _Discreet(logging.Formatter):
    """Writes lines that say nothing of a person, and nothing that others made up as ours."""

    def __init__(self, line: str, form: Form) -> None:
        super().__init__(line)
        self._form = form
        self._discretion = Discretion()

    def format(self, record: logging.LogRecord) -> str:
        if self._form is Form.TEXT:
            ours = copy(record)
            # There another formatter keeps the traceback as it made it.
            ours.exc_info, ours.exc_text = None, _trace(record)
            return self._discretion.hide(super().format(ours))
        return msgspec.json.encode(self._fields(record)).decode("utf-8")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return shown(super().formatMessage(record))

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the object of a line; each text in it is made discreet by itself."""

        def hide(text: str) -> str:
            return shown(self._discretion.hide(text))

        args = record.args if isinstance(record.args, tuple) else ()
        fields: dict[str, object] = {
            "at": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname.lower(),
            "where": record.name,
            "event": hide(str(record.msg)),
            "numbers": [a if isinstance(a, int | float) else hide(str(a)) for a in args],
            "says": hide(record.getMessage()),
        }
        if trace := _trace(record):
            fields["trace"] = self._discretion.hide(trace)
        return fields


def trace_of(exc: BaseException | None) -> str:
    """Return the traceback of *exc*, in which an error is one line whatever it says."""
    return "\n".join(map(shown, _traced(exc, _DEEPEST)))


def _trace(record: logging.LogRecord) -> str:
    """Return the traceback of a record, or the one that a worker sent along with it."""
    if record.exc_info:
        return trace_of(record.exc_info[1])
    return "\n".join(map(shown, str(getattr(record, TRACE, "")).split("\n")))


def _traced(exc: BaseException | None, deep: int) -> Iterator[str]:
    """Yield the lines of a traceback; the library's breaks where the text of an error does."""
    if exc is None or deep == 0:
        return
    before = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    yield from _traced(before, deep - 1)
    yield "Traceback (most recent call last):"
    for piece in traceback.format_tb(exc.__traceback__):
        yield from piece.rstrip("\n").split("\n")
    yield one_line("".join(traceback.format_exception_only(exc)), LONGEST_MESSAGE)
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _traced(each, deep - 1)


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
