"""No more events a second than the policy allows.  Pure: an event's own time is the clock."""

import math
from collections import defaultdict, deque
from typing import Final

from base.clock import NANOSECONDS
from wire.category import Category
from wire.event import Button, Event, Move, Scroll, Still, category_of

EARLY: Final = 0.95  # of the time between two moves: no timer is exact
DATED: Final = 5_000_000  # ns by which moves may be dated closer together than they were
AT_ONCE: Final = 2
"""Moves that may come closer together than the rate, when there were fewer before.

A sensor that keeps to the rate holds back the last move until it is its turn, and dates it when
it happened; that one must not be lost: it says where the pointer came to rest.
"""


class RateCeiling:
    """Lets so many events of each category through, and no more.

    Of the pointer only moves count.  The sensor has thinned them out already; what comes all
    the same beyond the rate is thinned out evenly: one move more or less says the same, a
    click does not.  Of the screen only pictures count.  Of the others, which
    come in bursts, those beyond the rate in any one second are let go; one more is let
    through, because no timer is exact.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[Category, deque[int]] = defaultdict(deque)
        self._moved_at = 0
        self._moves_left = math.inf

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
        """Spend one of the moves that the rate brings in (a token bucket)."""
        brought = max(0, at - self._moved_at) * rate_hz / NANOSECONDS / EARLY
        self._moved_at = max(at, self._moved_at)
        most = AT_ONCE + rate_hz * DATED / NANOSECONDS
        self._moves_left = min(most, self._moves_left + brought)
        if self._moves_left < 1 or rate_hz <= 0:
            return False
        self._moves_left -= 1
        return True

    def _allows_one_of_many(self, event: Event, rate_hz: float) -> bool:
        seen = self._seen[category_of(event)]
        while seen and seen[0] <= event.at - NANOSECONDS:
            seen.popleft()
        if len(seen) > math.ceil(rate_hz):
            return False
        seen.append(event.at)
        return True
