"""The real agent on a real disk in still time, told what to do from outside, one step at a time.

Nothing of the agent is replaced: `Service` runs as `assent-agent run` runs it, with its ledger,
spool, policy and uploads in a folder.  Around it are the fakes of `tests.fakes`: clocks that a
test moves, sensors and a tray that speak the real protocol, a collector without a network, and a
disk that breaks where it is told to.

`Core.do` lets things happen until they are done or the agent is dead; whoever wants it to live
again says `start`.
"""

import asyncio
import contextlib
import copy
import hashlib
import importlib
import os
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pytest
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]

from agent.children import Started
from agent.service import Service
from base.clock import NANOSECONDS
from base.errors import AssentError
from base.ipc import send
from collector.policies import TIMESTAMP_NAME
from tests.fakes.disk import CrashError
from tests.fakes.organisation import Organisation, PolicyFolder
from tests.fakes.repository import Repository
from tests.fakes.still import StillClock, StillLoop, StillSensor, StillWorkstation
from tests.fakes.syscalls import Syscalls
from tests.fakes.workstation import FakeCollector
from wire.category import Category
from wire.control import Answer, CloseSource, Command, ContextSettings, FromAgent, Items, OpenSource
from wire.policy import Hours, Policy, Weekday

T = TypeVar("T")

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a disk in memory, where there is one
MOST_STARTS: Final = 8
HOURS: Final = (Hours(days=tuple(Weekday), begin="05:00", end="23:00"),)
FIRST_BOOT: Final = 5 * NANOSECONDS  # what the boot clock shows when an agent starts with it
RENEWED_AFTER: Final = 600 * NANOSECONDS  # so old a lease may be that the collector hands out
LARGEST_STEP: Final = 120  # seconds that an agent gets to be done


class CoreClock(StillClock):
    """Boot clock, wall clock, and the time that really went by, which nobody can set."""

    def __init__(self, starts_at: int) -> None:
        super().__init__()
        self._wall_before = starts_at - int(self.seconds * NANOSECONDS)
        self.away = 0  # asleep, or off
        self.skew = 0  # by which the wall clock was set, all in all
        self.boots = 1

    @property
    def true(self) -> int:
        """Nanoseconds that really went by."""
        return int(self.seconds * NANOSECONDS) + self.away

    @property
    def true_wall(self) -> int:
        """What a wall clock shows that nobody has set."""
        return self._wall_before + self.true

    def sleep(self, nanoseconds: int) -> None:
        self.away += nanoseconds
        self.boot_shift += nanoseconds
        self.wall_shift += nanoseconds

    def reboot(self, nanoseconds: int) -> None:
        self.away += nanoseconds
        self.wall_shift += nanoseconds
        self.boots += 1
        self.boot_id = f"boot-{self.boots}"
        self.boot_shift = FIRST_BOOT - int(self.seconds * NANOSECONDS)

    def set_wall(self, nanoseconds: int) -> None:
        self.skew += nanoseconds
        self.wall_shift += nanoseconds


class CoreSensor(StillSensor):
    """A sensor that takes its time to close, says what it saw meanwhile, or hangs."""

    lag = 0.0
    hangs = False
    looks = 0  # pictures since it was opened; the first of some is a whole one
    on_open: Callable[["CoreSensor"], None] = staticmethod(lambda _sensor: None)
    before_close: Callable[["CoreSensor"], None] = staticmethod(lambda _sensor: None)

    def _on_message(self, message: FromAgent) -> None:
        if isinstance(message, CloseSource):
            if not self.hangs:
                asyncio.get_running_loop().call_later(self.lag, self._close, message)
            return
        super()._on_message(message)
        if isinstance(message, OpenSource):
            self.looks = 0
            if isinstance(message.settings, ContextSettings):
                self.on_open(self)

    def _close(self, message: CloseSource) -> None:
        if not self._ended.done():
            if self.is_open:
                self.before_close(self)
            super()._on_message(message)

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def epoch(self) -> int:
        return self._epoch

    def say(self, items: Items) -> None:
        """Send what was seen; a socket that is full or closed takes nothing."""
        if self._items is not None:
            with contextlib.suppress(OSError):
                send(self._items, items)


@dataclass
class CoreStation(StillWorkstation):
    """The workstation of a `Core`; `appeared` is told when a tray or a sensor has come."""

    appeared: Callable[[str], None] = lambda _name: None

    async def _start(self, module: str) -> Started:
        started = await super()._start(module)
        self.appeared(module.rpartition(".")[2])
        return started


@dataclass(frozen=True, kw_only=True)
class Edition:
    """One policy of a programme, and what a person would say that it changes.

    `asks` is what it asks for; a yes that was given to an edition with a lower `words` does not
    hold under it.
    """

    policy: Policy
    asks: frozenset[Category]
    words: int
    repository: Repository
    folder: Path


@dataclass
class Grounds:
    """An enrolled workstation before its first start, to be copied; and the policies to come."""

    folder: Path
    organisation: Organisation = field(default_factory=Organisation)
    starts_at: int = 0
    editions: list[Edition] = field(default_factory=list)

    @classmethod
    def made(cls, folder: Path) -> "Grounds":
        """Enrol a workstation; the clock there stands at ten in the morning (UTC)."""
        tomorrow = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0)
        at = tomorrow + timedelta(days=1)
        grounds = cls(folder=folder, starts_at=int(at.timestamp()) * NANOSECONDS)
        clock = CoreClock(grounds.starts_at)
        first = msgspec.structs.replace(grounds.organisation.policy(), hold_seconds=1, hours=HOURS)
        station = StillWorkstation(
            folder=folder / "home", organisation=grounds.organisation, policy=first, clock=clock
        )
        station.paths.make()
        station._enrol()  # noqa: SLF001 - what `enrolled` does, with a clock of ours
        grounds._publish_all(station, first, at)
        return grounds

    def _publish_all(self, station: StillWorkstation, first: Policy, at: datetime) -> None:
        no_screen = tuple(r for r in first.categories if r.category is not Category.SCREEN)
        no_pointer = tuple(r for r in first.categories if r.category is not Category.POINTER)
        more = f"{first.notice}\n\nOne more paragraph."
        everything = frozenset(Category)
        chain: list[tuple[dict[str, object], frozenset[Category], int]] = [
            ({}, everything, 1),
            ({"categories": no_screen}, everything - {Category.SCREEN}, 1),
            ({"notice": more}, everything, 2),
            ({"notice": more, "categories": no_pointer}, everything - {Category.POINTER}, 2),
            ({"notice": f"{more} And another."}, everything, 3),
        ]
        last = station.folder / "policy"
        for number, (changes, asks, words) in enumerate(chain):
            policy, here = first, last
            if number:
                policy = msgspec.structs.replace(first, version=first.version + number, **changes)
                here = self.folder / f"policy-{number}"
                shutil.copytree(last, here)
            published = self.organisation.publish(here, policy, at=at)
            repository = Repository.of(self.organisation, published, at)
            if number:
                before = self.editions[-1].repository
                repository = copy.copy(before)
                repository.files = dict(before.files)
                repository.publish(published, at)
            else:
                repository = station.repository
            self.editions.append(
                Edition(policy=policy, asks=asks, words=words, repository=repository, folder=here)
            )
            last = here


class Core:
    """One agent and its lives."""

    def __init__(self, folder: Path, grounds: Grounds, patch: pytest.MonkeyPatch) -> None:
        self.grounds = grounds
        home = folder / "home"
        shutil.copytree(grounds.folder / "home", home)
        self.clock = CoreClock(grounds.starts_at)
        self.station = CoreStation(
            folder=home,
            organisation=grounds.organisation,
            policy=grounds.editions[0].policy,
            clock=self.clock,
            sensor=CoreSensor,
        )
        self.station.paths.make()
        self.device = self.station.device
        self.collector = FakeCollector(
            grounds.organisation, grounds.organisation.device, grounds.organisation.subject
        )
        self.station.collector = self.collector
        self.disk = Syscalls(home, lambda: self.clock.seconds)
        self.fetched_at: list[int] = [self.clock.true]  # when a lease was handed out
        self.edition = 0
        self._published_anew()
        self.troubles: list[str] = []
        self.service: Service | None = None
        self._loop: StillLoop | None = None
        self.disk.install(patch)
        remember(patch)

    # --- lives --------------------------------------------------------------------------

    @property
    def lives(self) -> bool:
        return self.service is not None

    @property
    def is_full(self) -> bool:
        """Whether the disk has no room."""
        return self.clock.seconds < self.disk._full_until  # noqa: SLF001 - a part of the fakes

    @property
    def running(self) -> Service:
        assert self.service is not None
        return self.service

    def start(self) -> None:
        """Start it as a session does, again where the disk does not let it."""
        said = ""
        for _attempt in range(MOST_STARTS):
            try:
                self._begin()
            except (AssentError, OSError) as exc:
                said = str(exc)
                assert self.disk.broke or self.is_full, f"it does not start: {said}"
                self._bury()
                self.clock.seconds += 8
            except CrashError:
                self._bury()
            else:
                return
        raise AssertionError(f"the agent does not start any more: {said}")

    def _begin(self) -> None:
        self.station.trays.clear()
        self.station.still.clear()
        loop = self._loop = StillLoop(self.clock)
        loop.set_exception_handler(self._on_trouble)
        self._crashed: asyncio.Future[None] = loop.create_future()
        self.disk.on_crash = lambda: (
            None if self._crashed.done() else self._crashed.set_result(None)
        )
        service = self.station.service()
        self._agent = loop.create_task(service.run())
        self.service = service

    def _on_crash(self) -> None:
        if not self._crashed.done():
            self._crashed.set_result(None)

    def do(self, doing: Coroutine[Any, Any, T]) -> T | None:
        """Let *doing* happen beside the agent; None when the agent has ended before."""
        assert self._loop is not None
        try:
            return self._loop.run_until_complete(self._beside(doing))
        except _EndedError:
            self._bury()
            return None

    async def _beside(self, doing: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(doing)
        ends: set[asyncio.Future[Any]] = {task, self._agent, self._crashed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not (self._agent.done() or self._crashed.done()):
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        if not self._crashed.done() and not self.disk.dead:
            self._look_at_its_end()
        raise _EndedError

    def _look_at_its_end(self) -> None:
        """An agent ends because somebody said so, or because its disk failed."""
        exc = self._agent.exception()
        failed = isinstance(exc, OSError | AssentError) and (self.disk.broke or self.is_full)
        assert exc is None or failed, f"the agent ended: {exc!r}"

    def wait(self, seconds: float) -> bool:
        """Let time pass; whether the agent still lives."""
        self.do(asyncio.sleep(seconds))
        return self.lives

    def say(self, command: Command) -> Answer | None:
        """Return the answer to a click; None when nobody is there who hears it, or answers."""
        if not self.station.trays:
            return None
        try:
            return self.do(self.station.tray.say(command))
        except TimeoutError:
            return None

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.disk.kill()
        self.do(asyncio.sleep(0))

    def quit(self) -> None:
        """End it as the end of the session does."""
        self.running.stop()
        self.wait(LARGEST_STEP)
        assert not self.lives, "the agent does not end"

    def close(self) -> None:
        if self.lives:
            self.kill()

    def _bury(self) -> None:
        loop, self._loop, self.service = self._loop, None, None
        self.disk.dead = True  # whatever it still tries
        if loop is not None:
            end_all(loop)
            self.station.close_channels()
        self.disk.bury()

    def _on_trouble(self, _loop: object, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if not self.disk.dead and not isinstance(exc, CrashError):
            self.troubles.append(f"{context['message']}: {exc!r}")

    # --- what is around it --------------------------------------------------------------

    def publish(self) -> None:
        """Let the collector have the next policy."""
        self.edition += 1
        self._published_anew()

    @property
    def published(self) -> Edition:
        return self.grounds.editions[self.edition]

    def in_force(self) -> int | None:
        """Return the number of the edition that the agent goes by, if it has any."""
        policy = self.running.policy.policy
        for number, edition in enumerate(self.grounds.editions):
            if policy == edition.policy:
                return number
        return None

    def _published_anew(self) -> None:
        edition = self.published
        repository = copy.copy(edition.repository)
        repository.files = dict(repository.files)
        folder, renewed_at = PolicyFolder(edition.folder), -RENEWED_AFTER

        def noted(name: str) -> bytes | None:
            nonlocal renewed_at
            if name == TIMESTAMP_NAME and self.clock.true - renewed_at >= RENEWED_AFTER:
                renewed_at = self.clock.true
                self.fetched_at.append(renewed_at)
                at = self.clock.true_wall // NANOSECONDS
                repository.renew(folder, datetime.fromtimestamp(at, UTC))
            return repository.fetch(name)

        self.collector.policy_file_of = noted

    def spooled(self) -> list[Path]:
        """Return the frames in the spool."""
        spool = self.station.paths.state / "spool"
        return [
            Path(entry.path)
            for name in ("held", "ready")
            if (spool / name).is_dir()
            for entry in os.scandir(spool / name)
            if entry.name.endswith(".frame")
        ]


class _EndedError(Exception):
    """The agent is no more."""


def end_all(loop: asyncio.AbstractEventLoop) -> None:
    """End what a dead process was at: it gets a moment to unwind, and no more."""
    for _attempt in range(3):
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks, timeout=0.1))
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it is dead
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let pure functions that are asked the same over and over answer from memory.

    They verify the same bytes at each start and each look at the policy; what they say follows
    from these bytes alone.
    """
    for place, name in (
        ("agent.consent.policy", "verify_signatures"),
        ("agent.consent.policy", "verify_lease"),
        ("agent.consent.policy", "check_parties"),
        ("agent.seal", "decode_recipient"),
    ):
        module = importlib.import_module(place)
        remembered = _REMEMBERED.get(name) or lru_cache(256)(getattr(module, name))
        patch.setattr(module, name, _REMEMBERED.setdefault(name, remembered))
    patch.setattr(SSlibKey, "verify_signature", _verify_once)


_VERIFY: Final = SSlibKey.verify_signature
_VERIFIED: Final[set[tuple[str, str, bytes]]] = set()


def _verify_once(key: SSlibKey, signature: Signature, data: bytes) -> None:
    """Verify a signature of the policy's metadata, which comes with each look at it, once."""
    seen = str(key.keyval["public"]), signature.signature, hashlib.sha256(data).digest()
    if seen not in _VERIFIED:
        _VERIFY(key, signature, data)
        _VERIFIED.add(seen)


_REMEMBERED: Final[dict[str, Any]] = {}
