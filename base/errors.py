"""What can go wrong in a program, grouped by who can act on it.

AssentError
├── ConsentError     stop; only the data subject can change this
├── RetryableError   try later; nothing is lost meanwhile
├── RejectedError    never again with the same bytes; set aside and said
└── SetupError       a person has to mend configuration, files or machine first

A message is one line that says what happened and what to do next.  The exit codes are the
command lines' contract (documented in docs/exit-codes.md).
"""

from enum import IntEnum


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
    """Anything a program raises on purpose; the message is one line for a person."""

    exit_code = ExitCode.FAILED


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
