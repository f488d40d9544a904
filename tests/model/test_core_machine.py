"""The real agent under everything that happens to it at once: nothing of a closed time is kept.

`core_machine` has the rules, made of `core_moves` in a `core_life`; `core_truth` is the judge, and
`core_station` has the agent and its surroundings.
"""

import random
from collections.abc import Callable

import pytest

from tests.conftest import Size
from tests.model.core_mutants import MUTANTS, finds
from tests.model.core_run import run
from tests.model.core_truth import Tally

MUTANT_STEPS = 8_000
"""In so many each planted defect has to be found; most are within 500."""


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1_800)  # on a busy machine; it takes a quarter of a minute
def test_nothing_of_a_closed_time_is_kept_whatever_happens(
    size: Size, dice: random.Random, figure: Callable[[str], None]
) -> None:
    """I1, I2, I3, I4, I9: acts, sensors, session, clocks, policies, crashes and broken disks.

    An acknowledged pause survives all of it and never ends early; no number is used twice; what
    was erased is gone; and from anywhere the data subject's clicks lead back to recording.
    """
    tally = Tally()
    run(tally, steps=size(share=800, full=1_000_000), seed=dice.randrange(1 << 30))
    assert tally.kept > tally.steps // 10, "a machine that records nothing proves nothing"
    figure(tally.words())


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1_800)  # on a busy machine; it takes a quarter of a minute
def test_planted_defects_are_found(size: Size, figure: Callable[[str], None]) -> None:
    """The judge can fail: each of these lets something through that nobody may have."""
    names = list(MUTANTS)[: size(share=5, full=len(MUTANTS))]
    found = {name: finds(name, MUTANT_STEPS) for name in names}
    assert [name for name, (_steps, how) in found.items() if not how] == [], "these survived"
    steps = [steps for steps, _how in found.values()]
    figure(f"{len(names)} planted defects, each found, after {min(steps)} to {max(steps):,} steps")
