"""The one place that decides what may be captured right now.

Pure: the same facts always give the same verdict, so every decision can be replayed.  Each
fact is phrased so that YES permits, and it is three-valued: what is not known is no.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from wire.category import Category
from wire.control import Reason


class Fact(Enum):
    """What is known of one condition; only YES permits anything."""

    YES = auto()
    NO = auto()
    UNKNOWN = auto()

    @classmethod
    def of(cls, holds: bool | None) -> "Fact":  # noqa: FBT001 - this is what turns a bool into a name
        """Return YES or NO for a known truth, UNKNOWN for None."""
        if holds is None:
            return cls.UNKNOWN
        return cls.YES if holds else cls.NO


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryFacts:
    """What is known of one category; a fact that nobody stated is unknown."""

    opted_in: Fact = Fact.UNKNOWN  # no opt-out flag, wherever flags may come from
    consented: Fact = Fact.UNKNOWN  # a grant is on record and not withdrawn
    consent_fits_policy: Fact = Fact.UNKNOWN  # that grant names the policy in force
    storable: Fact = Fact.UNKNOWN  # it could be sealed now, and there is room for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the decision rests on; a fact that nobody stated is unknown."""

    not_halted: Fact = Fact.UNKNOWN
    policy_valid: Fact = Fact.UNKNOWN
    clock_trusted: Fact = Fact.UNKNOWN
    indicator_shown: Fact = Fact.UNKNOWN
    session_ours: Fact = Fact.UNKNOWN
    not_paused: Fact = Fact.UNKNOWN
    resume_clicked: Fact = Fact.UNKNOWN
    inside_scope: Fact = Fact.UNKNOWN
    not_sensitive: Fact = Fact.UNKNOWN
    redactor_up: Fact = Fact.UNKNOWN
    categories: Mapping[Category, CategoryFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be captured, what may stay open, and why not more.

    `categories` may be captured at this moment.  `sources` may be open: the same, and those
    that wait only for the right window (see MOMENTARY).  `reasons` has each category's
    weightiest; `reason` that of the consented category that is closest to being captured:
    who paused wants to read that, and not that one more category was never agreed to.

    `shown` is the same for a person: while something else keeps the sources shut, nobody
    looks whose window it is, so it passes over the momentary reasons.
    """

    categories: frozenset[Category]
    sources: frozenset[Category]
    reason: Reason
    reasons: Mapping[Category, Reason]
    shown: Reason


WEIGHTIEST_FIRST: Final = tuple(Reason)
"""The order of reasons, as `wire.control.Reason` lists them; ACTIVE is the last."""

MOMENTARY: Final = frozenset({Reason.OUTSIDE_SCOPE, Reason.SENSITIVE})
"""Reasons that change with each window or field.

Sources stay open under them: whether an event was inside is judged by its own time, when
it leaves the hold-back, and the source that would tell of the change must be listening.
"""


def decide(facts: Facts) -> Verdict:
    """Return what *facts* permit; nothing that is not known to be permitted is."""
    against = {category: blocking(facts, category) for category in Category}
    reasons = {c: failing[0] if failing else Reason.ACTIVE for c, failing in against.items()}
    lasting = {c: _lasting(failing) or reasons[c] for c, failing in against.items()}
    return Verdict(
        categories=frozenset(c for c, failing in against.items() if not failing),
        sources=frozenset(c for c, failing in against.items() if MOMENTARY.issuperset(failing)),
        reason=_closest_to_yes(facts, reasons),
        reasons=reasons,
        shown=_closest_to_yes(facts, lasting),
    )


def _lasting(failing: list[Reason]) -> Reason | None:
    """Return the weightiest reason that does not change with each window."""
    return next((reason for reason in failing if reason not in MOMENTARY), None)


def _closest_to_yes(facts: Facts, reasons: Mapping[Category, Reason]) -> Reason:
    """Return the least weighty reason, of the categories that have a grant if any has."""
    granted = [
        reason
        for category, reason in reasons.items()
        if facts.categories.get(category, CategoryFacts()).consented is Fact.YES
    ]
    return max(granted or reasons.values(), key=WEIGHTIEST_FIRST.index)


def blocking(facts: Facts, category: Category) -> list[Reason]:
    """Return every reason against *category*, the weightiest first."""
    own = facts.categories.get(category, CategoryFacts())
    conditions = {
        Reason.HALTED_BY_ORG: facts.not_halted,
        Reason.OPTED_OUT: own.opted_in,
        Reason.NOT_CONSENTED: own.consented,
        Reason.CONSENT_STALE: own.consent_fits_policy,
        Reason.POLICY_INVALID: facts.policy_valid,
        Reason.CLOCK_UNTRUSTED: facts.clock_trusted,
        Reason.INDICATOR_MISSING: facts.indicator_shown,
        Reason.SESSION_BLOCKED: facts.session_ours,
        Reason.PAUSED_UNTIL: facts.not_paused,
        Reason.RESUME_PENDING: facts.resume_clicked,
        Reason.OUTSIDE_SCOPE: facts.inside_scope,
        Reason.SENSITIVE: facts.not_sensitive,
        Reason.REDACTOR_DOWN: facts.redactor_up,
        Reason.STORAGE_BLOCKED: own.storable,
    }
    return [r for r in WEIGHTIEST_FIRST[:-1] if conditions[r] is not Fact.YES]
