"""One agent, its books, and what is around it: `Life` notes what happens, and decides nothing."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis.stateful import RuleBasedStateMachine

from tests.fakes.workstation import OURS, FakeTray
from tests.model.core_station import Core, CoreSensor, Grounds
from tests.model.core_truth import (
    DAY,
    EVERYTHING,
    LATE,
    SECOND,
    Tally,
    Truth,
    ViolationError,
)
from wire.category import Category
from wire.control import (
    Answer,
    Command,
    ConfirmClock,
    ContextSettings,
    FocusSeen,
    Grant,
    InputSettings,
    Items,
    OptIn,
    Refused,
    Resume,
    SecretSeen,
)
from wire.event import Event, Frame, Key, Move, Rectangle
from wire.ids import BootInstant

SIGNED_FOR: Final = 60 * DAY  # well before a policy's metadata ends
SERVED_BY: Final = {
    Category.KEYS: "input",
    Category.POINTER: "input",
    Category.SCREEN: "screen",
    Category.WINDOW: "context",
}


class Life(RuleBasedStateMachine):
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
        self.edition_seen_at = 0
        self.halted_under: int | None = None
        self.steps = 0
        self.idle = 0  # steps since anything was recorded
        self.core.station.appeared = self._appeared
        self._start()

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

    # --- clocks and places --------------------------------------------------------------------

    def _travel(self, zone: str) -> None:
        self.patch.setenv("TZ", zone)
        time.tzset()

    def _skew(self, nanoseconds: int) -> None:
        clock = self.core.clock
        clock.set_wall(nanoseconds)
        self.truth.clock_was_set = True
        self.truth.places.append((clock.true, self.truth.places[-1][1], clock.skew))


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
