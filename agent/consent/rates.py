"""No more events a second than the policy allows.  Pure: an event's own time is the clock."""

import math
from collections import defaultdict, deque
from typing import Final

from base.clock import NANOSECONDS
from wire.category import Category
from wire.event import Button, Event, Move, Scroll, Still, category_of

EARLY: Final = 0.9  # of the time between two moves: no timer is exact


class RateCeiling:
    """Lets so many events of each category through, and no more.

    Of the pointer only moves count, and they are thinned out evenly: one move more or less
    says the same, a click does not.  Of the screen only pictures count.  Of the others, which
    come in bursts, those beyond the rate in any one second are let go; one more is let
    through, because no timer is exact.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[Category, deque[int]] = defaultdict(deque)
        self._moved_at: int | None = None

    def allows(self, event: Event, rate_hz: float) -> bool:
        """Whether *event* is within *rate_hz*; if so it counts from now on."""
        match event:
            case Button() | Scroll() | Still():
                return True
            case Move(at=at):
                return self._allows_move(at, rate_hz)
            case _:
                return self._allows_one_of_many(event, rate_hz)

    def _allows_move(self, at: int, rate_hz: float) -> bool:
        apart = NANOSECONDS / rate_hz * EARLY if rate_hz > 0 else math.inf
        if self._moved_at is not None and abs(at - self._moved_at) < apart:
            return False
        self._moved_at = at
        return True

    def _allows_one_of_many(self, event: Event, rate_hz: float) -> bool:
        seen = self._seen[category_of(event)]
        while seen and seen[0] <= event.at - NANOSECONDS:
            seen.popleft()
        if len(seen) > math.ceil(rate_hz):
            return False
        seen.append(event.at)
        return True
