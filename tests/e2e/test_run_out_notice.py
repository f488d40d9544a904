"""The notice of a pause that ran out, on a real desktop: the real agent, tray, panel and X server.

Only the sensors and the collector are stand-ins.  The pause has its whole length: the
agent's clock, which the test hands to it, goes on by half an hour, as over a suspend.  The
minute of the notice passes in real time.  Pictures are kept in build/screenshots.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from Xlib import X
from Xlib.display import Display
from Xlib.ext import composite, xtest

from agent.children import Started, start_process
from agent.config import Config
from agent.indicator import IndicatorWatch
from agent.service import Service
from base.clock import NANOSECONDS
from demo.desktop import VirtualDesktop
from demo.person import Person
from tests.fakes.workstation import Workstation, eventually, nothing_is_open, the
from wire.category import Category
from wire.control import Reason, Status

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

PICTURES: Final = Path(__file__).parents[2] / "build" / "screenshots"
CONSENT: Final = "Assent: what may be recorded"
NOTICE: Final = "Assent: your pause is over"
PAUSE_SECONDS: Final = 30 * 60
LONG: Final = 60.0  # seconds for what takes a moment, on a busy machine


class Seat:
    """A workstation with a real tray on a real desktop, and a person at it."""

    def __init__(self, station: Workstation, desktop: VirtualDesktop) -> None:
        self.station = station
        self.desktop = desktop
        self.person = Person(desktop.env)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Run the agent with consent for the keyboard, given by clicks, and a program in front."""
        station = self.station
        service = Service(
            station.paths,
            Config(),
            station.device,
            clock=station.clock,
            start=self._start,
            watch=dataclasses.replace(station.watches, icon=IndicatorWatch),
            open_door=lambda _pins: station.collector,
            opt_outs=lambda _config: {},
        )
        task = asyncio.create_task(service.run())
        try:
            await self._do(lambda: self.person.click(CONSENT, "Keyboard"))
            await self._do(lambda: self.person.click(CONSENT, "Agree to the selected"))
            await eventually(lambda: self.records, LONG)
            await station.focus()
            yield service
        finally:
            service.stop()
            await asyncio.wait_for(task, LONG)

    @property
    def records(self) -> bool:
        """Whether the source of the keyboard is open."""
        return "input" in self.station.sensors and the(self.station, "input").is_open

    async def run_out(self, service: Service) -> None:
        """Click "Pause", and let the whole pause go by."""
        await self._do(lambda: self.person.click_tray("Pause for 30 minutes"))
        await until(service, lambda status: status.reason is Reason.PAUSED_UNTIL)
        self.station.clock.pass_by(PAUSE_SECONDS)
        await until(service, lambda status: status.reason is Reason.RESUME_PENDING)
        await self._do(lambda: self.person.wait_for_window(NOTICE))

    async def close_the_notice(self) -> None:
        """By the keys that close every window."""
        await self._do(lambda: self.person.close_window(NOTICE))

    async def reopen_the_notice(self) -> None:
        """From the menu."""
        await self._do(lambda: self.person.click_tray("Resume…"))
        await self._do(lambda: self.person.wait_for_window(NOTICE))

    async def resume(self) -> None:
        """Click "Resume now"."""
        await self._do(lambda: self.person.click(NOTICE, "Resume now"))

    async def says(self, words: str) -> None:
        """Return once the notice says *words*."""
        async with asyncio.timeout(LONG):
            while words not in await self._do(self._written):  # noqa: ASYNC110 - a window has no event
                await asyncio.sleep(0.1)

    def _written(self) -> str:
        return "\n".join(self.person.texts(NOTICE))

    def picture(self, name: str) -> None:
        """Keep what the screen shows."""
        self.desktop.screenshot(PICTURES / f"notice-{name}.png")

    async def _start(self, module: str) -> Started:
        if module == "tray":
            return await start_process(module)
        return await self.station._start(module)  # noqa: SLF001 - its stand-ins

    async def _do(self, act: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the act returns
        """Do what a person does, while the agent goes on."""
        return await asyncio.to_thread(act)


@pytest.fixture
def seat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seat]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with VirtualDesktop(tmp_path / "desktop", geometry="1280x800") as desktop:
        for name, value in desktop.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "tray-home"))
        yield Seat(Workstation.enrolled(tmp_path / "station"), desktop)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 280))


async def until(service: Service, holds: Callable[[Status], bool]) -> Status:
    """Return the first status for which *holds* does."""
    async with asyncio.timeout(LONG):
        while not holds(status := service.status()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return status


class Hand:
    """Somebody's hand on the mouse, and whatever else reaches the X server."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._turn = 0

    def move(self) -> None:
        """Move the pointer a little, far from any window."""
        self._turn = (self._turn + 1) % 200  # not to and fro: that may be where it was
        xtest.fake_input(self._display, X.MotionNotify, x=60 + self._turn, y=760)
        self._display.sync()

    def keep_the_screen_awake(self) -> None:
        """As a video player does: the server's idle count begins anew."""
        self._display.force_screen_saver(X.ScreenSaverReset)
        self._display.sync()

    def composite(self) -> None:
        """As a compositor does: windows are drawn aside, so none covers another."""
        assert self._display.has_extension(composite.extname)
        composite.query_version(self._display)
        root = self._display.screen().root
        composite.redirect_subwindows(root, composite.RedirectAutomatic)
        self._display.sync()

    @contextlib.contextmanager
    def covering(self) -> Iterator[None]:
        """Have a window in front of everything."""
        window = self._display.screen().root.create_window(
            300, 200, 600, 400, 0, X.CopyFromParent, override_redirect=True
        )
        window.map()
        window.configure(stack_mode=X.Above)
        self._display.sync()
        try:
            yield
        finally:
            window.destroy()
            self._display.sync()


async def moving(hand: Hand, service: Service, holds: Callable[[Status], bool]) -> Status:
    """Move the mouse now and then until *holds*; return the status for which it does."""
    async with asyncio.timeout(150):
        while not holds(status := service.status()):
            hand.move()
            await asyncio.sleep(0.5)
    return status


def test_a_notice_ends_a_pause_after_a_minute_before_somebody_and_not_before(seat: Seat) -> None:
    """Nobody there: nothing.  A video player: nothing.  Covered: anew.  Seen for a minute: on."""

    async def story() -> None:
        with closing(Display(seat.desktop.env["DISPLAY"])) as display:
            hand, clock = Hand(display), seat.station.clock
            async with seat.running() as service:
                await seat.run_out(service)
                await seat.says("not running now")
                seat.picture("waits")
                for _ in range(8):
                    hand.keep_the_screen_awake()
                    await asyncio.sleep(0.5)
                assert service.status().resumes_in == 60

                status = await moving(hand, service, lambda s: s.resumes_in in range(50, 57))
                assert status.counting
                await seat.says("goes on in")
                seat.picture("counts")
                with hand.covering():
                    await moving(hand, service, lambda s: not s.counting)
                uncovered = clock.now().boot
                status = await moving(hand, service, lambda s: s.counting)
                assert (status.resumes_in or 0) >= 58, "it has begun anew"
                assert nothing_is_open(seat.station)

                await moving(hand, service, lambda _: seat.records)
                assert clock.now().boot - uncovered >= 60 * NANOSECONDS
                last = service.ledger.standing
                assert last.paused_until is None
                await eventually(lambda: seat.person.find_window(NOTICE) is None, LONG)
                assert service.status().reason is not Reason.RESUME_PENDING

    play(story())


def test_a_notice_that_is_closed_waits_for_a_click(seat: Seat) -> None:
    """Whoever sits there and however long the mouse moves; it comes back from the menu.

    Here with a compositor, under which the server calls every window unobscured.
    """

    async def story() -> None:
        with closing(Display(seat.desktop.env["DISPLAY"])) as display:
            hand = Hand(display)
            hand.composite()
            async with seat.running() as service:
                await seat.run_out(service)
                await moving(hand, service, lambda s: s.counting)
                with hand.covering():
                    await moving(hand, service, lambda s: not s.counting)
                await moving(hand, service, lambda s: s.counting)
                await seat.close_the_notice()
                await until(service, lambda s: s.resumes_in is None)
                await seat.reopen_the_notice()
                await seat.says("It waits for your click")
                seat.picture("click")
                for _ in range(10):
                    hand.move()
                    await asyncio.sleep(0.3)
                assert service.status().resumes_in is None
                assert nothing_is_open(seat.station)
                await seat.resume()
                await eventually(lambda: seat.records, LONG)
                assert service.standing.grants.keys() == {Category.KEYS}

    play(story())
