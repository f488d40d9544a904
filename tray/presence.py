"""Is the data subject there, and can they see a window?  Never what they do elsewhere.

X11 alone tells, in two answers that are content of nothing: for how long the server has had
no input (MIT-SCREEN-SAVER, which needs no hook), and where the pointer is.  The first is not
enough: a video player sets that count back to keep the screen from going dark, with nobody
in the room.  So input counts as a person's only if the pointer is elsewhere than it was.
Someone who only types is not found, then; their notice waits, which is the private way to
be wrong.  Anywhere else nothing is known: the notice waits for a click.

Whether a window is covered is asked of the stacking order, because a compositor keeps the
server from telling it by itself.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from Xlib import X, error
from Xlib.display import Display
from Xlib.ext import screensaver
from Xlib.xobject.drawable import Window

_LOG: Final = logging.getLogger(__name__)
_LOST: Final = (error.ConnectionClosedError, error.DisplayError, error.XError, OSError)
_GONE: Final = (error.BadWindow, error.BadDrawable)

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom on the screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the display server says at one moment (`at_ms`: of any clock that does not jump)."""

    at_ms: int
    idle_ms: int
    pointer: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """The last reading, and when the data subject last gave a sign; None: not since the first."""

    last: Reading
    seen_at_ms: int | None = None

    def after(self, reading: Reading) -> "Signs":
        """Return the signs with one more reading."""
        since_last = reading.at_ms - self.last.at_ms
        moved = reading.pointer != self.last.pointer and reading.idle_ms <= since_last
        seen = reading.at_ms - reading.idle_ms if moved else self.seen_at_ms
        return Signs(last=reading, seen_at_ms=seen)

    def input_ms(self) -> int | None:
        """Return how long before the last reading that sign was, None without one."""
        return None if self.seen_at_ms is None else self.last.at_ms - self.seen_at_ms


class Presence:
    """Reads the signs on the session's own X server, from `begin` on."""

    def __init__(
        self, clock_ms: Callable[[], int], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._clock_ms = clock_ms
        self._name = _local(environment)
        self._display: Display | None = None
        self._signs: Signs | None = None

    def begin(self) -> None:
        """Forget what was seen: only what comes from now on counts."""
        reading = self._read()
        self._signs = None if reading is None else Signs(last=reading)

    def input_ms(self) -> int | None:
        """Return how long ago the data subject last gave a sign; None if that is not known."""
        reading = self._read()
        if reading is None or self._signs is None:
            return None
        self._signs = self._signs.after(reading)
        return self._signs.input_ms()

    def is_in_sight(self, window: int) -> bool:
        """Whether nothing lies above any part of *window*, and all of it is on the screen.

        What floats in front for a moment, or lets light through, counts as covering too.
        """
        display = self._connected()
        if display is None:
            return False
        try:
            return _is_in_sight(display, window)
        except _LOST as exc:
            self._lose(exc)
            return False

    def _read(self) -> Reading | None:
        display = self._connected()
        if display is None or not display.has_extension(screensaver.extname):
            return None
        try:
            root = display.screen().root
            idle, at = int(root.screensaver_query_info().idle), root.query_pointer()
        except _LOST as exc:
            self._lose(exc)
            return None
        pointer = (int(at.root_x), int(at.root_y))
        return Reading(at_ms=self._clock_ms(), idle_ms=idle, pointer=pointer)

    def _connected(self) -> Display | None:
        if self._display is None and self._name is not None:
            try:  # Gtk is on this server already: somebody answers
                self._display = Display(self._name)
            except _LOST as exc:
                self._lose(exc)
        return self._display

    def _lose(self, why: Exception) -> None:
        _LOG.warning("the display cannot say whether somebody is there: %s", type(why).__name__)
        self._display = None


def _is_in_sight(display: Display, window: int) -> bool:
    root = display.screen().root
    top = display.create_resource_object("window", window)
    while (parent := top.query_tree().parent) != root:
        top = parent
    whole, ours = _box(root), _box(top)
    if not (whole[0] <= ours[0] and ours[2] <= whole[2]):
        return False
    if not (whole[1] <= ours[1] and ours[3] <= whole[3]):
        return False
    stack = root.query_tree().children  # the lowest first
    if top not in stack:
        return False
    for above in stack[stack.index(top) + 1 :]:
        with suppress(*_GONE):  # it went while we asked
            shown = above.get_attributes()
            if (
                shown.map_state == X.IsViewable
                and shown.win_class == X.InputOutput
                and _overlap(_box(above), ours)
            ):
                return False
    return True


def _box(window: Window) -> Box:
    """Return where a window below the root is, borders included."""
    shape = window.get_geometry()
    edges = 2 * int(shape.border_width)
    left, top = int(shape.x), int(shape.y)
    return left, top, left + int(shape.width) + edges, top + int(shape.height) + edges


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _local(environment: Mapping[str, str]) -> str | None:
    """Return the session's own X server by its local socket; None where there is none.

    Under Xwayland the answers would be those of X11 programs only.
    """
    host, colon, number = environment.get("DISPLAY", "").removeprefix("unix/").rpartition(":")
    wayland = environment.get("WAYLAND_DISPLAY") or environment.get("XDG_SESSION_TYPE") == "wayland"
    if not colon or wayland or host not in {"", "unix"}:
        return None
    return f"unix/:{number}"
