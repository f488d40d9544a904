"""A whole desktop that nobody sits at: X server, bus, window manager, panel with a tray.

`VirtualDesktop` starts everything in a folder of its own, with its own HOME, and stops
exactly what it started, by process id.  Programs join it through `env`.  It is up in well
under a second, so each test can have one.

The X server picks a free display number itself (`-displayfd`), which also steps over the
locks that killed servers leave behind.  Every process is told to die with the thread that
started it, so a test run that is killed leaves nothing running; start and use a desktop
from the same thread.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from dbus_fast import Variant
from Xlib import X, Xatom
from Xlib.display import Display

from agent.capture import screen
from base.errors import SetupError
from demo.bus import PROPERTIES, Bus, BusError

WATCHER: Final = "org.kde.StatusNotifierWatcher"
WATCHER_PATH: Final = "/StatusNotifierWatcher"
BACKGROUND: Final = 0x335577  # neither black nor white: what shines through is recognised
STEP_SECONDS: Final = 0.005
START_SECONDS: Final = 20.0  # a busy machine; usually 0.5
STOP_SECONDS: Final = 2.0

_PANEL: Final = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
 <property name="configver" type="int" value="2"/>
 <property name="panels" type="array">
  <value type="int" value="1"/>
  <property name="panel-1" type="empty">
   <property name="position" type="string" value="p=10;x=0;y=0"/>
   <property name="length" type="uint" value="100"/>
   <property name="position-locked" type="bool" value="true"/>
   <property name="size" type="uint" value="30"/>
   <property name="plugin-ids" type="array">
    <value type="int" value="1"/><value type="int" value="2"/><value type="int" value="3"/>
   </property>
  </property>
 </property>
 <property name="plugins" type="empty">
  <property name="plugin-1" type="string" value="tasklist"/>
  <property name="plugin-2" type="string" value="separator">
   <property name="expand" type="bool" value="true"/>
   <property name="style" type="uint" value="0"/>
  </property>
  <property name="plugin-3" type="string" value="systray">
   <property name="square-icons" type="bool" value="true"/>
  </property>
 </property>
</channel>
"""

T = TypeVar("T")


class DesktopError(SetupError):
    """A part of the desktop is missing or did not start; the message names its log."""


class VirtualDesktop:
    """A desktop below *folder*; `with VirtualDesktop(folder) as desktop: ...`.

    Args:
        folder: Where its HOME, configuration, logs and sockets go; made if missing.
        geometry: Width and height of the one screen, as `1920x1080`.
        panel: Start a panel with a tray host.
        notifications: Start a notification daemon.
        accessibility: Start AT-SPI, so that a scripted person finds buttons by their names.

    """

    def __init__(
        self,
        folder: Path,
        *,
        geometry: str = "1920x1080",
        panel: bool = True,
        notifications: bool = False,
        accessibility: bool = True,
    ) -> None:
        self.folder = folder.absolute()
        self.geometry = geometry
        self.env: dict[str, str] = {}
        self.pids: dict[str, int] = {}
        self._panel = panel
        self._notifications = notifications
        self._accessibility = accessibility
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until it works.

        Raises:
            DesktopError: Something is not installed or did not come up; nothing is left running.

        """
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def run(self, name: str, command: Sequence[str], **variables: str) -> "subprocess.Popen[bytes]":
        """Start a program on this desktop, its output in `logs/<name>.log`.

        It is stopped with the desktop.  *variables* are added to its environment.
        """
        return self._spawn(name, command, env=self.env | variables)

    def kill_panel(self) -> None:
        """Kill the panel (SIGKILL), and with it the host of all tray icons."""
        panel = self._running.pop("panel")
        del self.pids["panel"]
        for pid in [*_descendants(panel.pid), panel.pid]:
            _signal(pid, signal.SIGKILL)
        panel.wait()

    def screenshot(self, path: Path) -> None:
        """Save what the whole screen shows as PNG."""
        screen.save_png(path, display=self.env["DISPLAY"])

    def stop(self) -> None:
        """Stop all that was started, newest first; do nothing when nothing runs."""
        # Services that the bus activated are found as its descendants, while it lives.
        strays = [pid for each in self._running.values() for pid in _descendants(each.pid)]
        for process in reversed(self._running.values()):
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in strays:
            if str(self.folder) in _environment(pid):  # still there, and still the same process
                _signal(pid, signal.SIGKILL)
        self._running.clear()
        self.pids.clear()

    def _start_all(self) -> None:
        self._make_folders()
        self.env = self._environment()
        self.env["DISPLAY"] = self._start_server()
        self.env["DBUS_SESSION_BUS_ADDRESS"] = self._start_bus()
        self._spawn("window-manager", ["openbox", "--sm-disable"])
        if self._accessibility:
            self._start_accessibility()
        if self._panel:
            self._write_panel_configuration()
            self._spawn("panel", ["xfce4-panel", "--disable-wm-check", "--sm-client-disable"])
        if self._notifications:
            self._spawn("notifications", ["dunst"])
        self._wait("window-manager", self._is_managed)
        if self._panel:
            self._wait("panel", self._hosts_icons)

    def _make_folders(self) -> None:
        for name in ("home", "config", "cache", "data", "state", "run", "tmp", "logs"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _environment(self) -> dict[str, str]:
        kept = {"PATH", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"}
        own = {
            "HOME": "home",
            "XDG_CONFIG_HOME": "config",
            "XDG_CACHE_HOME": "cache",
            "XDG_DATA_HOME": "data",
            "XDG_STATE_HOME": "state",
            "XDG_RUNTIME_DIR": "run",
            "TMPDIR": "tmp",
        }
        return {
            **{name: value for name, value in os.environ.items() if name in kept},
            **{name: str(self.folder / sub) for name, sub in own.items()},
            "LANG": "C.UTF-8",
            # This desktop is a machine of its own: the session of whoever started it, with its
            # lock and its ssh, is not the session of who works here.
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder / 'run' / 'system-bus'}",
            "XDG_SESSION_TYPE": "x11",
            "XDG_CURRENT_DESKTOP": "XFCE",
            "GDK_BACKEND": "x11",
            "GSETTINGS_BACKEND": "memory",
            **({} if self._accessibility else {"NO_AT_BRIDGE": "1"}),
        }

    def _start_server(self) -> str:
        reading, writing = os.pipe()
        screen_size = f"{self.geometry}x24"
        command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", screen_size]
        command += ["-nolisten", "tcp", "-noreset", "-dpi", "96"]
        try:
            self._spawn("x-server", command, pass_fds=[writing])
        finally:
            os.close(writing)
        number = _read_line(reading)
        if not number:
            raise self._did_not_start("x-server")
        display = f":{number}"
        _paint_background(display)
        return display

    def _start_bus(self) -> str:
        reading, writing = os.pipe()
        address = f"unix:path={self.folder / 'run' / 'bus'}"
        command = ["dbus-daemon", "--session", "--nofork", "--nopidfile"]
        command += [f"--address={address}", f"--print-address={writing}"]
        try:
            self._spawn("bus", command, pass_fds=[writing])
        finally:
            os.close(writing)
        line = _read_line(reading)
        if not line:
            raise self._did_not_start("bus")
        return line

    def _start_accessibility(self) -> None:
        try:
            with Bus(self.env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
                bus.call(
                    "org.a11y.Bus",
                    "/org/a11y/bus",
                    "Set",
                    interface=PROPERTIES,
                    signature="ssv",
                    body=["org.a11y.Status", "IsEnabled", Variant(signature="b", value=True)],
                )
        except BusError as exc:
            raise DesktopError(f"AT-SPI did not start; is at-spi2-core installed? {exc}") from exc

    def _write_panel_configuration(self) -> None:
        folder = self.folder / "config" / "xfce4" / "xfconf" / "xfce-perchannel-xml"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "xfce4-panel.xml").write_text(_PANEL, encoding="utf-8")

    def _is_managed(self) -> bool:
        display = Display(self.env["DISPLAY"])
        try:
            atom = display.intern_atom("_NET_SUPPORTING_WM_CHECK")
            return display.screen().root.get_full_property(atom, Xatom.WINDOW) is not None
        finally:
            display.close()

    def _hosts_icons(self) -> bool:
        try:
            with Bus(self.env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
                registered = bus.get(
                    WATCHER, WATCHER_PATH, WATCHER, "IsStatusNotifierHostRegistered"
                )
        except BusError:
            return False
        return bool(registered)

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if time.monotonic() > deadline or self._running[name].poll() is not None:
                raise self._did_not_start(name)
            time.sleep(STEP_SECONDS)

    def _did_not_start(self, name: str) -> DesktopError:
        return DesktopError(f"{name} did not start; see {self._log(name)}")

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _spawn(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> "subprocess.Popen[bytes]":
        program = shutil.which(command[0])
        if program is None:
            raise DesktopError(f"{command[0]} is not installed")
        # setpriv becomes the program, so the process id is the program's own.
        bound = ["setpriv", "--pdeathsig", "KILL", "--", program, *command[1:]]
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                bound,
                env=dict(self.env if env is None else env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
                cwd=self.folder / "home",
            )
        self._running[name] = process
        self.pids[name] = process.pid
        return process


def wait_until(what: str, found: Callable[[], T | None], seconds: float = 30.0) -> T:
    """Ask *found* again and again until it returns something that is true; return that.

    Raises:
        DesktopError: It did not within *seconds*; the message says *what* was awaited.

    """
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise DesktopError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(STEP_SECONDS)
    return value


def _paint_background(display: str) -> None:
    connection = Display(display)
    root = connection.screen().root
    root.change_attributes(background_pixel=BACKGROUND, event_mask=X.NoEventMask)
    root.clear_area(0, 0, 0, 0)
    connection.sync()
    connection.close()


def _read_line(descriptor: int) -> str:
    """Return the first line that arrives, or nothing if the other end closes without one."""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.readline().decode("ascii").strip()


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text("ascii").split()
        except OSError:
            continue
        for child in map(int, children):
            yield from _descendants(child)
            yield child


def _environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
