"""What the data subject is told: the `Status` and its one line of words.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from agent.consent.confirmation import confirm_by, is_due, is_offered
from agent.consent.facts import UNKNOWN, Situation, consent_at, why_stale
from agent.consent.gate import Verdict
from agent.consent.standing import Standing
from agent.consent.states import Consent, Flag
from agent.enroll import Device
from agent.receipts import FOLDER
from agent.spool import Spool
from base.clock import NANOSECONDS
from wire.category import Category, registry
from wire.control import (
    CategoryStatus,
    CollectorStatus,
    Notice,
    NoticeItem,
    Reason,
    SpoolStatus,
    Status,
)
from wire.ids import WallInstant
from wire.narrowing import words
from wire.policy import Policy

LOOK: Final = "The tray's menu shows what it asks now."
CHANGED: Final = f"The policy has changed; what you agreed to does not cover it. {LOOK}"
OUTSIDE_HOURS: Final = "The policy lets nothing be recorded at this hour."
WORDS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.HALTED_BY_ORG: "The programme is halted; nothing is recorded or sent.",
        Reason.OPTED_OUT: "You opted out; to opt in again, use the tray's menu.",
        Reason.NOT_CONSENTED: "You have not agreed to anything; see the tray's menu.",
        Reason.CONSENT_STALE: CHANGED,
        Reason.POLICY_INVALID: "There is no valid policy.",
        Reason.CLOCK_UNTRUSTED: "The clock cannot be trusted; confirm it in the tray's menu.",
        Reason.INDICATOR_MISSING: "The tray icon is not shown, so nothing is recorded.",
        Reason.SESSION_BLOCKED: "The session is locked, or not known to be yours.",
        Reason.PAUSED_UNTIL: "Paused.",
        Reason.RESUME_PENDING: "The pause is over; nothing is recorded until you click Resume.",
        Reason.OUTSIDE_SCOPE: "The window you use is not of a listed program.",
        Reason.SENSITIVE: "A field for secrets has the focus, or nobody can tell what has.",
        Reason.REDACTOR_DOWN: "What keeps secrets out of keys and pictures does not work.",
        Reason.STORAGE_BLOCKED: "What would be recorded could not be kept safely.",
        Reason.ACTIVE: "Recording.",
    }
)


STOPPED: Final = (
    "The programme is stopped until a fault is mended; nothing is recorded or sent meanwhile, "
    "and it goes on by itself."
)

NOTICE: Final = (
    "The pause is over. Recording goes on when you click Resume, or after {seconds} s in which "
    "you are there and the notice is in sight; close it, and it waits for your click."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What else there is to tell, besides the situation and the verdict."""

    recording: frozenset[Category]  # what the gate permits and a source is open for
    kept: dict[str, int]
    dropped: dict[str, int]
    spool: SpoolStatus
    last_receipt_at: WallInstant | None
    last_error: str
    indicator: str
    session: str  # why it is not known to be ours; empty when it is
    storage: str  # why nothing can be kept; empty when it can
    unconfirmed: tuple[str, ...]  # erasures that somebody has yet to confirm
    erased: tuple[str, ...]  # what the guard erased by its own hand
    trouble: str  # of a sensor; empty when there is none
    resumes_in: int | None = None  # seconds of the notice that are left, if it may end a pause
    counting: bool = False  # and they run


def spool_status_of(spool: Spool) -> SpoolStatus:
    """Return how much waits, and what became of the rest."""
    return SpoolStatus(
        held=spool.number_held(),
        waiting=len(spool.ready()),
        quarantined=spool.number_quarantined(),
        sent=spool.number_sent(),
        forgotten=spool.forgotten,
        bytes=spool.used_bytes,
        quota_bytes=spool.quota_bytes,
    )


def status_of(situation: Situation, verdict: Verdict, device: Device, told: Told) -> Status:
    """Return the status as of *situation*."""
    policy = situation.policy.policy
    until = situation.standing.paused_until
    digest = situation.policy.digest
    return Status(
        reason=verdict.shown,
        detail=_detail(situation, verdict.shown, told),
        recording=tuple(sorted(told.recording)),
        paused_until=None if until is None else WallInstant(until.wall),
        categories=tuple(_category(situation, told, c) for c in Category),
        programme="" if policy is None else policy.programme,
        policy_digest="" if policy is None or digest is None else digest.hex(),
        kept=told.kept,
        dropped=told.dropped,
        spool=told.spool,
        collector=CollectorStatus(
            origin=device.enrolment.origin,
            last_receipt_at=told.last_receipt_at,
            last_error=told.last_error,
        ),
        indicator=told.indicator,
        receipts=str(device.folder / FOLDER),
        stopped=verdict.shown is Reason.HALTED_BY_ORG and _is_only_stopped(situation),
        resumes_in=told.resumes_in,
        counting=told.counting,
        unconfirmed=told.unconfirmed,
        erased=told.erased,
        outside_hours=situation.within_hours is False,
    )


def notice_of(policy: Policy, situation: Situation) -> Notice:
    """Return the notice as the consent window shows it."""
    digest = situation.policy.digest or b""
    return Notice(
        policy_digest=digest.hex(),
        heading=f"May this computer record your work for {policy.controller.name}?",
        text=notice_text(policy),
        items=tuple(
            NoticeItem(
                category=rule.category,
                level=rule.level,
                title=registry()[rule.category].title,
                words=policy.words(rule.category),
                granted=_granted(situation, rule.category)
                and not _to_confirm(situation, rule.category),
                again=_again(situation, rule.category),
            )
            for rule in policy.categories
        ),
    )


def notice_text(policy: Policy) -> str:
    """Return the notice, which programs "the list" of the words below it is, and the hours."""
    programs = sorted({application.process for application in policy.applications})
    said = (
        f"Only these programs are on the list: {', '.join(programs)}."
        if programs
        else "No program is on the list yet, so nothing is recorded."
    )
    spans = "; ".join(f"{', '.join(h.days)} from {h.begin} to {h.end}" for h in policy.hours)
    when = f" Only at these hours: {spans}." if spans else ""
    return f"{policy.notice}\n\n{said}{when}"


def _category(situation: Situation, told: Told, category: Category) -> CategoryStatus:
    policy = situation.policy.policy
    rule = None if policy is None else policy.rule(category)
    flagged = situation.standing.flags[category] is Flag.OPTED_OUT
    return CategoryStatus(
        category=category,
        offered=rule is not None,
        level="" if rule is None else rule.level,
        granted=_granted(situation, category),
        opted_out=flagged or category in situation.outside_opt_outs,
        recording=category in told.recording,
        asks_more=_asks_more(situation, category),
        confirm_by=_to_confirm(situation, category),
    )


def _is_only_stopped(situation: Situation) -> bool:
    return bool(situation.standing.stopped) and situation.standing.halted is None


def _granted(situation: Situation, category: Category) -> bool:
    now = situation.now
    return consent_at(situation.standing, situation.policy, category, now) is Consent.GIVEN


def _asks_more(situation: Situation, category: Category) -> str:
    """Return what of the policy a consent does not cover, in words; "" when it covers all."""
    if category not in situation.standing.grants:
        return ""
    found = why_stale(situation.standing, situation.policy, category)
    return "; ".join("all of it" if name == UNKNOWN else words((name,)) for name in found)


def _to_confirm(situation: Situation, category: Category) -> WallInstant | None:
    """Return until when a consent stands, if it is time to confirm it."""
    grant, policy = situation.standing.grants.get(category), situation.policy.policy
    if grant is None or not is_offered(grant, policy, situation.now):
        return None
    return confirm_by(grant, policy)


def _again(situation: Situation, category: Category) -> str:
    """Return why somebody who has agreed to *category* is asked once more; "" when not."""
    if more := _asks_more(situation, category):
        return f"You agreed to this before. What is new since: {more}."
    until = _to_confirm(situation, category)
    if until is None:
        return ""
    if until <= situation.now.wall:
        return f"You agreed to this until {_day(until)}. Switch it on to agree again."
    return f"You have agreed to this until {_day(until)}. Switch it on to agree for longer."


def _detail(situation: Situation, reason: Reason, told: Told) -> str:
    parts = [_opening(situation, reason, told)]
    match reason:
        case Reason.HALTED_BY_ORG:
            parts += why_frozen(situation.standing)
        case Reason.OPTED_OUT if situation.outside_opt_outs:
            parts.append("An opt-out is set outside the tray (environment, file or configuration).")
        case Reason.NOT_CONSENTED:
            parts.append(situation.standing.lost)
        case Reason.CONSENT_STALE | Reason.POLICY_INVALID:
            parts += [situation.policy.problem, situation.clock_doubt]  # one often makes the other
        case Reason.CLOCK_UNTRUSTED:
            parts.append(situation.standing.clock_doubt or situation.clock_doubt)
        case Reason.INDICATOR_MISSING:
            parts += [told.indicator, told.trouble]  # both, when the X server has gone
        case Reason.PAUSED_UNTIL if situation.standing.paused_until is not None:
            parts = [f"Paused until {_clock_time(situation.standing.paused_until.wall)}."]
        case Reason.SESSION_BLOCKED | Reason.STORAGE_BLOCKED:
            why = {Reason.SESSION_BLOCKED: told.session, Reason.STORAGE_BLOCKED: told.storage}
            parts.append(why[reason])
        case Reason.ACTIVE | Reason.OUTSIDE_SCOPE | Reason.REDACTOR_DOWN:
            parts.append(told.trouble)
        case _:
            pass
    return " ".join(part for part in parts if part)


def _opening(situation: Situation, reason: Reason, told: Told) -> str:
    if reason is Reason.HALTED_BY_ORG and _is_only_stopped(situation):
        return STOPPED
    if reason is Reason.RESUME_PENDING and told.resumes_in is not None:
        return NOTICE.format(seconds=told.resumes_in)
    if reason is Reason.CONSENT_STALE and situation.policy.policy is not None:
        return _why_stale(situation)
    if reason is Reason.OUTSIDE_SCOPE and situation.within_hours is False:
        return OUTSIDE_HOURS
    return WORDS[reason]


def why_frozen(standing: Standing) -> list[str]:
    """Return what those said who halted or stopped the programme."""
    halted = [] if standing.halted is None else [standing.halted.why]
    return halted + list(standing.stopped.values())


def _why_stale(situation: Situation) -> str:
    """Return in words for what the consents have to be given again, those that are over at all."""
    more = {c: what for c in Category if (what := _asks_more(situation, c))}
    if more:
        said = ", ".join(f"{registry()[c].title} ({what})" for c, what in more.items())
        return f"The policy has changed in what you did not agree to: {said}. {LOOK}"
    grants, policy = situation.standing.grants, situation.policy.policy
    over = [c for c, grant in grants.items() if is_due(grant, policy, situation.now)]
    titles = ", ".join(registry()[category].title for category in over)
    return f"It is time to say again whether you agree: {titles}. {LOOK}" if over else CHANGED


def _day(wall: int) -> str:
    day = datetime.fromtimestamp(wall // NANOSECONDS, UTC).astimezone()
    return f"{day.day} {day:%B %Y}"


def _clock_time(wall: int) -> str:
    return datetime.fromtimestamp(wall // NANOSECONDS, UTC).astimezone().strftime("%H:%M")
