"""The gate, searched to the end: every state that can be reached, every move out of it.

The abstract world is in `world`, its moves in `moves`, what must be true in `invariants`.
The long form lets the disk refuse and the clock go back, too, has halts beside everything else,
and surroundings that are known to be amiss, not only unknown, and two of them at once.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from agent.consent.entries import Entry, ErasureAsked, Registered, Replaced, StoppedUncleanly, Told
from agent.consent.ledger import MARK_NAME, Ledger
from base.errors import ConsentError
from tests.conftest import Size
from tests.model.invariants import ON_STATES, ON_STEPS, is_open
from tests.model.search import (
    A_CLOCK_AHEAD,
    EVERY_FAULT,
    NO_CLOCK,
    ONE_UNKNOWN,
    PAIRS_OF_SURROUNDINGS,
    hopeless,
    search,
    unstoppable,
)
from tests.model.world import DEVICE, ENTRIES, NOW, Kept, Rules, kept_of, standing_of

# What is searched in the share, and what in the long form, which has all of the former in it.
BOUNDS = {
    "faults": ((NO_CLOCK, A_CLOCK_AHEAD), (EVERY_FAULT,)),
    "surroundings": ((ONE_UNKNOWN,), (PAIRS_OF_SURROUNDINGS,)),
}


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(0)  # bounded by the number of states
@pytest.mark.parametrize("kind", BOUNDS)
def test_no_state_and_no_move_breaks_a_promise(
    kind: str, size: Size, figure: Callable[[str], None]
) -> None:
    """Each invariant holds on everything reachable; ACTIVE comes back, and one act stops it."""
    for bounds in BOUNDS[kind][size(share=0, full=1)]:
        rules = Rules()
        found = search(rules, bounds)
        capturing = sum(is_open(rules.verdict(world)) for world in found.edges)
        figure(
            f"{kind}: {len(found.edges):,} states, {found.number_of_edges:,} moves, {capturing:,} "
            f"with an open source, {len(ON_STATES) + len(ON_STEPS)} invariants, "
            f"{len(found.violations)} violations"
        )
        assert found.violations == {}
        assert capturing > 0, "a gate that never opens keeps every promise and is of no use"
        assert hopeless(found, rules) == set(), "from here the data subject cannot record again"
        assert unstoppable(found, rules) == set(), "here one act does not stop"


def test_the_promises_of_the_threat_model_are_among_the_invariants() -> None:
    """I1 to I4 and I9 by name, sixteen at least in all, each with its sentence."""
    names = [check.__name__ for check in (*ON_STATES, *ON_STEPS)]
    assert len(names) == len(set(names)) >= 16
    assert all(any(name.startswith(f"i{n}_") for name in names) for n in (1, 2, 3, 4, 9))
    assert all(check.__doc__ for check in (*ON_STATES, *ON_STEPS))


def test_every_kind_of_entry_is_a_move_of_the_model() -> None:
    """A kind that is added to the ledger has to be added here; four move nothing judged."""
    assert {*ENTRIES, ErasureAsked, Registered, Replaced, Told} == {*get_args(Entry)}


def test_what_stands_for_a_standing_stands_for_all_of_it() -> None:
    """From the abstract to the real and back is the same, after every two entries."""
    rules, seen = Rules(), {Kept()}
    for kept, kind in [(k, kind) for k in _written_twice(rules) for kind in ENTRIES]:
        seen.add(kept)
        try:
            seen.add(rules.written(kept, kind))
        except ConsentError:
            continue
    assert len(seen) > 50
    assert all(kept_of(standing_of(kept)) == kept for kept in seen)


def _written_twice(rules: Rules) -> set[Kept]:
    reached = {Kept()}
    for _ in range(2):
        for kept, kind in product(tuple(reached), ENTRIES):
            try:
                reached.add(rules.written(kept, kind))
            except ConsentError:
                continue
    return reached


@pytest.mark.parametrize("first", ENTRIES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("marked", [False, True], ids=["clean", "marked"])
def test_a_restart_is_the_real_one(first: type[Entry], marked: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """What the model believes after a restart is what the real ledger reads from a real disk."""
    rules = Rules()
    for second in ENTRIES:
        folder = tmp_path / second.__name__
        folder.mkdir()
        ledger, kept = Ledger.open(folder, DEVICE, NOW), Kept()
        for kind in (first, second):
            try:
                ledger.append(ENTRIES[kind], NOW)
            except ConsentError:
                with pytest.raises(ConsentError):
                    rules.written(kept, kind)
            else:
                kept = rules.written(kept, kind)
        if marked:
            (folder / MARK_NAME).touch()
            kept = rules.written(kept, StoppedUncleanly)
        assert kept_of(Ledger.open(folder, DEVICE, NOW).standing) == kept
