"""Buttons, wheel and moves: what becomes an event, and how many."""

import pytest

from agent.capture.pointer import WHEEL, Moves, pressed_or_turned
from wire.event import Button, Scroll
from wire.ids import BootInstant

NOW = BootInstant(1_000_000_000)
INTERVAL = 4_000_000  # ns, of 250 moves a second


@pytest.mark.parametrize("number", WHEEL)
def test_a_step_of_the_wheel_is_one_event(number: int) -> None:
    """The server reports a press and a release; the step is counted at the press."""
    dx, dy = WHEEL[number]
    step = pressed_or_turned(NOW, number, (3, 4), pressed=True)
    assert step == Scroll(at=NOW, x=3, y=4, dx=dx, dy=dy)
    assert pressed_or_turned(NOW, number, (3, 4), pressed=False) is None


@pytest.mark.parametrize("number", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("pressed", [True, False])
def test_a_button_is_an_event_each_way(number: int, *, pressed: bool) -> None:
    """Press and release of a button both count, at the pointer's place."""
    made = pressed_or_turned(NOW, number, (3, 4), pressed=pressed)
    assert made == Button(at=NOW, x=3, y=4, button=number, pressed=pressed)


def test_moves_are_bounded_and_the_last_one_comes_out() -> None:
    """A thousand motions in a row become few moves, and the last position is among them."""
    moves, taken = Moves(250), []
    for tick in range(1000):
        now = BootInstant(NOW + tick * 100_000)  # 10,000 a second
        moves.note(now)
        if now >= (moves.due() or 0):
            taken.append((moves.take(now, (tick, 0)), tick))
    due = moves.due()
    if due is not None:
        taken.append((moves.take(due, (1000, 0)), 1000))
    assert len(taken) <= 1000 * 100_000 // INTERVAL + 2
    assert all(at is not None for at, _ in taken)
    assert taken[-1][1] >= 960


def test_a_motion_that_moves_nothing_is_no_move() -> None:
    """Fine wheels report motions of other axes; the pointer stays where it is."""
    moves = Moves(250)
    moves.note(NOW)
    assert moves.take(NOW, (1, 1)) == NOW
    moves.note(BootInstant(NOW + INTERVAL))
    assert moves.take(BootInstant(NOW + INTERVAL), (1, 1)) is None
    assert moves.due() is None


def test_below_the_rate_every_motion_is_a_move_at_once() -> None:
    """Nothing is merged but where the rate says so."""
    moves = Moves(250)
    for tick in range(100):
        now = BootInstant(NOW + tick * INTERVAL)
        moves.note(now)
        assert now >= (moves.due() or 0)
        assert moves.take(now, (tick, 0)) == now
