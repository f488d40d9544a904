"""Deadlines and trust, by table: what each clock says, and what follows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.consent.clocks import Deadline, deadline_after, disagreement, has_passed
from agent.consent.entries import ClockConfirmed, ClockDoubted, Entry, StoppedUncleanly
from agent.consent.ledger import Ledger
from agent.consent.seen import SeenClock
from base.clock import NANOSECONDS, Now
from tests.fakes.organisation import ed25519

S = NANOSECONDS
AT = Now(boot=1_000 * S, wall=1_800_000_000 * S, boot_id="one")


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


# --- what was seen before this boot -----------------------------------------------------


@pytest.fixture
def doubted(tmp_path: Path) -> Callable[..., bool]:
    """Return whether a start at `now` doubts the clock, after these lines at these times."""
    device = ed25519().public_key()

    def starts(now: Now, *lines: tuple[Entry, Now]) -> bool:
        ledger = Ledger.open(tmp_path, device, AT)
        for entry, at in lines:
            ledger.append(entry, at)
        return bool(SeenClock(tmp_path, ledger.standing, now).doubt(now))

    return starts


def test_a_line_of_a_boot_whose_clock_went_back_proves_nothing(
    doubted: Callable[..., bool],
) -> None:
    """A start that finishes what a crash left writes one before the clock is looked at."""
    back, later_on = later(-900, -7_200, "two"), later(-890, -7_190, "two")
    last = (StoppedUncleanly(), later(10, 10))
    assert doubted(later_on, last, (StoppedUncleanly(), back))


def test_nor_do_those_of_several_such_boots(doubted: Callable[..., bool]) -> None:
    """Each a little later than the one before, and none as late as what was seen first."""
    boots = [(StoppedUncleanly(), later(0, -100 + n, f"boot {n}")) for n in range(9)]
    now = later(1, -50, "boot 8")
    assert doubted(now, (StoppedUncleanly(), later(10, 10)), *boots)


def test_what_was_confirmed_in_this_boot_is_believed(doubted: Callable[..., bool]) -> None:
    """Though it is earlier than what was seen, for the data subject said so; the next one, too."""
    back = later(-900, -7_200, "two")
    lines = (
        (StoppedUncleanly(), later(10, 10)),
        (StoppedUncleanly(), back),
        (ClockDoubted(why="it went back"), back),
        (ClockConfirmed(), later(-899, -7_199, "two")),
    )
    assert not doubted(later(-890, -7_190, "two"), *lines)
    assert not doubted(later(-900, -7_000, "three"))
    assert doubted(later(-900, -7_300, "three"))


def test_a_line_of_this_boot_that_is_later_than_all_before_is_believed(
    doubted: Callable[..., bool],
) -> None:
    """Then both clocks of this boot are compared with it."""
    lines = ((StoppedUncleanly(), later(10, 10)), (StoppedUncleanly(), later(-900, 60, "two")))
    assert not doubted(later(-890, 70, "two"), *lines)
    assert doubted(later(-890, 80, "two"))
