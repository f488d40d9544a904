"""When something was written, as far as the witness can say.  Pure.

A log has no times that one could believe; the witness's cosignatures have.  A leaf that one
of them does not cover and the next one does was written between the two.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from base.clock import NANOSECONDS

HOUR: Final = 3600
DAY: Final = 24 * HOUR
SLACK: Final = HOUR
"""Seconds by which clocks may differ, and for which a cosignature may have been under way."""
GRACE: Final = DAY
"""Seconds in which something that is over has to be gone, and be witnessed to be."""
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Times:
    """The sizes that were cosigned, in order, and when each was (seconds since the epoch)."""

    sizes: tuple[int, ...]
    seconds: tuple[int, ...]

    @property
    def head(self) -> int:
        """When the whole of it was cosigned: of which time the audit is."""
        return self.seconds[-1]

    def after(self, leaf: int) -> int:
        """Return when *leaf* was surely not there yet; 0 where nobody can say."""
        number = bisect_right(self.sizes, leaf)
        return self.seconds[number - 1] if number else 0

    def by(self, leaf: int) -> int:
        """Return when *leaf* was surely there."""
        return self.seconds[min(bisect_right(self.sizes, leaf), len(self.sizes) - 1)]


def end_of(day: str) -> int:
    """Return when an ISO day is over, UTC, in seconds since the epoch."""
    return ((date.fromisoformat(day) - _EPOCH).days + 1) * DAY


def day_of(seconds: int) -> str:
    """Return the day of an instant, UTC; of one that no calendar has, the first or the last."""
    days = min(max(seconds // DAY, 0), 2_900_000)
    return (_EPOCH + timedelta(days=days)).isoformat()


def seconds_of(wall: int) -> int:
    """Return the seconds of an instant in nanoseconds."""
    return wall // NANOSECONDS
