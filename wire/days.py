"""Of which days batches may be: those of their consent, while their policy was in force.  Pure.

A collector refuses by these rules what an audit would find afterwards by the same ones.  Days are
ISO dates, UTC; a device and its data subject share one clock, a witness has another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from wire.ids import WallInstant
from wire.lease import LONGEST_LEASE_SECONDS
from wire.policy import RECONFIRM_DAYS

DAY: Final = 24 * 3600
SLACK: Final = 3600
"""Seconds by which clocks may differ, and for which a cosignature may have been under way."""
_EPOCH: Final = date(1970, 1, 1)
_LAST_DAY: Final = 2_900_000  # of the year 9909: what calendars can still count from
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """When a policy was in force, as far as a witness can say; seconds since the epoch."""

    since: int
    """Its leaf was not there yet; 0 where nobody can say."""
    until: int | None
    """The leaf of the next policy was there; None: there is no next one, or nobody can say."""
    expires: int
    """Its signatures are not good any more."""


def seconds_of(wall: int) -> int:
    """Return the seconds of an instant in nanoseconds."""
    return wall // _NANOSECONDS


def day_of(seconds: int) -> str:
    """Return the day of an instant, UTC; of one that no calendar has, the first or the last."""
    days = min(max(seconds // DAY, 0), _LAST_DAY)
    return (_EPOCH + timedelta(days=days)).isoformat()


@lru_cache(maxsize=1024)
def end_of(day: str) -> int:
    """Return when an ISO day is over, UTC, in seconds since the epoch."""
    return ((date.fromisoformat(day) - _EPOCH).days + 1) * DAY


@lru_cache(maxsize=4096)  # batch after batch asks for those of the same consents
def days_of_consent(
    given_at: WallInstant, ended_at: WallInstant | None, *reconfirm_days: int
) -> tuple[str, str]:
    """Return the first and the last day of which batches may be under a consent, both included.

    It ended at *ended_at* (None: nobody said so), or when it had to be confirmed again by the first
    of the policies whose *reconfirm_days* these are: the one agreed to, and the one recorded under.
    """
    given = seconds_of(given_at)
    last = day_of(given + min(RECONFIRM_DAYS, *reconfirm_days) * DAY)
    if ended_at is not None:
        last = min(last, day_of(seconds_of(ended_at)))
    return day_of(given), last


def not_of_consent(day: str, days: tuple[str, str]) -> Iterator[str]:
    """Yield what is wrong with a batch of *day* under a consent of *days*."""
    first, last = days
    if not first <= day <= last:
        yield f"is of {day}, its consent of {first} to {last}"


def not_in_force(day: str, policy: InForce) -> Iterator[str]:
    """Yield what is wrong with a batch of *day* under *policy*.

    A device goes on under the policy that it has for as long as a lease of that may last.
    """
    begin, end = end_of(day) - DAY, end_of(day)
    if end + SLACK < policy.since:
        yield f"is of {day}, before its policy was in force"
    if policy.until is not None and begin > policy.until + LONGEST_LEASE_SECONDS + SLACK:
        yield f"is of {day}, when another policy had taken the place of its own"
    if begin > policy.expires:
        yield f"is of {day}; its policy had run out on {day_of(policy.expires)}"
