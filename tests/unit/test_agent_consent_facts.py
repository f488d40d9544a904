"""From what the agent knows to what the gate decides on."""

import dataclasses

import pytest

from agent.consent.clocks import Deadline
from agent.consent.entries import Halted
from agent.consent.facts import Situation, consent_at, facts_of, is_frozen
from agent.consent.gate import decide
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Grant, Standing, pause_at
from agent.consent.states import Consent, Flag, Pause
from base.clock import Now
from tests.fakes.organisation import Organisation
from tests.fakes.repository import a_lease
from wire.category import Category
from wire.control import Reason
from wire.grant import grant_hash, verify_consent
from wire.ids import PolicyDigest

ORGANISATION = Organisation()
DIGEST, OTHER = PolicyDigest(b"\1" * 32), PolicyDigest(b"\2" * 32)
NOW = Now(boot=1_000, wall=1_000_000, boot_id="one")
IN_FORCE = PolicyInForce(policy=ORGANISATION.policy(), digest=DIGEST, lease=a_lease(NOW))
SIGNED = ORGANISATION.consent(DIGEST)
GRANT = Grant(
    signed=SIGNED,
    record=verify_consent(SIGNED, ORGANISATION.device.public_key()),
    hash=grant_hash(SIGNED),
    first_at=verify_consent(SIGNED, ORGANISATION.device.public_key()).given_at,
)
GIVEN = Standing(
    consents={**Standing().consents, Category.KEYS: Consent.GIVEN},
    grants={Category.KEYS: GRANT},
    stands_under={Category.KEYS: DIGEST},
)


def situation(**changes: object) -> Situation:
    made = Situation(
        now=NOW,
        standing=GIVEN,
        policy=IN_FORCE,
        indicator_shown=True,
        session_ours=True,
        inside_scope=True,
        secret=False,
        within_hours=True,
        redacting=True,
        storable=dict.fromkeys(Category, True),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def given(**changes: object) -> Standing:
    return dataclasses.replace(GIVEN, **changes)  # type: ignore[arg-type]


LATER, PAST = (Deadline(wall=n, boot=n, boot_id="one") for n in (2_000_000, 500))

CASES: dict[str, tuple[Situation, Reason]] = {
    "all is well": (situation(), Reason.ACTIVE),
    "halted": (
        situation(standing=given(halted=Halted(policy=DIGEST, why=""))),
        Reason.HALTED_BY_ORG,
    ),
    "halted before any policy": (
        situation(standing=given(halted=Halted(policy=b"", why=""))),
        Reason.HALTED_BY_ORG,
    ),
    "halted under another policy": (
        situation(standing=given(halted=Halted(policy=OTHER, why=""))),
        Reason.HALTED_BY_ORG,
    ),
    "stopped by one party": (
        situation(standing=given(stopped={"guard": "a drill failed"})),
        Reason.HALTED_BY_ORG,
    ),
    "a halt that the disk refused": (situation(halting=True), Reason.HALTED_BY_ORG),
    "flagged": (
        situation(standing=given(flags=dict.fromkeys(Category, Flag.OPTED_OUT))),
        Reason.OPTED_OUT,
    ),
    "opted out elsewhere": (
        situation(outside_opt_outs=frozenset(Category)),
        Reason.OPTED_OUT,
    ),
    "an opt-out in the making": (situation(closing=frozenset(Category)), Reason.OPTED_OUT),
    "nothing on record": (situation(standing=Standing()), Reason.NOT_CONSENTED),
    "given for another policy": (
        situation(policy=dataclasses.replace(IN_FORCE, digest=OTHER)),
        Reason.CONSENT_STALE,
    ),
    "no policy to be read": (
        situation(policy=PolicyInForce(policy=None, digest=None, problem="gone")),
        Reason.CONSENT_STALE,
    ),
    "an expired policy": (
        situation(policy=PolicyInForce(policy=None, digest=DIGEST, problem="expired")),
        Reason.POLICY_INVALID,
    ),
    "a lease of which nothing is known": (
        situation(policy=dataclasses.replace(IN_FORCE, lease=None)),
        Reason.POLICY_INVALID,
    ),
    "a lease that is over": (
        situation(policy=dataclasses.replace(IN_FORCE, lease=a_lease(NOW, seconds=0))),
        Reason.POLICY_INVALID,
    ),
    "a clock in doubt now": (situation(clock_doubt="set"), Reason.CLOCK_UNTRUSTED),
    "a clock in doubt since": (
        situation(standing=given(clock_doubt="set")),
        Reason.CLOCK_UNTRUSTED,
    ),
    "no icon": (situation(indicator_shown=False), Reason.INDICATOR_MISSING),
    "an icon of which nothing is known": (
        situation(indicator_shown=None),
        Reason.INDICATOR_MISSING,
    ),
    "locked, or somebody else's": (situation(session_ours=False), Reason.SESSION_BLOCKED),
    "a session of which nothing is known": (
        situation(session_ours=None),
        Reason.SESSION_BLOCKED,
    ),
    "paused": (
        situation(standing=given(pause=Pause.PAUSED, paused_until=LATER)),
        Reason.PAUSED_UNTIL,
    ),
    "a pause in the making": (situation(making_pause=True), Reason.PAUSED_UNTIL),
    "a pause that ran out": (
        situation(standing=given(pause=Pause.PAUSED, paused_until=PAST)),
        Reason.RESUME_PENDING,
    ),
    "an unclean stop": (
        situation(standing=given(pause=Pause.RESUME_PENDING)),
        Reason.RESUME_PENDING,
    ),
    "another program in front": (situation(inside_scope=False), Reason.OUTSIDE_SCOPE),
    "nobody knows what is in front": (situation(inside_scope=None), Reason.OUTSIDE_SCOPE),
    "a field for secrets": (situation(secret=True), Reason.SENSITIVE),
    "nobody knows what kind of field": (situation(secret=None), Reason.SENSITIVE),
    "a sensor whose redaction does not work": (situation(redacting=False), Reason.REDACTOR_DOWN),
    "a sensor that has not shown that it does": (situation(redacting=None), Reason.REDACTOR_DOWN),
    "no room, or no key": (
        situation(storable=dict.fromkeys(Category, False)),
        Reason.STORAGE_BLOCKED,
    ),
    "nobody knows whether there is room": (situation(storable={}), Reason.STORAGE_BLOCKED),
}


@pytest.mark.parametrize(("now", "reason"), CASES.values(), ids=CASES.keys())
def test_what_is_known_leads_to_its_reason(now: Situation, reason: Reason) -> None:
    """One situation for each reason that this version knows, and its neighbours."""
    verdict = decide(facts_of(now))
    assert verdict.reason is reason
    assert verdict.categories == ({Category.KEYS} if reason is Reason.ACTIVE else frozenset())


def test_a_consent_for_another_policy_is_stale_and_comes_back_with_it() -> None:
    """Consent is for exactly one digest; no other policy inherits it."""
    assert consent_at(GIVEN, IN_FORCE, Category.KEYS, NOW) is Consent.GIVEN
    other = dataclasses.replace(IN_FORCE, digest=OTHER)
    assert consent_at(GIVEN, other, Category.KEYS, NOW) is Consent.STALE
    assert consent_at(GIVEN, IN_FORCE, Category.SCREEN, NOW) is Consent.UNKNOWN


def test_a_pause_is_as_long_as_its_deadline() -> None:
    """It ends in a wait for a click."""
    paused = given(pause=Pause.PAUSED, paused_until=LATER)
    assert pause_at(paused, NOW) is Pause.PAUSED
    later = Now(boot=2_000_000, wall=2_000_000, boot_id="one")
    assert pause_at(paused, later) is Pause.RESUME_PENDING


def test_nothing_is_frozen_by_default() -> None:
    """A stop or a halt is an act on record, and either is enough."""
    assert not is_frozen(Standing())
    assert is_frozen(given(stopped={"collector": "an outage"}))
    assert is_frozen(given(halted=Halted(policy=DIGEST, why="")))
