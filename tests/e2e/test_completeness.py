"""Nothing is lost: what a busy person does arrives, all of it, in order and on time.

A typist injects 50 key events and 500 pointer moves a second; the whole agent records,
seals and sends, and the recipient's export is compared with the typist's own record.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from agent.capture.pointer import MOVE_INTERVAL
from base.clock import boot_ns
from demo.organisation import Organisation
from demo.typist import Load
from demo.workstation import Workstation
from tests.e2e.opened import Opened, open_everything
from wire.category import Category

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SECONDS: Final = 20
AREA: Final = (100, 120, 300, 200)  # inside the terminal
BUSY: Final = Load(
    keys=25, moves=500, clicks=3, scrolls=6, text="The quick Brown fox, 1 dog!\n", area=AREA
)
STEPS: Final = Load(keys=25, clicks=3, scrolls=6, text="nobody sees this", area=AREA)
MILLISECOND: Final = 1_000_000
ON_TIME_NS: Final = 50 * MILLISECOND
STALL_NS: Final = 500 * MILLISECOND
"""The typist writes an event down, then sends it; the machine may stop it in between."""

Event = dict[str, Any]


@pytest.fixture(params=["auto", "pynput"])
def station(
    request: pytest.FixtureRequest, text_organisation: Organisation, desk: Path
) -> Iterator[Workstation]:
    """Return a workstation, with each source in turn, that records everything of a terminal."""
    name = f"{request.function.__name__[:20]}-{request.param}"
    enrolment = text_organisation.enrolment_file(name)
    station = Workstation(desk, enrolment)
    config = desk / "agent/config"
    config.mkdir(parents=True, mode=0o700)
    (config / "config.toml").write_text(f'input_source = "{request.param}"\n', "utf-8")
    with station:
        station.open_terminal()
        station.consent(*Category)
        station.person.activate("work")
        station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
        time.sleep(1.0)  # what happens within 100 ms of a change of focus is not kept
        yield station


def test_every_key_click_and_wheel_step_arrives_in_order_and_on_time(
    station: Workstation, text_organisation: Organisation, tmp_path: Path
) -> None:
    """20 s at full speed: nothing missing, nothing twice; fewer moves only as documented."""
    station.typist.start(BUSY)
    time.sleep(SECONDS)
    station.typist.stop()
    wall_less_boot = time.time_ns() - boot_ns()
    time.sleep(1.5)  # longer than the hold-back
    station.pause()
    status = station.wait_until_sent()
    record = [stroke for stroke in station.typist.events() if "kind" in stroke]
    opened = open_everything(text_organisation, station, tmp_path / "export")

    keys = [e for e in record if e["kind"] == "key"]
    assert len(keys) > SECONDS * 30, "the typist itself did not keep up"
    arrived = opened.of("key")
    assert [(e["code"], e["pressed"]) for e in arrived] == [(e["code"], e["pressed"]) for e in keys]
    typed = [e["char"] for e in keys if e["pressed"] and e["char"] not in ("", "\n")]
    assert [e["text"] for e in opened.presses() if len(e["text"]) == 1] == typed
    buttons = [e for e in record if e["kind"] == "button"]
    assert [(e["button"], e["pressed"]) for e in ours(opened, "button")] == [
        (e["button"], e["pressed"]) for e in buttons
    ]
    scrolls = [e for e in record if e["kind"] == "scroll"]
    assert [e.get("dy", 0) for e in opened.of("scroll")] == [e["dy"] for e in scrolls]

    for injected, seen in ((keys, arrived), (buttons, ours(opened, "button"))):
        check_times(injected, seen, wall_less_boot)
    check_times(scrolls, opened.of("scroll"), wall_less_boot)
    check_moves([e for e in record if e["kind"] == "move"], opened.of("move"), wall_less_boot)
    assert "held-by-sensor" not in status["dropped"]


def figure(text: str) -> None:
    """Show what was measured (pytest -s)."""
    print(text)  # noqa: T201


def ours(opened: Opened, kind: str) -> list[Event]:
    """Return the events of *kind* but for those of the person's clicks before and after."""
    x, y, width, height = AREA
    return [
        e
        for e in opened.of(kind)
        if x <= e.get("x", 0) <= x + width and y <= e.get("y", 0) <= y + height
    ]


def check_times(injected: list[Event], seen: list[Event], wall_less_boot: int) -> None:
    """Each is dated within 50 ms of its injection."""
    late = sorted(
        event["wall_ns"] - wall_less_boot - stroke["at"]
        for stroke, event in zip(injected, seen, strict=True)
    )
    figure(f"{len(late)} events: {late[0] / 1e6:.1f} to {late[-1] / 1e6:.1f} ms after injection")
    assert late[0] > -2 * MILLISECOND  # the server counts in milliseconds
    assert late[len(late) * 99 // 100 - 1] < ON_TIME_NS
    assert late[-1] < STALL_NS


def check_moves(injected: list[Event], seen: list[Event], wall_less_boot: int) -> None:
    """Moves that come within 4 ms are one: no place is invented, none is older than 50 ms."""
    places = [(e["x"], e["y"]) for e in injected]
    found = [(e["x"], e["y"]) for e in seen]
    figure(f"{len(injected)} moves injected, {len(seen)} kept")
    assert set(found) <= set(places)
    assert found[-1] == places[-1]
    at = [e["wall_ns"] - wall_less_boot for e in seen]
    assert at == sorted(at)
    # Not more than the documented 250 a second, and hardly a time of 50 ms without any:
    # where this machine stalls, the sensor reads many at once, and they are one.
    assert len(seen) <= (at[-1] - at[0]) / MOVE_INTERVAL + 2
    slots = {e["at"] // ON_TIME_NS for e in injected}
    assert len({instant // ON_TIME_NS for instant in at}) >= 0.9 * len(slots)


def test_without_a_focused_window_each_event_reaches_the_gate_and_is_counted(
    station: Workstation,
) -> None:
    """With the only window gone, every event is counted as outside scope, and none is kept."""
    close_everything(station)
    station.wait_for_status("nothing in scope", lambda s: s["reason"] == "outside-scope")
    time.sleep(1.5)
    before = station.status()
    injected_before = len(station.typist.events())
    station.typist.start(STEPS)
    time.sleep(4.0)
    station.typist.stop()
    time.sleep(1.0)  # a key that was down comes up after the stop
    injected = len(station.typist.events()) - injected_before
    assert injected > 150

    def all_counted(status: dict[str, Any]) -> bool:
        return outside(status) - outside(before) >= injected

    after = station.wait_for_status("all to be counted", all_counted)
    assert outside(after) - outside(before) == injected
    kept = ("keys", "moves", "buttons", "scrolls")
    assert [after["kept"].get(k, 0) for k in kept] == [before["kept"].get(k, 0) for k in kept]


def outside(status: dict[str, Any]) -> int:
    """Return how many events were counted as outside scope."""
    return int(status["dropped"].get("outside-scope", 0))


def close_everything(station: Workstation) -> None:
    """Close the only window, and click on the desktop."""
    station.person.close_window("work")
    station.person.wait_until_gone("work")
    subprocess.run(
        ["xdotool", "mousemove", "900", "700", "click", "1"], env=station.desktop.env, check=True
    )
