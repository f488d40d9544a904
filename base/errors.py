"""What can go wrong in a program, grouped by who can act on it.

AssentError
├── ConsentError     stop; only the data subject can change this
├── RetryableError   try later; nothing is lost meanwhile
├── RejectedError    never again with the same bytes; set aside and said
└── SetupError       a person has to mend configuration, files or machine first

A message is one line that says what happened and what to do next.  The exit codes are the
command lines' contract (documented in docs/exit-codes.md).
"""

import errno
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from base.lines import LONGEST_MESSAGE, one_line

_MEND: Final = MappingProxyType(
    {
        errno.ENOSPC: "make room on that disk and try again",
        errno.EDQUOT: "make room within your quota and try again",
        errno.EACCES: "check who owns it and its mode",
        errno.EPERM: "check who owns it and its mode",
        errno.EROFS: "mount that disk for writing",
        errno.EIO: "the disk fails: replace it and restore from a backup",
        errno.EISDIR: "a folder lies where a file belongs: move it away",
        errno.ENOTDIR: "a file lies where a folder belongs: move it away",
        errno.ENOENT: "check the path",
        errno.ENAMETOOLONG: "choose a shorter path",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENOMEM: "free some memory and try again",
    }
)


class ExitCode(IntEnum):
    """What a command of ours ends with."""

    DONE = 0
    FAILED = 1  # a defect of ours, or an operation that did not succeed
    USAGE = 2  # the command line was not understood
    SETUP = 3  # configuration, files or machine have to be mended first
    CONSENT = 4  # consent does not cover it; only the data subject can change that
    LATER = 5  # temporarily not possible
    REJECTED = 6  # the other side will never accept it


class AssentError(Exception):
    """Anything a program raises on purpose; the message is one line for a person.

    It stays one, whatever the other side or a library put into it.
    """

    exit_code = ExitCode.FAILED

    def __str__(self) -> str:
        return one_line(super().__str__(), LONGEST_MESSAGE)


class ConsentError(AssentError):
    """Consent does not cover what was about to happen."""

    exit_code = ExitCode.CONSENT


class RetryableError(AssentError):
    """The other side could not be reached, or asked to come back later."""

    exit_code = ExitCode.LATER

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RejectedError(AssentError):
    """The other side will never accept this; repeating it is no use."""

    exit_code = ExitCode.REJECTED


class SetupError(AssentError):
    """A person has to mend something first; the message says what."""

    exit_code = ExitCode.SETUP


def line_of(exc: OSError) -> str:
    """Return what the system said in one line: where, what, and what to do."""
    where = exc.filename2 or exc.filename  # of a rename the second is the name that people know
    line = f"{where}: " if where else ""
    line += exc.strerror or str(exc)
    mend = _MEND.get(exc.errno or 0)
    return f"{line}; {mend}" if mend else line
