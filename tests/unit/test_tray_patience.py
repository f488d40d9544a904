"""Keys and clicks that were meant for another window are refused, by the server's time."""

from tray.patience import QUIET_MS, Patience

WRAP = 1 << 32


def test_nothing_is_taken_before_the_window_is_in_sight() -> None:
    """A window that was never shown cannot be meant."""
    patience = Patience()
    assert not patience.takes_click(5_000)
    assert not patience.takes_key(5_000)


def test_clicks_are_taken_once_the_quiet_is_over() -> None:
    """At 699 ms no, at 700 ms yes; a refused click does not prolong it."""
    patience = Patience()
    patience.appeared(10_000)
    assert not patience.takes_click(10_000)
    assert not patience.takes_click(10_000 + QUIET_MS - 1)
    assert patience.takes_click(10_000 + QUIET_MS)


def test_a_burst_of_typing_is_refused_to_its_end() -> None:
    """Each refused key starts the quiet anew, so that nobody types into a yes."""
    patience = Patience()
    patience.appeared(0)
    for at in range(100, 5_000, 150):
        assert not patience.takes_key(at)
    assert patience.takes_key(5_000 + QUIET_MS)


def test_focus_starts_the_quiet_for_keys_but_not_for_clicks() -> None:
    """The click that gives a window the focus is already meant for it."""
    patience = Patience()
    patience.appeared(0)
    patience.focused(9_000)
    assert patience.takes_click(9_000)
    assert not patience.takes_key(9_100)
    assert patience.takes_key(9_100 + QUIET_MS)


def test_what_was_pressed_before_it_appeared_is_refused() -> None:
    """A late event carries the time at which it happened."""
    patience = Patience()
    patience.appeared(10_000)
    assert not patience.takes_click(9_999)
    assert not patience.takes_key(9_000)


def test_the_servers_clock_may_wrap() -> None:
    """The time stamps of X11 have 32 bits."""
    patience = Patience()
    patience.appeared(WRAP - 100)
    assert not patience.takes_click(200)
    assert patience.takes_click(QUIET_MS)
