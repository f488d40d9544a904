"""The three sensor processes on a real desktop: what they see, what they hide, how they stop.

Each test talks to a sensor as the agent does: a channel, and a socket for each opening.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from backports import zstd
from Xlib import X
from Xlib.display import Display
from Xlib.ext import xtest

from agent.capture._x11_windows import X11Windows
from agent.capture.screen import Grabber
from agent.geometry import Box
from base import ipc
from base.clock import boot_ns
from demo.bus import Bus
from demo.desktop import VirtualDesktop, wait_until
from demo.person import Person
from demo.typist import Load, Typist
from tests.fakes.clients import clients_of
from wire.control import (
    CloseSource,
    ContextSettings,
    FocusSeen,
    FromSensor,
    InputSettings,
    Items,
    OpenSource,
    ScreenSettings,
    Settings,
    SourceClosed,
    SourceFailed,
    SourceOpened,
)
from wire.event import Button, Event, Frame, Key, Move, Scroll
from wire.policy import Application

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
NOTES = Application(process="xterm", window_class="Notes")  # the one permitted program
EVERYTHING = InputSettings(keys=True, pointer=True, key_level="text")
CONTEXT = ContextSettings(titles=True, applications=(NOTES,))
SCREEN = ScreenSettings(rate_hz=20, applications=(NOTES,))
PATIENCE = 10.0

Picture = npt.NDArray[np.uint8]


class Sensor:
    """The agent's side of one sensor process."""

    def __init__(self, name: str, desktop: VirtualDesktop) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(PATIENCE)
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"agent.sensors.{name}", "--channel", str(theirs.fileno())],
            env=desktop.env | {"PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._answers: ipc.Inbox[FromSensor] = ipc.Inbox(FromSensor)
        self._items: ipc.Inbox[Items] = ipc.Inbox(Items)
        self._socket: socket.socket | None = None
        self.messages: list[tuple[int, Items]] = []  # with the boot time of their arrival

    def open(self, epoch: int, settings: Settings) -> FromSensor:
        self.hang_up()
        self._socket, theirs = socket.socketpair()
        with theirs:
            order = OpenSource(epoch=epoch, settings=settings)
            ipc.send_with_descriptor(self.channel, order, theirs.fileno())
        return self.answer()

    def close(self, epoch: int) -> SourceClosed:
        ipc.send(self.channel, CloseSource(epoch=epoch))
        answer = self.answer()
        assert isinstance(answer, SourceClosed)
        return answer

    def answer(self) -> FromSensor:
        while True:
            for message in self._answers.messages():
                return message
            assert self._answers.receive(self.channel), "the sensor hung up"

    def listen(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Take what comes, for so long or until it is *enough*."""
        deadline = time.monotonic() + seconds
        while self._socket is not None and not enough():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return
            if not self._items.receive(self._socket):
                return
            arrived = boot_ns()
            self.messages += [(arrived, message) for message in self._items.messages()]

    def events(self) -> list[Event]:
        return [event for _, message in self.messages for event in message.events]

    def focus(self) -> list[FocusSeen]:
        return [seen for _, message in self.messages for seen in message.focus]

    def frames(self) -> list[Frame]:
        return [event for event in self.events() if isinstance(event, Frame)]

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def end(self) -> int:
        self.channel.close()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.hang_up()


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDesktop]:
    """Return a desktop with two programs: Notes, which is permitted, and Diary, which is not."""
    with VirtualDesktop(tmp_path_factory.mktemp("desktop"), accessibility=False) as started:
        for name, place in (("Notes", "60x20+100+100"), ("Diary", "60x20+700+100")):
            command = ["xterm", "-class", name, "-T", name, "-geometry", place]
            started.run(name, [*command, "-bg", "#224422", "-e", "cat"])
        yield started


@pytest.fixture
def person(desktop: VirtualDesktop) -> Person:
    """Return a person who has Notes before them."""
    person = Person(desktop.env)
    person.activate("Diary")
    person.activate("Notes")
    return person


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


def clients(desktop: VirtualDesktop, pid: int) -> int:
    """Return how many clients of the X server are process *pid*."""
    with closing(Display(desktop.env["DISPLAY"])) as display:
        return clients_of(display, pid)


def wake_accessibility(desktop: VirtualDesktop) -> None:
    """Have the bus start AT-SPI, whose own clients of the server come at the first question."""
    with Bus(desktop.env["DBUS_SESSION_BUS_ADDRESS"]) as session:
        (address,) = session.call(
            "org.a11y.Bus", "/org/a11y/bus", "GetAddress", interface="org.a11y.Bus"
        )
    registry = "org.a11y.atspi.Registry"
    with Bus(address) as bus:
        bus.call(
            registry,
            "/org/a11y/atspi/registry",
            "GetRegisteredEvents",
            interface=registry,
        )


# --- input --------------------------------------------------------------------------------


def test_every_key_button_and_wheel_step_arrives_once_and_in_order(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor], tmp_path: Path
) -> None:
    """What was injected is what was recorded: kind, key, direction, place and time."""
    sensor = start("input")
    assert isinstance(sensor.open(1, EVERYTHING), SourceOpened)
    load = Load(keys=60, moves=60, clicks=3, scrolls=6, text="Ab 1!\n", area=(150, 150, 200, 100))
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.start(load)
        sensor.listen(3.0)
        typist.stop()
        sensor.listen(0.3)
        record = typist.events()

    def recorded(kind: str) -> list[dict[str, object]]:
        return [{**line, "at": 0, "kind": 0} for line in record if line["kind"] == kind]

    events = sensor.events()
    keys = [event for event in events if isinstance(event, Key)]
    assert [(key.pressed, key.code) for key in keys] == [
        (line["pressed"], line["code"]) for line in recorded("key")
    ]
    typed = "".join(key.text for key in keys if key.pressed and len(key.text) == 1)
    expected = "".join(str(line["char"]) for line in recorded("key") if line["pressed"])
    assert typed == expected.replace("\n", "")

    buttons = [event for event in events if isinstance(event, Button)]
    assert [(each.button, each.pressed) for each in buttons] == [
        (line["button"], line["pressed"]) for line in recorded("button")
    ]
    steps = [event for event in events if isinstance(event, Scroll)]
    assert [(each.dx, each.dy) for each in steps] == [
        (0, line["dy"]) for line in recorded("scroll")
    ]
    moves = [(event.x, event.y) for event in events if isinstance(event, Move)]
    places = [(line["x"], line["y"]) for line in recorded("move")]
    assert moves[-1] == places[-1]
    assert len(moves) >= 0.9 * len(places)  # two within 4 ms are one
    assert set(moves) <= set(places)

    injected = [int(str(line["at"])) for line in record if line["kind"] == "key"]
    off = [abs(key.at - at) / 1e6 for key, at in zip(keys, injected, strict=True)]
    assert sorted(off)[len(off) // 2] < 3.0  # ms; the server's stamps count whole ones
    late = sorted(arrived - event.at for arrived, each in sensor.messages for event in each.events)
    assert late[len(late) // 2] / 1e6 < 20.0
    assert all(message.suppressed == 0 for _, message in sensor.messages)


def test_at_level_classes_no_character_leaves_the_process(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor], tmp_path: Path
) -> None:
    """The kinds of the keys arrive, and the bytes that travelled hold nothing else."""
    sensor = start("input")
    sensor.open(1, InputSettings(keys=True, pointer=False, key_level="classes"))
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.type_text("Pa 7!\n", keys_per_second=100)
    sensor.listen(PATIENCE, lambda: len(sensor.events()) >= 16)
    keys = [event for event in sensor.events() if isinstance(event, Key)]
    assert [key.kind for key in keys if key.pressed] == [
        "modifier", "letter", "letter", "space", "digit", "modifier", "punctuation", "enter",
    ]  # fmt: skip
    assert {(key.text, key.code) for key in keys} == {("", 0)}


def test_keys_follow_the_layout_that_the_person_chose(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """The server's own keyboard state says what a key makes: layouts, AltGr, Caps Lock, groups.

    A layout is asked for when the sensor reads that it changed; so each change here waits until
    what was typed before it has arrived, as a person's would.
    """
    sensor = start("input")
    sensor.open(1, InputSettings(keys=True, pointer=False, key_level="text"))
    display = Display(desktop.env["DISPLAY"])

    def strike(*codes: int) -> None:
        for code in codes:
            xtest.fake_input(display, X.KeyPress, code)
        for code in reversed(codes):
            xtest.fake_input(display, X.KeyRelease, code)
        display.sync()

    def arrived(count: int) -> None:
        sensor.listen(PATIENCE, lambda: len(sensor.events()) >= count)
        assert len(sensor.events()) == count

    altgr, caps_lock, shift, z, e, q = 108, 66, 50, 52, 26, 24
    try:
        strike(z)
        arrived(2)
        _layout(desktop, "de")
        strike(z)
        strike(altgr, e)
        strike(caps_lock)
        strike(z)
        strike(shift, z)
        strike(caps_lock)
        arrived(18)
        _layout(desktop, "us,ru", "-option", "grp:caps_toggle")
        strike(caps_lock)
        strike(q)
        strike(caps_lock)
        strike(q)
        arrived(26)
    finally:
        _layout(desktop, "us", "-option", "")
        display.close()
    keys = [event for event in sensor.events() if isinstance(event, Key)]
    assert [key.text for key in keys if key.pressed and key.kind != "modifier"] == [
        "z", "y", "€", "Y", "y", "й", "q",
    ]  # fmt: skip


def _layout(desktop: VirtualDesktop, *arguments: str) -> None:
    subprocess.run(["setxkbmap", "-layout", *arguments], env=desktop.env, check=True)


def test_after_the_answer_to_a_close_there_is_nothing(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor], tmp_path: Path
) -> None:
    """Closed in full flow: no event is later than the answer, none comes in the next epoch."""
    sensor = start("input")
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.start(Load(keys=100, moves=100, text="x"))
        for epoch in range(1, 31):
            opened = sensor.open(epoch, EVERYTHING)
            assert isinstance(opened, SourceOpened)
            sensor.messages.clear()
            sensor.listen(0.05)
            closed = sensor.close(epoch)
            sensor.listen(PATIENCE)  # until the events' socket ends, which it does at once
            assert all(opened.at <= event.at + 5_000_000 for event in sensor.events())
            assert all(event.at <= closed.at for event in sensor.events())
            assert {message.epoch for _, message in sensor.messages} <= {epoch}
            assert sensor.messages


@pytest.mark.parametrize(
    ("name", "settings"), [("input", EVERYTHING), ("context", CONTEXT), ("screen", SCREEN)]
)
def test_closing_takes_every_hook_out_of_the_server(
    desktop: VirtualDesktop,
    person: Person,
    start: Callable[[str], Sensor],
    name: str,
    settings: Settings,
) -> None:
    """Open is a client of the server, closed is none, also after many times."""
    wake_accessibility(desktop)
    sensor = start(name)
    pid = sensor.process.pid
    for epoch in range(1, 41):
        assert isinstance(sensor.open(epoch, settings), SourceOpened)
        if epoch == 1:
            assert clients(desktop, pid) > 0
        sensor.close(epoch)
    wait_until("the server to count again", lambda: clients(desktop, pid) == 0)


# --- context ------------------------------------------------------------------------------


def test_focus_is_told_of_permitted_programs_only(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """Of a program outside the list nothing is said but that it is outside."""
    sensor = start("context")
    sensor.open(1, CONTEXT)
    sensor.listen(PATIENCE, lambda: len(sensor.focus()) >= 1)
    asked = boot_ns()
    person.activate("Diary")
    sensor.listen(PATIENCE, lambda: not sensor.focus()[-1].inside)
    person.activate("Notes")
    sensor.listen(PATIENCE, lambda: sensor.focus()[-1].inside)
    first, outside, again = sensor.focus()[0], sensor.focus()[1], sensor.focus()[-1]
    box = person.box("Notes")
    for seen in (first, again):
        assert (seen.inside, seen.process, seen.window_class) == (True, "xterm", "Notes")
        assert (seen.title, Box(seen.x, seen.y, seen.width, seen.height)) == ("Notes", box)
    assert outside == FocusSeen(at=outside.at, inside=False)
    assert asked < outside.at < again.at
    assert b"Diary" not in b"".join(ipc.encode(message) for _, message in sensor.messages)


def test_a_window_that_moves_or_is_renamed_is_told_again(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """Titles only where the level allows them; without, a new title is no news."""
    with_titles, without = start("context"), start("context")
    with_titles.open(1, CONTEXT)
    without.open(1, ContextSettings(titles=False, applications=(NOTES,)))
    number = str(person.wait_for_window("Notes"))

    def xdotool(*arguments: str) -> None:
        subprocess.run(["xdotool", *arguments], env=desktop.env, check=True)

    try:
        xdotool("set_window", "--name", "My secret plan", number)
        with_titles.listen(PATIENCE, lambda: with_titles.focus()[-1:] != with_titles.focus()[:1])
        assert with_titles.focus()[-1].title == "My secret plan"
        without.listen(0.3)
        assert [seen.title for seen in without.focus()] == [""]
        xdotool("windowmove", "--sync", number, "130", "140")
        without.listen(PATIENCE, lambda: len(without.focus()) > 1)
        assert without.focus()[-1].x != without.focus()[0].x
    finally:
        xdotool(
            "set_window", "--name", "Notes", number, "windowmove", "--sync", number, "100", "100"
        )


def test_a_closed_window_is_outside(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """A permitted program that ends leaves nobody with the focus, or somebody else."""
    command = ["xterm", "-class", "Notes", "-T", "Short note", "-e", "cat"]
    process = desktop.run("short", command)
    person.activate("Short note")
    sensor = start("context")
    sensor.open(1, CONTEXT)
    sensor.listen(PATIENCE, lambda: bool(sensor.focus()))
    assert sensor.focus()[-1].title == "Short note"
    process.terminate()
    sensor.listen(PATIENCE, lambda: sensor.focus()[-1].title != "Short note")
    assert any(seen != sensor.focus()[0] for seen in sensor.focus())


# --- screen -------------------------------------------------------------------------------


def draw(frames: list[Frame]) -> Picture:
    """Draw frames as a reader does that knows only wire.event; the first must be a key frame."""
    canvas: Picture | None = None
    for frame in frames:
        if frame.key:
            canvas = np.zeros((frame.height, frame.width, 3), np.uint8)
        assert canvas is not None, "the first frame is no key frame"
        for part in frame.rectangles:
            rows = np.frombuffer(zstd.decompress(part.pixels), np.uint8)
            shape = (part.height, part.width, 3)
            bottom, right = part.y + part.height, part.x + part.width
            canvas[part.y : bottom, part.x : right] = rows.reshape(shape)
    assert canvas is not None
    return canvas


def on_screen(desktop: VirtualDesktop) -> Picture:
    """Return what the whole screen shows."""
    grabber = Grabber(display=desktop.env["DISPLAY"])
    grabber.open()
    try:
        return grabber.grab(grabber.desktop())[:, :, :3]
    finally:
        grabber.close()


def only(picture: Picture, box: Box) -> Picture:
    """Return *picture* with everything outside *box* black."""
    kept = np.zeros_like(picture)
    kept[box.y : box.bottom, box.x : box.right] = picture[box.y : box.bottom, box.x : box.right]
    return kept


def test_frames_rebuild_the_permitted_window_and_nothing_else(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor], tmp_path: Path
) -> None:
    """After typing, the drawn frames are the window bit for bit; all around it is black."""
    sensor = start("screen")
    sensor.open(1, SCREEN)
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.type_text("what is typed can be seen\n" * 2, keys_per_second=60)
    sensor.listen(1.0)
    frames = sensor.frames()
    assert frames[0].key
    assert len(frames) > 5
    assert (frames[0].width, frames[0].height) == (1920, 1080)
    # A cursor may blink between the last frame and this picture; these terminals' do not.
    assert np.array_equal(draw(frames), only(on_screen(desktop), person.box("Notes")))
    changed = [part for frame in frames[1:] if not frame.key for part in frame.rectangles]
    areas = sorted(part.width * part.height for part in changed)
    assert areas[len(areas) // 2] < 2_000  # a letter or two; a full window only when it scrolls

    quiet = len(frames)
    sensor.listen(1.0)
    assert len(sensor.frames()) == quiet  # nothing changed, nothing was sent


def test_without_a_permitted_program_in_focus_there_are_no_frames(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor], tmp_path: Path
) -> None:
    """Even though the permitted window is in full view."""
    person.activate("Diary")
    sensor = start("screen")
    sensor.open(1, SCREEN)
    with Typist(desktop.env, tmp_path / "record") as typist:
        typist.type_text("dear diary\n", keys_per_second=60)
    sensor.listen(1.0)
    assert sensor.frames() == []


def test_windows_of_others_that_overlap_are_blanked(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """A window that is always on top, of a program that is not permitted, never shows."""
    display = Display(desktop.env["DISPLAY"])
    # As a notification: no window manager, no name, above all.
    popup = display.screen().root.create_window(
        150, 180, 200, 100, 3, 24, background_pixel=0xFF0000, override_redirect=True
    )
    box = person.box("Notes")
    try:
        popup.map()
        display.sync()
        sensor = start("screen")
        sensor.open(1, SCREEN)
        sensor.listen(PATIENCE, lambda: bool(sensor.frames()))
        expected = only(on_screen(desktop), box)
        assert (expected[200, 160] == (0, 0, 0xFF)).all()  # it is there, in the window's midst
        expected[180 : 180 + 106, 150 : 150 + 206] = 0
        assert np.array_equal(draw(sensor.frames()), expected)

        # Moved while recorded: neither the new place nor a trace of the old one shows.
        popup.configure(x=300, y=220)
        display.sync()
        sensor.listen(1.0)
        expected = only(on_screen(desktop), box)
        expected[220 : 220 + 106, 300 : 300 + 206] = 0
        assert np.array_equal(draw(sensor.frames()), expected)
        assert not (draw(sensor.frames()) == (0, 0, 0xFF)).all(axis=2).any()
    finally:
        popup.destroy()
        display.close()


def test_no_frame_shows_another_window_while_windows_come_and_go(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """A red window jumps over the permitted one all the time; no frame has a red pixel."""
    display = Display(desktop.env["DISPLAY"])
    popup = display.screen().root.create_window(
        120, 130, 150, 90, 0, 24, background_pixel=0xFF0000, override_redirect=True
    )
    sensor = start("screen")
    sensor.open(1, ScreenSettings(rate_hz=60, applications=(NOTES,)))
    try:
        for turn in range(60):
            popup.configure(x=120 + turn * 4, y=130 + turn)
            popup.map() if turn % 3 == 0 else popup.unmap()
            display.sync()
            # Now and then it holds still long enough for a look.
            sensor.listen(0.2 if turn % 10 == 9 else 0.01)
        sensor.listen(0.5)
    finally:
        popup.destroy()
        display.close()
    assert sensor.frames()
    for frame in sensor.frames():
        for part in frame.rectangles:
            pixels = np.frombuffer(zstd.decompress(part.pixels), np.uint8).reshape(-1, 3)
            assert not (pixels == (0, 0, 0xFF)).all(axis=1).any()


def test_what_a_window_leaves_behind_until_the_one_below_has_drawn_is_not_recorded(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """The permitted program is slow: for 60 ms its window still shows the one that has gone."""
    display = Display(desktop.env["DISPLAY"])
    root = display.screen().root
    slow = root.create_window(300, 500, 300, 200, 0, 24, background_pixmap=X.NONE)
    slow.set_wm_class("slow", "Slow")
    slow.set_wm_name("Slow")
    paint = slow.create_gc(foreground=0x3366AA)
    popup = root.create_window(
        350, 550, 150, 90, 0, 24, background_pixel=0xFF0000, override_redirect=True
    )
    this = Application(process=Path("/proc/self/exe").readlink().name, window_class="Slow")
    try:
        slow.map()
        display.sync()
        person.activate("Slow")
        box = person.box("Slow")  # where the window manager put it
        popup.configure(x=box.x + 50, y=box.y + 50)
        sensor = start("screen")
        sensor.open(1, ScreenSettings(rate_hz=60, applications=(this,)))
        for _ in range(8):
            popup.map()
            display.sync()
            sensor.listen(0.2)
            popup.unmap()
            display.sync()
            sensor.listen(0.06)
            slow.fill_rectangle(paint, 0, 0, 300, 200)
            display.sync()
            sensor.listen(0.2)
        frames = sensor.frames()
    finally:
        slow.destroy()
        popup.destroy()
        display.close()
    assert frames
    picture = draw(frames)
    assert (picture == (0xAA, 0x66, 0x33)).all(axis=2).any()
    for number in range(1, len(frames) + 1):
        assert not (draw(frames[:number]) == (0, 0, 0xFF)).all(axis=2).any()


def test_the_server_tells_when_something_was_first_drawn(desktop: VirtualDesktop) -> None:
    """Once for each question, dated between before and after; not for what moves no pixel."""
    display = Display(desktop.env["DISPLAY"])
    window = display.screen().root.create_window(
        900, 500, 50, 50, 0, 24, background_pixel=0xFFFFFF, override_redirect=True
    )
    paint = window.create_gc(foreground=0x123456)
    windows = X11Windows(titles=False, stack=True, display=desktop.env["DISPLAY"])
    windows.open()
    try:
        assert windows.follows_drawing()
        window.map()
        display.sync()
        wait_until("the desktop to rest", lambda: _rests(windows))
        before = boot_ns()
        for _ in range(50):
            window.fill_rectangle(paint, 0, 0, 50, 50)
            display.sync()
        after = boot_ns()
        windows.steady_since()
        drawn = windows.drawn_at()
        assert drawn is not None
        assert before - 2_000_000 <= drawn <= after + 2_000_000  # the server counts in ms
        assert windows.watch_drawing() == drawn
        xtest.fake_input(display, X.MotionNotify, x=5, y=5)
        display.sync()
        windows.steady_since()
        assert windows.drawn_at() is None
    finally:
        windows.close()
        window.destroy()
        display.close()


def _rests(windows: X11Windows) -> bool:
    windows.watch_drawing()
    time.sleep(0.2)  # for so long nothing was drawn
    windows.steady_since()
    return windows.drawn_at() is None


# --- how they end -------------------------------------------------------------------------


def test_a_killed_agent_takes_its_sensor_along(
    desktop: VirtualDesktop, person: Person, tmp_path: Path
) -> None:
    """SIGKILL of the parent, with no time to say anything: the sensor and its hook are gone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        env=desktop.env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert clients(desktop, child) > 0
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until("the sensor's end", lambda: not _lives(child))
    wait_until("the hook's end", lambda: clients(desktop, child) == 0)


# Holds its end of the channel open in a second child, so that only the death signal can help.
_PARENT = """
import os, socket, subprocess, sys, time
from base import ipc
from wire.control import FromSensor, InputSettings, OpenSource
ours, theirs = socket.socketpair()
sensor = subprocess.Popen([sys.executable, "-m", "agent.sensors.input", "--channel",
                           str(theirs.fileno())], pass_fds=[theirs.fileno()])
theirs.close()
subprocess.Popen(["sleep", "30"], pass_fds=[ours.fileno()], stdout=subprocess.DEVNULL)
events, far = socket.socketpair()
settings = InputSettings(keys=True, pointer=True, key_level="text")
ipc.send_with_descriptor(ours, OpenSource(epoch=1, settings=settings), far.fileno())
ipc.Inbox(FromSensor).receive(ours)
print(sensor.pid, flush=True)
time.sleep(60)
"""


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_agent_that_hangs_up_or_terminates_it_ends_it_in_order(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """End of the channel, and SIGTERM: unhooked, exit code 0."""
    hung_up, terminated = start("input"), start("context")
    hung_up.open(1, EVERYTHING)
    terminated.open(1, CONTEXT)
    terminated.process.send_signal(signal.SIGTERM)
    assert terminated.process.wait(PATIENCE) == 0
    assert hung_up.end() == 0
    both = (hung_up.process.pid, terminated.process.pid)
    wait_until("the hooks' end", lambda: not any(clients(desktop, pid) for pid in both))


def test_a_sensor_leaves_no_core_file(
    desktop: VirtualDesktop, person: Person, start: Callable[[str], Sensor]
) -> None:
    """It may not be dumped, whatever kills it: what it saw was never on a disk."""
    sensor = start("input")
    sensor.open(1, EVERYTHING)
    limits = Path(f"/proc/{sensor.process.pid}/limits").read_text("ascii")
    assert "Max core file size        0                    0" in limits
    sensor.process.send_signal(signal.SIGABRT)
    status = os.waitid(os.P_PID, sensor.process.pid, os.WEXITED | os.WNOWAIT)
    assert status is not None
    assert status.si_code == os.CLD_KILLED  # not CLD_DUMPED


@pytest.mark.parametrize(
    ("name", "settings"), [("input", EVERYTHING), ("context", CONTEXT), ("screen", SCREEN)]
)
def test_a_lost_x_server_is_said_in_one_line_and_ends_the_sensor(
    tmp_path: Path, name: str, settings: Settings
) -> None:
    """The agent hears why; the exit code is no success."""
    with VirtualDesktop(tmp_path, panel=False, accessibility=False) as short_lived:
        sensor = Sensor(name, short_lived)
        assert isinstance(sensor.open(7, settings), SourceOpened)
        short_lived.stop()
        failed = sensor.answer()
        assert isinstance(failed, SourceFailed)
        assert failed.epoch == 7
        assert "X server" in failed.why
        assert "\n" not in failed.why
        assert sensor.process.wait(PATIENCE) == 1
        sensor.end()


def test_a_wayland_session_is_refused(desktop: VirtualDesktop, tmp_path: Path) -> None:
    """Never a silent half-capture through the X11 bridge."""
    kept = desktop.env
    try:
        desktop.env = kept | {"WAYLAND_DISPLAY": "wayland-0"}
        sensor = Sensor("input", desktop)
    finally:
        desktop.env = kept
    failed = sensor.open(1, EVERYTHING)
    assert isinstance(failed, SourceFailed)
    assert "Wayland" in failed.why
    assert sensor.end() == 0
