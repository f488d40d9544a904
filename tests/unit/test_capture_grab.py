"""Which keys and which ends of a grab are told apart by the numbers of requests."""

from agent.capture._x11_grab import Tries


def test_what_came_before_a_try_is_undecided_and_what_came_after_is_not() -> None:
    """The server had seen request 40 when the focus moved, and 50 when we tried to grab."""
    tries = Tries()
    tries.add(50, 51)
    assert tries.undecided(40)
    assert not tries.undecided(50)
    assert not tries.undecided(60)


def test_only_our_own_grabs_are_ours() -> None:
    """Those of an earlier try too, as long as they have not been told."""
    tries = Tries()
    tries.add(40, 41)
    tries.add(50, 51)
    assert [tries.made(number) for number in (40, 41, 45, 50, 51, 52)] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


def test_a_try_that_lies_behind_hides_no_key_half_a_round_later() -> None:
    """One who only moves the pointer for a while makes many requests, and then types."""
    tries = Tries()
    tries.add(50, 51)
    for sequence in range(60, 50 + (1 << 16), 1000):
        tries.arrived(sequence & 0xFFFF)
        assert not tries.undecided(sequence & 0xFFFF)


def test_another_clients_grab_is_not_ours_because_the_numbers_came_round() -> None:
    """Request 65,586 has the number of request 50."""
    tries = Tries()
    tries.add(50, 51)
    tries.arrived(51)
    assert tries.made(51)
    for sequence in range(1000, 1 << 16, 1000):
        tries.arrived(sequence)
    assert not tries.made(50)
    assert not tries.made(51)


def test_a_try_at_the_round_is_told_apart_too() -> None:
    """Serial numbers go on after 16 bits, those of events start anew."""
    tries = Tries()
    tries.add(0x1_0001, 0x1_0002)
    assert tries.undecided(0xFFF0)
    assert not tries.undecided(1)
    assert tries.made(2)
