"""Does redaction do what it must?  Tried with known input before anything real may pass.

A sensor that cannot show this opens nothing, and the gate says REDACTOR_DOWN.
"""

from typing import Final

import numpy as np

from agent.geometry import Box
from agent.redact import keys, pixels
from agent.redact.pixels import View
from base.errors import AssentError
from wire.ids import BootInstant
from wire.policy import Application

LETTER: Final = 0x61  # the keysym of "a"
WHITE: Final = 255
OURS: Final = Application(process="ours", window_class="Ours")
THEIRS: Final = Application(process="theirs", window_class="Theirs")
DESKTOP: Final = Box(x=0, y=0, width=8, height=6)
WINDOW: Final = Box(x=1, y=1, width=6, height=4)
ABOVE: Final = Box(x=4, y=2, width=4, height=4)  # half of it over our window
HIDDEN: Final = (slice(1, 4), slice(3, 6))  # of the window's picture: rows, columns


class RedactionError(AssentError):
    """What would leave the sensor is more than may."""


def prove_keys() -> None:
    """Try that a letter at level `classes` is only known to be one.

    Raises:
        RedactionError: It says more.

    """
    try:
        told = keys.key(at=BootInstant(1), code=38, keysym=LETTER, pressed=True, level="classes")
    except Exception as exc:
        raise RedactionError(f"what hides keys does not work: {exc}") from exc
    if told.text or told.code or told.kind != "letter":
        raise RedactionError("what hides keys does not hide a letter")


def prove_pixels() -> None:
    """Try that a window of another's that lies over a permitted one is black in its picture.

    Raises:
        RedactionError: It is seen, or the picture of a window that may not be seen is made.

    """
    try:
        view = _view(OURS)
        picture = np.full((WINDOW.height, WINDOW.width, 3), WHITE, np.uint8)
        expected = picture.copy()
        expected[HIDDEN] = 0
        hidden = view is not None and np.array_equal(pixels.blank(picture, view), expected)
        refused = _view(THEIRS) is None
    except Exception as exc:
        raise RedactionError(f"what blanks pictures does not work: {exc}") from exc
    if not hidden:
        raise RedactionError("what blanks pictures does not blank another's window")
    if not refused:
        raise RedactionError("what blanks pictures shows a window that is not on the list")


def why_broken() -> str:
    """Return what does not work, in one line; empty where everything does."""
    try:
        prove_keys()
        prove_pixels()
    except RedactionError as exc:
        return str(exc)
    return ""


def _view(focused: Application) -> View | None:
    return pixels.permitted_view(
        desktop=DESKTOP, focused=(focused, WINDOW), above=[(THEIRS, ABOVE)], permitted={OURS}
    )
