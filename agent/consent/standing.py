"""What the data subject did, one entry for each act, and where everything stands after them.

Pure: `ledger` has the file, this module says what its lines mean.  Start with `Standing`,
then `after`, which moves it by one line through the tables of `states`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, assert_never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.consent.clocks import Deadline, has_passed
from agent.consent.entries import (
    ClickAwaited,
    ClockConfirmed,
    ClockDoubted,
    ErasureAsked,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    Line,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    PolicyChanged,
    Refused,
    Registered,
    Replaced,
    Resumed,
    StopLifted,
    Stopped,
    StoppedUncleanly,
    Told,
    Withdrawn,
)
from agent.consent.states import (
    Act,
    Consent,
    Ending,
    Flag,
    Halt,
    Pause,
    Stop,
    consent_after,
    ending_after,
    flag_after,
    halt_after,
    pause_after,
    stop_after,
)
from base.clock import Now, why_implausible
from wire.category import Category
from wire.consent_event import ConsentEvent
from wire.consent_receipt import Evidence
from wire.consent_record import ConsentRecord
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.ids import GrantHash, PolicyDigest, WallInstant
from wire.linked import ConsentState

T = TypeVar("T")

# --- where everything stands -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One consent of the data subject: as signed, as read, and the hash that names it.

    `first_at` is when the same was agreed to for the first time, without a withdrawal since.
    """

    signed: SignedConsent
    record: ConsentRecord
    hash: GrantHash
    first_at: WallInstant


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """Something that was sent is to be erased: all that was agreed to until `wall`, or some days.

    `line` is the act that said so.
    """

    category: Category | None  # None: all
    line: int
    wall: int
    days: tuple[str, str] | None = None  # the first and the last; None: consent ended, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The sum of all lines."""

    consents: Mapping[Category, Consent] = field(
        default_factory=lambda: dict.fromkeys(Category, Consent.UNKNOWN)
    )
    grants: Mapping[Category, Grant] = field(
        default_factory=dict
    )  # of the categories that are GIVEN or STALE
    stands_under: Mapping[Category, PolicyDigest] = field(
        default_factory=dict
    )  # the last policy that was found not to widen what was agreed to, or to widen it
    widened: Mapping[Category, tuple[str, ...]] = field(
        default_factory=dict
    )  # the fields for which a category is STALE
    flags: Mapping[Category, Flag] = field(
        default_factory=lambda: dict.fromkeys(Category, Flag.CLEAR)
    )
    evidence: Mapping[GrantHash, Evidence] = field(
        default_factory=dict
    )  # of all that were ever given: what a receipt shows
    untold: tuple[ConsentEvent, ...] = ()  # what became of them, not yet told to the collector
    erasing: tuple[Erasing, ...] = ()  # of what was sent, oldest first
    last_given_at: int = 0  # wall clock; of all that was ever agreed to here
    pause: Pause = Pause.RUNNING
    paused_until: Deadline | None = None
    ending: Ending = Ending.NOTICE
    stopped: Mapping[str, str] = field(default_factory=dict)  # by which party, and why
    halted: Halted | None = None
    clock_doubt: str = ""
    clock_anchor: Now | None = None  # the last time the data subject confirmed
    last_seen: Now | None = None  # the time of the last line
    seen_before: int = 0  # wall clock; the latest of lines of earlier boots, since it was confirmed
    registered: frozenset[GrantHash] = frozenset()
    lost: str = ""  # why earlier consents are gone


def after(  # noqa: C901, PLR0911, PLR0912 - one case for each kind of entry, none of them long
    standing: Standing, line: Line, device: Ed25519PublicKey
) -> Standing:
    """Return where everything stands after *line*.

    Raises:
        WireError: A consent record in it is not signed by this device.
        ConsentError: The tables of `states` have no such move.

    """
    moved = replace(standing, last_seen=line.time, seen_before=_seen_before(standing, line))
    match line.entry:
        case Granted():
            return _granted(moved, line.entry, device)
        case Refused():
            return _refused(moved, line.entry, device)
        case Withdrawn(category=category, erase=erase):
            one = Erasing(category=category, line=line.n, wall=_until(standing, line))
            return _withdrawn(moved, _named(category), (one,) if erase else ())
        case ErasureAsked(category=category, first_day=first, last_day=last):
            days = (first, last)
            some = Erasing(category=category, line=line.n, wall=line.wall, days=days)
            return replace(moved, erasing=(*moved.erasing, some))
        case Expired(grant=grant):
            return _expired(moved, GrantHash(grant))
        case OptedOut(category=category):
            return _flagged(moved, _named(category), Act.OPT_OUT)
        case OptedIn(category=category):
            return _flagged(moved, _named(category), Act.OPT_IN)
        case Paused(until_wall=wall, until_boot=boot):
            until = Deadline(wall=wall, boot=boot, boot_id=line.boot_id)
            return _paused(moved, Act.PAUSE, until)
        case Resumed():
            return _paused(moved, Act.RESUME, None)
        case NoticeSeen():
            # Before its end no notice can end a pause, whoever wrote this line.
            over = replace(moved, pause=pause_at(moved, line.time))
            return _paused(over, Act.SEE_NOTICE, None)
        case ClickAwaited():
            return replace(moved, ending=ending_after(moved.ending, Act.AWAIT_CLICK))
        case StoppedUncleanly():
            return _paused(moved, Act.STOP_UNCLEANLY, moved.paused_until)
        case Stopped(by=by, why=why):
            stop_after(_stop(moved, by), Act.STOP)
            return replace(moved, stopped={**moved.stopped, by: why})
        case StopLifted(by=by):
            stop_after(_stop(moved, by), Act.LIFT_STOP)
            return replace(moved, stopped={b: w for b, w in moved.stopped.items() if b != by})
        case Halted():
            halt_after(_halt(moved), Act.HALT)
            return replace(moved, halted=line.entry)
        case HaltLifted():
            halt_after(_halt(moved), Act.LIFT_HALT)
            asked_again = {c: consent_after(s, Act.LIFT_HALT) for c, s in moved.consents.items()}
            return replace(moved, halted=None, consents=asked_again)
        case PolicyChanged(policy=policy, widened=widened):
            return _policy_changed(moved, PolicyDigest(policy), widened)
        case ClockDoubted(why=why):
            return replace(moved, clock_doubt=why)
        case ClockConfirmed():
            return replace(moved, clock_doubt="", clock_anchor=line.time, seen_before=0)
        case Registered():
            return _registered(moved, line.entry)
        case Told(grant=grant, state=state):
            left = (e for e in moved.untold if (e.grant, e.state) != (grant, state))
            return replace(moved, untold=tuple(left))
        case Replaced(aside=aside, why=why):
            return replace(moved, lost=f"{why}; the old record is kept as {aside}")
        case _:
            assert_never(line.entry)


def pause_at(standing: Standing, now: Now) -> Pause:
    """Return the pause as it is at *now*: one whose time is over has run out."""
    until = standing.paused_until
    if standing.pause is Pause.PAUSED and until is not None and has_passed(until, now):
        return pause_after(standing.pause, Act.RUN_OUT)
    return standing.pause


def _paused(standing: Standing, act: Act, until: Deadline | None) -> Standing:
    return replace(
        standing,
        pause=pause_after(standing.pause, act),
        ending=ending_after(standing.ending, act),
        paused_until=until,
    )


def _stop(standing: Standing, by: str) -> Stop:
    return Stop.STOPPED if by in standing.stopped else Stop.GOING


def _halt(standing: Standing) -> Halt:
    return Halt.UNHALTED if standing.halted is None else Halt.HALTED


def _named(category: Category | None) -> tuple[Category, ...]:
    return tuple(Category) if category is None else (category,)


def _seen_before(standing: Standing, line: Line) -> int:
    last = standing.last_seen
    if last is None or last.boot_id == line.boot_id:
        return standing.seen_before
    return max(standing.seen_before, last.wall)


def _until(standing: Standing, line: Line) -> int:
    """Return until when what was agreed to is to be erased: now, and never less than all of it.

    A no needs no right clock.  By one that went back it would cover nothing that was agreed
    to, and one that is far ahead the collector refuses.
    """
    if not (why_implausible(line.wall) or standing.clock_doubt):
        return max(line.wall, standing.last_given_at)
    before = line.time if standing.last_seen is None else standing.last_seen
    return standing.last_given_at or before.wall  # without a yes on record, it may be lost


def _granted(standing: Standing, entry: Granted, device: Ed25519PublicKey) -> Standing:
    signed = entry.signed
    record = verify_consent(signed, device)
    category = record.category
    earlier = standing.grants.get(category)
    first_at = record.given_at if earlier is None else earlier.first_at
    grant = Grant(signed=signed, record=record, hash=grant_hash(signed), first_at=first_at)
    state = consent_after(standing.consents[category], Act.GRANT)
    before = standing.grants.get(category)
    if before is not None and not standing.evidence[before.hash].events:
        standing = _ended(standing, before.hash, ConsentState.EXPIRED)  # the new one is instead
    shown = Evidence(signed=signed, words=entry.words, notice=entry.notice)
    digest = PolicyDigest(record.policy_digest)
    return replace(
        standing,
        consents={**standing.consents, category: state},
        grants={**standing.grants, category: grant},
        evidence={**standing.evidence, grant.hash: shown},
        stands_under={**standing.stands_under, category: digest},
        widened={c: names for c, names in standing.widened.items() if c is not category},
        last_given_at=max(standing.last_given_at, record.given_at),
        lost="",
    )


def _refused(standing: Standing, entry: Refused, device: Ed25519PublicKey) -> Standing:
    record = verify_consent(entry.signed, device)
    shown = Evidence(signed=entry.signed, words=entry.words, notice=entry.notice)
    moved = _withdrawn(standing, (record.category,), ())
    return replace(moved, evidence={**moved.evidence, grant_hash(entry.signed): shown})


def _withdrawn(
    standing: Standing, categories: tuple[Category, ...], erasing: tuple[Erasing, ...]
) -> Standing:
    moved = {c: consent_after(standing.consents[c], Act.WITHDRAW) for c in categories}
    for category in standing.grants.keys() & set(categories):
        standing = _ended(standing, standing.grants[category].hash, ConsentState.WITHDRAWN)
    return replace(
        standing,
        consents={**standing.consents, **moved},
        grants=_without(standing.grants, categories),
        stands_under=_without(standing.stands_under, categories),
        widened=_without(standing.widened, categories),
        erasing=standing.erasing + erasing,
    )


def _expired(standing: Standing, grant: GrantHash) -> Standing:
    for category, live in standing.grants.items():
        if live.hash == grant:
            state = consent_after(standing.consents[category], Act.CHANGE_POLICY)
            moved = replace(standing, consents={**standing.consents, category: state})
            return _ended(moved, grant, ConsentState.EXPIRED)
    return standing


def _ended(standing: Standing, grant: GrantHash, state: ConsentState) -> Standing:
    """Note what became of a consent, now; `last_seen` is the time of the line."""
    at = WallInstant(0 if standing.last_seen is None else standing.last_seen.wall)
    event = ConsentEvent(grant=grant, state=state, at=at)
    evidence = standing.evidence[grant]
    shown = replace(evidence, events=(*evidence.events, event))
    return replace(
        standing,
        evidence={**standing.evidence, grant: shown},
        untold=(*standing.untold, event),
    )


def _registered(standing: Standing, entry: Registered) -> Standing:
    grant = GrantHash(entry.grant)
    others = standing.registered - {grant}
    moved = replace(standing, registered=others | {grant} if entry.known else others)
    if entry.logged is None or grant not in standing.evidence:
        return moved
    shown = replace(standing.evidence[grant], logged=entry.logged)
    return replace(moved, evidence={**standing.evidence, grant: shown})


def state_of_next(standing: Standing, category: Category) -> ConsentState:
    """Return what a yes to *category* is now: the first, or one that renews what was given."""
    return ConsentState.RENEWED if category in standing.grants else ConsentState.GIVEN


def _without(of: Mapping[Category, T], categories: tuple[Category, ...]) -> Mapping[Category, T]:
    return {category: value for category, value in of.items() if category not in categories}


def _policy_changed(
    standing: Standing, policy: PolicyDigest, widened: Mapping[Category, tuple[str, ...]]
) -> Standing:
    stale = {c: names for c, names in widened.items() if c in standing.grants and names}
    moved = {c: consent_after(standing.consents[c], Act.CHANGE_POLICY) for c in stale}
    return replace(
        standing,
        consents={**standing.consents, **moved},
        stands_under=dict.fromkeys(standing.grants, policy),
        widened={**standing.widened, **stale},
    )


def _flagged(standing: Standing, categories: tuple[Category, ...], act: Act) -> Standing:
    moved = {c: flag_after(standing.flags[c], act) for c in categories}
    return replace(standing, flags={**standing.flags, **moved})
