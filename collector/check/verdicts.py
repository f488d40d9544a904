"""What a check comes to."""

from enum import StrEnum

import msgspec

from base.errors import AssentError


class DeviationError(AssentError):
    """The collector does something else than the specification says."""


class LeftOutError(AssentError):
    """It could not be tried, and that is no fault of the collector."""


class Result(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    LEFT_OUT = "left out"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    check: str
    result: Result
    said: str  # what the check tries; or what went wrong, or why it was left out
