"""Events of one opening on their way from a sensor to the agent: few messages, bounded memory."""

import socket
from collections import deque
from typing import Final, TypeAlias

from base import ipc
from wire.control import FocusSeen, Items, SecretSeen
from wire.event import Event, Frame
from wire.ids import BootInstant

SEND_INTERVAL: Final = 10_000_000  # ns: at most a hundred messages a second
HELD_EVENTS: Final = 4096  # while the agent does not read: some seconds of busy input
HELD_BYTES: Final = 16 << 20  # the same for pictures
MESSAGE_BYTES: Final = ipc.LARGEST_BYTES // 2
SMALL_BYTES: Final = 64  # of an event that is no picture, generously

Item: TypeAlias = Event | FocusSeen | SecretSeen


class Outbox:
    """Sends `Items` on one socket without ever waiting for the other end."""

    def __init__(self, sock: socket.socket, epoch: int) -> None:
        self._sock = sock
        self._epoch = epoch
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._unsent = memoryview(b"")
        self._suppressed = 0
        self._sent_at = 0
        sock.settimeout(0)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    @property
    def busy(self) -> bool:
        """Whether the kernel has not yet taken all of the last message."""
        return bool(self._unsent)

    def put(self, item: Item) -> bool:
        """Take an item along; without room for it, count it as suppressed and return False."""
        size = _size(item)
        if len(self._items) >= HELD_EVENTS or self._bytes + size > HELD_BYTES:
            self._suppressed += 1
            return False
        self._items.append(item)
        self._bytes += size
        return True

    def count(self, suppressed: int) -> None:
        """Count events that were held back before they came here."""
        self._suppressed += suppressed

    def due(self) -> BootInstant | None:
        """Return when `send` has something to do that does not depend on the other end."""
        if self.busy or not (self._items or self._suppressed):
            return None
        return BootInstant(self._sent_at + SEND_INTERVAL)

    def send(self, now: BootInstant) -> None:
        """Send what is due, as far as the kernel takes it; at once if nothing was sent lately.

        Raises:
            OSError: The other end is gone.

        """
        due = self.due()
        if due is not None and now >= due:
            self._unsent = memoryview(ipc.encode(self._message()))
            self._sent_at = now
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except BlockingIOError:
                return
            self._unsent = self._unsent[sent:]

    def close(self) -> None:
        """Drop what is left and close the socket."""
        self._items.clear()
        self._unsent = memoryview(b"")
        self._sock.close()

    def _message(self) -> Items:
        """Return as much as one message may hold; the rest stays for the next."""
        events: list[Event] = []
        focus: list[FocusSeen] = []
        secrets: list[SecretSeen] = []
        size = 0
        while self._items and (not size or size + _size(self._items[0]) <= MESSAGE_BYTES):
            item = self._items.popleft()
            size += _size(item)
            match item:
                case FocusSeen():
                    focus.append(item)
                case SecretSeen():
                    secrets.append(item)
                case _:
                    events.append(item)
        self._bytes -= size
        suppressed, self._suppressed = self._suppressed, 0
        return Items(
            epoch=self._epoch,
            events=tuple(events),
            focus=tuple(focus),
            secrets=tuple(secrets),
            suppressed=suppressed,
        )


def _size(item: Item) -> int:
    if isinstance(item, Frame):
        return SMALL_BYTES + sum(SMALL_BYTES + len(part.pixels) for part in item.rectangles)
    return SMALL_BYTES
