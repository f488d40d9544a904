"""What a benchmark says: our figure beside a floor that was measured in the same run.

Machines differ and are busy; a ratio of two figures from the same minute says more than
either.  `best_known` is what the best of the others reach on a machine like ours, where that
was measured; see docs/benchmarks.md.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Final

import msgspec

ROUNDS: Final = 5  # the median of which is taken; each in turn with the floor


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison; *unit* is of both figures, and says whether more is better."""

    bench: str
    what: str
    ours: float
    floor: float
    unit: str
    more_is_better: bool
    best_known: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """Our figure in units of the floor's."""
        return self.ours / self.floor if self.floor else math.inf

    @property
    def remark(self) -> str:
        """What is best known, and whether an aim is kept."""
        if self.at_most is not None:
            kept = "kept" if self.ours <= self.at_most else "MISSED"
            return f"aim: at most {self.at_most:g} {self.unit}, {kept}"
        if self.at_least is not None:
            kept = "kept" if self.ours >= self.at_least else "MISSED"
            return f"aim: at least {self.at_least:,.0f} {self.unit}, {kept}"
        return self.best_known


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one *call* takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternated(
    ours: Callable[[], object], floor: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Return seconds for one call of each; their rounds alternate, so both meet the same load."""
    mine, bare = [], []
    for _ in range(ROUNDS):
        mine.append(seconds_of(lambda: _repeat(ours, repeats)) / repeats)
        bare.append(seconds_of(lambda: _repeat(floor, repeats)) / repeats)
    return statistics.median(mine), statistics.median(bare)


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()
