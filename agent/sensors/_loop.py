"""What the three sensor processes have in common: open, forward, close, die.

A sensor watches nothing until the agent says `OpenSource`, and forwards what it sees on the
socket that came with it.  Three rules, the weightiest first:

1. The channel comes first.  It is looked at before every single event is forwarded, so no
   event follows a `CloseSource` that has arrived.
2. Closing is, in this order: unhook and wait until the platform confirms it, drop what is
   left, close the events' socket, say `SourceClosed`.  The end of the channel, the end of
   the events' socket, SIGTERM and every error close in the same way.
3. Memory is bounded.  If the agent does not read, events are held back and counted
   (`Items.suppressed`), never queued without end.

The process cannot be dumped or traced, and dies with the agent.
"""

import argparse
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from agent.capture import SourceError
from agent.redact.proof import RedactionError
from agent.sensors._outbox import Item, Outbox
from base import ipc
from base.clock import boot_ns
from base.errors import ExitCode
from base.process import become_undumpable, die_with_parent
from wire.control import (
    CloseSource,
    FromAgent,
    FromSensor,
    OpenSource,
    Redaction,
    Settings,
    SourceClosed,
    SourceFailed,
    SourceOpened,
)
from wire.ids import BootInstant

NANOSECONDS_A_MILLISECOND: Final = 1_000_000
GONE: Final = select.POLLHUP | select.POLLERR | select.POLLRDHUP | select.POLLNVAL


class Feed(Protocol):
    """One opening of a sensor: a source and its redaction, put together."""

    def open(self) -> None:
        """Hook in.

        Raises:
            SourceError: It cannot be watched; nothing is hooked.

        """
        ...

    def fileno(self) -> int:
        """Return the descriptor that tells when there is something to collect."""
        ...

    def due(self) -> BootInstant | None:
        """Return when to collect even if nothing happens, None for never."""
        ...

    def collect(self, *, room: bool) -> Iterator[Item]:
        """Yield what was seen, redacted, one by one: between any two, the loop may close.

        Without *room* the agent is not reading; what can be left undone should be.

        Raises:
            SourceError: The source has ended.

        """
        ...

    def suppressed(self) -> int:
        """Return how many events the feed itself held back since it was last asked."""
        ...

    def lost(self) -> None:
        """Hear that an item it yielded will not reach the agent."""
        ...

    def close(self) -> None:
        """Unhook, wait for the platform's word, drop what is left; never fails."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A source that is open, and where its events go."""

    epoch: int
    feed: Feed
    outbox: Outbox
    watched: tuple[int, ...]  # descriptors; a source that has ended no longer knows its own


class Sensor:
    """The one loop of a sensor process."""

    def __init__(
        self,
        channel: socket.socket,
        make: Callable[[Settings], Feed],
        stop: int | None = None,
        prove: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; *prove* raises RedactionError if the redaction does not do what it must."""
        self._channel = channel
        self._make = make
        self._prove = prove
        self._broken = ""  # what is wrong with the redaction
        self._inbox: ipc.Inbox[FromAgent] = ipc.Inbox(FromAgent)
        self._opening: Opening | None = None
        self._ended: ExitCode | None = None
        self._stop = stop
        self._calls = select.poll()  # what comes before everything else
        self._waiting = select.poll()  # that, and what is open
        for descriptor in (channel.fileno(), stop):
            if descriptor is not None:
                self._calls.register(descriptor, select.POLLIN)
                self._waiting.register(descriptor, select.POLLIN)

    def run(self) -> ExitCode:
        """Serve until the agent hangs up, SIGTERM comes, or the source ends by itself."""
        try:
            self._try_redaction()
            while self._ended is None:
                self._turn()
        except ipc.GarbledError:
            return ExitCode.FAILED
        except (BrokenPipeError, ConnectionResetError):
            return ExitCode.DONE  # the agent ended while we answered
        else:
            return self._ended
        finally:
            self._close()
            self._channel.close()

    def _try_redaction(self) -> None:
        try:
            self._prove()
        except RedactionError as exc:
            self._broken = str(exc)
        self._say(Redaction(works=not self._broken, why=self._broken))

    def _turn(self) -> None:
        """Wait until something is to be done, and do it."""
        ready = dict(self._waiting.poll(self._longest_wait()))
        if self._answer(ready):
            return
        opening = self._opening
        if opening is None:
            return
        try:
            if ready.get(opening.outbox.fileno(), 0) & GONE:
                raise BrokenPipeError  # noqa: TRY301 - the same end as while sending
            self._forward(opening)
        except SourceError as exc:
            self._fail(opening.epoch, exc)
            self._ended = ExitCode.FAILED
        except (BrokenPipeError, ConnectionResetError):
            # The agent closed the events' socket: it wants no more of them.
            self._close()
            self._say(SourceClosed(epoch=opening.epoch, at=_now()))

    def _longest_wait(self) -> float | None:
        """Return in how many milliseconds something is due by itself, None for never."""
        opening = self._opening
        if opening is None:
            return None
        dues = [due for due in (opening.feed.due(), opening.outbox.due()) if due is not None]
        if not dues:
            return None
        return max(0, min(dues) - boot_ns()) / NANOSECONDS_A_MILLISECOND

    def _answer(self, ready: Mapping[int, int]) -> bool:
        """Do what the agent or a signal asked, if *ready* says that one did; True if so."""
        if self._stop in ready:
            self._ended = ExitCode.DONE
            return True
        if self._channel.fileno() not in ready:
            return False
        if not self._inbox.receive(self._channel):
            self._ended = ExitCode.DONE  # the agent hung up
            return True
        for message in self._inbox.messages():
            match message:
                case OpenSource():
                    self._open(message)
                case CloseSource():
                    self._close()
                    self._say(SourceClosed(epoch=message.epoch, at=_now()))
        return True

    def _forward(self, opening: Opening) -> None:
        """Pass on what the source has seen, as long as nobody calls."""
        feed, outbox = opening.feed, opening.outbox
        for item in feed.collect(room=not outbox.busy):
            if self._answer(dict(self._calls.poll(0))) and self._opening is not opening:
                return  # closed meanwhile: this item comes too late
            if self._ended is not None:
                return
            if not outbox.put(item):
                feed.lost()
        outbox.count(feed.suppressed())
        outbox.send(_now())
        # Not asked about writing unless something waits to be written: it always could be.
        wanted = select.POLLRDHUP | (select.POLLOUT if outbox.busy else 0)
        self._waiting.modify(outbox.fileno(), wanted)

    def _open(self, order: OpenSource) -> None:
        if not self._inbox.descriptors:
            raise ipc.GarbledError("a source was to be opened without a socket for its events")
        events = socket.socket(fileno=self._inbox.descriptors.pop(0))
        self._close()
        try:
            if self._broken:
                raise SourceError(self._broken)  # noqa: TRY301 - refused as one that cannot open
            feed = self._make(order.settings)
            feed.open()
        except SourceError as exc:
            events.close()
            self._fail(order.epoch, exc)
            return
        watched = (feed.fileno(), events.fileno())
        outbox = Outbox(events, order.epoch)
        self._opening = Opening(epoch=order.epoch, feed=feed, outbox=outbox, watched=watched)
        self._waiting.register(feed.fileno(), select.POLLIN)
        self._waiting.register(outbox.fileno(), select.POLLRDHUP)
        self._say(SourceOpened(epoch=order.epoch, at=_now()))

    def _close(self) -> None:
        """Unhook, drop what is left, close the events' socket; in this order."""
        opening, self._opening = self._opening, None
        if opening is not None:
            for descriptor in opening.watched:
                self._waiting.unregister(descriptor)
            opening.feed.close()
            opening.outbox.close()

    def _fail(self, epoch: int, why: SourceError) -> None:
        self._close()
        self._say(SourceFailed(epoch=epoch, why=str(why)))

    def _say(self, message: FromSensor) -> None:
        ipc.send(self._channel, message)


def main(
    name: str, make: Callable[[Settings], Feed], prove: Callable[[], None] = lambda: None
) -> None:
    """Be the sensor process *name*, if *prove* says that its redaction works; never returns."""
    become_undumpable()
    die_with_parent(os.getppid())
    parser = argparse.ArgumentParser(
        prog=f"python -m agent.sensors.{name}",
        description=f"The {name} sensor of assent-agent, which starts it; of no use alone.",
    )
    parser.add_argument("--channel", type=int, required=True, help="descriptor to the agent")
    channel = socket.socket(fileno=parser.parse_args().channel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's to understand
    sys.exit(Sensor(channel, make, _stop_on_terminate(), prove).run())


def _stop_on_terminate() -> int:
    """Return a descriptor that becomes readable at SIGTERM."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writing)
    return reading


def _now() -> BootInstant:
    return BootInstant(boot_ns())
