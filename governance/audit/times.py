"""When something was written, as far as the witness can say.  Pure.

A log has no times that one could believe; the witness's cosignatures have.  A leaf that one
of them does not cover and the next one does was written between the two.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from wire.days import DAY

HOUR: Final = 3600
GRACE: Final = DAY
"""Seconds in which something that is over has to be gone, and be witnessed to be."""


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
