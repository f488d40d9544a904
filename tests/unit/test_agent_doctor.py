"""Doctor: finds what is in the way, says how to mend it, and changes nothing."""

import asyncio
from pathlib import Path

import pytest

from agent import doctor
from agent.doctor import Finding, examine
from base.clock import SystemClock
from tests.fakes.workstation import Workstation
from wire.collector_http import State


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workstation:
    """Return a workstation on which all is well."""

    async def shown() -> str:
        return ""

    monkeypatch.setattr(doctor, "why_no_tray", shown)
    monkeypatch.setattr(doctor, "_answers", lambda _display: True)
    monkeypatch.setattr(doctor, "_TRAY_NEEDS", "pass")
    monkeypatch.setattr("agent.enroll.Door", WellDoor)
    monkeypatch.setattr("agent.config.MACHINE_FLAG", tmp_path / "none")
    return Workstation.enrolled(tmp_path)


class WellDoor:
    """A collector that answers."""

    def __init__(self, *_arguments: object) -> None:
        self.halted = False

    def state(self) -> State:
        return State(halted=False, why="")


def look(station: Workstation, **environment: str) -> dict[str, Finding]:
    found = asyncio.run(examine(station.paths, SystemClock(), {"DISPLAY": ":0", **environment}))
    return {finding.name: finding for finding in found}


def test_where_all_is_well_nothing_blocks(station: Workstation) -> None:
    """Every check has its line."""
    found = look(station)
    assert not any(finding.blocks for finding in found.values())
    assert set(found) == {
        "configuration", "enrolment", "policy", "certificate", "consents", "opt-outs", "display",
        "tray", "indicator", "disk", "swap", "identity", "collector", "agent",
    }  # fmt: skip
    assert found["agent"].what == "not running"


def test_whatever_blocks_is_said_with_how_to_mend_it(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No display, no tray host, no libraries, no enrolment, a wrong configuration."""

    async def hidden() -> str:
        return "no panel shows icons"

    monkeypatch.setattr(doctor, "why_no_tray", hidden)
    monkeypatch.setattr(doctor, "_TRAY_NEEDS", "raise SystemExit(1)")
    (station.paths.state / "enrolment.json").unlink()
    (station.paths.config / "config.toml").write_text("colour = 1\n", "utf-8")
    found = look(station, DISPLAY="")
    blocking = {name for name, finding in found.items() if finding.blocks}
    assert blocking == {"configuration", "enrolment", "display", "tray", "indicator"}
    assert all(finding.mend for finding in found.values() if finding.blocks)
    assert all(finding.mark == "BLOCKS" for finding in found.values() if finding.blocks)


def test_a_policy_that_is_not_valid_blocks(station: Workstation) -> None:
    """Its own problem is the finding."""
    (station.paths.state / "policy.json").write_bytes(b"{}")
    policy = look(station)["policy"]
    assert policy.blocks
    assert policy.mend


def test_wayland_is_refused_by_name(station: Workstation) -> None:
    """Never a silent half-capture."""
    for environment in ({"XDG_SESSION_TYPE": "wayland"}, {"WAYLAND_DISPLAY": "wayland-0"}):
        display = look(station, **environment)["display"]
        assert display.blocks
        assert "Wayland" in display.what
        assert "Xorg" in display.mend


def test_opt_outs_from_outside_are_named_with_their_place(station: Workstation) -> None:
    """So that whoever wonders finds the place."""
    finding = look(station, ASSENT_OPT_OUT="screen")["opt-outs"]
    assert finding.what == "environment: screen"
    assert finding.mark == "note"


def test_an_x_server_is_looked_for_where_its_socket_is(tmp_path: Path) -> None:
    """A display that nobody serves blocks."""
    assert not doctor._answers(":98765")  # noqa: SLF001 - the one check that needs no desktop
    assert doctor._answers("elsewhere:0")  # noqa: SLF001 - another machine's cannot be looked at
