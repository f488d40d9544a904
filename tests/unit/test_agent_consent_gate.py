"""The gate, exhaustively: every reason alone, every pair, and everything that is unknown."""

import dataclasses
import itertools

import pytest

from agent.consent.gate import MOMENTARY, CategoryFacts, Fact, Facts, decide
from wire.category import Category
from wire.control import Reason

OWN = {
    Reason.OPTED_OUT: "opted_in",
    Reason.NOT_CONSENTED: "consented",
    Reason.CONSENT_STALE: "consent_fits_policy",
    Reason.STORAGE_BLOCKED: "storable",
}
SHARED = {
    Reason.HALTED_BY_ORG: "not_halted",
    Reason.POLICY_INVALID: "policy_valid",
    Reason.CLOCK_UNTRUSTED: "clock_trusted",
    Reason.INDICATOR_MISSING: "indicator_shown",
    Reason.SESSION_BLOCKED: "session_ours",
    Reason.PAUSED_UNTIL: "not_paused",
    Reason.RESUME_PENDING: "resume_clicked",
    Reason.OUTSIDE_SCOPE: "inside_scope",
    Reason.SENSITIVE: "not_sensitive",
    Reason.REDACTOR_DOWN: "redactor_up",
}
ORDER = tuple(Reason)
BLOCKING = ORDER[:-1]


def facts(**states: Fact) -> Facts:
    """Return facts that permit everything, but for *states*."""
    own = {f.name: states.get(f.name, Fact.YES) for f in dataclasses.fields(CategoryFacts)}
    shared = {name: states.get(name, Fact.YES) for name in SHARED.values()}
    return Facts(**shared, categories=dict.fromkeys(Category, CategoryFacts(**own)))


def named(reason: Reason) -> str:
    return OWN.get(reason) or SHARED[reason]


def test_every_reason_has_its_fact_and_every_fact_its_reason() -> None:
    """Nothing blocks without a name, and no name is without effect."""
    assert {*OWN, *SHARED} == set(BLOCKING)
    fields = {f.name for f in dataclasses.fields(Facts)} - {"categories"}
    assert fields == set(SHARED.values())
    assert {f.name for f in dataclasses.fields(CategoryFacts)} == set(OWN.values())


def test_when_every_fact_is_yes_everything_may_be_captured() -> None:
    """ACTIVE is reachable, and only so."""
    verdict = decide(facts())
    assert verdict.reason is verdict.shown is Reason.ACTIVE
    assert verdict.categories == verdict.sources == frozenset(Category)


def test_facts_that_nobody_stated_permit_nothing() -> None:
    """The default of every fact is unknown, and unknown is no."""
    verdict = decide(Facts())
    assert verdict.categories == verdict.sources == frozenset()
    assert verdict.reason is Reason.HALTED_BY_ORG


@pytest.mark.parametrize("reason", BLOCKING)
@pytest.mark.parametrize("state", [Fact.NO, Fact.UNKNOWN])
def test_one_fact_that_is_not_yes_blocks_and_is_the_reason(reason: Reason, state: Fact) -> None:
    """Each condition alone keeps everything out, whether it is known or not."""
    verdict = decide(facts(**{named(reason): state}))
    assert verdict.categories == frozenset()
    assert verdict.reason is reason
    assert bool(verdict.sources) is (reason in MOMENTARY)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(BLOCKING, 2)))
def test_of_two_reasons_the_weightier_is_given(first: Reason, second: Reason) -> None:
    """The order is that of wire.control.Reason, which is DESIGN's."""
    verdict = decide(facts(**{named(first): Fact.NO, named(second): Fact.UNKNOWN}))
    assert verdict.reasons == dict.fromkeys(Category, first)
    assert verdict.categories == frozenset()
    assert bool(verdict.sources) is ({first, second} <= MOMENTARY)


def test_every_combination_of_facts_permits_only_if_all_are_yes() -> None:
    """All 2^14 combinations of yes and no, by brute force."""
    names = [named(reason) for reason in BLOCKING]
    for states in itertools.product((Fact.YES, Fact.NO), repeat=len(names)):
        verdict = decide(facts(**dict(zip(names, states, strict=True))))
        failing = [r for r, s in zip(BLOCKING, states, strict=True) if s is Fact.NO]
        assert verdict.reason is (failing[0] if failing else Reason.ACTIVE)
        assert bool(verdict.categories) is not bool(failing)
        assert bool(verdict.sources) is MOMENTARY.issuperset(failing)


def test_a_category_that_was_refused_does_not_hide_that_another_is_paused() -> None:
    """Who paused reads "paused", though one more category was never agreed to."""
    yes = _own()
    mixed = dataclasses.replace(
        facts(not_paused=Fact.NO),
        categories={
            Category.KEYS: yes,
            Category.SCREEN: dataclasses.replace(yes, opted_in=Fact.NO),
            Category.POINTER: dataclasses.replace(yes, consented=Fact.NO),
        },
    )
    verdict = decide(mixed)
    assert verdict.reason is Reason.PAUSED_UNTIL
    assert verdict.reasons[Category.SCREEN] is Reason.OPTED_OUT
    assert verdict.reasons[Category.POINTER] is Reason.NOT_CONSENTED
    assert verdict.reasons[Category.WINDOW] is Reason.OPTED_OUT  # nothing is known of it


def test_one_category_may_be_captured_while_another_may_not() -> None:
    """Consent is given by category, and so is the verdict."""
    one = dataclasses.replace(facts(), categories={Category.KEYS: _own()})
    verdict = decide(one)
    assert verdict.categories == {Category.KEYS}
    assert verdict.reason is Reason.ACTIVE


def test_what_is_shown_names_what_lasts_and_not_the_window_that_nobody_looks_at() -> None:
    """While storage keeps the sources shut, whose window it is cannot be known."""
    verdict = decide(facts(inside_scope=Fact.UNKNOWN, storable=Fact.NO))
    assert verdict.reason is Reason.OUTSIDE_SCOPE
    assert verdict.shown is Reason.STORAGE_BLOCKED


def _own() -> CategoryFacts:
    return CategoryFacts(
        opted_in=Fact.YES,
        consented=Fact.YES,
        consent_fits_policy=Fact.YES,
        storable=Fact.YES,
    )
