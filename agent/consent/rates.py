"""No more events a second than the policy allows.  Pure: an event's own time is the clock."""

import math
from collections import defaultdict, deque

from base.clock import NANOSECONDS
from wire.category import Category
from wire.event import Button, Event, Scroll, category_of


class RateCeiling:
    """Counts the events of the last second of each category.

    Of the pointer only moves count: one move more or less says the same, a click does not.
    One event more than the rate is let through, because a timer is never exact.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[Category, deque[int]] = defaultdict(deque)

    def allows(self, event: Event, rate_hz: float) -> bool:
        """Whether *event* is within *rate_hz*; if so it counts from now on."""
        if isinstance(event, Button | Scroll):
            return True
        seen = self._seen[category_of(event)]
        while seen and seen[0] <= event.at - NANOSECONDS:
            seen.popleft()
        if len(seen) > math.ceil(rate_hz):
            return False
        seen.append(event.at)
        return True
