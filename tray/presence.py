"""Is the data subject there?  How long ago they last did something, and never what.

X11 alone tells, in two answers that are content of nothing: for how long the server has had
no input (MIT-SCREEN-SAVER, which needs no hook), and where the pointer is.  The first is not
enough: a video player sets that count back to keep the screen from going dark, with nobody
in the room.  So input counts as a person's only if the pointer is elsewhere than it was.
Someone who only types is not found, then; their notice waits, which is the private way to
be wrong.  Anywhere else nothing is known: the notice waits for a click.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from Xlib import error
from Xlib.display import Display
from Xlib.ext import screensaver

_LOG: Final = logging.getLogger(__name__)


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

    def _read(self) -> Reading | None:
        if self._name is None:
            return None
        try:
            if self._display is None:  # Gtk is on this server already: somebody answers
                self._display = Display(self._name)
            if not self._display.has_extension(screensaver.extname):
                return None
            root = self._display.screen().root
            idle, at = int(root.screensaver_query_info().idle), root.query_pointer()
            return Reading(
                at_ms=self._clock_ms(), idle_ms=idle, pointer=(int(at.root_x), int(at.root_y))
            )
        except (error.ConnectionClosedError, error.DisplayError, error.XError, OSError) as exc:
            _LOG.warning("the display cannot say whether somebody is there: %s", exc)
            self._display = None
            return None


def _local(environment: Mapping[str, str]) -> str | None:
    """Return the session's own X server by its local socket; None where there is none.

    Under Xwayland the answers would be those of X11 programs only.
    """
    host, colon, number = environment.get("DISPLAY", "").removeprefix("unix/").rpartition(":")
    wayland = environment.get("WAYLAND_DISPLAY") or environment.get("XDG_SESSION_TYPE") == "wayland"
    if not colon or wayland or host not in {"", "unix"}:
        return None
    return f"unix/:{number}"
