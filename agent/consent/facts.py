"""From what the agent knows to the facts that the gate decides on.  Pure.

Each line says where one fact comes from; what nobody knows stays UNKNOWN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.consent.confirmation import is_due
from agent.consent.entries import PolicyChanged
from agent.consent.gate import CategoryFacts, Fact, Facts
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing, pause_at
from agent.consent.states import Act, Consent, Flag, Pause, consent_after
from base.clock import Now
from wire.category import Category
from wire.ids import GrantHash
from wire.narrowing import widened

UNKNOWN: Final = "policy"
"""What a consent is stale for when nobody can compare: no field of `wire.narrowing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything the agent knows at one moment that has a say in what may be captured.

    `making` and `closing` hold restrictions that were asked for and are not yet on the
    disk: they count at once, and go on counting when the disk refuses them.
    """

    now: Now
    standing: Standing
    policy: PolicyInForce
    clock_doubt: str = ""
    indicator_shown: bool | None = None
    session_ours: bool | None = None  # unlocked, awake, in front, and used from this machine
    inside_scope: bool | None = None
    secret: bool | None = None  # do keys go to a field for secrets?
    within_hours: bool | None = None  # of the policy, by the clock on the wall
    redacting: bool | None = None  # does what must not leave a sensor stay in it?
    outside_opt_outs: frozenset[Category] = frozenset()  # environment, machine, configuration
    storable: Mapping[Category, bool] = field(default_factory=dict)
    halting: bool = False  # somebody said stop or halt, and the disk did not take it
    making_pause: bool = False
    closing: frozenset[Category] = frozenset()


def facts_of(situation: Situation) -> Facts:
    """Return the facts of *situation*."""
    pause = pause_at(situation.standing, situation.now)
    return Facts(
        not_halted=Fact.of(not (is_frozen(situation.standing) or situation.halting)),
        policy_valid=Fact.of(situation.policy.holds(situation.now)),
        clock_trusted=Fact.of(not (situation.clock_doubt or situation.standing.clock_doubt)),
        indicator_shown=Fact.of(situation.indicator_shown),
        session_ours=Fact.of(situation.session_ours),
        not_paused=Fact.of(pause is not Pause.PAUSED and not situation.making_pause),
        resume_clicked=Fact.of(pause is Pause.RUNNING),
        inside_scope=Fact.of(
            situation.inside_scope if situation.within_hours else situation.within_hours
        ),
        not_sensitive=Fact.of(None if situation.secret is None else not situation.secret),
        redactor_up=Fact.of(situation.redacting),
        categories={c: _category_facts(situation, c) for c in Category},
    )


def _category_facts(situation: Situation, category: Category) -> CategoryFacts:
    consent = consent_at(situation.standing, situation.policy, category, situation.now)
    out = (
        situation.standing.flags[category] is Flag.OPTED_OUT
        or category in situation.outside_opt_outs
        or category in situation.closing
    )
    return CategoryFacts(
        opted_in=Fact.of(not out),
        consented=Fact.of(consent in (Consent.GIVEN, Consent.STALE)),
        consent_fits_policy=Fact.of(
            None if situation.policy.digest is None else consent is Consent.GIVEN
        ),
        storable=Fact.of(situation.storable.get(category)),
    )


def consent_at(standing: Standing, policy: PolicyInForce, category: Category, now: Now) -> Consent:
    """Return the consent for *category* as it is under *policy* at *now*.

    It stands under another policy that does not widen it.  It is stale when the policy widens
    it, and when it was not confirmed in time; a halt that is lifted has made it stale before.
    """
    state = standing.consents[category]
    if why_stale(standing, policy, category):
        return consent_after(state, Act.CHANGE_POLICY)
    grant = standing.grants.get(category)
    # A clock that cannot be trusted ends nothing; it opens nothing either.
    if grant is not None and not standing.clock_doubt and is_due(grant, policy.policy, now):
        return consent_after(state, Act.RUN_OUT)
    return state


def why_stale(standing: Standing, policy: PolicyInForce, category: Category) -> tuple[str, ...]:
    """Return the fields of *policy* that what was agreed to does not cover, and what else is amiss.

    A policy that nobody can compare (it is not valid, or the one agreed to is not known any
    more) is not proved to narrow anything.
    """
    found = standing.widened.get(category, ())
    under = standing.stands_under.get(category)
    if under is None or under == policy.digest:
        return found
    agreed = policy.earlier.get(under)
    if policy.policy is None or agreed is None:
        return (*found, UNKNOWN)
    return tuple(dict.fromkeys((*found, *widened(agreed, policy.policy)[category])))


def policy_changed(standing: Standing, policy: PolicyInForce) -> PolicyChanged | None:
    """Return what is to be noted of a policy under which what was agreed to has not stood yet."""
    if policy.policy is None or policy.digest is None:
        return None
    if all(under == policy.digest for under in standing.stands_under.values()):
        return None
    stale = {c: why_stale(standing, policy, c) for c in standing.grants}
    return PolicyChanged(policy=policy.digest, widened={c: n for c, n in stale.items() if n})


def expired(standing: Standing, policy: PolicyInForce, now: Now) -> tuple[GrantHash, ...]:
    """Return the consents that a valid policy has outgrown, and of which no line says so yet."""
    if policy.policy is None:
        return ()
    return tuple(
        grant.hash
        for category, grant in standing.grants.items()
        if consent_at(standing, policy, category, now) is Consent.STALE
        and not standing.evidence[grant.hash].events
    )


def is_frozen(standing: Standing) -> bool:
    """Whether a stop or a halt holds: nothing is captured, and nothing is sent.

    A halt holds until its end is on the ledger, which makes every consent stale at once;
    that a new policy has come is not enough.
    """
    return standing.halted is not None or bool(standing.stopped)
