"""Keyboard and pointer through pynput, the library that knows every platform; here on X11.

The reference for `_x11_input`, which is the better source on X11: equal for keys, buttons
and wheel steps, different for auto-repeat and warps (docs/known-issues.md).  pynput alone
does not keep what a `Source` promises; what was added, and what for:

- One listener for keys and pointer, so that their order is kept; with two there is none.
- `stop` leaves the hook in the server until the next event.  Here the context is disabled
  through a second connection and confirmed, and the thread is waited for.
- Callbacks go on for a moment after `stop`.  Here each looks at the gate first.
- An exception in a callback, or a lost server, ends the thread in silence while `running`
  stays True.  Here the end itself is noticed, and is a `SourceError`.
- `wait` has no limit and is deaf to a listener that could not start.  Here it has one.
- What the server records waits until the server writes to anybody.  Here it is asked for an
  answer every 20 ms while the source is open.

Source: Record Extension Protocol Specification, 3.2 (RecordEnableContext, StartOfData).
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeAlias

from Xlib import X, error
from Xlib.display import Display

from agent.capture import _pynput_listener, _x11
from agent.capture._pynput_listener import Mailbox, Recorded
from agent.capture._x11_clock import server_clock
from agent.capture._xkb import KeyboardState, Notification
from agent.capture.keyboard import Keyboard
from agent.capture.pointer import ALL_HZ, Moves, pressed_or_turned
from agent.capture.source import KeyStroke, SourceError
from base.clock import boot_ns
from wire.event import Button, Move, Scroll
from wire.ids import BootInstant

InputEvent: TypeAlias = KeyStroke | Move | Button | Scroll

FLUSH_INTERVAL: Final = 20_000_000
"""ns between two requests for an answer; measured, without them events are up to 320 ms late."""

START_SECONDS: Final = 3.0
KEY_EVENTS: Final = (X.KeyPress, X.KeyRelease)
POINTER_EVENTS: Final = (X.ButtonPress, X.MotionNotify)


class PynputInput:
    """Watches keys, pointer or both by one pynput listener."""

    def __init__(
        self,
        *,
        keys: bool,
        pointer: bool,
        move_hz: float = ALL_HZ,
        display: str | None = None,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        kinds = (KEY_EVENTS if keys else ()) + (POINTER_EVENTS if pointer else ())
        self._kinds = (min(kinds), max(kinds)) if kinds else KEY_EVENTS
        self._move_hz = move_hz
        self._name = display
        self._clock = clock
        self._control: Display | None = None
        self.listener: Any = None
        self._flush_at = 0

    def open(self) -> None:
        """Start the listener, and wait until the server records; see `Source.open`."""
        # Connected to first: it says in one line why a display does not answer.
        control = _x11.connect(self._name)
        self.mailbox = Mailbox()
        self._control = control
        try:
            with _x11.watched():
                self._follow(control)
                self._listen(_x11.local_name(self._name))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that the listener's thread writes to."""
        self._connection()
        return self.mailbox.fileno()

    def due(self) -> BootInstant | None:
        """Return when the server is to be asked again."""
        return BootInstant(self._flush_at)

    def drain(self) -> Iterator[InputEvent]:
        """Yield what has happened; see `Source.drain`."""
        control = self._connection()
        with _x11.watched():
            if self._clock() >= self._flush_at or self.mailbox.ended:
                control.sync()  # an answer to us takes along what was recorded
                self._flush_at = self._clock() + FLUSH_INTERVAL
            self._note_layout(control)
            for event in self.mailbox.empty():
                yield from self._translate(event)
            yield from self._rested()
        if self._control is not None and (self.mailbox.failure or self.mailbox.ended):
            why = self.mailbox.failure or "its thread ended"
            raise SourceError(f"the pynput listener failed ({why}); it is started again")

    def close(self) -> None:
        """Shut the gate, unhook and synchronise, wait for the thread; see `Source.close`."""
        control, self._control = self._control, None
        listener, self.listener = self.listener, None
        if control is None:
            return
        self.mailbox.gate = False
        # Without the server there is no hook either, so its loss is no failure here.
        with suppress(error.ConnectionClosedError, OSError):
            if listener is not None:
                listener.unhook(control)
            control.sync()  # from here on the server records no more
        if listener is not None:
            listener.wait_for_end()
        _x11.disconnect(control)
        self.mailbox.close()

    def _follow(self, control: Display) -> None:
        """Begin to follow the server's clock and the keyboard's layout."""
        self._clock_of_server = server_clock(control, self._clock)
        self._moves = Moves(self._move_hz)
        self._position = (0, 0)
        self._state = 0
        layout = self._layout = KeyboardState(control)
        self._keyboard = Keyboard(lambda code: layout.keysym_in(code, self._state))
        self._flush_at = self._clock()

    def _listen(self, display: str) -> None:
        mailbox = self.mailbox

        def take(event: Any) -> None:  # noqa: ANN401 - python-xlib's own type
            # Dated here: later it would have waited in our own queue too.
            at = self._clock_of_server.instant(event.time, BootInstant(self._clock()))
            x, y = event.root_x, event.root_y
            mailbox.put(Recorded(event.type, event.detail, event.state, x, y, at))

        with _pynput_listener.only_display(display):
            self.listener = _pynput_listener.make(mailbox, self._kinds, take)
            self.listener.start()
            started = mailbox.started.wait(START_SECONDS)
        if mailbox.ended or not started:
            why = mailbox.failure or "no answer from the server"
            raise SourceError(f"the pynput listener could not start ({why}); see `doctor`")

    def _connection(self) -> Display:
        if self._control is None:
            raise SourceError("the input source is closed")
        return self._control

    def _note_layout(self, control: Display) -> None:
        for _ in range(control.pending_events()):
            event = control.next_event()
            if isinstance(event, Notification):
                self._layout.note(event)

    def _translate(self, event: Recorded) -> Iterator[InputEvent]:
        match event.kind:
            case X.KeyPress | X.KeyRelease:
                self._state = event.state
                pressed = event.kind == X.KeyPress
                yield self._keyboard.stroke(event.at, event.detail, pressed=pressed)
            case X.ButtonPress | X.ButtonRelease:
                yield from self._moved(event.at)
                pressed = event.kind == X.ButtonPress
                place = (event.x, event.y)
                made = pressed_or_turned(event.at, event.detail, place, pressed=pressed)
                if made is not None:
                    yield made
            case X.MotionNotify:
                due = self._moves.due()
                if due is not None and event.at >= due:
                    yield from self._moved(due)  # the one held back had its turn before this one
                self._position = (event.x, event.y)
                self._moves.note(event.at)
                # By the event's own time: what waited comes in bursts, with its places.
                if event.at >= (self._moves.due() or 0):
                    yield from self._moved(event.at)
            case _:
                pass  # not asked for

    def _rested(self) -> Iterator[Move]:
        """Yield the motion that is held back, when no later one can take its place."""
        due = self._moves.due()
        now = BootInstant(self._clock())
        if due is not None and now >= due + FLUSH_INTERVAL:
            yield from self._moved(now)

    def _moved(self, now: BootInstant) -> Iterator[Move]:
        if self._moves.due() is None:
            return
        x, y = self._position
        at = self._moves.take(now, self._position)
        if at is not None:
            yield Move(at=at, x=x, y=y)
