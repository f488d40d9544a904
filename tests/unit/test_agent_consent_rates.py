"""No more events a second than the policy allows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.capture.pointer import Moves
from agent.consent.rates import RateCeiling
from wire.event import Button, Event, Key, Move, Still
from wire.ids import BootInstant

MS = 1_000_000


def key(at_ms: float) -> Event:
    return Key(at=BootInstant(int(at_ms * MS)), pressed=True, kind="letter")


def allowed(events: list[Event], rate_hz: float) -> int:
    ceiling = RateCeiling()
    return sum(ceiling.allows(event, rate_hz) for event in events)


def test_below_the_rate_everything_passes() -> None:
    """The ceiling is none to who stays below it."""
    assert allowed([key(at) for at in range(0, 10_000, 100)], 10) == 100


def test_above_the_rate_the_rest_is_dropped() -> None:
    """In each second at most the rate, and one for a timer that is early."""
    assert allowed([key(at) for at in range(1000)], 10) == 11
    assert allowed([key(at) for at in range(10_000)], 10) <= 111


def test_moves_are_thinned_out_evenly() -> None:
    """Not the first of each second, but one every so often, at most the rate."""
    ceiling = RateCeiling()
    moves = [Move(at=BootInstant(at * 2 * MS), x=at, y=0) for at in range(1000)]  # 500 a second
    kept = [move.at // MS for move in moves if ceiling.allows(move, 60)]
    assert 110 <= len(kept) <= 134
    assert max(later - earlier for earlier, later in itertools.pairwise(kept)) <= 18


def test_moves_at_the_rate_all_pass() -> None:
    """A timer that is a little early loses nothing."""
    assert (
        allowed([Move(at=BootInstant(int(at * 9.6 * MS)), x=0, y=0) for at in range(100)], 100)
        == 100
    )


def test_a_rate_of_nothing_lets_no_move_through() -> None:
    """Never a division by zero."""
    assert allowed([Move(at=BootInstant(at * MS), x=0, y=0) for at in range(5000)], 0) == 0


@given(
    st.lists(st.integers(1, 40 * MS), min_size=1, max_size=200),
    st.sampled_from([10.0, 60.0, 250.0, 1000.0]),
)
def test_what_the_sensor_lets_through_no_ceiling_takes_away(apart: list[int], rate: float) -> None:
    """Whenever motions come: the sensor's thinning is the policy's, and the last one is kept."""
    moves, ceiling, now = Moves(rate), RateCeiling(), 0
    yielded: list[BootInstant] = []

    def due_by(instant: int) -> None:
        due = moves.due()
        if due is not None and due <= instant:
            at = moves.take(BootInstant(max(due, now)), (len(yielded), 0))
            assert at is not None
            yielded.append(at)

    for wait in apart:
        due_by(now + wait - 1)
        now += wait
        moves.note(BootInstant(now))
        due_by(now)
    due_by(now + 10**9)
    assert yielded[-1] == now
    assert all(ceiling.allows(Move(at=at, x=0, y=0), rate) for at in yielded)


def test_clicks_do_not_count_against_moves() -> None:
    """One move more or less says the same; a click does not."""
    moves: list[Event] = [Move(at=BootInstant(at * MS), x=1, y=1) for at in range(1000)]
    clicks: list[Event] = [
        Button(at=BootInstant(at * MS), x=1, y=1, button=1, pressed=True) for at in range(1000)
    ]
    assert allowed(clicks, 10) == 1000
    assert allowed(moves + clicks, 10) == allowed(moves, 10) + 1000


def test_of_the_screen_only_pictures_count() -> None:
    """How long a picture stayed is no further picture."""
    still = Still(at=BootInstant(2), of=BootInstant(1), since=BootInstant(1))
    assert allowed([still] * 100, 1) == 100
