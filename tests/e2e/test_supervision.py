"""Parts of the agent end though nobody asked: it says so, shuts, and starts them again."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from Xlib.ext import res

from agent.capture import _x11
from demo.desktop import DesktopError
from demo.organisation import Organisation
from demo.typist import Load
from demo.workstation import Workstation
from wire.category import Category

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

INPUT: Final = {"keys", "pointer"}
TYPING: Final = Load(keys=20, moves=20, text="work", area=(100, 120, 300, 200))


@pytest.fixture
def station(
    request: pytest.FixtureRequest, text_organisation: Organisation, desk: Path
) -> Iterator[Workstation]:
    """Return a workstation on which everything is recorded, through the source asked for."""
    source = getattr(request, "param", "auto")
    station = Workstation(
        desk, text_organisation.enrolment_file(request.node.name.replace("/", "-"))
    )
    config = desk / "agent/config"
    config.mkdir(parents=True, mode=0o700)
    (config / "config.toml").write_text(f'input_source = "{source}"\n', "utf-8")
    with station:
        station.open_terminal()
        station.consent(*Category)
        station.person.activate("work")
        station.wait_for_status("recording", records_everything)
        station.typist.start(TYPING)
        yield station


def records_everything(status: dict[str, Any]) -> bool:
    """Whether every category is recorded."""
    return len(status["recording"]) == len(Category)


def only_input_is_shut(status: dict[str, Any]) -> bool:
    """Whether all but keys and pointer is recorded."""
    return set(status["recording"]) == set(Category) - INPUT


def test_a_killed_sensor_is_told_of_shut_and_started_again(station: Workstation) -> None:
    """SIGKILL: meanwhile nothing of its categories is recorded, the others go on."""
    killed = station.child("agent.sensors.input")
    os.kill(killed, signal.SIGKILL)
    # On a machine that lags something else may shut everything for a moment, rightly.
    shut = station.wait_for_status("the sensor's end", only_input_is_shut)
    assert "the input sensor ended; it is started again" in shut["detail"]
    assert "\n" not in shut["detail"]
    again = station.wait_for_status("a new sensor", records_everything)
    assert station.child("agent.sensors.input") != killed
    check_that_keys_arrive(station, again)


@pytest.mark.parametrize("station", ["pynput"], indirect=True)
def test_a_source_that_lost_its_connection_is_told_of_and_opened_again(
    station: Workstation,
) -> None:
    """The X server hangs up on the sensor alone: the listener is dead, the process is not."""
    hang_up_on(station, station.child("agent.sensors.input"))
    shut = station.wait_for_status("the source's end", lambda s: not INPUT & set(s["recording"]))
    assert "X server" in shut["detail"] or "listener" in shut["detail"]
    assert "\n" not in shut["detail"]
    check_that_keys_arrive(station, station.wait_for_status("a new source", records_everything))


def test_a_sensor_that_keeps_crashing_is_started_less_and_less_often(station: Workstation) -> None:
    """Back-off: in six seconds of killing at first sight it is not started more than five times."""
    seen: set[int] = set()
    deadline = time.monotonic() + 6.0
    while time.monotonic() < deadline:
        for pid in sensors_named(station, "agent.sensors.input") - seen:
            os.kill(pid, signal.SIGKILL)
            seen.add(pid)
        time.sleep(0.05)
    assert 2 <= len(seen) <= 5
    assert not INPUT & set(station.status()["recording"])
    station.wait_for_status("a new sensor", records_everything)


def test_an_x_server_that_is_gone_shuts_everything_and_is_said_in_one_line(
    station: Workstation,
) -> None:
    """The agent lives on, records nothing, and still answers."""
    os.kill(station.desktop.pids["x-server"], signal.SIGKILL)
    shut = station.wait_for_status("the end", lambda s: not s["recording"])
    assert shut["reason"] in {"indicator-missing", "session-blocked"}
    told = station.wait_for_status("why", lambda s: "X server" in s["detail"])["detail"]
    assert "\n" not in told
    log = station.agent.log.read_text("utf-8")
    assert "Traceback" not in log


def check_that_keys_arrive(station: Workstation, before: dict[str, Any]) -> None:
    """More keys are kept as time goes on."""
    kept = before["kept"].get("keys", 0)
    station.wait_for_status("more keys", lambda s: s["kept"].get("keys", 0) > kept)


def sensors_named(station: Workstation, module: str) -> set[int]:
    """Return the process ids of the agent's children that run *module*: one or none."""
    try:
        return {station.child(module)}
    except (DesktopError, FileNotFoundError):
        return set()


def hang_up_on(station: Workstation, pid: int) -> None:
    """Have the X server close the connection of *pid* through which it is told of events."""
    with closing(_x11.connect(station.desktop.env["DISPLAY"])) as display:
        asked = [{"client": 0, "mask": res.LocalClientPIDMask}]
        for known in display.res_query_client_ids(asked).ids:
            if list(known.value) == [pid]:
                # A client is killed by naming something that it made, as its RECORD context.
                for number in range(known.spec.client, known.spec.client + 16):
                    display.create_resource_object("window", number).kill_client()
        display.sync()
