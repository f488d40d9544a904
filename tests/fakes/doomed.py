"""An agent that dies at a chosen step of its writing: a real process, real disk, real collector.

`python -m tests.fakes.doomed FOLDER` is on an enrolled workstation's folder, and lives one life
for each `Doom` that it reads from standard input, in a process of its own.  The agent is the
real one; sensors, tray and icon are fakes that speak the real protocols.  It reports each act
before it is asked for and after it was acknowledged (`Told`), each batch of keys that it put
into the spool (`Kept`), an exception that ended it (`Broke`), and the end (`Ended`), one a line.

A *step* is the moment before or after one call that changes the disk, or in the middle of
writing a file.
"""

import asyncio
import os
import random
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.config import Config
from agent.consent.policy import read_fetched
from agent.consent.states import Flag, Pause
from agent.delivery import UNCONFIRMED_SECONDS
from agent.enroll import load_device
from agent.handover import SealedBatch
from agent.service import Service
from agent.spool import Spool
from base import durable
from base.clock import Now
from base.process import become_undumpable
from tests.fakes.organisation import Organisation
from tests.fakes.workstation import Workstation, eventually, key, move, running
from wire.category import Category
from wire.control import Command, Done, Grant, Heartbeat, OptIn, OptOut, Resume, Silent, Withdraw
from wire.control import Pause as PauseCommand
from wire.event import Event
from wire.policy import decode_policy, words_sha256

SECONDS: Final = 30.0  # for one wait of a life; the machine may be busy
CALLS: Final = ("open", "fsync", "replace", "rename", "unlink", "truncate")
PUT: Final = Spool.put
RECORDED: Final = frozenset({Category.KEYS, Category.POINTER})
SHIFT_SECONDS: Final = 15.0  # a life begins so much later than the one before, which takes 13


class Doom(msgspec.Struct, frozen=True, kw_only=True):
    """One life: its number, what chance it has, and at which step *how* ends it (0: never).

    The last life finishes what the others left, and then withdraws the pointer with erasure.
    """

    number: int
    seed: int
    at: int
    how: int
    text: str
    last: bool = False


class Told(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An act was asked for, or (`done`) acknowledged."""

    act: str
    done: bool


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A batch of keys was put into the spool, under this name: it may not be lost any more."""

    name: str


class Broke(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The life ends by an exception, which none should."""

    traceback: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The life is over: the signal that ended it, 0 if none did, and the steps it took."""

    signal: int
    exit_code: int


# --- dying ------------------------------------------------------------------------------


class Steps:
    """Counts the steps, and dies at one."""

    def __init__(self, doom: Doom) -> None:
        self._doom = doom
        self._taken = 0

    def install(self) -> None:
        """Have every call of this process that changes the disk be a step."""
        for name in CALLS:
            setattr(os, name, self._stepping(getattr(os, name)))
        write_all = durable.write_all

        def half_then_all(fd: int, data: bytes) -> None:
            write_all(fd, data[: len(data) // 2])
            self.take()
            write_all(fd, data[len(data) // 2 :])

        durable.write_all = half_then_all  # type: ignore[assignment]

    def take(self) -> None:
        """Take one step; die if it is the one."""
        self._taken += 1
        if self._taken == self._doom.at:
            if self._doom.how == signal.SIGKILL:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pthread_kill(threading.get_ident(), self._doom.how)

    def _stepping(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - as the call has it
            if call.__name__ == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **more)
            self.take()
            result = call(*arguments, **more)
            self.take()
            return result

        return stepping


# --- living -----------------------------------------------------------------------------


def put_and_tell(spool: Spool, sealed: SealedBatch, now: Now) -> None:
    """Put a batch as `Spool.put` does; tell of it once that says that it is durable."""
    PUT(spool, sealed, now)
    if sealed.category is Category.KEYS:
        tell(Kept(name=sealed.name))


class Doomed(Workstation):
    """The enrolled folder, with the way to the real collector."""

    def service(self, config: Config | None = None) -> Service:
        """Return the agent as it is, but for sensors, tray and icon."""
        return Service(
            self.paths,
            config or Config(),
            load_device(self.paths.state),
            clock=self.clock,
            start=self._start,
            watch=self.watches,
            opt_outs=lambda _config: {},
        )


class Life:
    """What happens until the agent dies."""

    def __init__(self, station: Doomed, doom: Doom) -> None:
        self._station = station
        self._doom = doom
        self._dice = random.Random(doom.seed)  # noqa: S311 - moments, no secret

    async def live(self) -> None:
        """Record, seal and send, restrict and resume, again and again."""
        async with running(self._station) as service:
            if self._doom.last:
                await self._finish(service)
                return
            for _ in range(3):
                await self._record(service)
                act = self._dice.choice((self._pause, self._opt_out, self._withdraw))
                await act()
                await self._sent(service)

    async def _record(self, service: Service) -> None:
        station = self._station
        if service.standing.pause is not Pause.RUNNING:
            await self._say("resume", Resume())
        for category in sorted(RECORDED):
            if service.standing.flags[category] is Flag.OPTED_OUT:
                await self._say(f"opt in {category}", OptIn(category=category))
            if category not in service.standing.grants:
                words = words_sha256(station.policy, category)
                grant = Grant(category=category, words_sha256=words)
                await self._say(f"grant {category}", grant)
        await self._in_front(service)
        station.clock.pass_by(0.5)  # past the settling of that focus
        before, typed = counted(service), self._typed()
        station.sensors["input"].emit(*typed)
        station.clock.pass_by(1.0)  # past the hold-back
        station.tray.sees(Heartbeat())  # it did not hang for as long as the clock says
        await eventually(lambda: counted(service) >= before + len(typed), SECONDS)

    async def _in_front(self, service: Service) -> None:
        """Bring a listed program to the front, until what is typed there is recorded.

        Again and again: on a busy machine a beat of the tray or an answer of a sensor can come
        too late, and then the agent closes, and forgets what had the focus.
        """
        async with asyncio.timeout(SECONDS):
            while not service.verdict.categories >= RECORDED or not self._is_open(service):
                if self._is_open(service):
                    await self._station.focus()
                await asyncio.sleep(0.005)

    def _is_open(self, service: Service) -> bool:
        """Whether both sensors are open, and none of them is about to be closed."""
        sensors = (self._station.sensors[name] for name in ("context", "input"))
        permits = service.pipeline.permits()
        return permits.keys() == RECORDED and all(sensor.is_open for sensor in sensors)

    def _typed(self) -> list[Event]:
        events: list[Event] = []
        for number, letter in enumerate(self._doom.text):
            events += [key(self._station, letter), move(self._station, number)]
            self._station.clock.pass_by(0.05)
        return events

    async def _pause(self) -> None:
        await self._say("pause", PauseCommand())

    async def _opt_out(self) -> None:
        await self._say("opt out pointer", OptOut(category=Category.POINTER))

    async def _withdraw(self) -> None:
        erase = self._dice.random() < 0.5
        await self._say("withdraw pointer", Withdraw(category=Category.POINTER, erase=erase))

    async def _sent(self, service: Service) -> None:
        """Let what is sealed go, or go on at once: chance decides how far it gets."""
        self._pass_the_hold()
        if self._dice.random() < 0.7:
            await eventually(lambda: not service.spool.batches(), SECONDS)

    def _pass_the_hold(self) -> None:
        self._station.clock.pass_by(2.0)
        self._station.tray.sees(Heartbeat())

    async def _finish(self, service: Service) -> None:
        await self._record(service)
        await self._say("pause", PauseCommand())
        self._pass_the_hold()
        await eventually(lambda: not service.spool.batches(), SECONDS)
        erase = Withdraw(category=Category.POINTER, erase=True)
        await self._say("withdraw pointer", erase)
        await eventually(
            lambda: not (service.spool.deletions() or service.erasures.outstanding()),
            SECONDS + UNCONFIRMED_SECONDS,  # what one party missed is asked for again after that
        )

    async def _say(self, act: str, command: Command) -> None:
        tell(Told(act=act, done=False))
        answer = await self._station.tray.say(command)
        assert isinstance(answer, Silent | Done), f"{act}: {answer}"
        tell(Told(act=act, done=True))


def counted(service: Service) -> int:
    """Return how many events were kept or dropped."""
    counters = service.counters
    return sum(counters.kept.values()) + sum(counters.dropped.values())


def tell(message: Told | Kept | Broke | Ended) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def live(station: Doomed, doom: Doom) -> None:
    """Live one life in this process."""
    become_undumpable()
    station.clock.pass_by(SHIFT_SECONDS * doom.number)
    Steps(doom).install()
    Spool.put = put_and_tell  # type: ignore[assignment, method-assign]
    asyncio.run(Life(station, doom).live())


def main() -> None:
    """Live as often as asked."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    folder = Path(sys.argv[1])
    fetched = read_fetched(folder / "state")
    assert fetched is not None
    policy = decode_policy(fetched.policy)
    station = Doomed(folder=folder, organisation=Organisation(), policy=policy)
    for line in sys.stdin.buffer:
        doom = msgspec.json.decode(line, type=Doom)
        pid = os.fork()
        if not pid:
            try:
                live(station, doom)
            except BaseException:  # noqa: BLE001 - the one who asked is told
                tell(Broke(traceback=traceback.format_exc()))
                os._exit(1)
            os._exit(0)
        _pid, status = os.waitpid(pid, 0)
        ended = os.waitstatus_to_exitcode(status)
        tell(Ended(signal=max(0, -ended), exit_code=max(0, ended)))


if __name__ == "__main__":
    main()
