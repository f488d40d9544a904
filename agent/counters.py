"""What was kept and what was dropped, each drop with its reason; gaps for the record.

Nothing goes missing silently: whatever a stage does not hand on is counted here.  The
counts are shown to the data subject alone; a batch carries only those of events that were
its own and got lost (`Drop`), never of what lay outside consent or scope.
"""

from collections import Counter
from enum import StrEnum
from typing import Final

from wire.batch import Gap
from wire.category import Category
from wire.control import Reason
from wire.event import Button, Event, Focus, Frame, Key, Move, Scroll, Still
from wire.ids import BootInstant


class Drop(StrEnum):
    """Why an event that consent and scope covered was not kept all the same."""

    HOLD_BACK = "hold-back"  # too young when a restriction came
    EARLY = "before-it-was-allowed"  # seen by a source before its category was let in
    NO_KEY_FRAME = "no-key-frame"  # the picture it changes was not kept
    TOO_LARGE = "too-large"  # does not fit into a batch
    OVER_RATE = "over-rate"  # more a second than the policy allows
    UNSEALED = "unsealed"  # could not be sealed, so it could not be written
    FORGOTTEN = "forgotten"  # the data subject asked for it
    BY_SENSOR = "held-by-sensor"  # the sensor itself let it go


KINDS: Final[dict[type, str]] = {
    Key: "keys",
    Move: "moves",
    Button: "buttons",
    Scroll: "scrolls",
    Frame: "frames",
    Still: "stills",
    Focus: "windows",
}


class Counters:
    """Counts since the agent started, and the gaps of each category."""

    def __init__(self) -> None:
        """Everything is zero."""
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._gaps: dict[Category, tuple[BootInstant, str]] = {}

    def drop(self, why: Reason | Drop, number: int = 1) -> None:
        """Count *number* events that go no further."""
        if number:
            self.dropped[why.value] += number

    def keep(self, event: Event) -> None:
        """Count an event that went into a batch."""
        self.kept[KINDS[type(event)]] += 1

    def gap_begins(self, category: Category, at: BootInstant, why: Reason | Drop) -> bool:
        """Note that nothing of *category* is kept from *at* on; the first reason stands.

        Returns whether that is news: there was no such gap before.
        """
        begins = category not in self._gaps
        self._gaps.setdefault(category, (at, why.value))
        return begins

    def gap_ends(self, category: Category, at: BootInstant) -> Gap | None:
        """Return the gap that ends with an event kept at *at*, if one had begun before it."""
        since, why = self._gaps.get(category, (at, ""))
        if since >= at:
            return None
        del self._gaps[category]
        return Gap(since=since, until=at, why=why)
