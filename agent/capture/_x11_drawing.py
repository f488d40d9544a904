"""When something is drawn on an X server's screen: the DAMAGE extension.

One event for the first drawing after each question, however much is drawn: a film costs no
more than a blinking cursor.  Where on the screen is not asked.

Source: damageproto.txt, "DamageReportNonEmpty", "DamageSubtract".
"""

from collections.abc import Callable

from Xlib.display import Display
from Xlib.ext import damage
from Xlib.protocol import rq

from agent.capture._x11_clock import server_clock
from wire.ids import BootInstant


class Drawing:
    """Follows the whole screen of *display*, if the server can tell."""

    def __init__(self, display: Display, clock: Callable[[], int]) -> None:
        self.first: BootInstant | None = None  # drawn at, since `again`
        self._display = display
        self._damage: int | None = None
        if not display.has_extension(damage.extname):
            return
        self._clock_of_server = server_clock(display, clock)
        display.damage_query_version()
        self._damage = display.screen().root.damage_create(damage.DamageReportNonEmpty)
        self._kind = display.extension_event.DamageNotify

    @property
    def told(self) -> bool:
        """Whether the server tells."""
        return self._damage is not None

    def note(self, event: rq.Event, now: BootInstant) -> None:
        """Take in any event; most are not ours."""
        if self._damage is None or event.type != self._kind:
            return
        at = self._clock_of_server.instant(int(event.timestamp), now)
        if self.first is None:
            self.first = at

    def again(self) -> None:
        """Have the server tell of the next drawing too; `first` is the caller's to clear."""
        if self._damage is not None:
            self._display.damage_subtract(self._damage)

    def unhook(self) -> None:
        """Have the server stop telling."""
        if self._damage is not None:
            self._display.damage_destroy(self._damage)
            self._damage = None
