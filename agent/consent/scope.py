"""Whose window had the focus when: the timeline by which each event's scope is judged.

The context sensor tells of every change of focus with its time; the events themselves come
from other processes and may overtake it.  So an event is judged when it leaves the hold-back,
by the focus of its own time, and not within SETTLE of a change that touches a window
outside the list: two processes do not stamp the same key and the same change alike.  Pure.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from base.clock import NANOSECONDS

SETTLE_NANOSECONDS: Final = NANOSECONDS // 10
KEPT_NANOSECONDS: Final = 10 * NANOSECONDS  # far more than any event waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From `at` on the focus is inside (True), outside (False) or unknown (None)."""

    at: int
    inside: bool | None


class FocusTimeline:
    """The changes of focus of the last seconds."""

    def __init__(self) -> None:
        """Nothing is known yet, so nothing is inside."""
        self._changes: list[Change] = []

    def note(self, at: int, inside: bool | None) -> None:  # noqa: FBT001 - unknown is the third value
        """Note a change; a later one of the same instant replaces it."""
        change = Change(at=at, inside=inside)
        place = bisect_right(self._changes, at, key=_at)
        self._changes.insert(place, change)
        self._forget_before(self._changes[-1].at - KEPT_NANOSECONDS)

    def current(self) -> bool | None:
        """Return whether the focus is inside as far as anybody knows now."""
        return self._changes[-1].inside if self._changes else None

    def is_inside(self, at: int) -> bool:
        """Whether the focus was inside at boot instant *at*."""
        place = bisect_right(self._changes, at, key=_at)
        return place > 0 and self._changes[place - 1].inside is True

    def is_settled_inside(self, at: int) -> bool:
        """Whether the focus was inside at *at* and for SETTLE around it."""
        return self.is_inside_throughout(at - SETTLE_NANOSECONDS, at + SETTLE_NANOSECONDS)

    def is_inside_throughout(self, since: int, until: int) -> bool:
        """Whether the focus was inside from *since* to *until*, both included."""
        first = bisect_right(self._changes, since, key=_at)
        last = bisect_right(self._changes, until, key=_at)
        around = self._changes[max(0, first - 1) : last]
        return first > 0 and all(change.inside is True for change in around)

    def _forget_before(self, at: int) -> None:
        keep = max(0, bisect_right(self._changes, at, key=_at) - 1)
        del self._changes[:keep]


def _at(change: Change) -> int:
    return change.at
