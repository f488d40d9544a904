"""A workstation on which time passes only while everybody waits: minutes take milliseconds.

Everything runs in one thread of one event loop, so the same story makes the same steps each
time, to the last system call; what a test breaks at step 173 is broken at the same place in
every run.  The agent is the real one; it talks to its children over real sockets.
"""

import asyncio
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from agent.children import Started
from base.clock import Now
from base.ipc import Inbox, send
from tests.fakes.workstation import FakeTray, ShiftedClock, Workstation
from wire.control import (
    CloseSource,
    ContextSettings,
    FocusSeen,
    FromAgent,
    Items,
    OpenSource,
    Redaction,
    SecretSeen,
    Settings,
    SourceClosed,
    SourceOpened,
)
from wire.event import Event
from wire.ids import BootInstant
from wire.policy import Application

T = TypeVar("T")


class StillClock(ShiftedClock):
    """Boot clock and wall clock of a story; `StillLoop` moves them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1_000.0
        self._wall_before = int(datetime.now(UTC).timestamp() * 1e9) - int(self.seconds * 1e9)

    def now(self) -> Now:
        passed = int(self.seconds * 1e9)
        return Now(
            boot=passed + self.boot_shift,
            wall=self._wall_before + passed + self.wall_shift,
            boot_id=self.boot_id,
        )


class _StillSelector(selectors.EpollSelector):
    """Waits for nothing: where nothing is ready, the time that would be waited has passed."""

    def __init__(self, clock: StillClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self._clock.seconds += timeout
        return ready


class StillLoop(asyncio.SelectorEventLoop):
    """Its time is the story's; what goes to a worker thread is done at once, in this one."""

    def __init__(self, clock: StillClock) -> None:
        self._still = clock
        super().__init__(_StillSelector(clock))

    def time(self) -> float:
        return self._still.seconds

    def run_in_executor(
        self, executor: object, func: Callable[..., T], *args: object
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as exc:  # noqa: BLE001 - whoever awaits it gets it
            future.set_exception(exc)
        return future


class StillSensor:
    """One sensor, in the loop; `emit` is what it sees."""

    def __init__(
        self, module: str, channel: socket.socket, ended: "asyncio.Future[int]", clock: StillClock
    ) -> None:
        self.module = module
        self.settings: Settings | None = None
        self._channel = channel
        self._ended = ended
        self._clock = clock
        self._epoch = 0
        self._inbox: Inbox[FromAgent] = Inbox(FromAgent)
        self._items: socket.socket | None = None
        asyncio.get_running_loop().add_reader(channel, self._on_ready)
        send(channel, Redaction(works=True))

    @property
    def is_open(self) -> bool:
        return self._items is not None

    def emit(self, *events: Event, focus: tuple[FocusSeen, ...] = ()) -> None:
        assert self._items is not None, f"{self.module} is closed"
        send(self._items, Items(epoch=self._epoch, events=events, focus=focus, suppressed=0))

    def kill(self) -> None:
        if not self._ended.done():
            self._close_items()
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._ended.set_result(0)

    def _on_ready(self) -> None:
        try:
            alive = self._inbox.receive(self._channel)
            for message in self._inbox.messages():
                self._on_message(message)
        except BlockingIOError:
            return
        except OSError:
            alive = False
        if not alive:
            self.kill()

    def _on_message(self, message: FromAgent) -> None:
        at = BootInstant(self._clock.now().boot)
        match message:
            case OpenSource(epoch=epoch, settings=settings):
                assert not self.is_open, "opened twice"
                assert epoch > self._epoch, "an epoch was used before"
                self._items = socket.socket(fileno=self._inbox.descriptors.pop(0))
                self._epoch, self.settings = epoch, settings
                send(self._channel, SourceOpened(epoch=epoch, at=at))
                if isinstance(settings, ContextSettings):
                    seen = SecretSeen(at=at, secret=False)
                    send(self._items, Items(epoch=epoch, secrets=(seen,)))
            case CloseSource(epoch=epoch):
                self._close_items()
                send(self._channel, SourceClosed(epoch=epoch, at=at))

    def _close_items(self) -> None:
        if self._items is not None:
            self._items.close()
        self._items = None


@dataclass
class StillWorkstation(Workstation):
    """A workstation in still time; enrolled by whoever tells the story."""

    clock: StillClock = field(default_factory=StillClock)  # type: ignore[mutable-override]  # nobody puts another one there
    sensor: type[StillSensor] = StillSensor
    still: dict[str, StillSensor] = field(default_factory=dict)
    channels: list[socket.socket] = field(default_factory=list)  # both ends, of every child

    def in_front(self, application: Application) -> FocusSeen:
        """Return what the context sensor sees while a window of *application* has the focus."""
        return FocusSeen(
            at=BootInstant(self.clock.now().boot),
            inside=True,
            process=application.process,
            window_class=application.window_class,
        )

    def close_channels(self) -> None:
        """Close what a process that is no more had open, as the kernel does."""
        for channel in self.channels:
            channel.close()
        self.channels.clear()

    async def _start(self, module: str) -> Started:
        ours, theirs = socket.socketpair()
        self.channels += (ours, theirs)
        ours.settimeout(0)
        theirs.settimeout(0)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if module == "tray":
            tray = FakeTray(theirs, ended)
            self.trays.append(tray)
            return Started(channel=ours, pid=100, ended=ended, kill=tray.kill)
        sensor = self.sensor(module, theirs, ended, self.clock)
        self.still[module.rpartition(".")[2]] = sensor
        return Started(channel=ours, pid=101, ended=ended, kill=sensor.kill)
