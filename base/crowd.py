"""Counts that become visible only as the work of at least ten together.

A count that anybody may look at every few seconds says when somebody worked, if few do.  So
each cell (a route and a status, say) gathers what is counted until ten different parties had
a part in it, and shows it then, all at once: every step of what is shown is the work of ten or
more.  Who they were is forgotten with each step, and never shown.
"""

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

LEAST: Final = 10  # people, as in the promise that nothing is told of one
THINGS: Final = 1_000  # batches: a device hands in some hundreds a day
BOUNDS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)  # seconds; above them is one class more

C = TypeVar("C", bound=Hashable)


def in_tens(count: int) -> int:
    """Return *count* as far as it may be shown: in steps of ten, nothing below ten."""
    return count // LEAST * LEAST


def people_in_words(count: int) -> str:
    """Return how many people as far as it may be told: none, one and nine are the same."""
    low = in_tens(count)
    return f"{low} to {low + LEAST - 1}" if low else f"fewer than {LEAST}"


def things_in_words(count: int) -> str:
    """Return how many batches or keys: in thousands, so that nobody's day is the difference."""
    low = count // THINGS * THINGS
    return f"{low:,} to {low + THINGS - 1:,}" if low else f"fewer than {THINGS:,}"


@dataclass(slots=True)
class Tally:
    """How many there were, and how long they took; `classes` are not cumulative."""

    count: int = 0
    seconds: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def take(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.seconds += seconds
        self.classes[sum(seconds > bound for bound in BOUNDS)] += 1

    def add(self, other: "Tally") -> None:
        """Count all of *other*."""
        self.count += other.count
        self.seconds += other.seconds
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]


@dataclass(slots=True)
class _Cell:
    shown: Tally = field(default_factory=Tally)
    gathered: Tally = field(default_factory=Tally)
    parties: set[bytes] = field(default_factory=set)


class Crowd(Generic[C]):
    """The cells.  May be used by several threads."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._cells: dict[C, _Cell] = {}
        self._lock = threading.Lock()

    def take(self, cell: C, seconds: float, who: bytes | None) -> None:
        """Count one in *cell*; *who* is None where it says nothing of people."""
        with self._lock:
            counted = self._cells.get(cell)
            if counted is None:
                counted = self._cells[cell] = _Cell()
            if who is None:
                counted.shown.take(seconds)
                return
            counted.gathered.take(seconds)
            counted.parties.add(who)
            if len(counted.parties) >= LEAST:
                counted.shown.add(counted.gathered)
                counted.gathered = Tally()
                counted.parties.clear()

    def shown(self) -> Mapping[C, Tally]:
        """Return what may be looked at."""
        with self._lock:
            return {
                cell: Tally(counted.shown.count, counted.shown.seconds, [*counted.shown.classes])
                for cell, counted in self._cells.items()
                if counted.shown.count
            }
