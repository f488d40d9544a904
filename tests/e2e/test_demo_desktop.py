"""The virtual desktop and the person at it, on which all other end-to-end tests rely."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from demo.bus import Bus, BusError
from demo.desktop import WATCHER, WATCHER_PATH, DesktopError, VirtualDesktop, wait_until
from demo.person import Person
from demo.typist import Load, Typist

pytestmark = pytest.mark.e2e

TITLE = "Which ones?"

_ICON = """
import os, sys
os.environ["PYSTRAY_BACKEND"] = "appindicator"
import pystray
from PIL import Image
say = lambda word: lambda: print(word, flush=True)
row = pystray.MenuItem
menu = pystray.Menu(
    row("Recording", None, enabled=False),
    row("Pause_it", say("paused")),
    pystray.Menu.SEPARATOR,
    row("More", pystray.Menu(row("First", say("first")), row("Second", say("second")))),
)
pystray.Icon("test", Image.new("RGB", (32, 32), "red"), "A title", menu).run()
"""

_WINDOW = """
import gi
gi.require_version("Gtk", "3.0")
from gi.repository import Gtk
window = Gtk.Window(title="Which ones?")
window.set_default_size(300, 250)
scrolled, column = Gtk.ScrolledWindow(), Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
window.add(scrolled)
scrolled.add(column)
for number in range(8):
    row, switch = Gtk.Box(), Gtk.Switch()
    switch.get_accessible().set_name(f"Switch {number}")
    row.pack_start(Gtk.Label(label=f"Switch {number}"), True, True, 10)
    row.pack_start(switch, False, False, 10)
    column.pack_start(row, False, False, 15)
button = Gtk.Button(label="Agree")
button.connect("clicked", lambda *_: Gtk.main_quit())
column.pack_start(button, False, False, 0)
window.show_all()
Gtk.main()
"""


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDesktop]:
    with VirtualDesktop(tmp_path_factory.mktemp("desktop")) as started:
        yield started


def test_a_person_opens_the_menu_and_clicks_a_row(desktop: VirtualDesktop, tmp_path: Path) -> None:
    """Through icon, menu and submenu, by the mouse alone."""
    person = Person(desktop.env)
    desktop.run("icon", [sys.executable, "-c", _ICON])
    person.wait_for_tray()
    rows = person.tray_menu()
    assert [row.label for row in rows if not row.separator] == ["Recording", "Pause_it", "More"]
    assert [row.enabled for row in rows][:2] == [False, True]
    assert person.tray_title() == "A title"

    log = desktop.folder / "logs" / "icon.log"
    person.click_tray("Pause_it", screenshot=tmp_path / "menu.png")
    wait_until("the click", lambda: "paused" in log.read_text("utf-8"))
    person.click_tray("More", "Second")
    wait_until("the click", lambda: "second" in log.read_text("utf-8"))
    assert "first" not in log.read_text("utf-8")
    assert (tmp_path / "menu.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DesktopError, match="no 'Resume'"):
        person.click_tray("Resume", seconds=0.2)
    with pytest.raises(DesktopError, match="no 'Recording' to click on"):
        person.click_tray("Recording", seconds=0.2)


def test_while_somebody_has_the_mouse_the_typist_only_types(
    desktop: VirtualDesktop, tmp_path: Path
) -> None:
    """There is one pointer; moved by two, it clicks beside what it was to click on."""
    load = Load(keys=50, moves=50, clicks=20, text="ab")
    with Typist(desktop.env, tmp_path / "record") as typist:

        def kinds(since: int) -> set[str]:
            return {event["kind"] for event in typist.events()[since:]}

        typist.start(load)
        wait_until("keys and mouse", lambda: kinds(0) == {"key", "move", "button"})
        with typist.leave_the_mouse():
            with typist.leave_the_mouse():
                left = len(typist.events())
            wait_until("many keys", lambda: len(typist.events()) > left + 50)
            assert kinds(left) == {"key"}
        back = len(typist.events())
        wait_until("the mouse again", lambda: kinds(back) == {"key", "move", "button"})
        typist.stop()


def test_a_person_finds_what_has_to_be_scrolled_to(desktop: VirtualDesktop) -> None:
    """Switches and buttons by their label, wherever they are in the window."""
    person = Person(desktop.env)
    desktop.run("window", [sys.executable, "-c", _WINDOW])
    person.wait_for_window(TITLE)
    wait_until("the switches", lambda: "Switch 7" in person.texts(TITLE))
    assert not person.is_on(TITLE, "Switch 0")
    for label in ("Switch 0", "Switch 6"):
        person.click(TITLE, label)
        wait_until(f"{label} to turn", partial(person.is_on, TITLE, label))
    assert not person.is_on(TITLE, "Switch 5")
    person.click(TITLE, "Agree")
    person.wait_until_gone(TITLE)


def test_without_its_panel_a_desktop_hosts_no_icons(tmp_path: Path) -> None:
    """What a person does who ends the panel; the rest of the desktop goes on."""
    with VirtualDesktop(tmp_path, accessibility=False) as desktop:
        desktop.kill_panel()

        def hosts() -> bool:
            try:
                with Bus(desktop.env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
                    bus.get(WATCHER, WATCHER_PATH, WATCHER, "IsStatusNotifierHostRegistered")
            except BusError:
                return False
            return True

        wait_until("the host's end", lambda: not hosts())
        desktop.screenshot(tmp_path / "empty.png")


def test_a_desktop_stops_all_that_it_started_and_nothing_else(tmp_path: Path) -> None:
    """Also what the bus started on its behalf; another desktop beside it lives on."""
    with VirtualDesktop(tmp_path / "one") as one, VirtualDesktop(tmp_path / "two") as two:
        assert one.env["DISPLAY"] != two.env["DISPLAY"]
        assert _processes_of(one.folder)
        one.stop()
        wait_until("the end of all processes", lambda: not _processes_of(one.folder))
        two.screenshot(tmp_path / "two.png")


def test_a_desktop_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    """A killed test run leaves no X server behind."""
    program = (
        "import sys, time; from pathlib import Path; from demo.desktop import VirtualDesktop;"
        "VirtualDesktop(Path(sys.argv[1])).start(); print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert _processes_of(tmp_path)
        process.send_signal(signal.SIGKILL)
    wait_until("the end of all processes", lambda: not _processes_of(tmp_path))


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """One line says what is missing."""
    with (
        VirtualDesktop(tmp_path, panel=False, accessibility=False) as desktop,
        pytest.raises(DesktopError, match="no-such-program is not installed"),
    ):
        desktop.run("none", ["no-such-program"])


def _processes_of(folder: Path) -> list[int]:
    """Return the processes whose HOME lies in *folder*."""
    mark = f"HOME={folder}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found
