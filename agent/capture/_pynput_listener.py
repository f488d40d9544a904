"""pynput's listener on X11 with what it lacks: a gate, an end that is noticed, a real stop.

It runs in a thread of its own and leaves events in a `Mailbox`; `_pynput` makes a source of
both.  pynput is told to use X11, whatever the environment says: its other way on Linux reads
the devices themselves, passwords included.
"""

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from Xlib.display import Display

from agent.capture import _x11
from agent.capture.source import SourceError
from wire.ids import BootInstant

JOIN_SECONDS: Final = 0.1  # measured 0.3 ms; the agent kills a sensor after 250 ms
MOST_WAITING: Final = 50_000  # events; some ten seconds of anything that hands can do
_BACKENDS: Final = ("PYNPUT_BACKEND", "PYNPUT_BACKEND_KEYBOARD", "PYNPUT_BACKEND_MOUSE")
_SILENT: Final = logging.getLogger(f"{__name__}.silent")  # pynput writes tracebacks into it
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False  # what failed is told by the mailbox


@dataclass(frozen=True, slots=True)
class Recorded:
    """One device event, as the thread hands it over."""

    kind: int
    detail: int
    state: int  # modifiers and group just before it
    x: int
    y: int
    at: BootInstant


class Mailbox:
    """What the listener's thread leaves for the source; a descriptor wakes the reader.

    `gate` is looked at before anything is taken in.
    """

    def __init__(self) -> None:
        self.gate = True
        self.started = threading.Event()  # the server records, or the thread has ended
        self.ended = False
        self.failure = ""
        self._waiting: deque[Recorded] = deque()
        self._ours, self._theirs = socket.socketpair()
        self._ours.settimeout(0)
        self._theirs.settimeout(0)

    def __len__(self) -> int:
        return len(self._waiting)

    def fileno(self) -> int:
        """Return the descriptor that is readable when something waits."""
        return self._ours.fileno()

    def put(self, event: Recorded) -> None:
        """Leave an event; more than can be kept is a failure, not a loss in silence."""
        if not self.gate:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.fail("events came faster than they were read")
            return
        self._waiting.append(event)
        self._wake()

    def fail(self, why: str) -> None:
        """Leave word that no more events can be trusted to come."""
        self.failure = self.failure or why
        self._wake()

    def end(self) -> None:
        """Leave word that the thread has ended."""
        self.ended = True
        self.started.set()
        self._wake()

    def empty(self) -> Iterator[Recorded]:
        """Yield what waits."""
        with suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass
        while self.gate and self._waiting:
            yield self._waiting.popleft()

    def close(self) -> None:
        """Drop what waits."""
        self.gate = False
        self._waiting.clear()
        self._ours.close()
        self._theirs.close()

    def _wake(self) -> None:
        with suppress(OSError):  # full: the reader is awake; closed: nobody reads
            self._theirs.send(b"\0")


class Stoppable(threading.Thread):
    """What is put in front of pynput's listener; hands every device event to *take*."""

    _log = _SILENT

    def __init__(
        self, mailbox: Mailbox, kinds: tuple[int, int], take: Callable[[Any], None]
    ) -> None:
        super().__init__()
        self._mailbox = mailbox
        self._EVENTS = kinds
        self.take = take

    def run(self) -> None:
        """Listen until unhooked; whatever ends it is noted, and nothing is left open."""
        try:
            super().run()
        except Exception as exc:  # noqa: BLE001 - a thread's last word
            self._mailbox.fail(type(exc).__name__)
        finally:
            for display in self.connections():
                _x11.disconnect(display)
            self._mailbox.end()

    def unhook(self, control: Display) -> None:
        """Have the server stop recording, through a connection that is not busy with it."""
        context = getattr(self, "_context", None)
        if context is not None:
            control.record_disable_context(context)

    def wait_for_end(self) -> None:
        """Wait for the thread; where the server's word does not come, hang up on it."""
        threading.Thread.join(self, JOIN_SECONDS)  # pynput's own join raises, and may wait
        if self.is_alive():
            for display in self.connections():
                with suppress(OSError):
                    display.display.socket.shutdown(socket.SHUT_RDWR)
            threading.Thread.join(self, JOIN_SECONDS)

    def connections(self) -> list[Display]:
        """Return pynput's two connections, as far as they have been made."""
        names = ("_display_stop", "_display_record")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def _initialize(self, _display: Display) -> None:
        """Keep errors of requests that nobody waits for from being printed.

        In place of pynput's reading of the keymap: what a key means is not asked here.
        """
        for display in self.connections():
            display.set_error_handler(_x11.overhear)

    def _handler(self, reply: Any) -> None:  # noqa: ANN401 - python-xlib's own type
        """Note that recording has begun: the first reply says so, and holds no event."""
        self._mailbox.started.set()
        super()._handler(reply)  # type: ignore[misc]

    def _handle_message(self, _display: Display, event: Any, _injected: object) -> None:  # noqa: ANN401
        """Take the event; an exception would end the listener in silence, so it is told."""
        if not self._mailbox.gate:
            return
        try:
            self.take(event)
        except Exception as exc:  # noqa: BLE001 - see above
            self._mailbox.fail(type(exc).__name__)


def make(mailbox: Mailbox, kinds: tuple[int, int], take: Callable[[Any], None]) -> Any:  # noqa: ANN401
    """Return a listener that is not started yet; pynput connects while it is imported.

    Raises:
        SourceError: There is no pynput, or it does not work here.

    """
    for name in _BACKENDS:
        os.environ[name] = "xorg"
    try:
        from pynput import keyboard  # noqa: PLC0415 - see above
    except ImportError as exc:
        raise SourceError("pynput cannot be loaded; set input_source to another one") from exc
    listener = type("Listener", (Stoppable, keyboard.Listener), {})
    return listener(mailbox, kinds, take)


@contextmanager
def only_display(name: str) -> Iterator[None]:
    """Let pynput find this display; it looks at the environment alone."""
    before = os.environ.get("DISPLAY")
    os.environ["DISPLAY"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISPLAY"]
        else:
            os.environ["DISPLAY"] = before
