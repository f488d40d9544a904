"""Is the icon shown?  Asked of a real bus, with a panel and an item that the test plays."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

from agent import indicator
from agent.dbus import BUS, BUS_PATH
from agent.indicator import (
    ITEM,
    NO_ANSWER,
    NO_BUS,
    NO_HOST,
    NO_ITEM,
    NO_WATCHER,
    PASSIVE,
    WATCHER,
    IndicatorWatch,
    why_no_tray,
)
from tests.fakes import buses

pytestmark = pytest.mark.skipif(
    shutil.which("dbus-daemon") is None, reason="needs dbus-daemon (Debian: dbus-daemon)"
)


@pytest.fixture
def bus_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a bus of this test's own."""
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    yield address
    daemon.terminate()
    daemon.wait()
    daemon.stdout.close()


class Player:
    """Answers `Get` for the properties of one interface, and emits its signals."""

    def __init__(self, interface: str, path: str, **properties: Variant) -> None:
        self.interface = interface
        self.path = path
        self.properties = properties
        self.hangs = False  # takes what it is asked, and answers nothing

    async def connect(self) -> None:
        self.bus = await MessageBus().connect()
        self.bus.add_message_handler(self._answer)

    async def leave(self) -> None:
        self.bus.disconnect()
        await asyncio.sleep(0.01)

    def emit(self, member: str, argument: str | None = None) -> None:
        body = [] if argument is None else [argument]
        signature = "" if argument is None else "s"
        message = Message.new_signal(self.path, self.interface, member, signature, body)
        self.sending = self.bus.send(message)

    def _answer(self, message: Message) -> Message | bool | None:
        if self.hangs:
            return True
        if message.member != "Get" or message.path != self.path:
            return None
        return Message.new_method_return(message, "v", [self.properties[message.body[1]]])


def panel() -> Player:
    """Return a StatusNotifierWatcher with a host, as a panel provides it."""
    return Player(
        WATCHER,
        "/StatusNotifierWatcher",
        IsStatusNotifierHostRegistered=Variant("b", True),  # noqa: FBT003 - D-Bus's own
        RegisteredStatusNotifierItems=Variant("as", []),
    )


def item() -> Player:
    """Return a tray's item."""
    return Player(ITEM, "/org/ayatana/NotificationItem/assent", Status=Variant("s", "Active"))


class World:
    """A desktop with a panel, an item of this process, and a watch on it."""

    def __init__(self) -> None:
        self.panel = panel()
        self.item = item()
        self.said: list[tuple[float, str]] = []

    @property
    def last(self) -> str:
        return self.said[-1][1] if self.said else "nothing said"

    async def start_panel(self) -> None:
        self.panel = panel()
        await self.panel.connect()
        await self.panel.bus.request_name(WATCHER)

    async def start_item(self) -> None:
        self.item = item()
        await self.item.connect()
        self.registers(f"{self.item.bus.unique_name}{self.item.path}")

    def registers(self, name: str) -> None:
        self.panel.properties["RegisteredStatusNotifierItems"] = Variant("as", [name])
        self.panel.emit("StatusNotifierItemRegistered", name)

    def unregisters(self) -> None:
        self.panel.properties["RegisteredStatusNotifierItems"] = Variant("as", [])
        self.panel.emit("StatusNotifierItemUnregistered", "x")

    def loses_its_host(self) -> None:
        self.panel.properties["IsStatusNotifierHostRegistered"] = Variant("b", False)  # noqa: FBT003
        self.panel.emit("StatusNotifierHostUnregistered")

    def hides_the_item(self) -> None:
        self.item.properties["Status"] = Variant("s", "Passive")
        self.item.emit("NewStatus", "Passive")

    async def until(self, said: str, seconds: float = 5) -> float:
        """Return how long it took until *said* was said."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while self.last != said:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def watched(pid: int | None = None) -> AsyncIterator[World]:
    """Watch the icon of this process on a desktop where it is shown."""
    world = World()
    await world.start_panel()
    await world.start_item()
    watch = IndicatorWatch(lambda why: world.said.append((time.monotonic(), why)))
    task = asyncio.create_task(watch.run(os.getpid() if pid is None else pid))
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for player in (world.panel, world.item):
            await player.leave()


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 15))


def test_an_item_of_the_trays_own_process_on_a_panel_is_shown(bus_address: str) -> None:
    """Watcher, host, item: all three, and it is said once."""

    async def story() -> None:
        async with watched() as world:
            await world.until("")

    play(story())


def test_an_icon_of_another_process_is_not_ours(bus_address: str) -> None:
    """Any program may call its icon what it likes; the process id is the kernel's word."""

    async def story() -> None:
        async with watched(pid=1) as world:
            await world.until(NO_ITEM)

    play(story())


CHANGES: dict[str, tuple[Callable[[World], None], str]] = {
    "the panel dies": (lambda world: world.panel.bus.disconnect(), NO_WATCHER),
    "the tray dies": (lambda world: world.item.bus.disconnect(), NO_ITEM),
    "the item goes": (World.unregisters, NO_ITEM),
    "the item hides": (World.hides_the_item, PASSIVE),
    "the host goes": (World.loses_its_host, NO_HOST),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_takes_the_icon_away_is_noticed_within_a_tenth_of_a_second(
    bus_address: str, change: tuple[Callable[[World], None], str]
) -> None:
    """I3: the desktop's signal, not a look every now and then."""

    async def story() -> None:
        async with watched() as world:
            await world.until("")
            happens, said = change
            happens(world)
            assert await world.until(said) < 0.1

    play(story())


def test_what_a_stranger_says_in_the_name_of_the_bus_is_not_heard(
    bus_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That the panel went is the bus's word, and nobody else's; nor is nonsense a defect."""

    async def story() -> None:
        async with watched() as world:
            await world.until("")
            gone = Message.new_signal(
                BUS_PATH, BUS, "NameOwnerChanged", "sss", [WATCHER, ":1.0", ""]
            )
            malformed = Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged")
            await buses.send_to_all(bus_address, gone, malformed)
            world.unregisters()
            await world.until(NO_ITEM)
            assert NO_WATCHER not in [why for _at, why in world.said[1:]]

    play(story())
    assert caplog.records == []


def test_an_icon_that_comes_back_is_shown_again(bus_address: str) -> None:
    """Another panel, another item; the watch goes on."""

    async def story() -> None:
        async with watched() as world:
            await world.until("")
            await world.panel.leave()
            await world.until(NO_WATCHER)
            await world.start_panel()
            await world.until(NO_ITEM)
            await world.item.leave()
            await world.start_item()
            await world.until("")

    play(story())


def test_a_watch_that_is_cancelled_just_as_the_desktop_answers_ends(
    bus_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that is lost would keep the agent from ending."""

    async def story() -> None:
        async def answered(_bus: MessageBus, _tray_pid: int) -> str:
            task.cancel()
            return NO_ITEM

        monkeypatch.setattr(indicator, "_why_hidden", answered)
        task = asyncio.create_task(IndicatorWatch(lambda _why: None).run(1))
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()

    play(story())


def test_a_panel_that_answers_again_shows_the_icon_again(bus_address: str) -> None:
    """On a busy machine it is late now and then, and sends no signal when it is not any more."""

    async def story() -> None:
        async with watched() as world:
            await world.until("")
            world.panel.hangs = True
            world.panel.emit("StatusNotifierItemRegistered", "another")
            await world.until(NO_ANSWER)
            world.panel.hangs = False
            await world.until("", 10)

    play(story())


def test_without_a_bus_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """And doctor says so."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")

    async def story() -> None:
        said: list[str] = []
        task = asyncio.create_task(IndicatorWatch(said.append).run(1))
        async with asyncio.timeout(5):
            while NO_BUS not in said:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert said[-1] == NO_ITEM  # whoever stops watching knows nothing
        assert await why_no_tray() == NO_BUS

    play(story())


def test_doctor_tells_a_desktop_with_a_tray_from_one_without(bus_address: str) -> None:
    """Before any icon of ours is there."""

    async def story() -> None:
        assert await why_no_tray() == NO_WATCHER
        world = World()
        await world.start_panel()
        assert await why_no_tray() == ""
        world.loses_its_host()
        assert await why_no_tray() == NO_HOST
        await world.panel.leave()

    play(story())
