"""Some days of one agent, from its enrolment on, told so that every write of its source is made.

A `Story` is told to the real command line and the real service, in still time.  Whatever
breaks, it goes on as a person would: a command that was refused is said again, an agent that
crashed or would not start is started again.  `books` has what was acknowledged, and compares
it with the disk and the collector.
"""

import asyncio
import builtins
import contextlib
import io
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec
import pytest

from agent.__main__ import agent
from agent.config import Config
from agent.consent.ledger import FILE_NAME as LEDGER
from agent.enroll import IDENTITY, Device, load_device
from agent.service import Service
from base.command import outcome
from tests.fakes.books import Books, There
from tests.fakes.disk import CrashError
from tests.fakes.still import StillLoop, StillWorkstation
from tests.fakes.syscalls import Syscalls
from wire.category import Category
from wire.collector_http import Enrolment as EnrolmentFile
from wire.control import (
    Command,
    ConfirmClock,
    Done,
    Forget,
    Grant,
    OptIn,
    OptOut,
    Pause,
    Reason,
    Refused,
    Resume,
    Silent,
    Withdraw,
)
from wire.errors import WireError
from wire.event import Key, Move
from wire.ids import BootInstant
from wire.policy import words_sha256
from wire.sealing import recipient_of

KEYS, POINTER, SCREEN = Category.KEYS, Category.POINTER, Category.SCREEN
DAY_SECONDS: Final = 24 * 3600
MOST_TRIES: Final = 10
PATIENCE_SECONDS: Final = 120.0  # of the story; a full disk stays full for 5
MOST_STARTS: Final = 6

Step: TypeAlias = Callable[[], Awaitable[None]]
REAL_OPEN: Final = builtins.open  # the story's own writes are nobody's to break


C = TypeVar("C", bound=There)


class Story(Generic[C]):
    """Everything that happens, and where it has come to."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        station: StillWorkstation,
        collector: C,
        file: EnrolmentFile,
    ) -> None:
        self.station = station
        self.station.paths.make()
        self.folder = folder
        self.file = file
        self.disk = Syscalls(folder, lambda: self.station.clock.seconds)
        self.collector = collector
        self.books = Books(station, self.disk, collector)
        self.said: list[str] = []  # every line that a person got because something broke
        self.shown: set[str] = set()  # every line of the status that was to be seen
        self.troubles: list[str] = []  # what would have been a traceback
        self._patch(patch)
        self.disk.install(patch)

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("ASSENT_HOME", str(self.folder))
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        patch.setenv("DISPLAY", ":0")
        patch.setattr("agent.__main__.become_undumpable", lambda: None)
        patch.setattr("agent.__main__.doctor.display", lambda _environment: _Fine)
        patch.setattr("agent.__main__.enroll.is_in_memory", lambda _folder: True)
        patch.setattr("agent.__main__.SystemClock", lambda: self.station.clock)
        patch.setattr("agent.__main__.Service", self._service)
        patch.setattr("asyncio.run", self._live)
        self.books.watch(patch)

    # --- what happens between the lives -------------------------------------------------

    def enrol(self) -> None:
        """Run `assent-agent enroll` until it has succeeded."""
        organisation = self.station.organisation
        file = self.folder.with_name("enrolment-file.json")
        write(file, msgspec.json.encode(self.file))
        rights_key = self.folder
        for number in range(MOST_STARTS):
            rights_key = self.folder / f"rights-{number}.key"
            if self._run("enroll", str(file), "--rights-key", str(rights_key)) == 0:
                break
            if any("has a rights key already" in line for line in self.said):
                # It was written all the same.
                rights_key = self.folder / f"rights-{number - 1}.key"
                break
        device = load_device(self.station.paths.state)
        identity = rights_key.read_text("ascii").split()[0]
        assert recipient_of(identity) == device.enrolment.subject_key
        assert (self.station.paths.runtime / IDENTITY).read_text("ascii").strip() == identity
        organisation.device, organisation.subject_identity = device.key, identity
        self.collector.meet(device)

    def enrol_again(self) -> None:
        """Run `assent-agent enroll` with a new file until it has succeeded; nothing is lost."""
        file, before = self.folder.with_name("enrolment-file.json"), self.station.device
        for _attempt in range(MOST_STARTS):
            if self._run("enroll", str(file)) == 0:
                break
        else:
            raise AssertionError(f"the device is never enrolled again: {self.said}")
        after = self.station.device
        assert (after.id, after.subject) == (before.id, before.subject)
        assert after.enrolment.subject_key == before.enrolment.subject_key

    def life(self, *steps: Step, killed: bool = False) -> None:
        """Run `assent-agent run` until all *steps* are done; start it again where it ends."""
        self._steps, self._done, self._killed = steps, 0, killed
        for _attempt in range(MOST_STARTS):
            code = self._run("run")
            if self._done == len(steps):
                return
            assert code != 0, "the agent ended by itself and says that all is well"
        raise AssertionError(f"the agent does not start any more: {self.said}")

    def suspend(self, *, days: int) -> None:
        """Let days pass, with another boot at their end."""
        self.station.clock.pass_by(days * DAY_SECONDS)
        self.station.clock.boot_id += "'"

    # --- without an agent ---------------------------------------------------------------

    def opt_out_without_an_agent(self) -> None:
        """Say `assent-agent opt-out pointer` until it holds."""
        command = OptOut(category=POINTER)
        for _attempt in range(MOST_STARTS):
            self.books.issued(command)
            if self._run("opt-out", "pointer") == 0:
                self.books.acknowledged(command)
                return
        raise AssertionError(f"an opt-out is never taken: {self.said}")

    def leave_litter(self) -> None:
        """Leave what a crash or a failing disk may leave: parts of files, a line that is none."""
        state = self.station.paths.state
        for part in (
            state / ".numbers.json.77.tmp",
            state / ".device.key.77.tmp",
            state / "receipts" / ".a.json.77.tmp",
            state / "spool" / ".sent.jsonl.77.tmp",
            state / "spool" / "held" / ".a.frame.77.tmp",
            state / "spool" / "deletions" / ".a.json.77.tmp",
            state / "erasures" / ".a.json.77.tmp",
            state / "erasures" / f"{'0' * 64}.json",
        ):
            write(part, b"part")
        write(state / LEDGER, b'{"n":', "ab")
        write(state / "spool" / "sent.jsonl", b'no line\n{"hash":', "ab")

    def spoil_the_ledger(self) -> None:
        """Turn over one bit in the middle of the ledger."""
        path = self.station.paths.state / LEDGER
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        write(path, bytes(data))
        self.books.consents_are_lost()

    def lose_the_last_byte(self) -> None:
        """Lose the newline behind the last act, a no that was acknowledged."""
        path = self.station.paths.state / LEDGER
        data = path.read_bytes()
        write(path, data.removesuffix(b"\n"))
        assert b'"kind":"OptedOut"' in data.splitlines()[-1]

    # --- steps of a life ----------------------------------------------------------------

    async def agree(self) -> None:
        """Agree to two categories and record."""
        await self.say(Grant(category=KEYS, words_sha256=words_sha256(self.station.policy, KEYS)))
        await self.say(
            Grant(category=POINTER, words_sha256=words_sha256(self.station.policy, POINTER))
        )
        await self.work(KEYS, POINTER)

    async def deliver(self) -> None:
        """Seal what was recorded by a pause, and let all of it arrive."""
        await self.work()
        await self.say(Pause())
        await self.say(Resume())
        await self.until(self._is_delivered)

    async def forget_what_may_be_sent(self) -> None:
        """Forget batches whose answer was lost, and what is open, and raise and lower a flag."""
        await self.work(KEYS)
        self.collector.loses_answers = True
        await self.say(Pause())
        await self.until(lambda: any(b.local.maybe_sent for b in self.service.spool.ready()))
        await self.say(Forget(minutes=10))
        await self.say(OptOut(category=KEYS))
        self.collector.loses_answers = False
        await self.until(self._is_delivered)
        await self.say(OptIn(category=KEYS))
        await self.say(Resume())
        await self.work(KEYS)
        await self.say(Pause(forget_minutes=1))
        await self.say(Resume())

    async def erase(self) -> None:
        """Withdraw, with what was sent, and agree again, which takes a new key of the guard."""
        await self.say(Withdraw(category=POINTER, erase=True))
        await self.until(self._is_delivered)
        await self.say(
            Grant(category=POINTER, words_sha256=words_sha256(self.station.policy, POINTER))
        )
        keys = self.service.programme.keys
        await self.until(lambda: keys.has(POINTER, self._now()) and not keys.unkept)

    async def doubt_the_clock(self) -> None:
        """Set the clock by a minute, and say that it is right."""
        self.station.clock.wall_shift += 60 * 10**9
        await self.until(lambda: bool(self.service.standing.clock_doubt))
        await self.say(ConfirmClock())
        await self.until(lambda: not self.service.situation(self._now()).clock_doubt)

    async def opt_out_elsewhere(self) -> None:
        """Find a flag on the machine, which stays when the machine changes its mind."""
        self.station.outside = {"machine": frozenset({SCREEN})}
        await self.until(lambda: self.service.standing.flags[SCREEN].name == "OPTED_OUT")
        self.station.outside = {}

    async def mend_an_append(self) -> None:
        """Say something after an append that failed half-way."""
        write(self.station.paths.state / LEDGER, b'{"n":', "ab")
        await self.say(Pause())
        await self.say(Resume())

    async def leave_something_held(self) -> None:
        """Seal a batch, which is in its hold when the agent is killed."""
        await self.work(KEYS)
        await self.say(Pause())

    async def renewed(self) -> None:
        """Have the certificate renewed, which lasts for seven days."""
        await self.until(lambda: self.collector.renewals > 0)

    async def opt_in(self) -> None:
        await self.say(OptIn(category=POINTER))

    async def halt(self) -> None:
        """Hear that the programme is halted."""
        self.collector.halts("an incident")
        await self.until(lambda: self.service.verdict.reason is Reason.HALTED_BY_ORG)
        await self.until(lambda: self.service.standing.halted is not None)

    # --- what a person does -------------------------------------------------------------

    async def work(self, *categories: Category) -> None:
        """Type and point at a listed window until it is kept: a disk that fails drops it once."""
        wanted = set(categories) or set(self.service.standing.grants) - self.books.flagged
        await self.recording(wanted)
        for _ in range(MOST_TRIES):
            before = self._unstored()
            now = BootInstant(self._now().boot)
            if KEYS in wanted:
                event: Key | Move = Key(at=now, pressed=True, kind="letter", text="a")
                self.station.still["input"].emit(event)
            if POINTER in wanted:
                self.station.still["input"].emit(Move(at=now, x=1, y=1))
            await asyncio.sleep(1)
            if self._unstored() == before:
                return

    def _unstored(self) -> int:
        return self.service.counters.dropped[Reason.STORAGE_BLOCKED]

    async def recording(self, wanted: set[Category]) -> None:
        """Wait until *wanted* can be captured, and click what that asks for."""
        for category in wanted & self.books.flagged:
            await self.say(OptIn(category=category))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._can_record(wanted):
                if self.service.verdict.shown in (Reason.RESUME_PENDING, Reason.PAUSED_UNTIL):
                    await self.say(Resume())
                await self._look()
        listed = self.station.policy.applications[0]
        self.station.still["context"].emit(focus=(self.station.in_front(listed),))
        await asyncio.sleep(0.2)

    def _can_record(self, wanted: set[Category]) -> bool:
        still = self.station.still
        is_open = all(name in still and still[name].is_open for name in ("context", "input"))
        return is_open and wanted <= set(self.service.pipeline.permits())

    async def say(self, command: Command) -> None:
        """Say *command* until it is done; what was refused holds all the same if it restricts."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.books.issued(command)
                match await self.station.tray.say(command):
                    case Refused(why=why):
                        self.said.append(why)
                        self.books.refused(command, self.service)
                        await asyncio.sleep(1)
                    case Done() | Silent():
                        self.books.acknowledged(command)
                        return
                    case answer:
                        raise AssertionError(f"{command} is answered with {answer}")

    async def until(self, holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await self._look()

    async def _look(self) -> None:
        """Look at what the tray shows."""
        if self.station.trays and (status := self.station.tray.last) is not None:
            self.shown |= {status.detail, status.collector.last_error}
        await asyncio.sleep(0.1)

    def _is_delivered(self) -> bool:
        spool = self.service.spool
        waiting = spool.deletions() or self.service.erasures.outstanding()
        return not (spool.ready() or spool.number_held() or waiting)

    def _now(self) -> Any:  # noqa: ANN401 - Now
        return self.station.clock.now()

    # --- the process --------------------------------------------------------------------

    def _run(self, *words: str) -> int:
        """Run the command line; whatever it says in its end is kept."""
        self.station.clock.seconds += 2  # what a person takes to say it again
        root, errors = logging.getLogger(), io.StringIO()
        handlers = list(root.handlers)
        code = -9
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = outcome(agent, "assent-agent", list(words), refusals=(WireError,))
            except CrashError:
                assert self.disk.dead
            finally:
                for handler in set(root.handlers) - set(handlers):
                    root.removeHandler(handler)
                    handler.close()
                self.disk.bury()
        said = errors.getvalue()
        assert "Traceback" not in said, said
        self.said += said.splitlines()
        if self.disk.broke is not None:
            self.books.check()
        return code

    def _service(self, _paths: object, config: Config, _device: Device) -> Service:
        self.service = self.make_service(config)
        self.books.check_start(self.service.standing)
        return self.service

    def make_service(self, config: Config) -> Service:
        """Return a new agent on what is on the disk."""
        return self.station.service(config)

    def _live(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Stand in for `asyncio.run`: the agent and the steps, until one of them ends."""
        try:
            with asyncio.Runner(loop_factory=lambda: StillLoop(self.station.clock)) as runner:
                runner.run(self._side_by_side(coroutine))
        finally:
            # A process that died amid its start or its end has closed nothing by itself.
            self.station.close_channels()

    async def _side_by_side(self, coroutine: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_trouble)
        crashed: asyncio.Future[None] = loop.create_future()
        self.disk.on_crash = lambda: None if crashed.done() else crashed.set_result(None)
        self.station.trays.clear()
        self.station.still.clear()
        running = asyncio.create_task(coroutine)
        telling = asyncio.create_task(self._tell_steps())
        await asyncio.wait({running, telling, crashed}, return_when=asyncio.FIRST_COMPLETED)
        if crashed.done():
            raise CrashError
        if telling.done():
            telling.result()
            self.service.stop()
            await running
        else:
            telling.cancel()
            running.result()

    async def _tell_steps(self) -> None:
        await self.until(lambda: bool(self.station.trays) and len(self.station.still) == 3)
        for step in self._steps[self._done :]:
            try:
                await step()
            except TimeoutError:  # an OSError, which the command line would say in a line
                raise AssertionError(f"{step.__name__} does not come to its end") from None
            self._done += 1
        if self._killed:
            self.disk.kill()
            await asyncio.sleep(0)

    def _on_trouble(self, _loop: object, context: dict[str, Any]) -> None:
        if not self.disk.dead and not isinstance(context.get("exception"), CrashError):
            self.troubles.append(str(context.get("exception") or context["message"]))

    # --- the end ------------------------------------------------------------------------

    def check_the_end(self) -> None:
        """Look at all that is left."""
        self.books.check()
        self.books.check_the_end()
        assert self.troubles == []
        lines = [line for line in self.said if len(line.splitlines()) != 1]
        assert lines == [], lines


class _Fine:
    """What `doctor.display` finds on a workstation with a display."""

    blocks = False


def write(path: Path, data: bytes, mode: str = "wb") -> None:
    with REAL_OPEN(path, mode) as stream:
        stream.write(data)
