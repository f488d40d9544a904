"""The order between policies: what one of them asks beyond another, field by field.  Pure.

The one place of this rule; agent, collector, reader and `assent-govern diff` ask here.  A
consent that was given under one policy stands under another only for a category that the
other does not *widen*.  Whatever this order does not prove narrowing is widening: a new
notice, another guard, one pin more.

`GENERAL` are the fields that concern every category, `OF_RULE` those of a category's own
rule, `WHOLE` the parts of which lists are made and that are compared as they are.  A test
holds the three against the types, so that no field of a policy is ever without a place.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Generic, TypeVar

from wire.category import Category, registry
from wire.guard_follows import is_same, is_same_witness
from wire.hours import minutes
from wire.policy import (
    Application,
    Approver,
    CategoryRule,
    FormerKeys,
    Hours,
    Policy,
    Recipient,
    Witness,
)
from wire.recipients import is_no_wider, may_stay

T = TypeVar("T")

CATEGORY: Final = "category"
"""The field that widens where a category is asked for that was not, or is asked for twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Generic[T]):
    """One field's place in the order.

    `narrows(old, new)` is true only where *new* is proved to ask for no more.  `words` say
    to a data subject what the field is.  `sealed` says that a batch on the device carries
    what it was recorded under, so that a narrower policy forbids it (`forbids`), but where
    `stays(new, recorded)` says that it may remain.
    """

    name: str
    words: str
    narrows: Callable[[T, T], bool]
    sealed: bool = False
    stays: Callable[[T, T], bool] | None = None


def _no_later(old: str, new: str) -> bool:
    try:
        return new == old or date.fromisoformat(new) <= date.fromisoformat(old)
    except ValueError:
        return False


def _no_weaker_watch(old: Policy, new: Policy) -> bool:
    """Whether each quorum of *new* holds one of *old*, whoever of the witnesses makes it up.

    Those that were added may all be among it; the guard's own witness always is, so that a quorum
    of one is that one, whoever else is named.
    """
    if old.quorum < 2:
        return new.quorum >= old.quorum
    others = [
        each
        for each in dict.fromkeys(new.witnesses)
        if not any(is_same_witness(before, each) for before in old.witnesses)
    ]
    return new.quorum - len(others) >= old.quorum


GENERAL: Final[tuple[Field[Policy], ...]] = (
    Field(
        name="version",
        words="its number",
        narrows=lambda _old, _new: True,  # it counts the signed texts and permits nothing
    ),
    Field(
        name="programme",
        words="the programme",
        narrows=lambda old, new: new.programme == old.programme,
        sealed=True,
    ),
    Field(
        name="controller.name",
        words="who asks",
        narrows=lambda old, new: new.controller.name == old.controller.name,
    ),
    Field(
        name="controller.contact",
        words="how you reach who asks",
        narrows=lambda old, new: new.controller.contact == old.controller.contact,
    ),
    Field(
        name="representatives.name",
        words="who speaks for you",
        narrows=lambda old, new: new.representatives.name == old.representatives.name,
    ),
    Field(
        name="representatives.contact",
        words="how you reach who speaks for you",
        narrows=lambda old, new: new.representatives.contact == old.representatives.contact,
    ),
    Field(
        name="jurisdictions",
        words="which law protects you",
        # One country less may be a protection less, one more a reader under another law.
        narrows=lambda old, new: set(new.jurisdictions) == set(old.jurisdictions),
    ),
    Field(
        name="purpose",
        words="what it is used for",
        narrows=lambda old, new: new.purpose == old.purpose,
        sealed=True,
    ),
    Field(
        name="prohibited_purposes",
        words="what it is never used for",
        narrows=lambda old, new: set(new.prohibited_purposes) >= set(old.prohibited_purposes),
    ),
    Field(
        name="applications",
        words="which programs may be recorded",
        narrows=lambda old, new: set(new.applications) <= set(old.applications),
        sealed=True,
    ),
    Field(
        name="hold_seconds",
        words="how long it stays here before it is sent",
        narrows=lambda old, new: new.hold_seconds >= old.hold_seconds,
    ),
    Field(
        name="recipients",
        words="who can open it",
        narrows=lambda old, new: is_no_wider(old.recipients, new.recipients),
        sealed=True,
        stays=lambda new, recorded: may_stay(new.recipients, recorded.recipients),
    ),
    Field(
        name="guard.name",
        words="the second lock",
        narrows=lambda old, new: new.guard.name == old.guard.name,
    ),
    Field(
        name="guard.run_by",
        words="who runs the second lock",
        narrows=lambda old, new: new.guard.run_by == old.guard.run_by,
        sealed=True,
    ),
    Field(
        name="guard.signing_key",
        words="the key of the second lock",
        narrows=lambda old, new: (
            new.guard.signing_key == old.guard.signing_key or is_same(old.guard, new.guard)
        ),
        sealed=True,
        stays=lambda new, recorded: is_same(recorded.guard, new.guard),
    ),
    Field(
        name="guard.witness",
        words="who watches the log",
        narrows=lambda old, new: (
            new.guard.witness == old.guard.witness or is_same(old.guard, new.guard)
        ),
    ),
    Field(
        name="guard.lease_key",
        words="by which key the second lock renews it",
        narrows=lambda old, new: (
            new.guard.lease_key == old.guard.lease_key or is_same(old.guard, new.guard)
        ),
    ),
    Field(
        name="guard.follows",
        words="which keys the second lock had before",
        # Judged with the keys: by itself it gives nobody anything.
        narrows=lambda _old, _new: True,
    ),
    Field(
        name="collector.origin",
        words="where it is sent",
        narrows=lambda old, new: new.collector.origin == old.collector.origin,
    ),
    Field(
        name="collector.tenant",
        words="under which name it is kept",
        narrows=lambda old, new: new.collector.tenant == old.collector.tenant,
    ),
    Field(
        name="collector.tls_pins",
        words="by which keys the receiving server is known",
        narrows=lambda old, new: set(new.collector.tls_pins) <= set(old.collector.tls_pins),
    ),
    Field(
        name="collector.log",
        words="the log in which every opening stands",
        narrows=lambda old, new: new.collector.log == old.collector.log,
    ),
    Field(
        name="collector.lease_key",
        words="by which key the receiving server renews it",
        narrows=lambda old, new: new.collector.lease_key == old.collector.lease_key,
    ),
    Field(
        name="lease_seconds",
        words="how long it goes on without hearing of a halt",
        narrows=lambda old, new: new.lease_seconds <= old.lease_seconds,
    ),
    Field(
        name="approvers",
        words="who may approve an opening",
        narrows=lambda old, new: set(new.approvers) <= set(old.approvers),
    ),
    Field(
        name="approval_threshold",
        words="how many have to approve an opening",
        narrows=lambda old, new: new.approval_threshold >= old.approval_threshold,
    ),
    Field(
        name="assessment.id",
        words="the assessment of its risks",
        narrows=lambda old, new: new.assessment.id == old.assessment.id,
    ),
    Field(
        name="assessment.expires",
        words="how long the assessment of its risks is good for",
        narrows=lambda old, new: _no_later(old.assessment.expires, new.assessment.expires),
    ),
    Field(
        name="review",
        words="the review of what is promised to you, and of what proves it",
        # A digest does not say whether a promise came or went.
        narrows=lambda old, new: new.review == old.review,
    ),
    Field(
        name="notice",
        words="what the notice says",
        narrows=lambda old, new: new.notice == old.notice,
    ),
    Field(
        name="test_only",
        words="whether it is a test, in which characters may be recorded",
        narrows=lambda old, new: old.test_only or not new.test_only,
    ),
    Field(
        name="hours",
        words="at which hours it is recorded",
        narrows=lambda old, new: minutes(new.hours) <= minutes(old.hours),
        sealed=True,
    ),
    Field(
        name="reconfirm_days",
        words="how often you are asked to confirm",
        narrows=lambda old, new: new.reconfirm_days <= old.reconfirm_days,
    ),
    Field(
        name="witnesses",
        words="who else watches the log",
        narrows=lambda _old, _new: (
            True
        ),  # judged with the quorum: by themselves they are asked nothing
    ),
    Field(
        name="quorum",
        words="who has to have seen the log before an opening",
        narrows=_no_weaker_watch,
    ),
)
"""What concerns every category: if one of these widens, all do."""

OF_RULE: Final[tuple[Field[CategoryRule], ...]] = (
    Field(
        name=CATEGORY,
        words="that it is recorded at all",
        narrows=lambda old, new: new.category is old.category,
    ),
    Field(
        name="level",
        words="how much it reveals",
        narrows=lambda old, new: registry()[old.category].covers(old.level, new.level),
        sealed=True,
    ),
    Field(
        name="rate_hz",
        words="how often it is recorded",
        narrows=lambda old, new: new.rate_hz <= old.rate_hz,
        sealed=True,
    ),
    Field(
        name="retention_days",
        words="how long it is kept",
        narrows=lambda old, new: new.retention_days <= old.retention_days,
        sealed=True,
    ),
    Field(
        name="justification",
        words="why it is needed",
        narrows=lambda old, new: new.justification == old.justification,
    ),
)
"""What concerns the one category whose rule it is."""

WHOLE: Final[Mapping[type, tuple[str, ...]]] = {
    Application: ("process", "window_class"),
    Recipient: ("name", "key", "state", "signs", "follows", "word"),
    Approver: ("name", "party", "key"),
    FormerKeys: ("signing_key", "witness", "lease_key", "word"),
    Hours: ("days", "begin", "end"),
    Witness: ("name", "party", "key", "follows", "words"),
}
"""Parts that are in a list or not, with their fields: if one differs, it is another part."""

_WORDS: Final = {f.name: f.words for f in GENERAL} | {f.name: f.words for f in OF_RULE}
_SEALED: Final = {CATEGORY, *(f.name for f in GENERAL if f.sealed)} | {
    f.name for f in OF_RULE if f.sealed
}


def widened(old: Policy, new: Policy) -> Mapping[Category, tuple[str, ...]]:
    """Return for each category the fields in which *new* is not proved to ask for no more.

    A category that *new* does not ask for is as narrow as can be, whatever else it says.
    """
    general = tuple(field.name for field in GENERAL if not field.narrows(old, new))
    return {category: _of(category, old, new, general) for category in Category}


def narrowed(old: Policy, new: Policy) -> Mapping[Category, tuple[str, ...]]:
    """Return for each category the fields in which *new* asks for less: the other direction."""
    more, less = widened(old, new), widened(new, old)
    return {c: tuple(name for name in less[c] if name not in more[c]) for c in Category}


def forbids(new: Policy, recorded: Policy, category: Category) -> tuple[str, ...]:
    """Return why a batch of *category* that was recorded under another policy may not remain.

    What is inside a sealed batch cannot be looked at, so what it may hold counts: if a program
    was taken off the list, every batch from before may show it.
    """
    beyond = widened(new, recorded)[category]
    stays = {f.name for f in GENERAL if f.stays is not None and f.stays(new, recorded)}
    return tuple(name for name in beyond if name in _SEALED and name not in stays)


def words(names: tuple[str, ...]) -> str:
    """Return these fields as a data subject reads them: "who can open it; how long it is kept"."""
    return "; ".join(_WORDS.get(name, name) for name in names)


def _of(category: Category, old: Policy, new: Policy, general: tuple[str, ...]) -> tuple[str, ...]:
    before, after = (tuple(_rules(policy, category)) for policy in (old, new))
    if not after:
        return ()
    if len(before) != 1 or len(after) != 1:  # of two rules nobody knows which one is agreed to
        return (CATEGORY, *general)
    return (*(f.name for f in OF_RULE if not f.narrows(before[0], after[0])), *general)


def _rules(policy: Policy, category: Category) -> Iterator[CategoryRule]:
    return (rule for rule in policy.categories if rule.category is category)
