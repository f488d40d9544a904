"""What every source of events promises (agent/capture/source.py), real or scripted.

A real X server, because a hook that a fake forgets proves nothing.
"""

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from Xlib import X, Xatom, error
from Xlib.display import Display
from Xlib.ext import xtest

from agent.capture import Source, SourceError, _x11
from agent.capture._pynput import PynputInput
from agent.capture._x11_input import X11Input
from agent.capture._x11_windows import X11Windows
from demo.desktop import VirtualDesktop
from tests.fakes.descriptors import descriptors, left_open
from tests.fakes.sources import ScriptedSource

pytestmark = pytest.mark.e2e

CYCLES = 200
PATIENCE_SECONDS = 5.0


@dataclass(kw_only=True)
class Case:
    """A closed source, and how to make something happen that it sees."""

    source: Source[Any]
    happen: Callable[[], None]
    clients: Callable[[], int] = lambda: 0  # connections that the platform counts


class Server:
    """A test's own connection to the X server."""

    def __init__(self, desktop: VirtualDesktop) -> None:
        self.name = desktop.env["DISPLAY"]
        self.display = Display(self.name)

    def press_a_key(self) -> None:
        for kind in (X.KeyPress, X.KeyRelease):
            xtest.fake_input(self.display, kind, 38)
        self.display.sync()

    def move_the_pointer(self) -> None:
        now = self.display.screen().root.query_pointer()
        xtest.fake_input(self.display, X.MotionNotify, x=(now.root_x + 10) % 500, y=99)
        self.display.sync()

    def switch_the_focus(self) -> None:
        """Say that nobody has the focus, as a window manager does; for the source it is news."""
        root = self.display.screen().root
        atom = self.display.intern_atom("_NET_ACTIVE_WINDOW")
        root.change_property(atom, Xatom.WINDOW, 32, [0])
        self.display.sync()

    def clients(self) -> int:
        self.display.sync()
        return len(self.display.res_query_clients().clients)


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDesktop]:
    folder = tmp_path_factory.mktemp("desktop")
    with VirtualDesktop(folder, panel=False, accessibility=False) as started:
        yield started


@pytest.fixture(
    params=["scripted", "keys", "pointer", "both", "pynput", "pynput-pointer", "focus", "windows"]
)
def case(request: pytest.FixtureRequest, desktop: VirtualDesktop) -> Iterator[Case]:
    """Return each source in turn."""
    server = Server(desktop)
    name = server.name
    both: Source[Any] = X11Input(keys=True, pointer=True, display=name)
    match request.param:
        case "scripted":
            scripted: ScriptedSource[int] = ScriptedSource()
            made = Case(source=scripted, happen=lambda: scripted.happen(1, 2, 3))
        case "keys":
            keys = X11Input(keys=True, pointer=False, display=name)
            made = Case(source=keys, happen=server.press_a_key, clients=server.clients)
        case "pointer":
            pointer = X11Input(keys=False, pointer=True, display=name)
            made = Case(source=pointer, happen=server.move_the_pointer, clients=server.clients)
        case "both":
            made = Case(source=both, happen=server.press_a_key, clients=server.clients)
        case "pynput":
            library = PynputInput(keys=True, pointer=True, display=name)
            made = Case(source=library, happen=server.press_a_key, clients=server.clients)
        case "pynput-pointer":
            library = PynputInput(keys=False, pointer=True, display=name)
            made = Case(source=library, happen=server.move_the_pointer, clients=server.clients)
        case "focus":
            focus = X11Windows(titles=True, stack=False, display=name)
            made = Case(source=focus, happen=server.switch_the_focus, clients=server.clients)
        case _:
            windows = X11Windows(titles=False, stack=True, display=name)
            made = Case(source=windows, happen=server.switch_the_focus, clients=server.clients)
    yield made
    made.source.close()
    server.display.close()


def drained(source: Source[Any], enough: int = 1) -> list[Any]:
    """Return what the source yields, waiting for it as the loop of a sensor does."""
    events: list[Any] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(events) < enough and time.monotonic() < deadline:
        wait = 0.01 if source.due() is not None else deadline - time.monotonic()
        select.select([source], [], [], max(0.0, wait))
        events += source.drain()
    return events


def test_what_happens_while_open_is_yielded(case: Case) -> None:
    """The descriptor wakes, and drain yields."""
    case.source.open()
    drained(case.source, 0)
    list(case.source.drain())
    case.happen()
    assert drained(case.source)


def test_a_closed_source_says_so(case: Case) -> None:
    """Before the first opening and after the last, there is nothing to wait for or to drain."""
    for _ in range(2):
        with pytest.raises(SourceError, match="closed"):
            case.source.fileno()
        with pytest.raises(SourceError, match="closed"):
            list(case.source.drain())
        case.source.open()
        case.source.close()


def test_closing_twice_or_unopened_is_no_failure(case: Case) -> None:
    """Whoever is unsure closes."""
    case.source.close()
    case.source.open()
    case.source.close()
    case.source.close()


def test_nothing_from_before_or_between_openings_is_yielded(case: Case) -> None:
    """Neither a backlog that was not drained nor what happened while closed comes out later."""
    case.source.open()
    list(case.source.drain())
    for _ in range(5):
        case.happen()
    case.source.close()
    case.happen()
    opened_at = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    case.source.open()
    late = [event for event in case.source.drain() if getattr(event, "at", opened_at) < opened_at]
    assert late == []


def test_closing_in_the_middle_of_draining_drops_the_rest(case: Case) -> None:
    """The loop of a sensor does exactly this when the agent calls."""
    case.source.open()
    list(case.source.drain())
    for _ in range(5):
        case.happen()
    select.select([case.source], [], [], PATIENCE_SECONDS)
    for _event in case.source.drain():
        case.source.close()
        break
    with pytest.raises(SourceError):
        list(case.source.drain())


def test_open_and_close_leave_nothing_behind(case: Case) -> None:
    """200 cycles: the platform counts as many clients, and we as many descriptors, as before."""
    case.source.open()
    case.source.close()
    clients, open_before = case.clients(), descriptors()
    for _ in range(CYCLES if case.clients() else 20):
        case.source.open()
        case.source.close()
    assert not left_open(open_before)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while case.clients() != clients and time.monotonic() < deadline:
        time.sleep(0.01)  # the server notices a closed connection a moment later
    assert case.clients() == clients


@pytest.mark.parametrize(
    "source",
    [
        ScriptedSource[int](refuse="this display does not answer"),
        X11Input(keys=True, pointer=True, display=":987"),
        PynputInput(keys=True, pointer=True, display=":987"),
        X11Windows(titles=True, stack=True, display=":987"),
    ],
)
def test_a_source_that_cannot_be_opened_says_why_in_one_line(source: Source[Any]) -> None:
    """And stays closed."""
    with pytest.raises(SourceError, match="answer") as refusal:
        source.open()
    assert "\n" not in str(refusal.value)
    with pytest.raises(SourceError, match="closed"):
        source.fileno()
    source.close()


@pytest.mark.parametrize("kind", ["input", "pynput", "windows"])
def test_a_platform_that_goes_away_is_an_end_not_a_crash(tmp_path: Path, kind: str) -> None:
    """Drain says that the server has gone; close still succeeds."""
    with VirtualDesktop(tmp_path, panel=False, accessibility=False) as desktop:
        name = desktop.env["DISPLAY"]
        source: Source[Any]
        match kind:
            case "input":
                source = X11Input(keys=True, pointer=True, display=name)
            case "pynput":
                source = PynputInput(keys=True, pointer=True, display=name)
            case _:
                source = X11Windows(titles=True, stack=True, display=name)
        source.open()
        list(source.drain())
        desktop.stop()
        with pytest.raises(SourceError, match="has gone"):
            drained(source, 1000)
        source.close()


@pytest.mark.parametrize("kind", [X11Input, PynputInput])
def test_another_connection_of_the_process_takes_nothing_away(
    desktop: VirtualDesktop, kind: type[X11Input] | type[PynputInput]
) -> None:
    """The library keeps what it knows of events in one place for all connections."""
    server = Server(desktop)
    source = kind(keys=True, pointer=True, display=server.name)
    source.open()
    Display(server.name).close()
    server.press_a_key()
    assert drained(source, 2)
    source.close()
    server.display.close()


def test_a_request_that_the_server_refuses_is_told_by_its_name(desktop: VirtualDesktop) -> None:
    """BadValue can be read; the library alone ends in an AttributeError."""
    display = _x11.connect(desktop.env["DISPLAY"])
    caught = error.CatchError(error.BadValue)
    display.create_resource_object("window", 1).kill_client(onerror=caught)
    display.sync()
    assert isinstance(caught.get_error(), error.BadValue)
    display.close()
