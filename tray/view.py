"""What the data subject sees for each state of the agent: icon, words and menu.  Pure.

`view(status, now)` is all of it: values in, values out, no Gtk and no clock, so that a
table of states tests every word.  `by_itself` says which window opens without a click.

The words are for the person at the workstation, who is "you" here.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeAlias

from wire.category import Category, registry
from wire.control import CategoryStatus, Command, OptOut, Pause, Quit, Reason, Status
from wire.ids import WallInstant

FORGET_MINUTES: Final = (
    5  # long enough for "that should not have been seen", short enough to mean it
)


class Mark(StrEnum):
    """The five icons; each differs from the others in its shape, not only in its colour."""

    RECORDING = "recording"  # something is recorded right now
    WAITING = "waiting"  # nothing is, but it goes on without a click of yours
    PAUSED = "paused"
    SHUT = "shut"  # nothing is, and nothing will be unless you do something
    ATTENTION = "attention"  # nothing is, and something asks for you


class Page(StrEnum):
    """The windows that the tray can open."""

    CONSENT = "consent"
    RESUME = "resume"
    OPT_IN = "opt-in"
    WITHDRAW = "withdraw"
    CLOCK = "clock"
    NOW = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A click that tells the agent something at once; only restrictions are said like this."""

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """A click that opens a window, in which the data subject decides."""

    page: Page
    category: Category | None = None


Act: TypeAlias = Say | Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the menu; without an act it only informs."""

    label: str
    act: Act | None = None
    enabled: bool = True
    checked: bool | None = None  # None: no check box


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal rule between groups of lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that icon and menu show."""

    mark: Mark
    state: str  # one line: what is recorded, or why nothing is
    tooltip: str
    lines: tuple[Line | Rule, ...]


MARKS: Final = {
    Reason.HALTED_BY_ORG: Mark.SHUT,
    Reason.OPTED_OUT: Mark.SHUT,
    Reason.NOT_CONSENTED: Mark.SHUT,
    Reason.CONSENT_STALE: Mark.ATTENTION,
    Reason.POLICY_INVALID: Mark.ATTENTION,
    Reason.CLOCK_UNTRUSTED: Mark.ATTENTION,
    Reason.INDICATOR_MISSING: Mark.ATTENTION,
    Reason.SESSION_BLOCKED: Mark.WAITING,
    Reason.PAUSED_UNTIL: Mark.PAUSED,
    Reason.RESUME_PENDING: Mark.ATTENTION,
    Reason.OUTSIDE_SCOPE: Mark.WAITING,
    Reason.SENSITIVE: Mark.WAITING,
    Reason.REDACTOR_DOWN: Mark.ATTENTION,
    Reason.STORAGE_BLOCKED: Mark.ATTENTION,
    Reason.ACTIVE: Mark.WAITING,
}
"""The icon for each reason, while nothing is recorded."""

WORDS: Final = {
    Reason.HALTED_BY_ORG: "Not recording: the programme is halted for everybody",
    Reason.OPTED_OUT: "Not recording: you have opted out",
    Reason.NOT_CONSENTED: "Not recording: you have not agreed to anything yet",
    Reason.CONSENT_STALE: "Not recording: you are asked to look at your consent again",
    Reason.POLICY_INVALID: "Not recording: there is no valid policy",
    Reason.CLOCK_UNTRUSTED: "Not recording: the clock of this computer was changed",
    Reason.INDICATOR_MISSING: "Not recording: it is not certain that you can see this icon",
    Reason.SESSION_BLOCKED: "Not recording: your session is locked or away",
    Reason.RESUME_PENDING: "Pause is over: waiting for you to resume",
    Reason.OUTSIDE_SCOPE: "Not recording now: the program in front is not on the list",
    Reason.SENSITIVE: "Not recording now: a secret is being typed",
    Reason.REDACTOR_DOWN: "Not recording: what removes secrets is not working",
    Reason.STORAGE_BLOCKED: "Not recording: it could not be kept safely just now",
    Reason.ACTIVE: "Nothing is being recorded at this moment",
}
"""The state line for each reason while nothing is recorded; a pause has its countdown instead."""


STOPPED: Final = "Not recording: the programme is stopped until a fault is mended"
"""The state line of a stop, which lifts by itself; a halt does not."""


def view(status: Status | None, now: WallInstant) -> View:
    """Return what to show for *status* at *now*; None: the agent has not answered yet."""
    state = state_line(status, now)
    return View(
        mark=_mark(status), state=state, tooltip=f"Assent: {state}", lines=_lines(status, state)
    )


def state_line(status: Status | None, now: WallInstant) -> str:
    """Return in one line what is recorded, or why nothing is.

    What is recorded comes first whatever the reason says: the line must never claim
    silence while a category is open.
    """
    if status is None:
        return "Starting: nothing is recorded yet"
    if status.recording:
        return "Recording: " + ", ".join(title(category) for category in status.recording)
    return _why(status, now)


def _why(status: Status, now: WallInstant) -> str:
    if status.stopped:
        return STOPPED
    if status.reason is Reason.RESUME_PENDING and status.counting:
        return f"Pause is over: recording goes on in {status.resumes_in} s"
    if status.reason is Reason.OUTSIDE_SCOPE and status.outside_hours:
        return "Not recording now: it is outside the hours of the policy"
    if status.reason is Reason.PAUSED_UNTIL:
        if status.paused_until is None:
            return "Paused"
        return f"Paused, {time_left(status.paused_until, now)} left"
    return WORDS[status.reason]


def time_left(until: WallInstant, now: WallInstant) -> str:
    """Return the time from *now* to *until* as minutes and seconds, at least 0:00."""
    seconds = max(0, -((now - until) // 1_000_000_000))  # rounded up: 0:00 means over
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def title(category: Category) -> str:
    """Return what the data subject calls *category*."""
    return registry()[category].title


def paused(status: Status) -> bool:
    """Say whether a pause runs, or has run out without a resume."""
    return status.paused_until is not None or status.reason in {
        Reason.PAUSED_UNTIL,
        Reason.RESUME_PENDING,
    }


def pause_left(status: Status, now: WallInstant) -> str | None:
    """Return what remains of a pause that still runs, whatever reason stands before it."""
    until = status.paused_until
    if until is None or until <= now or status.reason is Reason.RESUME_PENDING:
        return None
    return time_left(until, now)


def countdown(status: Status) -> str:
    """Return what the resume window says of how it goes on without a click, if it does."""
    if status.resumes_in is None:
        return "It waits for your click, however long that takes."
    left = f"{status.resumes_in} s"
    if status.counting:
        return f"Recording goes on in {left}. Close this window, and it waits for your click."
    return (
        f"Recording goes on after {left} in which you use the mouse and can see this window;"
        " they are not running now. Close it, and it waits for your click."
    )


def by_itself(before: Status | None, now: Status, *, asked: bool) -> Page | None:
    """Return the window that opens without a click when the state goes from *before* to *now*.

    The resume window, each time a pause runs out; the consent window, once, when nothing
    was ever agreed to (*asked*: it has been shown already).  Asking again and again would
    wear a person down, and consent given to be left alone is none.
    """
    if now.reason is Reason.RESUME_PENDING and (before is None or before.reason is not now.reason):
        return Page.RESUME
    if now.reason is Reason.NOT_CONSENTED and now.policy_digest and not asked:
        return Page.CONSENT
    return None


def asked_for(status: Status) -> tuple[object, ...]:
    """Return what the consent window depends on: if it differs, an open one is out of date."""
    return (
        status.policy_digest,
        *((c.category, c.offered, c.level, c.granted, c.asks_more) for c in status.categories),
        *(c.confirm_by for c in status.categories),
    )


def _mark(status: Status | None) -> Mark:
    if status is None:
        return Mark.SHUT
    if status.recording:
        return Mark.RECORDING
    return Mark.WAITING if status.stopped else MARKS[status.reason]


def _lines(status: Status | None, state: str) -> tuple[Line | Rule, ...]:
    """Return the menu; it has the same lines in every state, each of its kind and in its place.

    So none moves under the pointer, and none is ever made anew: a click on a line that the
    panel still shows, but that is another one here by now, would do nothing.

    The state line can be clicked, not only because it says more then: panels show a line
    that cannot be clicked so pale that it is hard to read.
    """
    again = status is not None and status.reason is Reason.PAUSED_UNTIL
    return (
        Line(label=state, act=Show(page=Page.NOW), enabled=status is not None),
        Rule(),
        Line(
            label=f"Pause for {'another ' if again else ''}30 minutes",
            act=Say(command=Pause()),
        ),
        Line(
            label=f"Pause and forget the last {FORGET_MINUTES} minutes",
            act=Say(command=Pause(forget_minutes=FORGET_MINUTES)),
        ),
        _way_back(status),
        Rule(),
        *(_flag(status, category) for category in Category),
        Rule(),
        Line(
            label=_asked(status),
            act=Show(page=Page.CONSENT),
            enabled=status is not None and bool(status.policy_digest),
        ),
        Line(label="Withdraw consent…", act=Show(page=Page.WITHDRAW), enabled=status is not None),
        Rule(),
        Line(label="Quit (stops recording)", act=Say(command=Quit())),
    )


def _asked(status: Status | None) -> str:
    """Return the line that leads to the consent window, with what is asked of a person there."""
    each = () if status is None else status.categories
    if any(one.asks_more for one in each):
        return "What may be recorded has changed…"
    until = min((one.confirm_by for one in each if one.confirm_by is not None), default=None)
    return "What may be recorded…" if until is None else f"Confirm your consent by {day(until)}…"


def day(wall: WallInstant) -> str:
    """Return the day of an instant as a person says it: "3 April"."""
    local = datetime.fromtimestamp(wall // 1_000_000_000, UTC).astimezone()
    return f"{local.day} {local:%B}"


def _way_back(status: Status | None) -> Line:
    """Offer what recording waits for: the clock first, as no pause can be measured without it."""
    if status is not None and status.reason is Reason.CLOCK_UNTRUSTED:
        return Line(label="The clock is right again…", act=Show(page=Page.CLOCK))
    return Line(
        label="Resume…",
        act=Show(page=Page.RESUME),
        enabled=status is not None and paused(status),
    )


def _flag(status: Status | None, category: Category) -> Line:
    """Return the opt-out flag: raising it is said at once, clearing it opens a window."""
    raised = status is not None and any(
        each.opted_out for each in status.categories if each.category is category
    )
    return Line(
        label=f"Never record: {title(category)}",
        act=Show(page=Page.OPT_IN, category=category)
        if raised
        else Say(command=OptOut(category=category)),
        checked=raised,
    )


def account(status: Status) -> str:
    """Return in a few paragraphs what is recorded, what becomes of it, and what is in the way."""
    spool = status.spool
    parts = (
        status.detail,
        status.indicator,
        "\n".join(f"{title(each.category)}: {_standing(each)}" for each in status.categories),
        (
            f"On this computer, not sent yet: {spool.held + spool.waiting} batches, and"
            f" {spool.quarantined} set aside. Sent so far: {spool.sent}. Deleted unsent:"
            f" {spool.forgotten}."
        ),
        f"Sent to: {status.collector.origin}" if status.collector.origin else "",
        status.collector.last_error,
        "\n".join(f"Erased by the guard: {said}." for said in status.erased),
        f"Your receipts, one for each consent: {status.receipts}" if status.receipts else "",
    )
    return "\n\n".join(dict.fromkeys(part for part in parts if part))


def _standing(each: CategoryStatus) -> str:
    if each.recording:
        return "is recorded now"
    if each.opted_out:
        return "never recorded, because you opted out"
    if each.asks_more:
        return f"not recorded; you are asked again, because this is new: {each.asks_more}"
    if each.granted:
        more = "" if each.confirm_by is None else f"; please confirm it by {day(each.confirm_by)}"
        return f"not recorded now; you have agreed to it{more}"
    if each.confirm_by is not None:
        return f"not recorded; you agreed to it until {day(each.confirm_by)}, and are asked again"
    return "not recorded; you have not agreed to it" if each.offered else "not recorded, not asked"
