"""Whose window had the focus at an event's own time."""

import pytest

from agent.consent.scope import SETTLE_NANOSECONDS, FocusTimeline

MS = 1_000_000
MARGIN = SETTLE_NANOSECONDS // MS


def timeline(*changes: tuple[int, bool | None]) -> FocusTimeline:
    """Return a timeline with changes at these milliseconds."""
    made = FocusTimeline()
    for at, inside in changes:
        made.note(at * MS, inside)
    return made


def test_before_anybody_said_anything_nothing_is_inside() -> None:
    """Unknown is no."""
    assert not FocusTimeline().is_inside(0)
    assert not FocusTimeline().is_settled_inside(0)
    assert FocusTimeline().current() is None


@pytest.mark.parametrize(
    ("at", "inside", "settled"),
    [
        (999, False, False),
        (1000, True, False),
        (1000 + MARGIN - 1, True, False),
        (1000 + MARGIN, True, True),
        (1500, True, True),
        (2000 - MARGIN - 1, True, True),
        (2000 - MARGIN, True, False),  # typed just before the other window was seen
        (1999, True, False),
        (2000, False, False),
        (2500, False, False),
    ],
)
def test_an_event_near_a_change_that_touches_an_outside_window_is_dropped(
    *, at: int, inside: bool, settled: bool
) -> None:
    """Two processes do not stamp the same key and the same change alike."""
    made = timeline((1000, True), (2000, False))
    assert made.is_inside(at * MS) is inside
    assert made.is_settled_inside(at * MS) is settled


def test_a_change_from_one_listed_window_to_another_costs_nothing() -> None:
    """Nothing outside is touched, so there is nothing to be careful about."""
    made = timeline((0, True), (1000, True))
    assert all(made.is_settled_inside(at * MS) for at in range(200, 2000, 7))


def test_a_change_that_arrives_late_counts_from_its_own_time() -> None:
    """The order of arrival says nothing."""
    made = timeline((0, True), (2000, True), (1000, False))
    assert not made.is_inside(1500 * MS)
    assert made.is_inside(2500 * MS)


def test_when_the_context_source_closes_the_scope_is_unknown() -> None:
    """What nobody watches is not inside."""
    made = timeline((0, True), (1000, None))
    assert made.current() is None
    assert not made.is_inside(1500 * MS)


def test_old_changes_are_forgotten_but_for_the_one_in_force() -> None:
    """Memory is bounded, and who has had the focus for long still has it."""
    made = timeline((0, True), (1, False), (2, True), (60_000, True))
    assert not made.is_inside(0)
    assert made.is_inside(59_000 * MS)
