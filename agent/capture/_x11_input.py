"""Keyboard and pointer on X11: XInput2 raw events.

Raw events come straight from the devices, whoever has the focus, at once and with the
server's time stamp; taking the mask back is a real stop.  What differs from other sources:
a key that is held is one press (auto-repeat is the server's, not the device's), and a
pointer that a program moved makes no event.

Version 2.2 has to be negotiated: in 2.0 a client that grabs the keyboard hides raw keys, and
releases with them.  That also means that keys typed into another client's grab (a locker, a
password prompt) arrive here; they end here, and only that a grab began and ended is told
(`_x11_grab`).  Positions are asked for when an event is read, a fraction of a millisecond after
it happened, because raw motions carry no position.

Source: XI2proto.txt, "XIRawEvent"; the header of the raw event in XI2proto.h.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from Xlib import error
from Xlib.display import Display
from Xlib.ext import xinput
from Xlib.protocol.event import FocusIn, FocusOut

from agent.capture import _x11
from agent.capture._x11_clock import server_clock
from agent.capture._x11_grab import KeyboardGrab
from agent.capture._xkb import KeyboardState, Notification
from agent.capture.keyboard import Keyboard
from agent.capture.pointer import ALL_HZ, Moves, pressed_or_turned
from agent.capture.source import KeyStroke, SourceError
from base.clock import boot_ns
from wire.control import SecretSeen
from wire.event import Button, Move, Scroll
from wire.ids import BootInstant

InputEvent: TypeAlias = KeyStroke | Move | Button | Scroll | SecretSeen

VERSION: Final = (2, 2)
KEY_MASK: Final = xinput.RawKeyPressMask | xinput.RawKeyReleaseMask
POINTER_MASK: Final = xinput.RawButtonPressMask | xinput.RawButtonReleaseMask | xinput.RawMotionMask
_RAW: Final = struct.Struct("=BxHxxxxHxxII")


class X11Input:
    """Watches keys, pointer or both through one connection, so their order is kept."""

    def __init__(
        self,
        *,
        keys: bool,
        pointer: bool,
        move_hz: float = ALL_HZ,
        display: str | None = None,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        self._mask = (KEY_MASK if keys else 0) | (POINTER_MASK if pointer else 0)
        self._keys = keys
        self._move_hz = move_hz
        self._name = display
        self._clock = clock
        self._display: Display | None = None

    def open(self) -> None:
        """Connect and hook; see `Source.open`."""
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
        """Return when a motion that is held back comes out."""
        return self._moves.due()

    def drain(self) -> Iterator[InputEvent]:
        """Yield what has happened; see `Source.drain`."""
        display = self._connection()
        with _x11.watched():
            waiting = display.pending_events()
            yield from self._grabbed()
            while waiting:
                for _ in range(waiting):
                    yield from self._read(display.next_event())
                # Events that came along with the answers to our own questions.
                waiting = len(display.display.event_queue)
            due = self._moves.due()
            if due is not None and self._clock() >= due:
                yield from self._moved()

    def close(self) -> None:
        """Unhook and synchronise; see `Source.close`."""
        display, self._display = self._display, None
        if display is None:
            return
        # Without the server there is no hook either, so its loss is no failure here.
        with suppress(error.ConnectionClosedError, OSError):
            _select(display, 0)
            if self._state is not None:
                self._state.release()
            display.sync()  # from here on the server sends no more events
        _x11.disconnect(display)

    def _hook(self, display: Display) -> None:
        _negotiate(display)
        display.display.event_classes[_x11.GENERIC_EVENT] = RawEvent
        self._clock_of_server = server_clock(display, self._clock)
        self._moves = Moves(self._move_hz)
        self._state = KeyboardState(display) if self._keys else None
        self._grab = KeyboardGrab(display) if self._keys else None
        self._looked_at = self._clock()
        self._told_secret: bool | None = None
        if self._state is not None:
            self._keyboard = Keyboard(self._state.keysym)
        self._root = display.screen().root
        _select(display, self._mask)
        display.sync()

    def _connection(self) -> Display:
        if self._display is None:
            raise SourceError("the input source is closed")
        return self._display

    def _read(self, event: object) -> Iterator[InputEvent]:
        match event:
            case RawEvent():
                if self._grab is not None:
                    self._grab.arrived(event.sequence_number)
                now = BootInstant(self._clock())
                yield from self._translate(event, self._clock_of_server.instant(event.time, now))
            case Notification() if self._state is not None:
                self._state.note(event)
            case FocusIn() | FocusOut() if self._grab is not None:
                self._grab.note(event)
                yield from self._grabbed()
            case _:
                pass  # the server's answer to nothing we asked: MappingNotify

    def _translate(self, event: "RawEvent", at: BootInstant) -> Iterator[InputEvent]:
        match event.kind:
            case xinput.RawKeyPress | xinput.RawKeyRelease:
                pressed = event.kind == xinput.RawKeyPress
                stroke = self._keyboard.stroke(at, event.detail, pressed=pressed)
                if self._grab is None or not self._grab.hides(event.sequence_number):
                    yield stroke
            case xinput.RawButtonPress | xinput.RawButtonRelease:
                yield from self._moved()
                pressed = event.kind == xinput.RawButtonPress
                made = pressed_or_turned(at, event.detail, self._position(), pressed=pressed)
                if made is not None:
                    yield made
            case xinput.RawMotion:
                self._moves.note(at)
                if self._clock() >= (self._moves.due() or 0):
                    yield from self._moved()
            case _:
                pass  # not in the mask

    def _grabbed(self) -> Iterator[SecretSeen]:
        """Tell whether another client holds the keyboard, if that is news."""
        if self._grab is not None and self._grab.held is not self._told_secret:
            # The first word is as old as our looking: nothing may happen for long after that.
            at = self._looked_at if self._told_secret is None else self._clock()
            self._told_secret = self._grab.held
            yield SecretSeen(at=BootInstant(at), secret=self._grab.held)

    def _moved(self) -> Iterator[Move]:
        if self._moves.due() is None:
            return
        position = self._position()
        at = self._moves.take(BootInstant(self._clock()), position)
        if at is not None:
            yield Move(at=at, x=position[0], y=position[1])

    def _position(self) -> tuple[int, int]:
        answer = self._root.query_pointer()
        return int(answer.root_x), int(answer.root_y)


class RawEvent:
    """A raw event's header, in place of python-xlib's own, much slower, event objects."""

    __slots__ = ("detail", "kind", "send_event", "sequence_number", "time", "type")

    def __init__(self, display: object = None, binarydata: bytes = b"") -> None:  # noqa: ARG002
        code, self.sequence_number, self.kind, self.time, self.detail = _RAW.unpack_from(binarydata)
        self.type = code & 0x7F
        self.send_event = bool(code & 0x80)


def version(display: Display) -> tuple[int, int]:
    """Agree with the server on the version of XInput; (0, 0) where there is none.

    python-xlib's own call would settle for 2.0.
    """
    opcode = display.display.extension_major_opcodes.get(xinput.extname)
    if opcode is None:
        return (0, 0)
    major, minor = VERSION
    reply = xinput.XIQueryVersion(
        display=display.display, opcode=opcode, major_version=major, minor_version=minor
    )
    return int(reply.major_version), int(reply.minor_version)


def _negotiate(display: Display) -> None:
    if version(display) < VERSION:
        raise SourceError("this X server lacks XInput 2.2: keyboard and pointer stay unrecorded")


def _select(display: Display, mask: int) -> None:
    display.screen().root.xinput_select_events([(xinput.AllMasterDevices, mask)])
