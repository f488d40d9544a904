"""Each rule of the gate, taken out: the search has to notice, by the promise that it breaks."""

from collections.abc import Callable
from dataclasses import fields

import pytest

from agent.consent.gate import CategoryFacts, Facts
from tests.model.invariants import ON_STATES, ON_STEPS
from tests.model.mutants import CONDITIONS, LIVENESS, MUTANTS
from tests.model.search import A_WAY_BACK, hopeless, search
from tests.model.world import Rules


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed_by_the_promise_that_it_breaks(name: str) -> None:
    """One that survives is a rule that nothing tests."""
    assert MUTANTS[name].is_killed(), f"survived: {name}"


def test_every_condition_of_the_gate_has_its_mutant(figure: Callable[[str], None]) -> None:
    """A fact that is added to the gate needs an invariant that misses it, and a mutant."""
    named = {each.name for kind in (Facts, CategoryFacts) for each in fields(kind)} - {"categories"}
    assert {*CONDITIONS} == named
    known = {check.__name__ for check in (*ON_STATES, *ON_STEPS)} | {LIVENESS}
    killers = {mutant.killer for mutant in MUTANTS.values()}
    assert killers <= known
    figure(f"{len(MUTANTS)} mutants, {len(killers)} invariants that kill them")


def test_without_a_mutant_nothing_is_hopeless() -> None:
    """What kills the mutants of liveness is the mutant, not the bounds of their search."""
    rules = Rules()
    found = search(rules, A_WAY_BACK)
    assert found.violations == {}
    assert hopeless(found, rules) == set()
