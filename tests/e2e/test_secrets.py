"""What is typed into a password field, or under another program's keyboard grab, is nowhere.

Real programs on a real desktop, all of them on the policy's list; the same keys in an ordinary
field of the same program are the control.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from demo.desktop import wait_until
from demo.organisation import Organisation, Plan
from demo.workstation import Workstation
from tests.e2e.opened import open_everything
from wire.category import Category

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BEFORE, SECRET, AFTER = "abcde", "qzxwv", "fghij"
SETTLED_SECONDS: Final = 1.0  # what is typed next is meant to be recorded: past every margin

GRABBER: Final = """
import sys
from Xlib import X
from Xlib.display import Display
display = Display()
status = display.screen().root.grab_keyboard(
    False, X.GrabModeAsync, X.GrabModeAsync, X.CurrentTime)
print(status, flush=True)
sys.stdin.readline()
display.ungrab_keyboard(X.CurrentTime)
display.sync()
print("free", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """An organisation that also asks for what is typed in zenity's windows."""
    plan = Plan(
        levels={"keys": "text"},
        rates={"keys": 1000.0, "pointer": 1000.0, "screen": 2.0},
        applications=("xterm:XTerm", "zenity:Zenity"),
        hold_seconds=1,
        test_only=True,
    )
    with Organisation(tmp_path_factory.mktemp("organisation"), plan) as running:
        yield running


@pytest.fixture
def station(organisation: Organisation, desk: Path) -> Iterator[Workstation]:
    """A workstation that records, with a terminal in front."""
    name = desk.name
    with Workstation(desk, organisation.enrolment_file(name)) as started:
        started.open_terminal()
        started.consent(Category.KEYS, Category.WINDOW)
        started.person.activate("work")
        started.wait_for_status("recording", records)
        time.sleep(SETTLED_SECONDS)
        yield started


def records(status: dict[str, Any]) -> bool:
    """Keys are recorded."""
    return status["reason"] == "active" and "keys" in status["recording"]


def type_kept(station: Workstation, text: str) -> None:
    """Type *text* and wait until it is kept."""
    kept = station.status()["kept"].get("keys", 0)
    station.typist.type_text(text)
    station.wait_for_status(text, lambda s: s["kept"].get("keys", 0) >= kept + 2 * len(text))


def opened_text(station: Workstation, organisation: Organisation, out: Path) -> str:
    """Pause, send everything, and return what a reader opens."""
    station.pause()
    station.wait_until_sent()
    return open_everything(organisation, station, out).text()


def test_keys_under_another_programs_grab_are_dropped_and_said_to_be_secret(
    station: Workstation, organisation: Organisation, tmp_path: Path
) -> None:
    """A prompt or a locker holds the keyboard; the window in front is still the listed one."""
    type_kept(station, BEFORE)
    time.sleep(SETTLED_SECONDS)
    grabber = subprocess.Popen(
        [sys.executable, "-c", GRABBER],
        env=station.desktop.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert grabber.stdin is not None
    assert grabber.stdout is not None
    try:
        assert grabber.stdout.readline() == "0\n"
        station.wait_for_status("the grab", lambda s: s["reason"] == "sensitive")
        station.typist.type_text(SECRET)
        grabber.stdin.write("\n")
        grabber.stdin.flush()
        assert grabber.stdout.readline() == "free\n"
        station.wait_for_status("its end", records)
        time.sleep(SETTLED_SECONDS)
        type_kept(station, AFTER)
    finally:
        grabber.kill()
        grabber.wait()
        grabber.stdin.close()
        grabber.stdout.close()
    assert opened_text(station, organisation, tmp_path / "export") == BEFORE + AFTER


def test_keys_in_a_password_field_are_dropped_and_in_an_ordinary_one_kept(
    station: Workstation, organisation: Organisation, tmp_path: Path
) -> None:
    """Zenity --entry, then zenity --password: the same program, the same list."""
    station.desktop.run("entry", ["zenity", "--entry", "--title", "ordinary"])
    station.person.activate("ordinary", 20)
    station.wait_for_status("recording", records)
    time.sleep(SETTLED_SECONDS)
    type_kept(station, BEFORE)
    time.sleep(SETTLED_SECONDS)
    station.desktop.run("password", ["zenity", "--password", "--title", "hidden"])
    station.person.activate("hidden", 20)
    station.wait_for_status("the field", lambda s: s["reason"] == "sensitive")
    station.typist.type_text(SECRET)
    station.person.activate("ordinary", 20)
    station.wait_for_status("the ordinary field", records)
    time.sleep(SETTLED_SECONDS)
    type_kept(station, AFTER)
    wait_until("all of it", lambda: station.status_now()["kept"].get("keys", 0) >= 20)
    assert opened_text(station, organisation, tmp_path / "export") == BEFORE + AFTER
