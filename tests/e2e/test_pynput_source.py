"""The two input sources of X11 side by side, and what pynput alone would get wrong.

Both watch the same display at the same time, so what one has and the other has not is a
difference between them and nothing else.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from Xlib import X
from Xlib.display import Display
from Xlib.error import DisplayError
from Xlib.ext import xtest

from agent.capture import KeyStroke, Source, SourceError
from agent.capture._pynput import PynputInput
from agent.capture._x11_input import X11Input
from base.clock import boot_ns
from demo.desktop import VirtualDesktop, wait_until
from demo.typist import Load, Typist
from tests.conftest import Size
from tests.e2e.test_sensors import Sensor
from tests.fakes.clients import clients_of
from tests.fakes.descriptors import descriptors, left_open
from wire.control import (
    ContextSettings,
    InputSettings,
    InputSource,
    ScreenSettings,
    Settings,
    SourceFailed,
    SourceOpened,
)
from wire.event import Button, Key, Move, Scroll
from wire.policy import Application

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

CYCLES: Final = {"share": 250, "full": 1000}  # stock pynput is refused by the server after 63
MILLISECOND: Final = 1_000_000
KEY: Final = 38
PROGRAM: Final = Application(process="xterm", window_class="Notes")
KNOWN_ISSUES: Final = Path(__file__).parents[2] / "docs/known-issues.md"
EVERYTHING: Final = Load(keys=40, moves=100, clicks=4, scrolls=8, text="Ab 1!\n")


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDesktop]:
    """A desktop on which no window is open, so none has the focus, and no click moves it."""
    folder = tmp_path_factory.mktemp("desktop")
    with VirtualDesktop(folder, panel=False, accessibility=False) as started:
        with closing(Display(started.env["DISPLAY"])) as display:
            click_where_the_focus_stays(display)
        yield started


def click_where_the_focus_stays(display: Display) -> None:
    """Click, and wait until the window manager has the focus, which it takes at the first click.

    What is typed until the new focus has been looked at is hidden by the one source only.
    """
    root = display.screen().root
    xtest.fake_input(display, X.ButtonPress, 1)
    xtest.fake_input(display, X.ButtonRelease, 1)
    wait_until(
        "the window manager to take the focus",
        lambda: display.get_input_focus().focus not in (X.NONE, X.PointerRoot, root),
    )


@pytest.fixture
def server(desktop: VirtualDesktop) -> Iterator[Display]:
    """Our own connection to the X server."""
    with closing(Display(desktop.env["DISPLAY"])) as display:
        yield display


@pytest.fixture
def both(desktop: VirtualDesktop) -> Iterator[tuple[X11Input, PynputInput]]:
    """Both sources, open."""
    name = desktop.env["DISPLAY"]
    sources = (
        X11Input(keys=True, pointer=True, display=name),
        PynputInput(keys=True, pointer=True, display=name),
    )
    for source in sources:
        source.open()
    yield sources
    for source in sources:
        source.close()


def listen(seconds: float, *sources: Source[Any]) -> list[list[Any]]:
    """Return what each source yields in so many seconds."""
    found: list[list[Any]] = [[] for _ in sources]
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        dues = [due for source in sources if (due := source.due()) is not None]
        wait = max(0.0, (min(dues) - boot_ns()) / 1e9) if dues else left
        select.select(sources, [], [], min(wait, left))
        for events, source in zip(found, sources, strict=True):
            events.extend(source.drain())
    return found


def strike(server: Display, kind: int, detail: int) -> None:
    """Inject one event and wait until the server has it."""
    xtest.fake_input(server, kind, detail)
    server.sync()


def figure(text: str) -> None:
    """Show what was measured (pytest -s)."""
    print(text)  # noqa: T201


def of(events: list[Any], *kinds: type) -> list[Any]:
    """Return the events of these kinds."""
    return [event for event in events if isinstance(event, kinds)]


# --- equal ----------------------------------------------------------------------------------


def test_both_sources_tell_the_same_of_keys_buttons_and_wheel_steps(
    desktop: VirtualDesktop, both: tuple[X11Input, PynputInput], tmp_path: Path
) -> None:
    """Same keys, keysyms, directions and steps, in the same order, at the same time."""
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.start(EVERYTHING)
        raw, library = listen(3.0, *both)
        typist.stop()
        for events, more in zip((raw, library), listen(0.4, *both), strict=True):
            events.extend(more)
        record = typist.events()

    def facts(events: list[Any]) -> list[tuple[Any, ...]]:
        """Return what must be equal: all but the place, which one asks for and one is told."""
        told: list[tuple[Any, ...]] = []
        for event in of(events, KeyStroke, Button, Scroll):
            match event:
                case KeyStroke():
                    told.append(("key", event.code, event.keysym, event.pressed))
                case Button():
                    told.append(("button", event.button, event.pressed))
                case Scroll():
                    told.append(("scroll", event.dx, event.dy))
                case _:
                    pass
        return told

    assert facts(library) == facts(raw)
    assert len(facts(raw)) == len([line for line in record if line["kind"] != "move"])
    times = [
        abs(one.at - other.at)
        for one, other in zip(
            *(of(events, KeyStroke, Button, Scroll) for events in (raw, library)), strict=True
        )
    ]
    figure(f"dated apart: at most {max(times) / 1e6:.1f} ms")
    assert max(times) < 20 * MILLISECOND
    places = {(line["x"], line["y"]) for line in record if line["kind"] == "move"}
    for events in (raw, library):
        moves = [(event.x, event.y) for event in of(events, Move)]
        assert set(moves) <= places
        assert moves[-1] == (of(raw, Move)[-1].x, of(raw, Move)[-1].y)


def test_events_of_pynput_arrive_soon_without_any_focused_window(
    desktop: VirtualDesktop, tmp_path: Path
) -> None:
    """What the server would keep for 320 ms is fetched within some 20 ms, and dated honestly."""
    source = PynputInput(keys=True, pointer=False, display=desktop.env["DISPLAY"])
    source.open()
    late: list[int] = []
    dated: list[int] = []
    with Typist(desktop.env, tmp_path / "record") as typist, closing(source):
        typist.start(Load(keys=12, text="quiet"))
        deadline = time.monotonic() + 3.0
        arrived: list[tuple[int, Any]] = []
        while time.monotonic() < deadline:
            select.select([source], [], [], max(0.0, ((source.due() or 0) - boot_ns()) / 1e9))
            arrived += [(boot_ns(), event) for event in source.drain()]
        typist.stop()
        happened = zip(typist.events(), typist.sent(), arrived, strict=False)
        for line, by, (at, event) in happened:
            late.append(at - by)
            dated.append(event.at - by)
            assert event.at > line["at"] - 2 * MILLISECOND  # the server counts in milliseconds
    late.sort()
    dated.sort()
    figure(
        f"{len(late)} events: arrived p50 {late[len(late) // 2] / 1e6:.1f},"
        f" max {late[-1] / 1e6:.1f}"
        f" ms after injection, dated {dated[0] / 1e6:.1f} to {dated[-1] / 1e6:.1f}"
    )
    assert len(late) > 40
    assert late[len(late) // 2] < 50 * MILLISECOND
    assert dated[-1] < 50 * MILLISECOND


# --- different, and documented --------------------------------------------------------------


def test_a_held_key_is_one_press_or_many(
    server: Display, both: tuple[X11Input, PynputInput]
) -> None:
    """Known issue "Auto-repeat": the device's press once, or the server's repetitions too."""
    assert "**Auto-repeat**" in KNOWN_ISSUES.read_text("utf-8")
    strike(server, X.KeyPress, KEY)
    raw, library = listen(1.2, *both)
    strike(server, X.KeyRelease, KEY)
    for events, more in zip((raw, library), listen(0.3, *both), strict=True):
        events.extend(more)
    assert [event.pressed for event in of(raw, KeyStroke)] == [True, False]
    presses = [event for event in of(library, KeyStroke) if event.pressed]
    assert len(presses) > 5
    assert {event.code for event in presses} == {KEY}
    assert not of(library, KeyStroke)[-1].pressed


def test_a_pointer_that_a_program_moves_is_a_move_or_none(
    server: Display, both: tuple[X11Input, PynputInput]
) -> None:
    """Known issue "Pointer warps": no device moved, but the pointer did."""
    assert "**Pointer warps**" in KNOWN_ISSUES.read_text("utf-8")
    server.screen().root.warp_pointer(321, 123)
    server.sync()
    raw, library = listen(0.3, *both)
    assert of(raw, Move) == []
    assert [(event.x, event.y) for event in of(library, Move)] == [(321, 123)]


# --- what pynput alone gets wrong -------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(0)  # bounded by the number of cycles
def test_idle_cycles_leak_no_client_thread_or_descriptor(
    desktop: VirtualDesktop, server: Display, size: Size
) -> None:
    """Stock pynput is refused by the server after 63."""
    source = PynputInput(keys=True, pointer=True, display=desktop.env["DISPLAY"])
    source.open()
    source.close()
    threads, open_before = threading.active_count(), descriptors()
    began, cycles = time.monotonic(), size(**CYCLES)
    for _ in range(cycles):
        source.open()
        source.close()
    figure(f"{cycles} cycles in {time.monotonic() - began:.1f} s")
    assert threading.active_count() == threads
    assert not left_open(open_before)
    wait_until("the server to forget us", lambda: clients_of(server, os.getpid()) == 1)


def test_no_callback_comes_after_close(desktop: VirtualDesktop, tmp_path: Path) -> None:
    """In the middle of a storm: nothing is taken in, the thread is gone, the hook too."""
    name = desktop.env["DISPLAY"]
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.start(Load(keys=50, moves=500, text="storm"))
        for _ in range(20):
            source = PynputInput(keys=True, pointer=True, display=name)
            source.open()
            listen(0.02, source)
            mailbox, listener = source.mailbox, source.listener
            taken: list[Any] = []
            source.close()
            listener.take = taken.append
            assert not listener.is_alive()
            assert len(mailbox) == 0
            time.sleep(0.01)
            assert taken == []
        typist.stop()


def test_an_exception_in_a_callback_is_an_end_with_a_reason(
    desktop: VirtualDesktop, server: Display, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pynput's thread would end in silence, or with a traceback."""
    source = PynputInput(keys=True, pointer=True, display=desktop.env["DISPLAY"])
    source.open()
    source.listener.take = _fail
    strike(server, X.KeyPress, KEY)
    strike(server, X.KeyRelease, KEY)
    with pytest.raises(SourceError, match="ZeroDivisionError"):
        listen(5.0, source)
    source.close()
    assert capfd.readouterr().err == ""


def _fail(_event: object) -> None:
    raise ZeroDivisionError


def test_a_listener_that_died_is_noticed(desktop: VirtualDesktop) -> None:
    """By its end, not by `running`, which stays True."""
    source = PynputInput(keys=True, pointer=True, display=desktop.env["DISPLAY"])
    source.open()
    listener = source.listener
    listener.connections()[1].display.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(SourceError, match="listener failed"):
        listen(5.0, source)
    source.close()
    assert not listener.is_alive()


def waited(*pids: int) -> int:
    """Return how many ns in all this process and *pids* were ready to run, and waited for a core.

    For each thread: what a process shows is its first thread's.
    """
    return sum(
        int((task / "schedstat").read_text("ascii").split()[1])
        for pid in ("self", *pids)
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def fill(name: str) -> list[Display]:
    """Connect to a server until it refuses."""
    guests = []
    with suppress(DisplayError):
        while True:
            guests.append(Display(name))
    return guests


# python-xlib leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_without_room_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The listener cannot connect any more: bounded, no traceback, no connection left."""
    with VirtualDesktop(tmp_path, panel=False, accessibility=False) as full:
        name = full.env["DISPLAY"]
        guests = fill(name)
        guests.pop().close()  # room for our control connection, and no more
        guests.pop().close()
        source = PynputInput(keys=True, pointer=True, display=name)
        began = time.monotonic()
        with pytest.raises(SourceError, match="could not start") as refusal:
            source.open()
        assert time.monotonic() - began < 5.0
        assert "\n" not in str(refusal.value)
        wait_until(
            "the server to forget us", lambda: clients_of(guests[0], os.getpid()) == len(guests)
        )
        for guest in guests:
            guest.close()


def test_the_environment_cannot_choose_the_way_past_the_desktop(
    desktop: VirtualDesktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYNPUT_BACKEND=uinput would read the devices themselves; it is overruled."""
    for name in ("PYNPUT_BACKEND", "PYNPUT_BACKEND_KEYBOARD"):
        monkeypatch.setenv(name, "uinput")
    source = PynputInput(keys=True, pointer=True, display=desktop.env["DISPLAY"])
    source.open()
    assert type(source.listener).__mro__[2].__module__ == "pynput.keyboard._xorg"
    source.close()
    assert os.environ["PYNPUT_BACKEND"] == "xorg"


# --- the sensor process -----------------------------------------------------------------------


@pytest.fixture
def start(desktop: VirtualDesktop) -> Iterator[Callable[[str], Sensor]]:
    """Return what starts a sensor; all of them end with the test."""
    started: list[Sensor] = []

    def begin(name: str) -> Sensor:
        started.append(Sensor(name, desktop))
        return started[-1]

    yield begin
    for sensor in started:
        sensor.end()


def settings(source: InputSource) -> InputSettings:
    """Return the settings with which everything is watched through *source*."""
    return InputSettings(keys=True, pointer=True, key_level="text", source=source)


def test_the_sensor_uses_the_source_that_it_is_told(
    server: Display, start: Callable[[str], Sensor]
) -> None:
    """With pynput a held key repeats: so it is pynput."""
    sensor = start("input")
    cases: tuple[tuple[InputSource, bool], ...] = (("xinput2", False), ("pynput", True))
    for epoch, (source, repeats) in enumerate(cases, start=1):
        assert isinstance(sensor.open(epoch, settings(source)), SourceOpened)
        sensor.messages.clear()
        strike(server, X.KeyPress, KEY)
        sensor.listen(1.0)
        strike(server, X.KeyRelease, KEY)
        sensor.listen(0.3)
        keys = [event for event in sensor.events() if isinstance(event, Key)]
        assert (len(keys) > 2) == repeats
        sensor.close(epoch)


@pytest.mark.parametrize("source", ["xinput2", "pynput"])
def test_without_a_focused_window_each_event_reaches_the_agent_in_50_ms(
    desktop: VirtualDesktop, start: Callable[[str], Sensor], tmp_path: Path, source: InputSource
) -> None:
    """On the agent's end of the socket; what the sensor says is at the gate at once."""
    sensor = start("input")
    assert isinstance(sensor.open(1, settings(source)), SourceOpened)
    with Typist(desktop.env, tmp_path / "record") as typist:
        theirs = (sensor.process.pid, desktop.pids["x-server"])
        waits = [(boot_ns(), waited(*theirs))]
        typist.start(Load(keys=25, clicks=3, scrolls=6, text="nobody"))
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            sensor.listen(0.02)
            waits.append((boot_ns(), waited(*theirs)))
        typist.stop()
        sensor.listen(0.3)
        waits.append((boot_ns(), waited(*theirs)))
        happened = typist.sent()
    arrivals = [at for at, message in sensor.messages for _event in message.events]
    arrived = list(zip(arrivals, happened, strict=True))
    late = sorted(at - by for at, by in arrived)
    figure(
        f"{source}: p50 {late[len(late) // 2] / 1e6:.1f},"
        f" p95 {late[len(late) * 95 // 100] / 1e6:.1f}, max {late[-1] / 1e6:.1f} ms"
    )
    assert late[len(late) // 2] < 50 * MILLISECOND
    for at, by in arrived:
        held_up = next(total for when, total in waits if when >= at) - max(
            total for when, total in waits if when <= max(by, waits[0][0])
        )
        assert at - by < 50 * MILLISECOND + held_up


@pytest.mark.soak
@pytest.mark.timeout(0)  # bounded by the number of cycles
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input", settings("xinput2")),
        ("input", settings("pynput")),
        ("context", ContextSettings(titles=True, applications=(PROGRAM,))),
        ("screen", ScreenSettings(rate_hz=2, applications=(PROGRAM,))),
    ],
    ids=["xinput2", "pynput", "context", "screen"],
)
def test_pause_after_pause_leaks_nothing_in_the_sensor(
    server: Display, start: Callable[[str], Sensor], name: str, settings: Settings, size: Size
) -> None:
    """The process stays the same, and so do its threads, descriptors and X clients."""
    sensor = start(name)
    for epoch in (1, 2):
        sensor.open(epoch, settings)
        sensor.close(epoch)
    process_id = sensor.process.pid
    process = Path(f"/proc/{process_id}")

    def leaks() -> tuple[int, ...]:
        return tuple(len(list((process / part).iterdir())) for part in ("fd", "task"))

    before, began, cycles = leaks(), time.monotonic(), size(**CYCLES)
    for epoch in range(3, cycles + 3):
        assert isinstance(sensor.open(epoch, settings), SourceOpened)
        sensor.close(epoch)
    figure(f"{name}: {cycles} cycles in {time.monotonic() - began:.1f} s")
    assert sensor.process.poll() is None
    # A thread that has been joined stands in /proc for a moment longer.
    wait_until("the last thread to go", lambda: all(map(int.__le__, leaks(), before)))
    wait_until("the server to forget the hooks", lambda: clients_of(server, process_id) == 0)


def test_a_sensor_whose_listener_dies_says_so(tmp_path: Path) -> None:
    """The X server goes: one line, exit code 1; as with the other source."""
    with VirtualDesktop(tmp_path, panel=False, accessibility=False) as short_lived:
        sensor = Sensor("input", short_lived)
        assert isinstance(sensor.open(7, settings("pynput")), SourceOpened)
        short_lived.stop()
        failed = sensor.answer()
        assert isinstance(failed, SourceFailed)
        assert "X server" in failed.why
        assert "\n" not in failed.why
        assert sensor.process.wait(10) == 1
        sensor.end()
