"""Does a field for secrets have the focus?  Asked of the accessibility bus, by its role alone.

No text is ever asked for. Toolkits (GTK, Qt, Firefox) tell when a widget gets or loses the
focus; its role says whether it is a password field. A program that has only just begun
tells nothing yet of the widget that its window opens with, and what had the focus before we
came was told to nobody: so it is looked for in the windows that are active, at the
beginning and whenever another window has the focus. A widget that does not say its role is
unknown, and so is one that takes long, until it has said it. Programs without accessibility
(xterm, Tk, Java) tell nothing at all, and are taken for what they were: docs/known-issues.md
says what follows from that.

Runs in a thread of its own: D-Bus answers when it answers, and a sensor must never wait.

Source: AT-SPI 2, org.a11y.atspi.Accessible and org.a11y.atspi.Event.Object.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from agent.dbus import (
    BUS,
    ENDS,
    NoAnswerError,
    ask_bus,
    call,
    connected,
    end_of,
    owner_changed,
)
from agent.handover import HOLD_BACK_NANOSECONDS
from base.clock import NANOSECONDS, boot_ns
from wire.control import SecretSeen
from wire.ids import BootInstant

ACCESSIBLE: Final = "org.a11y.atspi.Accessible"
OBJECT_EVENT: Final = "org.a11y.atspi.Event.Object"
WINDOW_EVENT: Final = "org.a11y.atspi.Event.Window"
REGISTRY: Final = "org.a11y.atspi.Registry"
ROOT: Final = "/org/a11y/atspi/accessible/root"
PASSWORD_TEXT: Final = 40  # ATSPI_ROLE_PASSWORD_TEXT
ROLE_SECONDS: Final = 0.6 * HOLD_BACK_NANOSECONDS / NANOSECONDS
"""How long a widget may take to say its role before it counts as unknown.

The word has to reach the agent before the first key that the widget got is judged.
"""
ACTIVE, FOCUSED = 1, 12  # bits of GetState
RETRY_SECONDS: Final = 2.0
MOST_WIDGETS: Final = 400  # of one window, looked through for the one that has the focus
STOP_SECONDS: Final = 3.0
LOOKS_SECONDS: Final = (0.05, 0.1, 0.15, 0.2, 0.5, 1.0, 2.0)
"""From a change of window to the first look, and from each look to the next, until one finds.

The first four are over before the hold-back is, so that what was typed meanwhile is dropped.
"""

_EVENTS: Final = ("object:state-changed:focused", "window:deactivate", "window:destroy")
_MATCHES: Final = (
    f"type='signal',interface='{OBJECT_EVENT}',member='StateChanged',arg0='focused'",
    f"type='signal',interface='{WINDOW_EVENT}',member='Deactivate'",
    f"type='signal',interface='{WINDOW_EVENT}',member='Destroy'",
    f"type='signal',sender='{BUS}',member='NameOwnerChanged'",
)
_WINDOW_LEFT: Final = ((WINDOW_EVENT, "Deactivate"), (WINDOW_EVENT, "Destroy"))
Widget: TypeAlias = tuple[str, str]
"""The name on the bus of a program, and the path of one of its widgets."""


class SecureFields:
    """Follows the focus of all accessible programs; what it finds waits in `drain`."""

    def __init__(self, clock: Callable[[], int] = boot_ns) -> None:
        self._clock = clock
        self._found: deque[SecretSeen] = deque()
        self._theirs, self._ours = socket.socketpair()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="secure fields", daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._secret: Widget | None = None  # the field that has the focus, if it is one
        self._asking: set[asyncio.Task[None]] = set()
        self._bus: MessageBus | None = None
        self._looking: asyncio.Task[None] | None = None
        self._changes = 0  # of the focus, as programs tell: the later one counts

    def open(self) -> None:
        """Begin to follow; the first finding comes when the bus has answered."""
        self._ours.settimeout(0)
        self._theirs.settimeout(0)
        self._task = self._loop.create_task(self._follow())
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that tells when there is something to drain."""
        return self._ours.fileno()

    def drain(self) -> Iterator[SecretSeen]:
        """Yield what was found since."""
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(4096)
        while self._found:
            yield self._found.popleft()

    def look(self) -> None:
        """Look which widget has the focus: another window has it, and may be too new to tell."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._look_soon)

    def close(self) -> None:
        """End; nothing is found after."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(STOP_SECONDS)
        for end in (self._ours, self._theirs):
            end.close()

    # --- in the thread ----------------------------------------------------------------

    def _run(self) -> None:
        assert self._task is not None  # noqa: S101 - `open` made it
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def _cancel(self) -> None:
        for task in (*self._asking, self._looking, self._task):
            if task is not None:
                task.cancel()

    def _say(self, at: int, secret: bool | None) -> None:  # noqa: FBT001 - unknown is the third value
        self._found.append(SecretSeen(at=BootInstant(at), secret=secret))
        with contextlib.suppress(OSError):  # full: it is readable already; or closed
            self._theirs.send(b"\0")

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(*ENDS):  # no accessibility here, or no more
                await self._connected()
            self._say(self._clock(), None)
            await asyncio.sleep(RETRY_SECONDS)

    async def _connected(self) -> None:
        async with connected(MessageBus(bus_address=await _address())) as bus:
            bus.add_message_handler(lambda message: self._on_signal(bus, message))
            for rule in _MATCHES:
                await ask_bus(bus, "AddMatch", rule)
            for event in _EVENTS:
                await _register(bus, event)
            await self._look_around(bus)
            self._bus = bus
            try:
                await end_of(bus)
            finally:
                self._bus = None

    async def _look_around(self, bus: MessageBus) -> None:
        """Find out what had the focus before anybody told us."""
        began = self._clock()
        try:
            focused = await _focused(bus)
        except NoAnswerError:
            self._say(began, None)  # the next change of focus tells
            return
        if focused is None:
            self._say(began, secret=False)
        else:
            await self._judge(bus, focused, began)

    def _look_soon(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._bus is not None:
            self._looking = asyncio.ensure_future(self._look_until_found(self._bus))

    async def _look_until_found(self, bus: MessageBus) -> None:
        for seconds in LOOKS_SECONDS:
            await asyncio.sleep(seconds)
            changes, began = self._changes, self._clock()
            try:
                focused = await _focused(bus)
            except NoAnswerError:
                continue
            if changes != self._changes:
                return  # a program told of a later one
            if focused is not None:
                await self._judge(bus, focused, began)
                return

    def _on_signal(self, bus: MessageBus, message: Message) -> None:
        if (change := owner_changed(message)) is not None:
            self._on_left(change[0])
        if message.message_type is not MessageType.SIGNAL:
            return
        widget = (message.sender or "", message.path or "")
        if (message.interface, message.member) == (OBJECT_EVENT, "StateChanged"):
            match message.body:
                case ["focused", int(gained), *_]:
                    self._on_focus(bus, widget, gained=bool(gained))
                case _:
                    pass  # of another state, or malformed: nothing is said of the focus
        elif (message.interface, message.member) in _WINDOW_LEFT:
            self._on_left(widget[0])

    def _on_focus(self, bus: MessageBus, widget: Widget, *, gained: bool) -> None:
        if gained:
            self._changes += 1
            task = asyncio.ensure_future(self._judge(bus, widget, self._clock()))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        elif widget == self._secret:
            self._left()

    def _on_left(self, program: str) -> None:
        if self._secret and self._secret[0] == program:
            self._left()

    def _left(self) -> None:
        self._secret = None
        self._say(self._clock(), secret=False)

    async def _judge(self, bus: MessageBus, widget: Widget, at: int) -> None:
        """Say what kind of field got the focus at *at*, unless another has got it since."""
        changes = self._changes
        left = ROLE_SECONDS - (self._clock() - at) / NANOSECONDS
        doubt = asyncio.get_running_loop().call_later(left, self._doubt, widget, at, changes)
        try:
            answer = await call(bus, *widget, "GetRole", interface=ACCESSIBLE)
        except NoAnswerError:
            self._doubt(widget, at, changes)
            return
        finally:
            doubt.cancel()
        (role,) = answer.body if answer.signature == "u" else (None,)
        if role is None:
            self._doubt(widget, at, changes)
        elif changes == self._changes:
            secret = role == PASSWORD_TEXT
            self._secret = widget if secret else None
            self._say(at, secret)

    def _doubt(self, widget: Widget, at: int, changes: int) -> None:
        """Say that nobody knows what kind of field got the focus, unless another has it."""
        if changes == self._changes:
            self._secret = widget  # until it loses the focus
            self._say(at, None)


async def _address() -> str:
    async with connected(MessageBus(bus_type=BusType.SESSION)) as session:
        answer = await call(
            session, "org.a11y.Bus", "/org/a11y/bus", "GetAddress", interface="org.a11y.Bus"
        )
        return str(answer.body[0])


async def _register(bus: MessageBus, event: str) -> None:
    """Tell the programs that somebody listens; they send nothing else."""
    path = "/org/a11y/atspi/registry"
    await call(
        bus, REGISTRY, path, "RegisterEvent", interface=REGISTRY,
        signature="sass", body=[event, [], ""],
    )  # fmt: skip


async def _focused(bus: MessageBus) -> Widget | None:
    """Return what has the focus in an active window, None if nothing accessible has."""
    for program in await _children(bus, (REGISTRY, ROOT)):
        for window in await _children(bus, program):
            if await _has(bus, window, ACTIVE):
                found = await _focused_in(bus, window)
                if found is not None:
                    return found
    return None


async def _focused_in(bus: MessageBus, window: Widget) -> Widget | None:
    waiting = deque([window])
    for _ in range(MOST_WIDGETS):
        if not waiting:
            return None
        widget = waiting.popleft()
        if widget != window and await _has(bus, widget, FOCUSED):
            return widget
        waiting += await _children(bus, widget)
    raise NoAnswerError(f"{BUS}.Error", "the window has too many widgets")


async def _children(bus: MessageBus, widget: Widget) -> list[Widget]:
    try:
        answer = await call(bus, *widget, "GetChildren", interface=ACCESSIBLE)
    except NoAnswerError:
        return []
    return [(str(name), str(path)) for name, path in answer.body[0]]


async def _has(bus: MessageBus, widget: Widget, bit: int) -> bool:
    try:
        answer: Any = await call(bus, *widget, "GetState", interface=ACCESSIBLE)
    except NoAnswerError:
        return False
    return bool(answer.body[0][0] >> bit & 1)
