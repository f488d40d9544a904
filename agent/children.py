"""The processes that the agent starts: three sensors and the tray.

Each gets one end of a socket pair and ends when the other end closes.  A sensor is silent
when it says so (`SourceClosed`) or when the kernel says so: one that does not answer
`CloseSource` within 250 ms is killed.  Whoever ends is started again, later each time, and
capture of what it served stays shut meanwhile.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from base.errors import AssentError
from base.ipc import GarbledError, Inbox, send, send_with_descriptor
from wire.control import (
    CloseSource,
    FromSensor,
    Items,
    OpenSource,
    Redaction,
    Settings,
    SourceClosed,
    SourceFailed,
    SourceOpened,
)

_LOG: Final = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 0.25  # five times the slowest answer measured under load
BACK_OFF_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS: Final = 60.0  # after so long the back-off starts over


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A running child: our end of its channel, and how to end it."""

    channel: socket.socket
    pid: int
    ended: "asyncio.Future[int]"
    kill: Callable[[], None]


class Starter(Protocol):
    """Starts a child; tests start fakes."""

    async def __call__(self, module: str) -> Started:
        """Start `python -m module --channel FD`; raises OSError."""
        ...


async def start_process(module: str) -> Started:
    """Start `python -m module --channel FD` with nothing of ours open but that descriptor."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # not from the folder that the agent happens to be started in
            "-m",
            module,
            "--channel",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()

    def kill() -> None:
        if process.returncode is None:
            process.kill()

    return Started(
        channel=ours, pid=process.pid, ended=asyncio.ensure_future(process.wait()), kill=kill
    )


class Supervised:
    """One child that is started again when it ends, until `stop`."""

    def __init__(self, module: str, start: Starter) -> None:
        """Nothing is started yet."""
        self.module = module
        self._start = start
        self._task: asyncio.Task[None] | None = None
        self.running: Started | None = None

    def begin(self, on_start: Callable[[Started], None], on_end: Callable[[Started], None]) -> None:
        """Start it, and again whenever it ends."""
        self._task = asyncio.create_task(self._keep_running(on_start, on_end))

    async def stop(self) -> None:
        """End it for good: its channel closes, and it is killed where that is not enough."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self.running is not None:
            await end(self.running)
            self.running = None

    async def _keep_running(
        self, on_start: Callable[[Started], None], on_end: Callable[[Started], None]
    ) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                self.running = await self._start(self.module)
            except OSError as exc:
                _LOG.error("%s cannot be started: %s", self.module, exc.strerror)
            else:
                child = self.running
                on_start(child)
                code = await asyncio.shield(child.ended)
                _LOG.warning("%s ended (%d); starting it again", self.module, code)
                self.running = None
                on_end(child)
            failures = 1 if loop.time() - began > STEADY_SECONDS else failures + 1
            await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1])


async def end(child: Started) -> None:
    """Close the channel of *child*, wait a little, kill it if it is still there."""
    child.channel.close()
    done, _ = await asyncio.wait({child.ended}, timeout=1.0)
    if not done:
        child.kill()
        await asyncio.wait({child.ended})


class SensorError(AssentError):
    """A sensor does not do what it was told."""


class Listener(Protocol):
    """Who is told what a sensor sees."""

    def on_items(self, sensor: "Sensor", items: Items) -> None:
        """Take what was seen."""

    def on_closed(self, sensor: "Sensor") -> None:
        """Note that nothing is hooked any more, and that all it sent was taken."""

    def on_redaction(self, sensor: "Sensor", why: str) -> None:
        """Note that the process said whether its redaction works, and *why* if not."""

    def on_trouble(self, sensor: "Sensor", why: str) -> None:
        """Note that the source could not be opened or ended by itself."""


class Sensor:
    """One sensor process and the one source that it may have open."""

    def __init__(self, name: str, start: Starter, listener: Listener) -> None:
        """Prepare; nothing is started yet."""
        self.name = name
        self._child = Supervised(f"agent.sensors.{name}", start)
        self._listener = listener
        self._inbox: Inbox[FromSensor] = Inbox(FromSensor)
        self._items: socket.socket | None = None
        self._items_inbox: Inbox[Items] = Inbox(Items)
        self._epoch = 0
        self._unhooked = True  # the sensor said so, or is no more
        self._silent = asyncio.Event()  # unhooked, and all it sent was taken
        self._silent.set()
        self.settings: Settings | None = None  # of the open source; None when it is silent
        self._failure = ""  # what the process said of its source's end
        self.redacts: bool | None = None  # as the process says; None before it has

    def begin(self) -> None:
        """Start the process."""
        self._child.begin(self._on_start, self._on_end)

    async def stop(self) -> None:
        """Close the source and end the process."""
        await self.close()
        running = self._child.running
        if running is not None:
            asyncio.get_running_loop().remove_reader(running.channel)
        await self._child.stop()

    @property
    def is_running(self) -> bool:
        """Whether there is a process to talk to."""
        return self._child.running is not None

    def open(self, epoch: int, settings: Settings) -> None:
        """Open the source; does nothing while there is no process.

        A new socket for each opening: what was buffered in an old one cannot pass.
        """
        running = self._child.running
        if running is None or self.settings is not None:
            return
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        try:
            send_with_descriptor(
                running.channel, OpenSource(epoch=epoch, settings=settings), theirs.fileno()
            )
        except (OSError, GarbledError):
            ours.close()
            running.kill()
            return
        finally:
            theirs.close()
        self._items, self._items_inbox = ours, Inbox(Items)
        self._epoch, self.settings = epoch, settings
        self._unhooked = False
        self._silent.clear()
        asyncio.get_running_loop().add_reader(ours, self._on_items_ready)

    async def close(self) -> None:
        """Close the source; when this returns, nothing is hooked and all it sent was taken.

        A sensor that does not answer in time is killed: then the kernel unhooks it and
        closes its end of the items' socket.
        """
        if self.settings is None:
            return
        running = self._child.running
        try:
            if running is not None:
                send(running.channel, CloseSource(epoch=self._epoch))
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._silent.wait()
        except (OSError, TimeoutError):
            _LOG.warning("the %s sensor did not close in time and is killed", self.name)
            if running is not None:
                running.kill()
            await self._silent.wait()

    # --- what comes from the process --------------------------------------------------

    def _on_start(self, child: Started) -> None:
        self._inbox, self._failure, self.redacts = Inbox(FromSensor), "", None
        asyncio.get_running_loop().add_reader(child.channel, self._on_channel_ready, child)

    def _on_end(self, child: Started) -> None:
        asyncio.get_running_loop().remove_reader(child.channel)
        child.channel.close()
        self._unhooked = True
        self._check_silence()
        ended = f"the {self.name} sensor ended; it is started again"
        self._listener.on_trouble(self, self._failure or ended)  # its own reason says more

    def _on_channel_ready(self, child: Started) -> None:
        try:
            alive = self._inbox.receive(child.channel)
            for message in self._inbox.messages():
                self._on_message(message)
        except BlockingIOError:
            return
        except (OSError, GarbledError) as exc:
            _LOG.error("the %s sensor is killed: %s", self.name, exc)
            alive = False
        _drop_descriptors(self._inbox.descriptors)
        if not alive:
            asyncio.get_running_loop().remove_reader(child.channel)
            child.kill()

    def _on_message(self, message: FromSensor) -> None:
        match message:
            case Redaction(works=works, why=why):
                self.redacts = works
                self._listener.on_redaction(self, why)
            case SourceOpened():
                _LOG.debug("%s source of epoch %d is open", self.name, message.epoch)
            case SourceClosed(epoch=epoch):
                self._on_unhooked(epoch)
            case SourceFailed(epoch=epoch, why=why):
                self._on_unhooked(epoch)
                self._failure = why
                self._listener.on_trouble(self, why)

    def _on_unhooked(self, epoch: int) -> None:
        if epoch == self._epoch:
            self._unhooked = True
            self._check_silence()

    def _check_silence(self) -> None:
        if self._unhooked and self._items is None and self.settings is not None:
            self.settings = None
            self._silent.set()
            self._listener.on_closed(self)

    def _on_items_ready(self) -> None:
        items = self._items
        if items is None:
            return
        try:
            alive = self._items_inbox.receive(items)
            for message in self._items_inbox.messages():
                if message.epoch == self._epoch:
                    self._listener.on_items(self, message)
        except BlockingIOError:
            return
        except (OSError, GarbledError) as exc:
            _LOG.error("the %s sensor is killed: %s", self.name, exc)
            if self._child.running is not None:
                self._child.running.kill()
            alive = False
        _drop_descriptors(self._items_inbox.descriptors)
        if not alive:
            self._on_items_ended(items)

    def _on_items_ended(self, items: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(items)
        items.close()
        self._items = None
        self._check_silence()


def _drop_descriptors(descriptors: list[int]) -> None:
    """Close what a child sent along; none of ours sends any."""
    while descriptors:
        os.close(descriptors.pop())
