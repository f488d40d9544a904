"""The input sensor against a bare counter of the same raw events, under the same load.

The sensor stamps, redacts and forwards each key and click and joins moves; the floor is a
libXi client in ctypes that counts.  Each has the desktop to itself, one after the other.
"""

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from base.ipc import Inbox, send_with_descriptor
from benchmarks.desk import INPUT_SECONDS, ROOT, TYPICAL, Counter, desk
from benchmarks.meter import Meter
from benchmarks.result import Row
from demo.desktop import VirtualDesktop
from demo.typist import Typist
from wire.control import InputSettings, Items, OpenSource

MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one watcher used, and saw, of the load."""

    cpu_seconds_a_minute: float
    resident_megabytes: float
    events: int
    injected: int


class Ours:
    """The real sensor process, with this process as its agent."""

    def __init__(self, desktop: VirtualDesktop) -> None:
        channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agent.sensors.input", "--channel", str(theirs.fileno())],
                env=desktop.env | {"PYTHONPATH": str(ROOT)},
                pass_fds=(theirs.fileno(),),
            )
        self.pid = self._process.pid
        self._channel = channel
        self._items, items = socket.socketpair()
        settings = InputSettings(keys=True, pointer=True, key_level="classes")
        with items:
            send_with_descriptor(channel, OpenSource(epoch=1, settings=settings), items.fileno())
        channel.recv(1)  # it says that it is open
        self._inbox: Inbox[Items] = Inbox(Items)
        self.events = 0

    def read_for(self, seconds: float) -> None:
        """Take what it sends, as the agent would."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._items, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                if waiting.select(left):
                    self._inbox.receive(self._items)
                    self.events += sum(len(items.events) for items in self._inbox.messages())

    def stop(self) -> int:
        """End it; return how many events it has sent."""
        self.read_for(0.2)
        self._channel.close()
        self._items.close()
        self._process.wait(10)
        return self.events


def run() -> list[Row]:
    """Return processor time, memory and events of both."""
    with desk() as (desktop, typist):
        sensor = Ours(desktop)
        mine = watched(typist, sensor.pid, sensor.read_for, sensor.stop)
        counter = Counter(desktop, "xinput2")
        bare = watched(typist, counter.pid, time.sleep, counter.stop)
    return [
        _row("processor time a minute", mine.cpu_seconds_a_minute, bare.cpu_seconds_a_minute, "s"),
        _row("resident memory", mine.resident_megabytes, bare.resident_megabytes, "MB"),
        _row(
            "events (moves are joined) of 100 injected",
            100 * mine.events / mine.injected,
            100 * bare.events / bare.injected,
            "",
        ),
    ]


def _row(what: str, ours: float, floor: float, unit: str) -> Row:
    best_known = "pynput, counting only: 1.6-2.0 s; 1.4-1.6 s with pictures" if unit == "s" else ""
    return Row(
        bench="sensor",
        what=what,
        ours=ours,
        floor=floor,
        unit=unit,
        more_is_better=False,
        best_known=best_known,
    )


def watched(
    typist: Typist, pid: int, wait: Callable[[float], None], stop: Callable[[], int]
) -> Seen:
    """Put the typical load on, and return what process *pid* made of it."""
    meter, before = Meter(pid), len(typist.events())
    start = meter.read()
    began = time.monotonic()
    typist.start(TYPICAL)
    wait(INPUT_SECONDS)
    typist.stop()
    lasted, end = time.monotonic() - began, meter.read()
    return Seen(
        cpu_seconds_a_minute=(end.cpu_seconds - start.cpu_seconds) * MINUTE / lasted,
        resident_megabytes=end.resident_megabytes,
        events=stop(),
        injected=len(typist.events()) - before,
    )
