"""The tray as the agent sees it: a child, a channel, a heartbeat, and an icon on the desktop.

Capture needs all four: the child is there and its channel open, its heartbeat came within
the last three seconds, and the desktop says that its icon is shown (`indicator`).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import msgspec

from agent.children import Started, Starter, Supervised
from agent.indicator import NO_ITEM, IndicatorWatch
from base.clock import NANOSECONDS, Clock, Now
from base.ipc import GarbledError, encode, read
from wire.control import Answer, Command, Heartbeat, NoticeInSight, Status

_LOG: Final = logging.getLogger(__name__)

BEATS_NANOSECONDS: Final = 3 * NANOSECONDS + NANOSECONDS // 4  # one a second, three may miss
NEVER: Final = -BEATS_NANOSECONDS - 1
UNREAD_BYTES: Final = 1 << 20  # a tray that lets so much wait does not read any more
SHOW_NANOSECONDS: Final = NANOSECONDS  # counters change all the time; a look a second will do


class Host(Protocol):
    """Whom the tray serves; the service is it."""

    clock: Clock

    def poke(self) -> None:
        """Look again at what may be captured."""

    def on_sight(self, report: NoticeInSight) -> None:
        """Note that the notice of a pause that ran out is in sight."""

    async def answer(self, command: Command) -> Answer:
        """Carry out a command that came from the data subject's own window."""
        ...


class Watch(Protocol):
    """Watches the icon of one process; `indicator.IndicatorWatch` does."""

    async def run(self, tray_pid: int) -> None:
        """Watch until cancelled."""


OpenWatch: TypeAlias = Callable[[Callable[[str], None]], Watch]
"""Makes a watch that tells a callable "" when the icon is shown, else why it is not."""


class Tray:
    """Starts the tray, listens to it, and knows whether its icon is shown."""

    def __init__(
        self,
        start: Starter,
        host: Host,
        watch: OpenWatch = IndicatorWatch,
    ) -> None:
        """Prepare; nothing is started yet."""
        self._child = Supervised("tray", start)
        self._host = host
        self._watch = watch(self._on_icon)
        self._hidden = NO_ITEM
        self._beat_at = NEVER
        self.window_open = False  # the data subject may be about to decide something
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._shown: Status | None = None
        self._shown_at = 0

    def begin(self) -> None:
        """Start it, and again whenever it ends."""
        self._child.begin(self._on_start, lambda _child: self._on_end())

    async def stop(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._child.stop()

    def why_hidden(self, now: Now) -> str:
        """Return "" if the icon is known to be shown, else in one line why not."""
        if self._writer is None:
            return "the tray is not running; it is started again"
        if now.boot - self._beat_at > BEATS_NANOSECONDS:
            return "the tray does not answer; it is watched until it does"
        return self._hidden

    def show(self, status: Callable[[], Status]) -> None:
        """Tell the tray the status if it has changed; mere counters at most once a second."""
        if self._writer is None:
            return
        now, current = self._host.clock.now(), status()
        recently = now.boot - self._shown_at < SHOW_NANOSECONDS
        if current == self._shown:
            return
        if recently and _but_counters(current) == _but_counters(self._shown):
            return
        self._shown, self._shown_at = current, now.boot
        self._write(current)

    # --- the child --------------------------------------------------------------------

    def _on_start(self, child: Started) -> None:
        self._beat_at = NEVER  # the heartbeat of another tray says nothing of this one
        self.window_open = False
        for run in (self._converse(child), self._watch.run(child.pid)):
            task = asyncio.create_task(run)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _on_end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._on_icon(NO_ITEM)

    def _on_icon(self, hidden: str) -> None:
        if hidden != self._hidden:
            _LOG.info("indicator: %s", hidden or "shown")
            self._hidden = hidden
            self._host.poke()

    async def _converse(self, child: Started) -> None:
        """Answer what the tray says until its end-of-file, which closes capture at once."""
        decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
        reader, self._writer = await asyncio.open_unix_connection(sock=child.channel)
        self._shown = None
        try:
            while (command := await read(reader, decoder)) is not None:
                if isinstance(command, Heartbeat):
                    self._on_beat(command)
                elif isinstance(command, NoticeInSight):
                    self._host.on_sight(command)
                else:
                    self._write(await self._host.answer(command))
        except (GarbledError, OSError) as exc:
            _LOG.error("the tray is ended: %s", exc)
            child.kill()
        finally:
            self._writer.close()
            self._writer = None
            self._host.poke()

    def _on_beat(self, beat: Heartbeat) -> None:
        self.window_open = beat.window_open
        now = self._host.clock.now()
        was_missing = self.why_hidden(now)
        self._beat_at = now.boot
        if was_missing != self.why_hidden(now):
            self._host.poke()

    def _write(self, answer: Answer) -> None:
        """Send, without waiting: whoever restricts must not be kept by a tray that hangs."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        writer.write(encode(answer))
        if writer.transport.get_write_buffer_size() > UNREAD_BYTES:
            _LOG.error("the tray does not read what it is told and is ended")
            writer.transport.abort()


def _but_counters(status: Status | None) -> Status | None:
    if status is None:
        return None
    return msgspec.structs.replace(status, kept={}, dropped={}, spool=None, collector=None)
