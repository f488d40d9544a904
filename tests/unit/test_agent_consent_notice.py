"""The notice of a pause that ran out: only time in which it is seen by somebody counts."""

import dataclasses

import pytest

from agent.consent.gate import Fact, Verdict
from agent.consent.notice import NOT_SHOWN, Countdown, Resuming, may_count, present_since_notice
from agent.consent.standing import Standing
from agent.consent.states import Ending
from base.clock import NANOSECONDS
from wire.category import Category
from wire.control import NoticeInSight, Reason

START = 1_000 * NANOSECONDS


def watched(seconds: int, *, input_ms: int | None = 0, before: Countdown = NOT_SHOWN) -> Countdown:
    """Return the countdown after *seconds* in sight, a report each second, input at each."""
    first = 0 if before is NOT_SHOWN else int(before.counted / NANOSECONDS) + 1
    seen = before
    for second in range(first, first + seconds + (1 if before is NOT_SHOWN else 0)):
        report = NoticeInSight(for_ms=second * 1000, input_ms=input_ms)
        seen = seen.after(report, START + second * NANOSECONDS)
    return seen


def test_sixty_seconds_before_somebody_who_is_there_are_enough() -> None:
    """And not one second less."""
    assert not watched(59).is_over
    assert watched(59).seconds_left == 1
    assert watched(60).is_over


@pytest.mark.parametrize("input_ms", [None, 15_001, 120_000])
def test_before_nobody_no_time_is_enough(input_ms: int | None) -> None:
    """Time alone never starts capture: who is not known to be there is away."""
    seen = watched(100_000, input_ms=input_ms)
    assert not seen.is_over
    assert seen.counted == 0


def test_input_from_before_the_notice_is_no_sign_that_it_was_seen() -> None:
    """Who typed, left, and was shown a notice is not there."""
    assert present_since_notice(NoticeInSight(for_ms=1_000, input_ms=1_001)) is Fact.NO
    assert present_since_notice(NoticeInSight(for_ms=1_000, input_ms=999)) is Fact.YES
    assert present_since_notice(NoticeInSight(for_ms=1_000)) is Fact.UNKNOWN


def test_the_time_stands_still_while_the_person_is_away() -> None:
    """And goes on when they are back: the notice was in sight all the while."""
    seen = watched(30)
    for second in range(31, 500):
        report = NoticeInSight(for_ms=second * 1000, input_ms=20_000)
        seen = seen.after(report, START + second * NANOSECONDS)
    assert seen.counted == 30 * NANOSECONDS
    assert not seen.is_running(START + 499 * NANOSECONDS)
    seen = seen.after(NoticeInSight(for_ms=500_000, input_ms=0), START + 500 * NANOSECONDS)
    assert seen.counted == 31 * NANOSECONDS
    assert seen.is_running(START + 500 * NANOSECONDS)


def test_a_notice_that_was_covered_begins_anew() -> None:
    """It says for how long it has been in sight: less than before is another appearance."""
    seen = watched(59)
    seen = seen.after(NoticeInSight(for_ms=10, input_ms=0), START + 60 * NANOSECONDS)
    assert seen.counted == 0


def test_a_report_that_is_late_begins_anew() -> None:
    """What the tray did not say is not known: it may have hung, or been gone."""
    seen = watched(59)
    late = START + (59 + 4) * NANOSECONDS
    assert not seen.is_running(late)
    assert seen.after(NoticeInSight(for_ms=63_000, input_ms=0), late).counted == 0


def test_a_first_report_counts_nothing_whatever_it_claims() -> None:
    """The agent counts by its own clock, from when it first heard of the notice."""
    seen = NOT_SHOWN.after(NoticeInSight(for_ms=10**9, input_ms=0), START)
    assert seen.counted == 0
    more = seen.after(NoticeInSight(for_ms=10**12, input_ms=0), START + NANOSECONDS)
    assert more.counted == NANOSECONDS


def test_a_clock_that_goes_back_counts_nothing() -> None:
    """A boot clock does not; nothing may depend on it."""
    seen = watched(30)
    assert seen.after(NoticeInSight(for_ms=31_000, input_ms=0), START).counted == 0


def verdict(shown: Reason) -> Verdict:
    return Verdict(
        categories=frozenset(),
        sources=frozenset(),
        reason=shown,
        reasons=dict.fromkeys(Category, shown),
        shown=shown,
    )


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.RESUME_PENDING])
def test_no_time_counts_while_anything_else_is_in_the_way(reason: Reason) -> None:
    """A locked session, a hidden icon, a halt: whatever weighs more, and whatever weighs less."""
    assert may_count(verdict(Reason.RESUME_PENDING), Standing(), "notice")
    assert not may_count(verdict(reason), Standing(), "notice")


@pytest.mark.parametrize(
    ("ending", "resuming"),
    [(Ending.CLICK, "notice"), (Ending.NOTICE, "click"), (Ending.CLICK, "click")],
)
def test_who_wants_to_be_asked_is_asked(ending: Ending, resuming: Resuming) -> None:
    """By closing the notice, for this pause; by their own setting, for all."""
    standing = dataclasses.replace(Standing(), ending=ending)
    assert not may_count(verdict(Reason.RESUME_PENDING), standing, resuming)
