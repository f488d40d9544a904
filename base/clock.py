"""The two clocks that count, as values that can be passed and faked.

Deadlines of consent are kept on both: the *boot* clock counts suspend and cannot be set
(Linux CLOCK_BOOTTIME; `time.monotonic` stops in suspend), the *wall* clock survives a
reboot.  The boot id tells whether a stored boot instant means anything.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from base.errors import SetupError

NANOSECONDS: Final = 1_000_000_000
CLOSE: Final = 50_000  # ns that two clocks are read apart; undisturbed it takes about 1,000
TRIES: Final = 5
PLAUSIBLE_YEARS: Final = range(2025, 2075)
"""Before them there was no such program; after them nobody runs this one unchanged.

A clock outside of them has lost its battery or its mind.  What is dated, expires or is
deleted by such a clock is wrong, and some of it for good.
"""
_FIRST, _END = (
    int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * NANOSECONDS
    for year in (PLAUSIBLE_YEARS.start, PLAUSIBLE_YEARS.stop)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """One reading of all clocks; `boot` and `wall` in nanoseconds."""

    boot: int
    wall: int
    boot_id: str


class Clock(Protocol):
    """Reads the clocks; the only thing that knows what time it is."""

    def now(self) -> Now:
        """Return one reading."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def now(self) -> Now:
        """Return one reading of boot clock and wall clock, which belong together.

        By it the events of a batch get their wall time; where the machine stops us between
        the two clocks, that would be off by as much, so look again.
        """
        best = _reading()
        for _ in range(TRIES - 1):
            if best[0] <= CLOSE:
                break
            best = min(best, _reading())
        apart, before, wall = best
        return Now(boot=before + apart // 2, wall=wall, boot_id=self._boot_id)


def _reading() -> tuple[int, int, int]:
    """Return how long the reading took, the boot clock before it, and the wall clock."""
    before = boot_ns()
    wall = time.time_ns()
    return boot_ns() - before, before, wall


def boot_ns() -> int:
    """Return nanoseconds since boot, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def asleep_ns() -> int:
    """Return for how many nanoseconds since its boot the machine was suspended."""
    return boot_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def local_time(wall: int) -> datetime:
    """Return what a clock on the wall of this workstation shows at an instant in nanoseconds.

    The zone is asked for anew each time: a laptop travels while the agent runs.
    """
    time.tzset()
    return datetime.fromtimestamp(wall // NANOSECONDS, UTC).astimezone()


def why_implausible(wall: int) -> str:
    """Return why a wall clock that says *wall* (nanoseconds) is wrong for sure, or ""."""
    if _FIRST <= wall < _END:
        return ""
    return f"the clock of this machine says that it is the year {year_of(wall)}; set it right"


def year_of(wall: int) -> int:
    """Return the year (UTC) of an instant in nanoseconds; 9999 for all that come later."""
    seconds = min(max(wall // NANOSECONDS, 0), 253_402_300_799)
    return datetime.fromtimestamp(seconds, UTC).year


def require_plausible_clock() -> None:
    """Go on only if the machine's clock may be right: for what dates something or judges by dates.

    Raises:
        SetupError: It is wrong for sure.

    """
    if why := why_implausible(time.time_ns()):
        raise SetupError(why)
