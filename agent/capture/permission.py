"""What this session's display allows, found out without recording anything.

Said before a source is opened, and by `doctor`.  Where a display shows less than it seems
to (Wayland through its X11 bridge shows black screens and hears only some keys), the answer
is a refusal that says why, never half a recording.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from Xlib.display import Display
from Xlib.ext import randr

from agent.capture import _x11, _x11_input
from agent.capture.source import SourceError

WAYLAND: Final = (
    "this is a Wayland session, where a program cannot watch input or screens with the "
    "desktop's consent; log in to an X11 session to take part"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Per kind of source: empty if it can be opened here, else one line that says why not."""

    input: str
    screen: str
    window: str


def examine(environ: Mapping[str, str]) -> Allowance:
    """Return what the display of the session with these variables allows."""
    refusal = session_refusal(environ)
    if refusal:
        return _all(refusal)
    try:
        display = _x11.connect(environ.get("DISPLAY", ""))
    except SourceError as exc:
        return _all(str(exc))
    try:
        with _x11.watched():
            if is_xwayland(display):
                return _all(WAYLAND)
            return Allowance(input=_input(display), screen=_screen(display), window="")
    except SourceError as exc:
        return _all(str(exc))
    finally:
        _x11.disconnect(display)


def require(environ: Mapping[str, str]) -> None:
    """Refuse a session in which nothing can be recorded honestly.

    Raises:
        SourceError: It is a Wayland session, or has no display that can be reached.

    """
    allowed = examine(environ)
    refusal = allowed.window  # what keeps windows from being watched keeps everything
    if refusal:
        raise SourceError(refusal)


def session_refusal(environ: Mapping[str, str]) -> str:
    """Return why a session with these variables is refused; empty if it is not."""
    kind = environ.get("XDG_SESSION_TYPE", "")
    if kind == "wayland" or environ.get("WAYLAND_DISPLAY"):
        return WAYLAND
    return ""


def is_xwayland(display: Display) -> bool:
    """Whether an X server is only the bridge of a Wayland session.

    Newer ones say so by an extension; all of them name their outputs XWAYLAND0, 1, ...
    """
    if display.query_extension("XWAYLAND") is not None:
        return True
    if not display.has_extension(randr.extname):
        return False
    resources = display.screen().root.xrandr_get_screen_resources()
    names = [
        str(display.xrandr_get_output_info(output, resources.config_timestamp).name)
        for output in resources.outputs
    ]
    return any(name.startswith("XWAYLAND") for name in names)


def _input(display: Display) -> str:
    if _x11_input.version(display) < _x11_input.VERSION:
        return "this X server lacks XInput 2.2: keyboard and pointer stay unrecorded"
    if display.query_extension("XKEYBOARD") is None:
        return "this X server lacks XKB: keys could not be told apart"
    return ""


def _screen(display: Display) -> str:
    if display.query_extension("MIT-SHM") is None:
        return "this X server shares no memory (is it another machine's?): screens stay unrecorded"
    return ""


def _all(why: str) -> Allowance:
    return Allowance(input=why, screen=why, window=why)
