"""What the rules of `core_machine` are made of: acts, each noted in the books as it is made.

`Moves` has the agent, the books and both hands on what is around the agent; it decides nothing.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from agent.session import Known, SessionSeen
from tests.fakes.syscalls import Fault
from tests.fakes.workstation import OURS, FakeTray
from tests.model.core_station import Core, CoreSensor, Edition, Grounds
from tests.model.core_truth import (
    DAY,
    EVERYTHING,
    LATE,
    NOTICE,
    PAUSE,
    SECOND,
    Tally,
    Truth,
    ViolationError,
    id_of,
)
from wire.category import Category
from wire.control import (
    Answer,
    Command,
    ConfirmClock,
    ContextSettings,
    Done,
    FocusSeen,
    Grant,
    InputSettings,
    Items,
    NoticeInSight,
    OptIn,
    OptOut,
    Pause,
    Reason,
    Refused,
    Resume,
    SecretSeen,
    Silent,
    Withdraw,
)
from wire.errors import NotCoveredError
from wire.event import Event, Frame, Key, Move, Rectangle
from wire.ids import BootInstant
from wire.policy import words_sha256

Restriction: TypeAlias = Pause | OptOut | Withdraw

MS: Final = 1_000_000
DOUBTED: Final = 11 * SECOND // 2  # half a second more than the clocks may differ by
MOST_SECONDS_TO_RIGHT: Final = 60
SIGNED_FOR: Final = 60 * DAY  # well before a policy's metadata ends
MOST_IDLE: Final = 4  # steps without any recording; then the person puts things right
ZONES: Final = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
SPANS: Final = [1, 40, 600, 31 * 60, 5 * 3600, 2 * 86_400, 32 * 86_400]  # seconds of a suspend
SKEWS: Final = [0, 0, 0, -7_200, -60, 60, 1_800]
STEPS: Final = [-86_400, -3_600, -60, -6, -3, 3, 6, 60, 1_800, 86_400]  # seconds of a clock

some: Final = st.sampled_from(list(Category))
some_or_all: Final = st.one_of(st.none(), some)


def named(category: Category | None) -> frozenset[Category]:
    return EVERYTHING if category is None else frozenset({category})


class Moves(RuleBasedStateMachine):
    """One agent from its enrolment on, and everything that can be done to it."""

    grounds: Grounds  # of the run, see `run`
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.grounds.folder.parent))
        self.patch = pytest.MonkeyPatch()
        self._travel("UTC")
        self.core = Core(self.folder, self.grounds, self.patch)
        self.truth = Truth(self.core, self.tally)
        self.began = self.core.clock.true
        self.number = 0
        self.armed = False
        self.anchor: int | None = 0  # the skew of the clock that is believed; None: nobody knows
        self.paused_in: tuple[int, int] = (0, 0)  # boot, and skew
        self.edition: int | None = None  # that the agent was last seen to go by
        self.halted_under: int | None = None
        self.steps = 0
        self.idle = 0  # steps since anything was recorded
        self.core.station.appeared = self._appeared
        self._start()

    def teardown(self) -> None:
        try:
            self._bring_to_an_end()
        finally:
            self.core.close()
            self.patch.undo()
            time.tzset()
            shutil.rmtree(self.folder)

    def _done(self) -> None:
        """After each rule the person goes on, and everything that is anywhere is judged."""
        self.tally.steps += 1
        self.steps += 1
        self.idle = 0 if self._records_anything() else self.idle + 1
        if self.idle > MOST_IDLE and self._put_right():
            self.tally.righted += 1
            self.idle = 0
        self._act()
        self._wait(0.05)
        self._act()
        self._wait((0.1, 0.2, 0.7)[self.steps % 3])
        if not self.core.lives:
            self._starts_again(0)
        if self.armed and self.core.disk.broke is not None:
            self.armed = False
            self.tally.faults += 1
        self._see_policy()
        self._judge()

    def _records_anything(self) -> bool:
        return self.core.lives and bool(self.core.running.verdict.categories)

    def _judge(self) -> None:
        if self.core.lives:
            self.truth.check_memory(self.core.running.pipeline)
        self.truth.check_disk()
        if self.core.troubles:
            raise ViolationError(f"a defect: {self.core.troubles}")

    def _wait(self, seconds: float) -> bool:
        if not self.core.lives:
            return False
        if not self.core.wait(seconds):
            self._died()
        return self.core.lives

    def _call(self, act: Callable[[], object]) -> None:
        """Let something happen inside the agent's loop."""

        async def now() -> None:
            act()

        if self.core.lives:
            self.core.do(now())
            self._note_an_end()

    def _say(self, command: Command) -> Answer | None:
        """Return the answer; None where there is nobody to ask, or whoever was asked died."""
        if not self.core.lives:
            return None
        if self._tray() is None and not isinstance(command, Grant | OptIn | Resume | ConfirmClock):
            answer = self.core.do(self.core.running.answer(command))  # as the command line does
        elif self._tray() is None:
            return Refused(why="there is no tray")
        else:
            answer = self.core.say(command)
        self._note_an_end()
        return answer

    def _tray(self) -> FakeTray | None:
        """Return the tray, if one is there and connected."""
        if not (self.core.lives and self.core.station.trays):
            return None
        tray = self.core.station.tray
        return tray if tray._writer is not None and not tray._ended.done() else None  # noqa: SLF001

    # --- lives ------------------------------------------------------------------------------

    def _start(self) -> None:
        self.core.start()
        self.tally.lives += 1
        self.truth.open("not running", EVERYTHING, self.core.clock.true)
        self._wait(0.3)

    def _note_an_end(self) -> None:
        if not self.core.lives:
            self._died()

    def _died(self) -> None:
        """Note the end of a life; what the disk has is judged before anything starts."""
        if self.truth.is_closed("not running"):
            return
        now = self.core.clock.true
        self.tally.crashes += 1
        self.truth.life_ends(now)
        self.truth.check_disk()
        if (self.core.station.paths.state / "unfinished").exists():
            self.truth.close("unfinished", EVERYTHING, now)
        if self.anchor != self.core.clock.skew:
            self.anchor = None

    def _starts_again(self, off: int) -> None:
        if self.core.lives:
            return
        self._died()
        self.core.clock.sleep(off * SECOND)
        self._start()

    def _boot(self, seconds: int, skew: int, *, sure: bool) -> None:
        clock = self.core.clock
        before = clock.now().wall
        clock.reboot(self._span(seconds))
        if skew:
            self._skew(skew * SECOND)
        self.anchor = clock.skew
        if clock.now().wall < before:
            self.anchor = None
            if sure:
                self.truth.close("clock", EVERYTHING, clock.true, sure=False)
        self._start()
        if self.truth.is_closed("clock") and self._wait(LATE / SECOND) and self._is_healthy():
            self._make_sure("clock")

    def _span(self, seconds: int) -> int:
        """Return so many seconds, but none beyond what the organisation has signed for."""
        left = SIGNED_FOR - (self.core.clock.true - self.began)
        return min(seconds * SECOND, max(left, SECOND))

    def _is_healthy(self) -> bool:
        """Whether the disk does what it is told."""
        return not (self.armed or self.core.is_full)

    def _make_sure(self, kind: str) -> None:
        for closing in self.truth.closings:
            if closing.kind == kind and closing.until is None:
                closing.sure = True

    # --- what happens on the desktop ----------------------------------------------------------

    def _act(self) -> None:
        """Type a key, move the pointer, look at something: who is open sees it."""
        for category in (Category.KEYS, Category.POINTER, Category.SCREEN):
            self._emit(category)

    def _emit(self, category: Category, *, ago: int = 0, earlier: int = 0) -> None:
        sensor = self._sensor(SERVED_BY[category])
        if sensor is None or not sensor.is_open:
            return
        settings = sensor.settings
        if isinstance(settings, InputSettings) and not (
            settings.keys if category is Category.KEYS else settings.pointer
        ):
            return
        epoch = sensor.epoch - earlier
        now = self.core.clock.now().boot
        if now - ago <= 0:
            return
        self.number += 1
        if category is Category.WINDOW:
            if earlier or ago:
                return  # what has the focus is not said late; see `_focus`
            self._focus(inside=True, delay=0.0)
            return
        event = made(category, self.number, BootInstant(now - ago), whole=sensor.looks % 8 == 0)
        sensor.looks += category is Category.SCREEN
        self.truth.note(event, self.core.clock.true - ago, forged=bool(earlier))
        self._send(sensor, Items(epoch=epoch, events=(event,)))

    def _send(self, sensor: CoreSensor, items: Items) -> None:
        sensor.say(items)

    def _focus(self, *, inside: bool, delay: float) -> None:
        self.truth.focus.append((self.core.clock.true, inside))
        at = BootInstant(self.core.clock.now().boot)
        self.number += 1
        seen = self._focus_seen(at)
        if inside:
            self.truth.note(seen.event(), self.core.clock.true, forged=False)
        self._later(delay, Items(epoch=0, focus=(seen,)))

    def _focus_seen(self, at: BootInstant) -> FocusSeen:
        inside = self.truth.focus[-1][1]
        if not inside:
            return FocusSeen(at=at, inside=False)
        listed = self.core.station.policy.applications[0]
        return FocusSeen(
            at=at,
            inside=True,
            process=listed.process,
            window_class=listed.window_class,
            x=self.number,
        )

    def _tell(self, delay: float, *, secret: bool) -> None:
        at = BootInstant(self.core.clock.now().boot)
        self._later(delay, Items(epoch=0, secrets=(SecretSeen(at=at, secret=secret),)))

    def _later(self, delay: float, items: Items) -> None:
        """Let the context sensor say so after a while, if it is open then."""

        def say() -> None:
            sensor = self._sensor("context")
            if sensor is not None and sensor.is_open:
                sensor.say(msgspec.structs.replace(items, epoch=sensor.epoch))

        if delay:
            self._call(lambda: asyncio.get_running_loop().call_later(delay, say))
        else:
            say()

    def _sensor(self, name: str) -> CoreSensor | None:
        sensor = self.core.station.still.get(name) if self.core.lives else None
        return sensor if isinstance(sensor, CoreSensor) and not sensor._ended.done() else None  # noqa: SLF001

    def _sensors(self) -> list[CoreSensor]:
        return [s for name in SERVED_BY.values() if (s := self._sensor(name)) is not None]

    def _appeared(self, name: str) -> None:
        """A child of the agent has come; a tray that is new is shown, and beats."""
        now = self.core.clock.true
        if name == "tray":
            for kind in ("tray", "icon", "heartbeat"):
                self.truth.open(kind, EVERYTHING, now)
            return
        sensor = self.core.station.still[name]
        assert isinstance(sensor, CoreSensor)
        sensor.on_open = self._on_open
        sensor.before_close = self._before_close

    def _on_open(self, sensor: CoreSensor) -> None:
        """Say what has the focus, as the context sensor does when it is opened."""
        at = BootInstant(self.core.clock.now().boot)
        self.number += 1
        seen = self._focus_seen(at)
        if seen.inside:
            self.truth.note(seen.event(), self.core.clock.true, forged=False)
        secret = SecretSeen(at=at, secret=self.truth.secret[-1][1])
        sensor.say(Items(epoch=sensor.epoch, focus=(seen,), secrets=(secret,)))

    def _before_close(self, sensor: CoreSensor) -> None:
        """Say the last thing that was seen before the source is closed."""
        settings, at = sensor.settings, BootInstant(self.core.clock.now().boot)
        category = Category.SCREEN
        if isinstance(settings, ContextSettings):
            return
        if isinstance(settings, InputSettings):
            category = Category.KEYS if settings.keys else Category.POINTER
        self.number += 1
        event = made(category, self.number, at)
        self.truth.note(event, self.core.clock.true, forged=False)
        sensor.say(Items(epoch=sensor.epoch, events=(event,)))

    def _session_back(self) -> None:
        self.truth.open("session", EVERYTHING, self.core.clock.true)
        self._call(lambda: self.core.station.sessions[-1].host.on_session(OURS))

    def _beats(self) -> None:
        if (tray := self._tray()) is not None:
            self.truth.open("heartbeat", EVERYTHING, self.core.clock.true)
            tray.beats = True

    def _icon_back(self) -> None:
        self.truth.open("icon", EVERYTHING, self.core.clock.true)
        self._call(lambda: self.core.station.icons[-1].say(""))

    # --- commands -----------------------------------------------------------------------------

    def _restrict(
        self, command: Pause | OptOut | Withdraw, categories: frozenset[Category]
    ) -> None:
        kind = {Pause: "pause", OptOut: "opt-out", Withdraw: "no yes"}[type(command)]
        asked, lived = self.core.clock.true, self.core.lives
        # Whatever becomes of it: from now on, and as long as this agent lives, it is shut.
        if lived:
            self.truth.close(kind, categories, asked, sure=False)
        answer = self._say(command)
        if isinstance(answer, Silent):
            self.truth.close(kind, categories, asked)
            self._check_silent(command, categories, asked)
        elif lived and self.core.lives and not isinstance(answer, Refused):
            raise ViolationError(f"{command} is answered with {answer}")

    def _check_silent(
        self, command: Restriction, categories: frozenset[Category], asked: int
    ) -> None:
        """What was said to be silent is."""
        pipeline = self.core.running.pipeline
        self.truth.check_silence(pipeline, categories)
        self.truth.check_disk()
        match command:
            case Pause(forget_minutes=minutes):
                self.truth.open("unfinished", EVERYTHING, asked)
                self.truth.paused_at = asked
                self.paused_in = self.core.clock.boots, self.core.clock.skew
                if any(sensor.is_open for sensor in self._sensors()):
                    raise ViolationError("a source is open after 'silent'")
                if minutes:
                    self._check_forgotten(asked - minutes * 60 * SECOND, asked)
            case OptOut() | Withdraw():
                if left := self.truth.frames_of(categories):
                    raise ViolationError(f"{len(left)} batches are left of {categories}")
                if isinstance(command, Withdraw):
                    for category in categories:
                        self.truth.granted_at.pop(category, None)
                    if command.erase:
                        self.truth.erase(categories)

    def _check_forgotten(self, since: int, asked: int) -> None:
        """Nothing that happened from *since* until it was asked for is here any more."""
        self.truth.check_disk()
        if self.truth.clock_was_set:
            return  # the last minutes are counted on either clock: more may go
        for batch in self.core.running.pipeline._roll._open.values():  # noqa: SLF001
            for event in batch.events:
                if since < self.truth.happened[id_of(event)].true <= asked:
                    raise ViolationError(f"{event} was to be forgotten")
        if left := self.truth.frames_since(since):
            raise ViolationError(f"{len(left)} batches were to be forgotten")

    def _click(self, command: Command, closed_by: dict[str, frozenset[Category]]) -> bool:
        """Click what opens; whether it was done.  From a click on it is not closed for sure."""
        asked = self.core.clock.true
        if not self.core.lives or self._tray() is None:
            return False
        was = {
            kind: frozenset(c for c in EVERYTHING if self.truth.is_closed(kind, c))
            for kind in closed_by
        }
        for kind, categories in closed_by.items():
            self.truth.open(kind, categories, asked)
        answer = self._say(command)
        if isinstance(answer, Refused):
            for kind, categories in closed_by.items():
                sure = self._is_healthy() and not self.core.disk.broke
                self.truth.close(kind, categories & was[kind], asked, sure=sure)
        return isinstance(answer, Done)

    def _resume(self) -> None:
        self._click(Resume(), {"pause": EVERYTHING, "unfinished": EVERYTHING})

    def _opt_in(self, category: Category | None) -> None:
        # What was refused holds in memory until a click asks for recording again.
        self.truth.lift_unsure("no yes", named(category), self.core.clock.true)
        self._click(OptIn(category=category), {"opt-out": named(category)})

    def _grant(self, category: Category) -> None:
        number = self.core.in_force() if self.core.lives else None
        if number is None or self._tray() is None:
            return
        edition, first = (
            self.core.grounds.editions[number],
            self.truth.is_closed("no yes", category),
        )
        try:
            words = words_sha256(edition.policy, category)
        except NotCoveredError:
            return
        closed_by = {"no yes": named(category), "stale": named(category)}
        if number != self.halted_under:
            closed_by["halt"] = named(category)
        asked = self.core.clock.true
        self.truth.lift_unsure("opt-out", named(category), asked)
        self.truth.granted_words[category] = edition.words
        if self._click(Grant(category=category, words_sha256=words), closed_by) and first:
            self.truth.granted_at[category] = asked
        else:
            self.truth.granted_at.pop(category, None)

    def _confirm_clock(self) -> None:
        done = self._click(ConfirmClock(), {"clock": EVERYTHING})
        if done:
            self.anchor = self.core.clock.skew

    def _ran_out(self, now: int) -> bool:
        """Whether the pause is over by the time that went by; see `clocks.has_passed`."""
        if self.truth.paused_at is None:
            return True
        boot, skew = self.paused_in
        passed = now - self.truth.paused_at
        if boot != self.core.clock.boots:
            passed += self.core.clock.skew - skew  # only the wall clock is left
        return passed >= PAUSE

    def _watch(self, seconds: int, *, present: bool) -> None:
        """Have the notice in sight for so long; note when it may have ended a pause."""
        counted_from: int | None = None
        for second in range(seconds):
            now = self.core.clock.true
            if counted_from is None and self._ran_out(now):
                counted_from = now
            if present and counted_from is not None and now >= counted_from + NOTICE:
                if self.truth.is_closed("pause"):
                    self.tally.pauses_over += 1
                self.truth.open("pause", EVERYTHING, now)
            seen = NoticeInSight(for_ms=second * 1000, input_ms=0 if present else None)
            if (tray := self._tray()) is not None:
                tray.sees(seen)
            if not self._wait(1.0):
                break

    def _pass_by(self, seconds: int, how: str) -> None:
        """Let time pass in one of the ways in which it does; or only seem to pass."""
        match how:
            case "asleep":
                self.core.clock.sleep(self._span(seconds))
            case "off" if self.core.lives:
                self.core.kill()
                self._died()
                self._boot(seconds, 0, sure=False)
            case "set":
                self._set_clock(seconds * SECOND)
                self._confirm_clock()
            case _:
                self._wait(seconds / 10)
        self._act()
        self._wait(1.5)

    # --- clocks and places --------------------------------------------------------------------

    def _travel(self, zone: str) -> None:
        self.patch.setenv("TZ", zone)
        time.tzset()

    def _skew(self, nanoseconds: int) -> None:
        clock = self.core.clock
        clock.set_wall(nanoseconds)
        self.truth.clock_was_set = True
        self.truth.places.append((clock.true, self.truth.places[-1][1], clock.skew))

    def _set_clock(self, nanoseconds: int) -> None:
        self._skew(nanoseconds)
        clock = self.core.clock
        if any(c.kind == "clock" and not c.sure for c in self.truth.closings):
            self.truth.open("clock", EVERYTHING, clock.true)  # it may agree again
        if self.anchor is None or not self.core.lives:
            return
        if abs(clock.skew - self.anchor) > DOUBTED:
            healthy = self._is_healthy()
            self.truth.close("clock", EVERYTHING, clock.true + LATE, sure=False)
            if self._wait(1.5) and healthy and self._is_healthy():
                self._make_sure("clock")

    # --- the organisation ---------------------------------------------------------------------

    def _hear(self) -> None:
        """Let the agent ask the collector now, and hear the answer."""
        if self.core.lives:
            self._call(self.core.running.delivery.wake)
            self._wait(0.2)

    def _goes_on(self) -> None:
        self.truth.open("stop", EVERYTHING, self.core.clock.true)
        self.core.collector.stopped = ""

    def _publish(self) -> bool:
        """Publish the next policy, if there is one, which lifts a halt; let the agent fetch it."""
        if self.core.edition + 1 == len(self.core.grounds.editions):
            return False
        self.core.publish()
        self.core.collector.halted = ""
        self.truth.open("policy", self.core.published.asks, self.core.clock.true)
        self._look_after()
        self._wait(0.3)
        return True

    def _look_after(self) -> None:
        """Let the agent look after policy and certificate now, and not within five minutes."""
        if self.core.lives:
            self._call(self.core.running.delivery._upkeep.wake)  # noqa: SLF001

    def _see_policy(self) -> None:
        """Note which policy the agent goes by, and what it must not capture under that."""
        number = self.core.in_force() if self.core.lives else None
        if number is None or number == self.edition:
            return
        self.edition = number
        edition: Edition = self.core.grounds.editions[number]
        now = self.core.clock.true + LATE
        if not_asked := EVERYTHING - edition.asks:
            self.truth.close("policy", not_asked, now)
        stale = [c for c, words in self.truth.granted_words.items() if words < edition.words]
        if stale:
            self.truth.close("stale", stale, now)

    # --- ends ---------------------------------------------------------------------------------

    def _put_right(self) -> bool:
        core, clock = self.core, self.core.clock
        self._mend()
        self._starts_again(0)
        if clock.skew:
            self._set_clock(-clock.skew)
        self._travel("UTC")
        self.truth.places.append((clock.true, "UTC", 0))
        if not 6 <= (hour := clock.now().wall // SECOND % 86_400 / 3600) < 21:
            clock.sleep(int((34 - hour) % 24 * 3600) * SECOND)  # until ten
        if not (self._tray() and len(self._sensors()) == len(set(SERVED_BY.values())) + 1):
            self._wait(1.0)
        self._session_back()
        self._icon_back()
        self._beats()
        for sensor in self._sensors():
            sensor.hangs = False
        if core.lives and not core.running.policy.holds(clock.now()):
            self._look_after()
        self._hear()
        if core.running.standing.halted is not None and not self._publish():
            return False
        for attempt in range(MOST_SECONDS_TO_RIGHT):
            self._clicks_all()
            if self._records():
                return True
            self._wait(1.0)
            if attempt % 20 == 19:
                clock.sleep(16 * 60 * SECOND)
                self._look_after()
        raise ViolationError(
            f"it does not record again: {core.running.verdict.reasons}, "
            f"{core.running.status().detail}, {core.running.delivery.last_error}"
        )

    def _mend(self) -> None:
        core = self.core
        core.disk.break_at(-1, Fault.FAILS)
        core.disk._full_until = 0.0  # noqa: SLF001 - room again
        if self.armed and core.disk.broke is None:
            self.armed = False
        core.station.outside = {}
        core.collector.reachable, core.collector.halted = True, ""
        self._goes_on()

    def _clicks_all(self) -> None:
        service, policy = self.core.running, self.core.running.policy.policy
        match service.verdict.shown:
            case Reason.CLOCK_UNTRUSTED:
                self._confirm_clock()
            case Reason.PAUSED_UNTIL | Reason.RESUME_PENDING:
                self._resume()
            case _:
                pass
        for category in Category if policy is not None else ():
            match service.verdict.reasons[category]:
                case Reason.OPTED_OUT:
                    self._opt_in(category)
                case Reason.NOT_CONSENTED | Reason.CONSENT_STALE:
                    self._grant(category)
                case _:
                    pass
        if self.truth.focus[-1][1] is not True:
            self._focus(inside=True, delay=0.0)

    def _records(self) -> bool:
        """Whether all that is asked for is let in, and its sources are open."""
        service = self.core.running
        policy = service.policy.policy
        asked = {rule.category for rule in policy.categories} if policy is not None else {None}
        wanted = {SERVED_BY[c] for c in asked if c is not None}
        is_open = {s.name for s in self._sensors() if s.is_open}
        return asked <= service.verdict.categories and wanted <= is_open

    def _bring_to_an_end(self) -> None:
        """Let all be delivered and erased that is to be, and look at what is left."""
        self._mend()
        self._starts_again(0)
        self._wait(3.0)
        self.truth.check_disk()
        erasures = self.core.running.erasures
        if self.truth.erased:
            for _ in range(8):
                if not erasures.outstanding():
                    break
                self.core.clock.sleep(DAY // 24)
                self._wait(2.0)
                erasures = self.core.running.erasures
            if not erasures.outstanding():
                self.tally.erasures += 1
                self.truth.check_disk()
                self.truth.check_erased()
        self._judge()


SERVED_BY: Final = {
    Category.KEYS: "input",
    Category.POINTER: "input",
    Category.SCREEN: "screen",
    Category.WINDOW: "context",
}


def made(category: Category, number: int, at: BootInstant, *, whole: bool = True) -> Event:
    """Return an event that is known again by its number."""
    match category:
        case Category.KEYS:
            return Key(at=at, pressed=True, kind="letter", code=number)
        case Category.POINTER:
            return Move(at=at, x=number, y=1)
        case Category.SCREEN:
            part = Rectangle(x=0, y=0, width=1, height=1, pixels=b"\0\0\0")
            return Frame(
                at=at, key=whole, left=number, top=0, width=1, height=1, rectangles=(part,)
            )
        case Category.WINDOW:
            raise AssertionError("the context sensor says what has the focus")


def replaced(what: str, *, holds: bool | None) -> SessionSeen:
    """Return the session with one fact changed."""
    return replace(OURS, **{what: Known(holds=holds, by="the test")})
