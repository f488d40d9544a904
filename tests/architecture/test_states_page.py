"""docs/states.md is what the tables say, and what the tables say is so."""

import pytest

from agent.consent.effects import EFFECTS, Kept, Sent
from agent.consent.facts import facts_of, is_frozen
from agent.consent.gate import decide
from agent.withdraw import banned
from docs import draw_states
from tests.unit.test_agent_consent_facts import CASES
from wire.control import Reason


def test_the_page_is_drawn_from_the_tables() -> None:
    """Whoever changes a table or a word draws it anew: `python docs/draw_states.py`."""
    assert draw_states.PAGE.read_text("utf-8") == draw_states.page()


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_row(reason: Reason) -> None:
    """With what is open taken from the gate itself, which the drawing checks."""
    assert draw_states.row(reason).startswith(f"| {reason.value}")
    assert reason in EFFECTS


@pytest.mark.parametrize("name", CASES)
def test_what_the_page_says_is_deleted_or_frozen_is(name: str) -> None:
    """For every situation that leads to a reason: what is sent and what is kept under it."""
    situation, reason = CASES[name]
    effect = EFFECTS[reason]
    assert decide(facts_of(situation)).reason is reason
    frozen = is_frozen(situation.standing) or situation.halting
    without_policy = situation.policy.policy is None
    assert (effect.sent is Sent.NOTHING) == (frozen or reason is Reason.POLICY_INVALID)
    if without_policy:
        assert effect.sent in {Sent.NOTHING, Sent.WAITING_IF_POLICY}
    if banned(situation.standing) | situation.closing:
        assert effect.kept in {Kept.DELETED, Kept.DELETED_IF_WITHDRAWN}
