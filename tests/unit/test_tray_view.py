"""The words, icons and menu lines for every state of the agent, as tables."""

import string
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from tests.fakes.agent import a_status
from tray.view import (
    FORGET_MINUTES,
    STOPPED,
    Line,
    Mark,
    Page,
    Rule,
    Say,
    Show,
    View,
    account,
    by_itself,
    countdown,
    day,
    pause_left,
    state_line,
    time_left,
    view,
)
from wire.category import Category
from wire.control import TRAY_ONLY, OptOut, Pause, Quit, Reason, Status
from wire.ids import WallInstant

SECOND = 1_000_000_000
NOW = WallInstant(1_800_000_000 * SECOND)

STATES: Sequence[tuple[Reason, Mark, str]] = [
    (Reason.HALTED_BY_ORG, Mark.SHUT, "Not recording: the programme is halted for everybody"),
    (Reason.OPTED_OUT, Mark.SHUT, "Not recording: you have opted out"),
    (Reason.NOT_CONSENTED, Mark.SHUT, "Not recording: you have not agreed to anything yet"),
    (
        Reason.CONSENT_STALE,
        Mark.ATTENTION,
        "Not recording: you are asked to look at your consent again",
    ),
    (Reason.POLICY_INVALID, Mark.ATTENTION, "Not recording: there is no valid policy"),
    (
        Reason.CLOCK_UNTRUSTED,
        Mark.ATTENTION,
        "Not recording: the clock of this computer was changed",
    ),
    (
        Reason.INDICATOR_MISSING,
        Mark.ATTENTION,
        "Not recording: it is not certain that you can see this icon",
    ),
    (Reason.SESSION_BLOCKED, Mark.WAITING, "Not recording: your session is locked or away"),
    (Reason.PAUSED_UNTIL, Mark.PAUSED, "Paused, 29:41 left"),
    (Reason.RESUME_PENDING, Mark.ATTENTION, "Pause is over: waiting for you to resume"),
    (
        Reason.OUTSIDE_SCOPE,
        Mark.WAITING,
        "Not recording now: the program in front is not on the list",
    ),
    (Reason.SENSITIVE, Mark.WAITING, "Not recording now: a secret is being typed"),
    (Reason.REDACTOR_DOWN, Mark.ATTENTION, "Not recording: what removes secrets is not working"),
    (Reason.STORAGE_BLOCKED, Mark.ATTENTION, "Not recording: it could not be kept safely just now"),
    (Reason.ACTIVE, Mark.WAITING, "Nothing is being recorded at this moment"),
]


def status_for(reason: Reason) -> Status:
    """Return a status with nothing recorded; a pause has 29:41 left."""
    ends = NOW + 1781 * SECOND if reason is Reason.PAUSED_UNTIL else None
    return a_status(reason, paused_until=ends)


def lines(shown: View) -> list[Line]:
    """Return the menu without its rules."""
    return [line for line in shown.lines if isinstance(line, Line)]


def line(shown: View, label: str) -> Line:
    """Return the one line with this label."""
    (found,) = [each for each in lines(shown) if each.label == label]
    return found


@pytest.mark.parametrize(("reason", "mark", "words"), STATES, ids=lambda value: str(value)[:20])
def test_each_reason_has_its_icon_and_its_words(reason: Reason, mark: Mark, words: str) -> None:
    """What the data subject sees for each reason while nothing is recorded."""
    shown = view(status_for(reason), NOW)
    assert (shown.mark, shown.state) == (mark, words)
    assert shown.tooltip == f"Assent: {words}"


def test_the_table_above_leaves_out_no_reason() -> None:
    """A new reason needs its words before it can be shown."""
    assert [reason for reason, _, _ in STATES] == list(Reason)


def test_what_is_recorded_is_named() -> None:
    """The line lists the categories by the names that the consent window uses."""
    status = a_status(Reason.ACTIVE, recording=[Category.KEYS, Category.POINTER, Category.SCREEN])
    shown = view(status, NOW)
    assert shown.state == "Recording: Keyboard, Pointer, Screen"
    assert shown.mark is Mark.RECORDING


@pytest.mark.parametrize("reason", list(Reason))
def test_the_icon_never_claims_silence_while_something_is_recorded(reason: Reason) -> None:
    """Whatever the reason says, an open category shows the recording icon (I3)."""
    shown = view(a_status(reason, recording=[Category.SCREEN], paused_until=NOW), NOW)
    assert shown.mark is Mark.RECORDING
    assert shown.state == "Recording: Screen"


@pytest.mark.parametrize("reason", list(Reason))
def test_the_recording_icon_is_shown_only_while_something_is_recorded(reason: Reason) -> None:
    """No other state looks like recording."""
    assert view(a_status(reason), NOW).mark is not Mark.RECORDING


def test_before_the_agent_has_answered_nothing_is_claimed() -> None:
    """Unknown is no: shut, and restrictions can be said at once."""
    shown = view(None, NOW)
    assert shown.mark is Mark.SHUT
    assert shown.state == "Starting: nothing is recorded yet"
    assert line(shown, "Pause for 30 minutes").enabled
    assert line(shown, "Quit (stops recording)").enabled
    assert not line(shown, "Resume…").enabled
    assert not line(shown, "What may be recorded…").enabled


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (1800 * SECOND, "30:00"),
        (1800 * SECOND - 1, "30:00"),
        (1781 * SECOND, "29:41"),
        (61 * SECOND, "1:01"),
        (1, "0:01"),
        (0, "0:00"),
        (-5 * SECOND, "0:00"),
        (3723 * SECOND, "1:02:03"),
    ],
)
def test_the_countdown_is_rounded_up_so_that_zero_means_over(nanoseconds: int, words: str) -> None:
    """A countdown that shows 0:00 while a second is left would be wrong."""
    assert time_left(WallInstant(NOW + nanoseconds), NOW) == words


def test_a_pause_without_an_end_is_still_a_pause() -> None:
    """The words do not invent an end."""
    assert state_line(a_status(Reason.PAUSED_UNTIL), NOW) == "Paused"


def test_the_menu_has_its_lines_in_this_order() -> None:
    """The whole menu of somebody who agreed to nothing yet."""
    labels = [
        each.label if isinstance(each, Line) else "---" for each in view(a_status(), NOW).lines
    ]
    assert labels == [
        "Not recording: you have not agreed to anything yet",
        "---",
        "Pause for 30 minutes",
        "Pause and forget the last 5 minutes",
        "Resume…",
        "---",
        "Never record: Keyboard",
        "Never record: Pointer",
        "Never record: Screen",
        "Never record: Active window",
        "---",
        "What may be recorded…",
        "Withdraw consent…",
        "---",
        "Quit (stops recording)",
    ]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_menu_line_never_says_what_could_lead_to_more_recording(reason: Reason) -> None:
    """Grant, opt-in, resume and clock are clicked in windows, never in the menu (I4)."""
    opted_out = [Category.KEYS, Category.SCREEN]
    shown = view(a_status(reason, opted_out=opted_out, paused_until=NOW), NOW)
    for each in lines(shown):
        if isinstance(each.act, Say):
            assert not isinstance(each.act.command, TRAY_ONLY)


@pytest.mark.parametrize("reason", list(Reason))
def test_restrictions_can_always_be_said(reason: Reason) -> None:
    """Pause, opt-out, withdrawal and quit are never greyed out."""
    for each in lines(view(a_status(reason), NOW)):
        if isinstance(each.act, Say) or each.act == Show(page=Page.WITHDRAW):
            assert each.enabled, each.label


@pytest.mark.parametrize("reason", [None, *Reason])
def test_no_line_comes_goes_or_moves_when_the_state_changes(reason: Reason | None) -> None:
    """A line that moved would be clicked in place of another; one made anew, in vain.

    Not even before the agent has said a word (None), and whatever lines are for.
    """
    shown = view(None if reason is None else status_for(reason), NOW)
    assert kinds(shown) == kinds(view(a_status(opted_out=[Category.SCREEN]), NOW))


def kinds(shown: View) -> list[str]:
    """Return what cannot be changed in place: how many lines, and of which kind each is."""
    return [
        "rule" if isinstance(each, Rule) else "line" if each.checked is None else "check box"
        for each in shown.lines
    ]


@pytest.mark.parametrize("reason", [None, *Reason])
def test_pause_is_always_at_the_same_place(reason: Reason | None) -> None:
    """Whoever aims at it hits it, whatever happens meanwhile."""
    shown = view(None if reason is None else status_for(reason), NOW)
    assert isinstance(pause := shown.lines[2], Line)
    assert (pause.act, pause.enabled) == (Say(command=Pause()), True)


def test_pausing_says_pause_and_forgetting_says_how_much() -> None:
    """One click each, and no window in between."""
    shown = view(a_status(Reason.ACTIVE, recording=[Category.KEYS]), NOW)
    assert line(shown, "Pause for 30 minutes").act == Say(command=Pause())
    assert line(shown, "Pause and forget the last 5 minutes").act == Say(
        command=Pause(forget_minutes=FORGET_MINUTES)
    )
    assert line(shown, "Quit (stops recording)").act == Say(command=Quit())


def test_while_paused_the_same_line_offers_another_pause() -> None:
    """Again while paused is a new window of 30 minutes."""
    shown = view(status_for(Reason.PAUSED_UNTIL), NOW)
    assert line(shown, "Pause for another 30 minutes").act == Say(command=Pause())


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (a_status(Reason.ACTIVE, recording=[Category.KEYS]), False),
        (a_status(Reason.NOT_CONSENTED), False),
        (a_status(Reason.PAUSED_UNTIL, paused_until=NOW + SECOND), True),
        (a_status(Reason.RESUME_PENDING), True),
        (a_status(Reason.INDICATOR_MISSING, paused_until=NOW + SECOND), True),
    ],
)
def test_resume_is_offered_only_where_there_is_a_pause(status: Status, *, offered: bool) -> None:
    """Also where a weightier reason stands before the pause."""
    resume = line(view(status, NOW), "Resume…")
    assert resume.enabled is offered
    assert resume.act == Show(page=Page.RESUME)


@pytest.mark.parametrize(
    ("reason", "seconds", "left"),
    [
        (Reason.PAUSED_UNTIL, 90, "1:30"),
        (Reason.INDICATOR_MISSING, 90, "1:30"),
        (Reason.INDICATOR_MISSING, 0, None),
        (Reason.RESUME_PENDING, 90, None),
    ],
)
def test_the_resume_window_knows_whether_the_pause_still_runs(
    reason: Reason, seconds: int, left: str | None
) -> None:
    """Its heading is the countdown, or says that the pause is over."""
    assert pause_left(a_status(reason, paused_until=NOW + seconds * SECOND), NOW) == left


def test_a_flag_is_raised_at_once_and_cleared_in_a_window() -> None:
    """Opting out is a click; opting in again opens the opt-in window."""
    shown = view(a_status(opted_out=[Category.SCREEN]), NOW)
    keyboard, screen = line(shown, "Never record: Keyboard"), line(shown, "Never record: Screen")
    assert (keyboard.checked, keyboard.act) == (
        False,
        Say(command=OptOut(category=Category.KEYS)),
    )
    assert (screen.checked, screen.act) == (
        True,
        Show(page=Page.OPT_IN, category=Category.SCREEN),
    )


def test_the_clock_can_be_confirmed_only_when_it_is_in_doubt() -> None:
    """It stands where Resume does otherwise, which comes back once the clock is trusted."""
    doubted = view(a_status(Reason.CLOCK_UNTRUSTED, paused_until=NOW + SECOND), NOW)
    trusted = view(a_status(Reason.PAUSED_UNTIL, paused_until=NOW + SECOND), NOW)
    confirm, resume = line(doubted, "The clock is right again…"), line(trusted, "Resume…")
    assert (confirm.act, confirm.enabled) == (Show(page=Page.CLOCK), True)
    assert (resume.act, resume.enabled) == (Show(page=Page.RESUME), True)
    assert doubted.lines.index(confirm) == trusted.lines.index(resume)
    assert not [each for each in lines(trusted) if each.act == Show(page=Page.CLOCK)]


def test_the_consent_window_cannot_be_opened_without_a_policy() -> None:
    """There would be nothing to read in it."""
    assert not line(view(a_status(policy_digest=""), NOW), "What may be recorded…").enabled


@pytest.mark.parametrize(
    ("before", "now", "asked", "page"),
    [
        (None, a_status(), False, Page.CONSENT),
        (None, a_status(), True, None),
        (None, a_status(policy_digest=""), False, None),
        (a_status(policy_digest=""), a_status(), False, Page.CONSENT),
        (None, a_status(Reason.CONSENT_STALE), False, None),
        (None, a_status(Reason.RESUME_PENDING), True, Page.RESUME),
        (a_status(Reason.PAUSED_UNTIL), a_status(Reason.RESUME_PENDING), True, Page.RESUME),
        (a_status(Reason.RESUME_PENDING), a_status(Reason.RESUME_PENDING), True, None),
        (a_status(Reason.PAUSED_UNTIL), a_status(Reason.ACTIVE), True, None),
    ],
)
def test_which_window_opens_by_itself(
    before: Status | None, now: Status, *, asked: bool, page: Page | None
) -> None:
    """The resume window each time a pause runs out; the consent window once."""
    assert by_itself(before, now, asked=asked) is page


def test_the_account_says_how_it_stands_with_each_category() -> None:
    """Every category has its sentence, and what is in the way is said once."""
    status = a_status(
        Reason.ACTIVE,
        recording=[Category.KEYS],
        granted=[Category.KEYS, Category.POINTER],
        opted_out=[Category.SCREEN],
        detail="All is well.",
    )
    said = account(status)
    assert "All is well." in said
    assert "Keyboard: is recorded now" in said
    assert "Pointer: not recorded now; you have agreed to it" in said
    assert "Screen: never recorded, because you opted out" in said
    assert "Active window: not recorded; you have not agreed to it" in said
    assert "https://collector.example:8443" in said


def test_the_words_speak_to_the_person_at_the_workstation() -> None:
    """No word of ours that only those who built it know; "you", never "the user"."""
    avoid = {"user", "subject", "gate", "redactor", "indicator", "lease", "spool", "sensor"}
    for reason in Reason:
        status = a_status(reason, detail="")
        words = [state_line(status, NOW), account(status)]
        words += [each.label for each in lines(view(status, NOW))]
        said = " ".join(words).lower().translate(str.maketrans("", "", string.punctuation))
        assert not avoid & set(said.split())


def test_a_rule_never_ends_the_menu_nor_follows_another() -> None:
    """Such rules are dropped by pystray, and the lines would not be where we count them."""
    for status in (None, a_status(), a_status(Reason.CLOCK_UNTRUSTED)):
        rules = [isinstance(each, Rule) for each in view(status, NOW).lines]
        assert not rules[0]
        assert not rules[-1]
        assert (True, True) not in pairwise(rules)


def test_a_stop_says_that_it_goes_on_by_itself_and_a_halt_does_not() -> None:
    """Both are the organisation's; only one of them waits for nobody's yes."""
    stop, halt = a_status(Reason.HALTED_BY_ORG, stopped=True), a_status(Reason.HALTED_BY_ORG)
    assert (view(stop, NOW).state, view(stop, NOW).mark) == (STOPPED, Mark.WAITING)
    assert view(halt, NOW).mark is Mark.SHUT
    assert state_line(halt, NOW) != STOPPED


def test_the_notice_says_how_it_goes_on_in_each_of_its_three_ways() -> None:
    """A click is needed, the time runs, or it stands still: a person must know which."""
    click = a_status(Reason.RESUME_PENDING)
    runs = a_status(Reason.RESUME_PENDING, resumes_in=42, counting=True)
    stands = a_status(Reason.RESUME_PENDING, resumes_in=42)
    assert "waits for your click" in countdown(click)
    assert not any(letter.isdigit() for letter in countdown(click))
    assert "in 42 s" in countdown(runs)
    assert "after 42 s" in countdown(stands)
    assert "not running now" in countdown(stands)
    assert len({countdown(each) for each in (click, runs, stands)}) == 3


def test_the_icon_counts_down_only_while_the_time_runs() -> None:
    """The line never claims more than is so."""
    runs = a_status(Reason.RESUME_PENDING, resumes_in=7, counting=True)
    assert state_line(runs, NOW) == "Pause is over: recording goes on in 7 s"
    stands = a_status(Reason.RESUME_PENDING, resumes_in=7)
    assert state_line(stands, NOW) == "Pause is over: waiting for you to resume"


def with_keys(**changes: object) -> Status:
    """Return a status in which keys were agreed to, with *changes* to how they stand."""
    status = a_status(Reason.ACTIVE, granted=[Category.KEYS])
    return msgspec.structs.replace(
        status,
        categories=tuple(
            msgspec.structs.replace(each, **changes) if each.category is Category.KEYS else each
            for each in status.categories
        ),
    )


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (with_keys(), "What may be recorded…"),
        (with_keys(confirm_by=NOW), f"Confirm your consent by {day(NOW)}…"),
        (
            with_keys(asks_more="who can open it", confirm_by=NOW),
            "What may be recorded has changed…",
        ),
    ],
)
def test_the_line_of_the_consent_window_says_what_is_asked_there(
    status: Status, label: str
) -> None:
    """It is at the same place, and opens the same window."""
    (line,) = [
        line
        for line in view(status, NOW).lines
        if isinstance(line, Line) and line.act == Show(page=Page.CONSENT)
    ]
    assert line.label == label


def test_the_account_says_what_is_new_and_what_is_to_be_confirmed() -> None:
    """In the words of the policy's order."""
    assert "this is new: who can open it" in account(with_keys(asks_more="who can open it"))
    assert f"please confirm it by {day(NOW)}" in account(with_keys(confirm_by=NOW))
    over = account(with_keys(granted=False, confirm_by=NOW))
    assert f"you agreed to it until {day(NOW)}, and are asked again" in over


def test_outside_the_hours_of_the_policy_the_state_line_says_so() -> None:
    """And does not speak of a program in front."""
    status = msgspec.structs.replace(a_status(Reason.OUTSIDE_SCOPE), outside_hours=True)
    assert state_line(status, NOW) == "Not recording now: it is outside the hours of the policy"
