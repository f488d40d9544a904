"""The hours in which a policy lets anything be recorded.  Pure.

They are said by the wall clock of the workstation: "until 17:00" is what the clock on its
wall shows, in summer and in winter.  An instant has exactly one local time, so nothing is
asked twice or skipped where the clock is put back or forward: an hour that comes twice is
inside both times, and one that is left out never comes.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeAlias

from wire.ids import WallInstant
from wire.policy import Hours, Weekday

SECOND: Final = 1_000_000_000  # nanoseconds
DAY_MINUTES: Final = 24 * 60
WEEK_MINUTES: Final = 7 * DAY_MINUTES
_DAYS: Final = tuple(Weekday)

Zone: TypeAlias = Callable[[WallInstant], datetime]
"""Returns the local time of an instant; only what the clock shows is looked at."""


def minutes(hours: Sequence[Hours]) -> frozenset[int]:
    """Return the minutes of a week, from Monday 00:00 on, that *hours* let in; none: all."""
    return _minutes(tuple(hours))


def is_inside(hours: Sequence[Hours], local: datetime) -> bool:
    """Whether *local*, the time on the workstation's clock, is within *hours*."""
    return not hours or _minute_of_week(local) in minutes(hours)


def closes_at(hours: Sequence[Hours], wall: WallInstant, zone: Zone) -> WallInstant | None:
    """Return the instant at which *hours*, inside which *wall* is, end; None: not for a week.

    It looks at every local minute on the way, so a clock that is put forward into the night,
    or back into the day, ends them when it does.
    """
    inside = minutes(hours)
    if len(inside) == WEEK_MINUTES:
        return None
    at = wall
    for _ in range(WEEK_MINUTES + DAY_MINUTES):
        local = zone(at)
        if _minute_of_week(local) not in inside:
            return at
        at = WallInstant(at - at % SECOND + (60 - local.second) * SECOND)
    return None


@lru_cache(maxsize=8)  # each decision asks, many a second, and a policy's hours stay the same
def _minutes(hours: tuple[Hours, ...]) -> frozenset[int]:
    if not hours:
        return frozenset(range(WEEK_MINUTES))
    return frozenset(minute for span in hours for minute in _minutes_of(span))


def _minutes_of(span: Hours) -> Iterator[int]:
    begin, end = _minute(span.begin), _minute(span.end)
    for day in span.days:
        start = _DAYS.index(day) * DAY_MINUTES
        yield from range(start + begin, start + end)


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _minute_of_week(local: datetime) -> int:
    return local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute
