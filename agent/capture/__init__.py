"""What happens on the workstation: sources of input, windows and screens.

This module is the door: it picks the sources of this platform (today: X11) and refuses a
session in which they would see half.  Nothing is watched before `open`, and nothing any
more after `close`.  See `source` for what all of them promise.
"""

from agent.capture.source import KeyStroke, Source, SourceError
from agent.capture.window import SecretSource, WindowSource
from wire.control import InputSource, SecretSeen
from wire.event import Button, Move, Scroll

__all__ = [
    "KeyStroke",
    "SecretSource",
    "Source",
    "SourceError",
    "WindowSource",
    "input_source",
    "secret_source",
    "window_source",
]


def input_source(
    *, keys: bool, pointer: bool, move_hz: float, which: InputSource = "auto"
) -> Source[KeyStroke | Move | Button | Scroll | SecretSeen]:
    """Return a closed source of what is typed, pointed at, or both, in one order.

    Of moves it yields at most *move_hz* a second, and always the last.
    """
    # Imported where it is used: each sensor process loads only what it watches.
    match which:
        case "pynput":
            from agent.capture._pynput import PynputInput  # noqa: PLC0415

            return PynputInput(keys=keys, pointer=pointer, move_hz=move_hz)
        case "auto" | "xinput2":
            from agent.capture._x11_input import X11Input  # noqa: PLC0415

            return X11Input(keys=keys, pointer=pointer, move_hz=move_hz)


def window_source(*, titles: bool, stack: bool) -> WindowSource:
    """Return a closed source of who has the focus; with *stack* also of what lies above."""
    from agent.capture._x11_windows import X11Windows  # noqa: PLC0415

    return X11Windows(titles=titles, stack=stack)


def secret_source() -> SecretSource:
    """Return a closed source of whether a field for secrets has the focus."""
    from agent.capture._atspi import SecureFields  # noqa: PLC0415

    return SecureFields()
