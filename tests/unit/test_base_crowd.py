"""Counts that tell of ten together, or of nobody."""

from hypothesis import given
from hypothesis import strategies as st

from base.crowd import BOUNDS, LEAST, Crowd, Tally, in_tens

CELL = "PUT 201"


def shown(crowd: Crowd[str]) -> int:
    tally = crowd.shown().get(CELL)
    return 0 if tally is None else tally.count


def test_nine_people_are_not_shown_however_much_they_do_and_the_tenth_shows_all() -> None:
    """The promise that nobody is told of fewer than ten."""
    crowd: Crowd[str] = Crowd()
    for number in range(LEAST - 1):
        for _ in range(100):
            crowd.take(CELL, 0.01, bytes([number]))
    assert shown(crowd) == 0
    crowd.take(CELL, 0.01, b"the tenth")
    assert shown(crowd) == 100 * (LEAST - 1) + 1


def test_after_each_step_ten_others_are_waited_for() -> None:
    """Else the eleventh alone would be seen at work."""
    crowd: Crowd[str] = Crowd()
    for number in range(LEAST):
        crowd.take(CELL, 0.01, bytes([number]))
    before = shown(crowd)
    for _ in range(1000):
        crowd.take(CELL, 0.01, b"one alone")
    assert shown(crowd) == before == LEAST


@given(st.lists(st.integers(0, 30), max_size=400))
def test_every_step_of_what_is_shown_is_the_work_of_ten(who: list[int]) -> None:
    """Whoever does how much in which order: between two looks that differ, at least ten."""
    crowd: Crowd[str] = Crowd()
    since: set[int] = set()
    last = 0
    for number in who:
        crowd.take(CELL, 0.0, bytes([number]))
        since.add(number)
        if shown(crowd) != last:
            assert len(since) >= LEAST
            last, since = shown(crowd), set()
    assert last <= len(who)


def test_what_says_nothing_of_people_is_shown_at_once() -> None:
    """A reader's request, a clockwork's: no crowd is waited for, and none is brought along."""
    crowd: Crowd[str] = Crowd()
    crowd.take(CELL, 0.01, b"somebody")
    crowd.take(CELL, 0.01, None)
    assert shown(crowd) == 1


def test_times_fall_into_classes_and_add_up() -> None:
    """As a histogram of Prometheus wants them; a bound belongs to the class below it."""
    tally = Tally()
    for seconds in (*BOUNDS, 0.0, 1e9):
        tally.take(seconds)
    assert tally.classes == [2, *[1] * (len(BOUNDS) - 1), 1]
    assert tally.count == sum(tally.classes) == len(BOUNDS) + 2
    both = Tally()
    both.add(tally)
    both.add(tally)
    assert both.count == 2 * tally.count
    assert both.classes == [2 * many for many in tally.classes]


def test_a_count_of_people_is_told_in_tens() -> None:
    """None below ten; one who comes or goes mostly does not show."""
    assert [in_tens(n) for n in (0, 9, 10, 19, 20, 57)] == [0, 0, 10, 10, 20, 50]
