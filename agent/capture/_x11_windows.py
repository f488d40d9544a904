"""Windows on X11: the focus by EWMH property, what lies above it by the stacking order.

`_NET_ACTIVE_WINDOW` on the root window names the focused window; property and structure
events tell when it changes, moves or is renamed.  No polling.  Without a window manager
that sets it, nobody has the focus, and nothing is in scope.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from Xlib import X, Xatom, error
from Xlib.display import Display
from Xlib.protocol import rq

from agent.capture import _x11
from agent.capture._x11_about import describe
from agent.capture._x11_clock import server_clock
from agent.capture._x11_drawing import Drawing
from agent.capture._x11_scene import Stack
from agent.capture.source import SourceError
from agent.capture.window import Scene, Sighting
from base.clock import boot_ns
from wire.ids import BootInstant

ROOT_MASK: Final = X.PropertyChangeMask | X.StructureNotifyMask
STACK_MASK: Final = X.SubstructureNotifyMask
FOCUSED_MASK: Final = X.PropertyChangeMask | X.StructureNotifyMask
LOOKS: Final = 5  # attempts at a scene that holds still; after that it is unknown

_STRUCTURE: Final = frozenset(
    {
        X.CirculateNotify, X.ConfigureNotify, X.CreateNotify, X.DestroyNotify, X.GravityNotify,
        X.MapNotify, X.ReparentNotify, X.UnmapNotify,
    }
)  # fmt: skip
_IDENTITY: Final = frozenset({X.CreateNotify, X.DestroyNotify, X.ReparentNotify})


class X11Windows:
    """Follows the focused window and, with *stack*, what lies above it and what is drawn.

    Args:
        titles: Read window titles; without it no title is ever asked for.
        stack: Follow all top-level windows too; `scene` and `drawn_at` need it.
        display: The X display; None for the session's own.
        clock: Reads the boot clock.

    """

    def __init__(
        self,
        *,
        titles: bool,
        stack: bool,
        display: str | None = None,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        self._titles = titles
        self._stacked = stack
        self._name = display
        self._clock = clock
        self._display: Display | None = None
        self._stack: Stack | None = None
        self._drawing: Drawing | None = None
        self._scene: Scene | None = None
        self._focused: Any = None  # python-xlib's Window, or None
        self._news: list[Sighting] = []

    def open(self) -> None:
        """Connect and follow; see `Source.open`."""
        display = _x11.connect(self._name)
        try:
            with _x11.watched():
                self._hook(display)
        except BaseException:
            _x11.disconnect(display)
            raise
        self._display = display

    def fileno(self) -> int:
        """Return the connection's descriptor."""
        return int(self._connection().fileno())

    def due(self) -> BootInstant | None:
        """Return a time that has passed while there are sightings to drain, else None."""
        return self._opened_at if self._news else None

    def drain(self) -> Iterator[Sighting]:
        """Yield the changes of focus; see `WindowSource.drain`."""
        display = self._connection()
        with _x11.watched():
            self._read(display)
            while self._news:
                yield self._news.pop(0)

    def steady_since(self) -> BootInstant:
        """Return since when nothing moved; see `WindowSource.steady_since`."""
        display = self._connection()
        with _x11.watched():
            display.sync()  # every change before this request is in the queue now
            self._read(display)
        return self._unchanged_since

    def scene(self) -> Scene:
        """Return the scene; see `WindowSource.scene`."""
        stack = self._stack
        if stack is None:
            raise SourceError("this window source follows the focus only")
        self.steady_since()
        with _x11.watched():
            for _ in range(LOOKS):
                if self._scene is not None:
                    return self._scene
                # Reading takes several questions.  A change between two of them comes as an
                # event before the answer to `sync`, and then the answers do not belong together.
                self._scene = stack.read(self._focused, titles=self._titles)
                self.steady_since()
            return stack.empty()

    def watch_drawing(self) -> BootInstant | None:
        """Ask to be told of the next drawing; see `WindowSource.watch_drawing`."""
        drawing = self._drawing
        if drawing is None:
            return None
        with _x11.watched():
            self._read(self._connection())
            told, drawing.first = drawing.first, None
            drawing.again()
        self.steady_since()
        # What came in meanwhile was drawn before the server heard us, or after: it counts for both.
        return drawing.first if told is None else told

    def drawn_at(self) -> BootInstant | None:
        """Return when something was drawn; see `WindowSource.drawn_at`."""
        return None if self._drawing is None else self._drawing.first

    def follows_drawing(self) -> bool:
        """Whether this server has the extension for it."""
        return self._drawing is not None and self._drawing.told

    def close(self) -> None:
        """Unhook and synchronise; see `Source.close`."""
        display, self._display = self._display, None
        if display is None:
            return
        with suppress(error.ConnectionClosedError, OSError):
            self._follow(display, None)
            if self._drawing is not None:
                self._drawing.unhook()
            display.screen().root.change_attributes(event_mask=X.NoEventMask)
            display.sync()
        _x11.disconnect(display)

    # --- following --------------------------------------------------------------------

    def _hook(self, display: Display) -> None:
        self._opened_at = self._unchanged_since = BootInstant(self._clock())
        self._server_clock = server_clock(display, self._clock)
        self._drawing = Drawing(display, self._clock) if self._stacked else None
        self._focused, self._news, self._scene = None, [], None
        self._stack = Stack(display) if self._stacked else None
        self._active_atom = display.get_atom("_NET_ACTIVE_WINDOW")
        self._name_atom = display.get_atom("_NET_WM_NAME")
        mask = ROOT_MASK | (STACK_MASK if self._stacked else 0)
        display.screen().root.change_attributes(event_mask=mask)
        self._follow(display, self._active(display))
        self._look(display, self._opened_at)

    def _connection(self) -> Display:
        if self._display is None:
            raise SourceError("the window source is closed")
        return self._display

    def _read(self, display: Display) -> None:
        """Take in all events that have arrived, and look again at what they touch."""
        events = [display.next_event() for _ in range(display.pending_events())]
        while events:
            now = BootInstant(self._clock())
            if self._drawing is not None:
                for each in events:
                    self._drawing.note(each, now)
            switches = [self._instant(each, now) for each in events if self._is_switch(each)]
            touches = [self._instant(each, now) for each in events if self._touches_focused(each)]
            if any(each.type in _STRUCTURE for each in events) or touches:
                self._scene, self._unchanged_since = None, now
            if self._stack is not None and any(each.type in _IDENTITY for each in events):
                self._stack.forget()
            if switches:
                self._switch(display, switches)
            elif touches:
                self._look(display, touches[-1])
            # Events that came along with the answers to our own questions.
            queued = len(display.display.event_queue)
            events = [display.next_event() for _ in range(queued)]

    def _switch(self, display: Display, times: list[BootInstant]) -> None:
        """Follow the window that has the focus after the switches at *times*."""
        window = self._active(display)
        if len(times) > 1 or _id(window) == _id(self._focused):
            # One look for several switches, or back where we were: somebody unknown had the
            # focus in between, and unknown is outside.
            self._news.append(Sighting(at=times[0], window=None))
        self._follow(display, window)
        self._look(display, times[-1])

    def _look(self, display: Display, at: BootInstant) -> None:
        """Report the focused window as it is now."""
        window = self._focused
        seen = None if window is None else describe(display, window, titles=self._titles)
        self._news.append(Sighting(at=at, window=seen))

    def _follow(self, display: Display, window: Any) -> None:  # noqa: ANN401 - python-xlib's Window
        self._scene, self._unchanged_since = None, BootInstant(self._clock())
        ignored = error.CatchError(*_x11.GONE)
        if self._focused is not None:
            self._focused.change_attributes(event_mask=X.NoEventMask, onerror=ignored)
        self._focused = window
        if window is not None:
            window.change_attributes(event_mask=FOCUSED_MASK, onerror=ignored)
        display.flush()

    def _is_switch(self, event: rq.Event) -> bool:
        changed = event.type == X.PropertyNotify
        return changed and bool(event.atom == self._active_atom)

    def _touches_focused(self, event: rq.Event) -> bool:
        if self._focused is None:
            return False
        if event.type in _STRUCTURE:
            return bool(event.window.id == self._focused.id)
        if event.type == X.PropertyNotify and event.window.id == self._focused.id:
            named = event.atom in {self._name_atom, Xatom.WM_NAME}
            return bool(event.atom == Xatom.WM_CLASS or (named and self._titles))
        return False

    def _instant(self, event: rq.Event, now: BootInstant) -> BootInstant:
        if event.type == X.PropertyNotify:
            return self._server_clock.instant(int(event.time), now)
        return now

    def _active(self, display: Display) -> Any:  # noqa: ANN401 - python-xlib's Window, or None
        found = display.screen().root.get_full_property(self._active_atom, Xatom.WINDOW)
        identifier = int(found.value[0]) if found is not None and len(found.value) else 0
        return display.create_resource_object("window", identifier) if identifier else None


def _id(window: Any) -> int:  # noqa: ANN401 - python-xlib's Window, or None
    return 0 if window is None else int(window.id)
