"""Screens: the pixels of a part of the desktop, as they are; the only module that knows mss.

X's shared memory makes this cheap (about 1 ms for a full screen).  Nothing here keeps or
redacts a picture: what may be kept is decided by `agent.redact.pixels`, and turned into
frames by `frames`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import mss
import mss.exception
import mss.tools
import numpy as np
import numpy.typing as npt

from agent.capture import _x11
from agent.capture.source import SourceError
from agent.geometry import Box

BACKEND: Final = "xshmgetimage"  # the others take 25 times as long

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Height x width x 4: blue, green, red and a byte without meaning."""


class Grabber:
    """Takes pictures of one display while it is open."""

    def __init__(self, *, display: str | None = None) -> None:
        self._name = display
        self._mss: mss.MSS | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            SourceError: There is no display, or it gives no pictures.

        """
        with _mapped():
            self._mss = mss.MSS(backend=BACKEND, display=_x11.local_name(self._name))

    def desktop(self) -> Box:
        """Return the bounds of all monitors together, as they were at `open`."""
        with _mapped():
            whole = self._open().monitors[0]
        return Box(whole["left"], whole["top"], whole["width"], whole["height"])

    def grab(self, box: Box) -> Pixels:
        """Return the pixels of *box*, which lies within the desktop; a copy of its own.

        Raises:
            SourceError: The display has gone, or changed its size; close, and open again.

        """
        left, top, width, height = box
        with _mapped():
            shot = self._open().grab({"left": left, "top": top, "width": width, "height": height})
        return np.frombuffer(shot.raw, np.uint8).reshape(height, width, 4)

    def close(self) -> None:
        """Disconnect; never fails."""
        connection, self._mss = self._mss, None
        if connection is not None:
            connection.close()

    def _open(self) -> mss.MSS:
        if self._mss is None:
            raise SourceError("the screen source is closed")
        return self._mss


def is_black(pixels: Pixels) -> bool:
    """Whether a whole picture is black, as Xwayland paints what it does not want to show."""
    return not pixels[:, :, :3].any()


def save_png(path: Path, *, display: str | None = None) -> None:
    """Save the whole desktop as a PNG file.  For the demonstration and tests; nothing is kept.

    Raises:
        SourceError: There is no display.

    """
    grabber = Grabber(display=display)
    grabber.open()
    try:
        with _mapped():
            connection = grabber._open()  # noqa: SLF001 - same module
            shot: Any = connection.grab(connection.monitors[0])
            mss.tools.to_png(shot.rgb, shot.size, output=str(path))
    finally:
        grabber.close()


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn what mss raises into a `SourceError`; a lost display is an AssertionError there."""
    try:
        yield
    except (mss.exception.ScreenShotError, AssertionError, OSError) as exc:
        reason = type(exc).__name__
        raise SourceError(f"the screen cannot be read ({reason}); is this an X11 session?") from exc
