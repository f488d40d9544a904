"""Stage 4: kept events become batches, one category each.

A batch closes at 4 MiB, after 60 s, at midnight (UTC) and at any change of consent.  The
first frame of a screen batch is a key frame, so that it can be drawn without any other; a key
frame that arrives where there is one already begins the next.  Nothing in here reads a clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias

from agent.counters import Drop
from agent.handover import Permit, Rolled
from base.clock import NANOSECONDS, Now
from wire.batch import Gap
from wire.category import Category
from wire.event import Event, Focus, Frame, Key

CLOSES_AT_BYTES: Final = 4 << 20
# Of the 8 MiB that a frame may have, padding takes up to 12 %, the shelf 48 KiB, age and
# msgpack a little; pixels are compressed already and do not shrink again.
LARGEST_BYTES: Final = 7 << 20
CLOSES_AFTER_NANOSECONDS: Final = 60 * NANOSECONDS

Lost: TypeAlias = Callable[[Event, Drop], None]


@dataclass(slots=True)
class _Open:
    permit: Permit
    day: str
    since: int
    events: list[Event] = field(default_factory=list)
    bytes: int = 0
    pictured: bool = False  # it has a key frame
    gaps: list[Gap] = field(default_factory=list)


class Roll:
    """The open batches, at most one for each category, in memory only."""

    def __init__(self, lost: Lost) -> None:
        """*lost* is told of each event that fits into no batch."""
        self._open: dict[Category, _Open] = {}
        self._lost = lost
        self._broken_picture = True  # until a key frame was kept, changes have nothing to change

    def add(
        self, event: Event, permit: Permit, gap: Gap | None, now: Now
    ) -> tuple[bool, list[Rolled]]:
        """Take *event* into the batch of its category.

        Returns whether it was taken, and the batches that had to close for it.
        """
        closed = []
        size, day = size_of(event), _day(event, now)
        batch = self._open.get(permit.category)
        if batch is not None and self._must_close_before(batch, event, size, permit, day):
            closed.append(self._closed(batch, now))
            batch = None
        if not self._fits(event, size, batch):
            return False, closed
        if batch is None:
            batch = self._open[permit.category] = _Open(permit, day, now.boot)
        batch.events.append(event)
        batch.bytes += size
        batch.pictured = batch.pictured or isinstance(event, Frame)
        if gap is not None:
            batch.gaps.append(gap)
        # A picture cannot be continued in another batch: the next key frame closes this one.
        if batch.bytes >= CLOSES_AT_BYTES and permit.category is not Category.SCREEN:
            closed.append(self._closed(batch, now))
        return True, closed

    def break_picture(self) -> None:
        """Note that a frame was dropped: what changes it must not be drawn on an older one."""
        self._broken_picture = True

    def aged(self, now: Now) -> list[Rolled]:
        """Close and return the batches that have been open for 60 s."""
        old = [b for b in self._open.values() if now.boot - b.since >= CLOSES_AFTER_NANOSECONDS]
        return [self._closed(batch, now) for batch in old]

    def close(self, category: Category, now: Now) -> list[Rolled]:
        """Close the batch of *category*, if one is open."""
        batch = self._open.get(category)
        return [] if batch is None else [self._closed(batch, now)]

    def discard(self, category: Category) -> int:
        """Forget the open batch of *category*; return how many events were in it."""
        batch = self._open.pop(category, None)
        if category is Category.SCREEN:
            self._broken_picture = True
        return 0 if batch is None else len(batch.events)

    def forget_since(self, since: int, category: Category | None = None) -> int:
        """Forget all open events at or after boot instant *since*; return how many."""
        forgotten = 0
        for open_category, batch in list(self._open.items()):
            if category not in (None, open_category):
                continue
            kept = [event for event in batch.events if event.at < since]
            forgotten += len(batch.events) - len(kept)
            if len(kept) < len(batch.events) and open_category is Category.SCREEN:
                self._broken_picture = True
            batch.events = kept
            batch.bytes = sum(map(size_of, kept))
            batch.pictured = any(isinstance(event, Frame) for event in kept)
            if not kept:
                del self._open[open_category]
        return forgotten

    def _must_close_before(
        self, batch: _Open, event: Event, size: int, permit: Permit, day: str
    ) -> bool:
        return (
            batch.permit != permit
            or batch.day != day
            or batch.bytes + size > LARGEST_BYTES
            or (isinstance(event, Frame) and event.key and batch.pictured)
        )

    def _fits(self, event: Event, size: int, batch: _Open | None) -> bool:
        """Whether *event* can go into *batch* (or a new one); says so when it cannot."""
        if size > LARGEST_BYTES:
            self.break_picture()
            self._lost(event, Drop.TOO_LARGE)
            return False
        if not isinstance(event, Frame):
            return True
        if event.key:
            self._broken_picture = False
        elif batch is None or not batch.pictured or self._broken_picture:
            self._lost(event, Drop.NO_KEY_FRAME)
            return False
        return True

    def _closed(self, batch: _Open, now: Now) -> Rolled:
        del self._open[batch.permit.category]
        return Rolled(
            permit=batch.permit,
            day=batch.day,
            events=tuple(batch.events),
            anchor=now,
            counters={"kept": len(batch.events)},
            gaps=tuple(batch.gaps),
        )


def size_of(event: Event) -> int:
    """Return about how many bytes *event* will take; exact where it matters, for pixels."""
    match event:
        case Frame():
            return 64 + sum(32 + len(part.pixels) for part in event.rectangles)
        case Focus():
            return 64 + len(event.process) + len(event.window_class) + 4 * len(event.title)
        case Key():
            return 32 + 4 * len(event.text)
        case _:
            return 32


def _day(event: Event, now: Now) -> str:
    wall = now.wall - (now.boot - event.at)
    return datetime.fromtimestamp(wall // NANOSECONDS, UTC).date().isoformat()
