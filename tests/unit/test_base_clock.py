"""The clocks: one reading of both belongs together, also where the machine stops us."""

import time

import pytest

from base import clock
from base.clock import CLOSE, SystemClock

BOOT, WALL = 1_000_000_000, 5_000_000_000_000


def test_a_reading_during_which_the_machine_stopped_is_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The offset of the two clocks is right to within the time of an undisturbed reading."""
    stalls = iter([0, 0, 80_000_000, 0, 0, 0, 500, 0, 0, 0])  # in the first look, then hardly
    went_by = 0

    def tick() -> int:
        nonlocal went_by
        went_by += next(stalls)
        return went_by

    monkeypatch.setattr(clock, "boot_ns", lambda: BOOT + tick())
    monkeypatch.setattr(time, "time_ns", lambda: WALL + tick())
    now = SystemClock().now()
    assert abs((now.wall - WALL) - (now.boot - BOOT)) <= CLOSE


def test_a_machine_that_always_stops_gets_its_best_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after a few looks."""
    went_by = 0

    def tick() -> int:
        nonlocal went_by
        went_by += 1_000_000
        return went_by

    monkeypatch.setattr(clock, "boot_ns", lambda: BOOT + tick())
    monkeypatch.setattr(time, "time_ns", lambda: WALL + tick())
    now = SystemClock().now()
    assert abs((now.wall - WALL) - (now.boot - BOOT)) <= 1_000_000


def test_the_clocks_go_forward() -> None:
    """And the boot clock is the machine's."""
    first, second = SystemClock().now(), SystemClock().now()
    assert first.boot <= second.boot <= clock.boot_ns()
    assert first.boot_id == second.boot_id
