"""The picture of an action: the newest one before it that is not stale, or a reason."""

import pytest

from reader.actions import APART, LATEST_AGE, Missing, Span, is_action, picture_before, runnings
from reader.actions import spans_of as spans
from wire.event import Button, Event, Key, Move, Scroll, Still
from wire.ids import BootInstant

SECOND = 1_000_000_000
AT = BootInstant(5 * SECOND)


def still(of: float, since: float, until: float) -> Still:
    """Return what a sensor says, in seconds."""
    of_, since_, until_ = (BootInstant(round(each * SECOND)) for each in (of, since, until))
    return Still(at=until_, of=of_, since=since_)


def test_a_picture_that_is_not_stale_is_the_picture() -> None:
    """Up to 100 ms after it was complete, and not a nanosecond longer."""
    seen = spans({5 * SECOND: "five"}, [])
    assert picture_before(5 * SECOND + APART, seen) == "five"
    assert picture_before(5 * SECOND + LATEST_AGE, seen) == "five"
    assert picture_before(5 * SECOND + LATEST_AGE + 1, seen) is Missing.CHANGED


def test_an_old_picture_that_is_still_true_is_the_picture() -> None:
    """As long as the sensor says that nothing was drawn, and 100 ms on."""
    seen = spans({5 * SECOND: "five"}, [still(5, 5, 60)])
    assert picture_before(59 * SECOND, seen) == "five"
    assert picture_before(60 * SECOND + LATEST_AGE, seen) == "five"
    assert picture_before(60 * SECOND + LATEST_AGE + 1, seen) is Missing.CHANGED


def test_before_the_first_picture_there_is_none() -> None:
    """Nor at the very time of it: two sensors do not date alike, and it may show the effect."""
    seen = spans({5 * SECOND: "five"}, [])
    assert picture_before(4 * SECOND, seen) is Missing.NO_PICTURE
    assert picture_before(5 * SECOND + APART - 1, seen) is Missing.NO_PICTURE
    assert picture_before(5 * SECOND, []) is Missing.NO_PICTURE


def test_the_newest_picture_counts() -> None:
    """The action's own effect, which comes later, never does."""
    seen = spans({5 * SECOND: "five", 6 * SECOND: "six"}, [still(5, 5, 5.98)])
    assert picture_before(6 * SECOND, seen) == "five"
    assert picture_before(6 * SECOND + APART, seen) == "six"


def test_a_picture_that_is_not_in_the_export_is_not_replaced_by_an_older_one() -> None:
    """It was deleted, or is of a batch that nobody released."""
    seen = spans({5 * SECOND: "five"}, [still(5, 5, 6), still(6.01, 6.01, 9)])
    assert picture_before(6 * SECOND + LATEST_AGE, seen) is Missing.NOT_HERE
    assert picture_before(8 * SECOND, seen) is Missing.NOT_HERE


def test_a_picture_that_came_back_counts_from_then_on() -> None:
    """Two looks far apart saw the same, and what was between nobody knows."""
    seen = spans({5 * SECOND: "five"}, [still(5, 5, 6), still(5, 7, 8)])
    assert picture_before(round(6.5 * SECOND), seen) is Missing.CHANGED
    assert picture_before(round(7.5 * SECOND), seen) == "five"
    assert seen[0] == Span(5 * SECOND, 5 * SECOND, "five")


@pytest.mark.parametrize(
    ("event", "action"),
    [
        (Key(at=AT, pressed=True, kind="letter"), True),
        (Key(at=AT, pressed=False, kind="letter"), False),
        (Button(at=AT, x=1, y=1, button=1, pressed=True), True),
        (Button(at=AT, x=1, y=1, button=1, pressed=False), False),
        (Scroll(at=AT, x=1, y=1, dx=0, dy=1), True),
        (Move(at=AT, x=1, y=1), False),
        (still(1, 1, 2), False),
    ],
)
def test_actions_are_presses_and_wheel_steps(event: Event, *, action: bool) -> None:
    """What a person did, once each."""
    assert is_action(event) is action


def test_clocks_of_one_running_drift_and_another_running_is_told_apart() -> None:
    """Slow drift adds up; a restart, or a step of the wall clock, is another running."""
    drifting = [50 * SECOND + number * SECOND // 2 for number in range(10)]
    later = [drifting[-1] + 2 * SECOND, drifting[-1] + 2 * SECOND + 7]
    found = runnings([*later, *drifting])
    assert {found[offset] for offset in drifting} == {0}
    assert {found[offset] for offset in later} == {1}
