"""What the data subject is told, in words."""

from pathlib import Path

import pytest

from agent.consent.entries import Halted
from agent.consent.facts import facts_of
from agent.consent.gate import decide
from agent.consent.policy import PolicyInForce
from agent.consent.states import Pause
from agent.enroll import Device, Enrolment
from agent.status import WORDS, Told, notice_of, status_of
from tests.unit.test_agent_consent_facts import (
    DIGEST,
    IN_FORCE,
    LATER,
    ORGANISATION,
    given,
    situation,
)
from wire.category import Category
from wire.control import Reason, SpoolStatus, Status

TOLD = Told(
    recording=frozenset({Category.KEYS}),
    kept={"keys": 1},
    dropped={},
    spool=SpoolStatus(
        held=0, waiting=0, quarantined=0, sent=0, forgotten=0, bytes=0, quota_bytes=1
    ),
    last_receipt_at=None,
    last_error="",
    indicator="the panel is gone",
    session="It is locked (logind).",
    storage="The guard's key has not come yet.",
    unconfirmed=(),
    erased=(),
    trouble="the input sensor ended",
)


def status(**changes: object) -> Status:
    now = situation(**changes)
    enrolment = Enrolment(
        origin="https://collector.acme.example:8443",
        tls_pins=(),
        ca_pem="",
        subject=b"",
        subject_key="",
        rights_key=b"",
        appointment=b"",
        enrolled_at=0,
    )
    device = Device(enrolment=enrolment, key=ORGANISATION.device, folder=Path())
    return status_of(now, decide(facts_of(now)), device, TOLD)


def test_every_reason_has_words() -> None:
    """A new reason has to be put into words first."""
    assert set(WORDS) == set(Reason)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the input sensor ended"),
        ({"indicator_shown": False}, "the panel is gone"),
        ({"indicator_shown": False}, "the input sensor ended"),
        ({"storable": {}}, "The guard's key"),
        ({"session_ours": False}, "It is locked (logind)"),
        ({"outside_opt_outs": frozenset(Category)}, "outside the tray"),
        ({"standing": given(halted=Halted(policy=DIGEST, why="the council"))}, "the council"),
        ({"standing": given(clock_doubt="set by +3600 s")}, "set by +3600 s"),
        ({"standing": given(pause=Pause.PAUSED, paused_until=LATER)}, "Paused until"),
        (
            {"policy": PolicyInForce(policy=None, digest=DIGEST, problem="it expired")},
            "it expired",
        ),
    ],
)
def test_the_detail_says_what_and_why(changes: dict[str, object], words: str) -> None:
    """One line, with what is known beyond the reason."""
    detail = status(**changes).detail
    assert words in detail
    assert "\n" not in detail


def test_what_is_recorded_is_what_gate_and_source_both_say() -> None:
    """Not only what would be permitted."""
    now = status()
    assert now.recording == (Category.KEYS,)
    assert [c.category for c in now.categories if c.recording] == [Category.KEYS]
    assert [c.category for c in now.categories if c.granted] == [Category.KEYS]
    assert {c.category for c in now.categories} == set(Category)


def test_without_a_valid_policy_nothing_is_offered() -> None:
    """And there is no digest to agree to."""
    now = status(policy=PolicyInForce(policy=None, digest=DIGEST, problem="expired"))
    assert (now.policy_digest, now.programme) == ("", "")
    assert not any(c.offered for c in now.categories)


def test_the_notice_has_the_policys_words_and_every_switch() -> None:
    """What is granted already is said, so that nobody agrees twice unaware."""
    policy = IN_FORCE.policy
    assert policy is not None
    notice = notice_of(policy, situation())
    assert notice.text.startswith(policy.notice)
    assert all(program.process in notice.text for program in policy.applications)
    assert [item.category for item in notice.items] == [r.category for r in policy.categories]
    assert all(item.words == policy.words(item.category) for item in notice.items)
    assert [item.category for item in notice.items if item.granted] == [Category.KEYS]
