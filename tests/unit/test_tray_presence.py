"""Who is there: input counts as a person's only together with a pointer that moved."""

import pytest

from tray.presence import Presence, Reading, Signs

HERE, THERE = (10, 10), (400, 300)


def read(at_ms: int, idle_ms: int, pointer: tuple[int, int] = HERE) -> Reading:
    return Reading(at_ms=at_ms, idle_ms=idle_ms, pointer=pointer)


def test_a_pointer_that_moves_is_a_sign_with_the_time_of_the_input() -> None:
    """The server says how long ago it was."""
    signs = Signs(last=read(0, 5_000)).after(read(1_000, 300, THERE))
    assert signs.input_ms() == 300
    assert signs.after(read(2_000, 1_300, THERE)).input_ms() == 1_300


def test_what_was_before_the_first_reading_is_no_sign() -> None:
    """However recently it was: only what comes after it counts."""
    signs = Signs(last=read(0, 0))
    assert signs.input_ms() is None
    assert signs.after(read(1_000, 1_000)).input_ms() is None


def test_a_video_player_that_keeps_the_screen_awake_is_nobody() -> None:
    """It sets the idle count back for hours; the pointer rests."""
    signs = Signs(last=read(0, 0))
    for at in range(1_000, 3_600_000, 30_000):
        signs = signs.after(read(at, 0))
    assert signs.input_ms() is None


def test_a_pointer_that_is_elsewhere_without_any_input_is_nobody() -> None:
    """Programs can put it anywhere; the server knows of no input since the last reading."""
    assert Signs(last=read(0, 9_000)).after(read(1_000, 10_000, THERE)).input_ms() is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"DISPLAY": "elsewhere.example:0"},
        {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"},
        {"DISPLAY": ":0", "XDG_SESSION_TYPE": "wayland"},
    ],
    ids=["none", "remote", "wayland", "wayland session"],
)
def test_where_nobody_can_tell_nothing_is_known(environment: dict[str, str]) -> None:
    """No display, another machine's, Wayland: the notice then waits for a click."""
    presence = Presence(lambda: 0, environment)
    presence.begin()
    assert presence.input_ms() is None
