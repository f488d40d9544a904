"""Which sessions are refused, before anything is opened."""

import pytest

from agent.capture import SourceError, permission


@pytest.mark.parametrize(
    "environ",
    [
        {"XDG_SESSION_TYPE": "wayland", "DISPLAY": ":0"},
        {"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"},
    ],
)
def test_a_wayland_session_is_refused_and_told_why(environ: dict[str, str]) -> None:
    """Its X11 bridge would show black screens and hear some keys: half a recording."""
    allowed = permission.examine(environ)
    assert allowed.input == allowed.screen == allowed.window == permission.WAYLAND
    with pytest.raises(SourceError, match="X11 session"):
        permission.require(environ)


@pytest.mark.parametrize("environ", [{}, {"DISPLAY": ""}, {"DISPLAY": ":987"}])
def test_a_session_without_a_display_is_refused_in_one_line(environ: dict[str, str]) -> None:
    """Nothing is open, nothing hangs, and the line says what to do."""
    with pytest.raises(SourceError) as refusal:
        permission.require(environ)
    assert "session" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("display", ["localhost:10.0", "elsewhere.example:0", "tcp/[::1]:0"])
def test_a_display_beyond_a_socket_of_this_machine_is_refused(display: str) -> None:
    """A forwarded or remote display would be a second door out."""
    with pytest.raises(SourceError, match="another machine's"):
        permission.require({"DISPLAY": display})
