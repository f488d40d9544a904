"""From what the agent knows to the facts that the gate decides on.  Pure.

Each line says where one fact comes from; what nobody knows stays UNKNOWN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.consent.gate import CategoryFacts, Fact, Facts
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing, pause_at
from agent.consent.states import Act, Consent, Flag, Pause, consent_after
from base.clock import Now
from wire.category import Category
from wire.ids import GrantHash


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
        inside_scope=Fact.of(situation.inside_scope),
        not_sensitive=Fact.of(None if situation.secret is None else not situation.secret),
        redactor_up=Fact.YES,  # redaction runs inside the sensor: no sensor, no events
        categories={c: _category_facts(situation, c) for c in Category},
    )


def _category_facts(situation: Situation, category: Category) -> CategoryFacts:
    consent = consent_at(situation.standing, situation.policy, category)
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


def consent_at(standing: Standing, policy: PolicyInForce, category: Category) -> Consent:
    """Return the consent for *category* as it is under *policy*: stale if given for another."""
    state = standing.consents[category]
    grant = standing.grants.get(category)
    if grant is None or grant.record.policy_digest == policy.digest:
        return state
    return consent_after(state, Act.CHANGE_POLICY)


def expired(standing: Standing, policy: PolicyInForce) -> tuple[GrantHash, ...]:
    """Return the consents that a valid policy has outgrown, and of which no line says so yet."""
    if policy.policy is None:
        return ()
    return tuple(
        grant.hash
        for category, grant in standing.grants.items()
        if consent_at(standing, policy, category) is Consent.STALE
        and not standing.evidence[grant.hash].events
    )


def is_frozen(standing: Standing) -> bool:
    """Whether a stop or a halt holds: nothing is captured, and nothing is sent.

    A halt holds until its end is on the ledger, which makes every consent stale at once;
    that a new policy has come is not enough.
    """
    return standing.halted is not None or bool(standing.stopped)
