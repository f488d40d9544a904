"""Deadlines and trust, by table: what each clock says, and what follows."""

import pytest

from agent.consent.clocks import Deadline, deadline_after, disagreement, has_passed
from base.clock import NANOSECONDS, Now

S = NANOSECONDS
AT = Now(boot=1_000 * S, wall=50_000 * S, boot_id="one")


def later(boot: float, wall: float, boot_id: str = "one") -> Now:
    return Now(boot=AT.boot + int(boot * S), wall=AT.wall + int(wall * S), boot_id=boot_id)


@pytest.mark.parametrize(
    ("now", "passed"),
    [
        (later(0, 0), False),
        (later(99, 99), False),
        (later(100, 100), True),
        (later(100, 99), False),  # the wall clock was set back
        (later(99, 5_000), False),  # the wall clock was set forward
        (later(5_000, 5_000), True),  # suspended: both clocks went on
        (later(-900, 100, "two"), True),  # rebooted: the wall clock alone can tell
        (later(-900, 99, "two"), False),
    ],
)
def test_a_deadline_has_passed_when_every_clock_that_can_tell_says_so(
    *, now: Now, passed: bool
) -> None:
    """A pause keeps its true length, whatever is done to one of the clocks."""
    assert has_passed(deadline_after(AT, 100 * S), now) is passed


def test_a_deadline_lies_as_far_ahead_on_both_clocks() -> None:
    """One click is one length."""
    assert deadline_after(AT, 5 * S) == Deadline(
        wall=AT.wall + 5 * S, boot=AT.boot + 5 * S, boot_id="one"
    )


@pytest.mark.parametrize(
    ("now", "doubted"),
    [
        (later(10, 10), False),
        (later(10, 15), False),  # five seconds are drift
        (later(10, 15.1), True),
        (later(10, 4.9), True),
        (later(86_400, 86_400), False),
        (later(-900, 1, "two"), False),
        (later(-900, 0, "two"), False),
        (later(-900, -0.001, "two"), True),  # earlier than what was seen
        (later(-900, 10**9, "two"), False),  # later cannot be told from time that went by
    ],
)
def test_clocks_that_disagree_are_not_believed(*, now: Now, doubted: bool) -> None:
    """More than five seconds within one boot, or earlier than last seen after another."""
    assert bool(disagreement(AT, now)) is doubted
