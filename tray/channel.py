"""The tray's end of the channel to the agent, on the Gtk main loop.

The socket is inherited from the agent, so nobody else can speak on it, and its end, on
either side, means that capture is closed.  Nothing here blocks: what the agent does not
take at once waits, and is sent when it can.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from base.errors import SetupError
from base.ipc import GarbledError, Inbox, encode
from tray._gtk import GLib
from wire.control import Answer, Command

_LOG: Final = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what comes from the agent."""

    def on_answer(self, answer: Answer) -> None:
        """Take one message of the agent."""

    def on_end(self) -> None:
        """Note that the agent is gone: nothing can be shown or commanded any more."""


class Channel:
    """Sends commands, and gives each answer to its listener, in the order of arrival."""

    def __init__(self, descriptor: int) -> None:
        """Take over *descriptor*, one end of a socket pair.

        Raises:
            SetupError: It is no socket.

        """
        try:
            # No child of this process may hold the channel: its end has to be ours.
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - has no name
            self._socket = socket.socket(fileno=descriptor)
            self._socket.settimeout(0)
        except OSError as exc:
            raise SetupError(
                f"--channel {descriptor} is no socket: the agent starts the tray, not a person"
            ) from exc
        self._inbox: Inbox[Answer] = Inbox(Answer)
        self._unsent = bytearray()
        self._listen: Callable[[Answer], None] | None = None
        self._end: Callable[[], None] | None = None

    def listen(self, listener: Listener) -> None:
        """Begin to read."""
        self._listen, self._end = listener.on_answer, listener.on_end
        arrived = GLib.IOCondition.IN | GLib.IOCondition.HUP | GLib.IOCondition.ERR
        GLib.io_add_watch(self._socket.fileno(), GLib.PRIORITY_DEFAULT, arrived, self._on_input)

    def say(self, command: Command) -> None:
        """Send one command; its answer comes to the listener."""
        waiting = bool(self._unsent)
        self._unsent += encode(command)
        if not waiting and not self._flush():
            room = GLib.IOCondition.OUT | GLib.IOCondition.HUP
            GLib.io_add_watch(self._socket.fileno(), GLib.PRIORITY_DEFAULT, room, self._on_room)

    def _flush(self) -> bool:
        """Send what the kernel takes; True when nothing is left (or nobody there to take it)."""
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError:  # the agent is gone: the end of its side tells the listener
                self._unsent.clear()
                return True
            del self._unsent[:sent]
        return True

    def _on_room(self, *_: object) -> bool:
        return not self._flush()

    def _on_input(self, *_: object) -> bool:
        assert self._listen is not None  # noqa: S101 - set before the watch that calls this
        assert self._end is not None  # noqa: S101
        try:
            alive = self._inbox.receive(self._socket)
            for answer in self._inbox.messages():
                self._listen(answer)
        except BlockingIOError:
            return True
        except (OSError, GarbledError) as exc:
            _LOG.error("the channel to the agent broke: %s", exc)
            alive = False
        while self._inbox.descriptors:  # the agent sends the tray none
            os.close(self._inbox.descriptors.pop())
        if not alive:
            self._end()
        return alive
