"""Doctor: finds what is in the way, says how to mend it, and changes nothing."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from agent import doctor, indicator, session
from agent.capture.permission import Allowance
from agent.consent.clocks import deadline_after
from agent.consent.entries import (
    ClockDoubted,
    Entry,
    Granted,
    Halted,
    OptedOut,
    Paused,
    StoppedUncleanly,
)
from agent.consent.ledger import MARK_NAME, Ledger
from agent.consent.policy import IN_FORCE
from agent.doctor import examine
from agent.lock import FILE_NAME as LOCK
from agent.lock import only_one
from agent.remedies import REMEDIES, Finding
from agent.session import Known, SessionSeen
from base.clock import NANOSECONDS, Now, SystemClock
from tests.fakes.agent import a_status
from tests.fakes.workstation import OURS, Workstation
from wire.category import Category
from wire.collector_http import State
from wire.control import Reason
from wire.ids import PolicyDigest
from wire.policy import policy_digest


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workstation:
    """Return a workstation on which all is well."""

    async def shown() -> str:
        return ""

    async def ours() -> SessionSeen:
        return OURS

    monkeypatch.setattr(doctor, "why_no_tray", shown)
    monkeypatch.setattr(session, "look", ours)
    monkeypatch.setattr(doctor, "_answers", lambda _display: True)
    monkeypatch.setattr(doctor, "_TRAY_NEEDS", "pass")
    well = Allowance(input="", screen="", window="")
    monkeypatch.setattr("agent.capture.permission.examine", lambda _environment: well)
    monkeypatch.setattr("agent.enroll.Door", WellDoor)
    monkeypatch.setattr("agent.config.MACHINE_FLAG", tmp_path / "none")
    return Workstation.enrolled(tmp_path)


class WellDoor:
    """A collector that answers."""

    is_newer = False

    def __init__(self, *_arguments: object, **_options: object) -> None:
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
        "folders", "configuration", "enrolment", "policy", "certificate", "consents",
        "not-consented", "opt-outs", "display", "sources", "tray", "indicator",
        "session", "disk", "swap",
        "identity", "log", "proxy", "collector", "agent",
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
    (station.paths.state / IN_FORCE).write_bytes(b"{}")
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


# --- every reason of the gate -------------------------------------------------------------


def acts(station: Workstation, *entries: Entry) -> None:
    """Write into the ledger what the data subject, or the collector, did."""
    now = SystemClock().now()
    ledger = Ledger.open(station.paths.state, station.device.key.public_key(), now)
    for entry in entries:
        ledger.append(entry, now)


def agreed(station: Workstation, policy: PolicyDigest | None = None) -> Granted:
    digest = policy or policy_digest((station.folder / "policy" / "policy.json").read_bytes())
    return Granted(
        signed=station.organisation.consent(digest, category=Category.KEYS), words="", notice=""
    )


def paused(ago_seconds: int = 0) -> Paused:
    now = SystemClock().now()
    then = Now(
        boot=now.boot - ago_seconds * NANOSECONDS,
        wall=now.wall - ago_seconds * NANOSECONDS,
        boot_id=now.boot_id,
    )
    until = deadline_after(then, 60 * NANOSECONDS)
    return Paused(until_wall=until.wall, until_boot=until.boot)


def running(monkeypatch: pytest.MonkeyPatch, reason: Reason) -> None:
    """Let an agent run that says so."""
    status = a_status(reason)
    monkeypatch.setattr("agent.doctor.control.ask", lambda *_arguments: status)


Scene = Callable[[Workstation, pytest.MonkeyPatch], None]


def without_a_policy(station: Workstation, _patch: pytest.MonkeyPatch) -> None:
    (station.paths.state / IN_FORCE).write_bytes(b"{}")


def without_an_icon(_station: Workstation, patch: pytest.MonkeyPatch) -> None:
    async def hidden() -> str:
        return indicator.NO_HOST

    patch.setattr(doctor, "why_no_tray", hidden)


SCENES: Final[dict[Reason, Scene]] = {
    Reason.HALTED_BY_ORG: lambda s, _: acts(s, Halted(policy=b"", why="Zora said so")),
    Reason.OPTED_OUT: lambda s, _: acts(s, OptedOut(category=Category.KEYS)),
    Reason.NOT_CONSENTED: lambda _s, _p: None,
    Reason.CONSENT_STALE: lambda s, _: acts(s, agreed(s, PolicyDigest(b"1" * 32))),
    Reason.POLICY_INVALID: without_a_policy,
    Reason.CLOCK_UNTRUSTED: lambda s, _: acts(s, ClockDoubted(why="it was set by +9 s")),
    Reason.INDICATOR_MISSING: without_an_icon,
    Reason.SESSION_BLOCKED: lambda _s, p: running(p, Reason.SESSION_BLOCKED),
    Reason.PAUSED_UNTIL: lambda s, _: acts(s, paused()),
    Reason.RESUME_PENDING: lambda s, _: acts(s, paused(120), StoppedUncleanly()),
    Reason.OUTSIDE_SCOPE: lambda _s, p: running(p, Reason.OUTSIDE_SCOPE),
    Reason.SENSITIVE: lambda _s, p: running(p, Reason.SENSITIVE),
    Reason.REDACTOR_DOWN: lambda _s, p: running(p, Reason.REDACTOR_DOWN),
    Reason.STORAGE_BLOCKED: lambda s, _: acts(s, agreed(s)),  # and the guard's key is not here
}


def test_every_reason_there_is_has_its_remedy_and_its_scene() -> None:
    """Whoever adds a reason says what to do about it, and shows that doctor finds it."""
    assert set(REMEDIES) == set(Reason)
    assert set(SCENES) == set(Reason) - {Reason.ACTIVE}
    assert [reason for reason, remedy in REMEDIES.items() if not remedy.mend] == [Reason.ACTIVE]


@pytest.mark.parametrize("reason", SCENES)
def test_whatever_the_gate_can_have_against_it_is_found_and_said_how_to_mend(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    """From the disk, also while no agent runs; what only a running one knows, from that one."""
    SCENES[reason](station, monkeypatch)
    elsewhere = {Reason.POLICY_INVALID: "policy", Reason.INDICATOR_MISSING: "indicator"}
    found = look(station)
    named = [
        finding
        for finding in found.values()
        if finding.name in (reason, elsewhere.get(reason))
        or (finding.name == "agent" and reason in finding.what)
    ]
    assert [finding.mend for finding in named] == [REMEDIES[reason].mend]
    assert named[0].blocks is not REMEDIES[reason].chosen


def test_a_decision_of_the_data_subject_is_told_and_is_no_fault(station: Workstation) -> None:
    """An administrator's script that asks doctor does not learn of a pause by its exit code."""
    acts(station, paused(), OptedOut(category=None))
    found = look(station)
    assert {"paused-until", "opted-out"} <= set(found)
    assert not any(finding.blocks for finding in found.values())


# --- every other cause --------------------------------------------------------------------

STATE: Final = ("enrolment.json", "device.key", "consent.jsonl", "numbers.json", "clock.json")


@pytest.mark.parametrize("name", STATE)
def test_a_state_file_that_keeps_the_agent_from_starting_is_found(
    station: Workstation, name: str
) -> None:
    """A folder in its place is what nothing can read."""
    (station.paths.state / name).unlink(missing_ok=True)
    (station.paths.state / name).mkdir()
    found = look(station)
    if name == "clock.json":  # costs nothing: the ledger knows the time, too
        assert not any(finding.blocks for finding in found.values())
        return
    assert [f for f in found.values() if f.blocks and f.mend and name in f.what]


@pytest.mark.parametrize("name", [*STATE, "guard-keys.json"])
def test_a_file_of_a_later_version_is_found(station: Workstation, name: str) -> None:
    """And nobody is told to begin anew."""
    if name == "device.key":
        return  # PEM has no version of ours
    content = {"version": 2}
    document = [content] if name == "guard-keys.json" else content
    (station.paths.state / name).write_text(json.dumps(document) + "\n", "utf-8")
    said = [f.what for f in look(station).values() if f.blocks]
    assert any("later version" in line and name in line for line in said), said


def test_a_crash_in_the_middle_of_a_request_is_found(station: Workstation) -> None:
    """The mark that it left is why a click is needed."""
    (station.paths.state / MARK_NAME).touch()
    assert "crash" in look(station)["consents"].what


def test_a_full_spool_is_found(station: Workstation) -> None:
    """By its size against the quota of the configuration."""
    (station.paths.config / "config.toml").write_text("quota_bytes = 10\n", "utf-8")
    held = station.paths.state / "spool/held"
    held.mkdir(parents=True)
    (held / "a.frame").write_bytes(b"x" * 11)
    acts(station, agreed(station))
    assert "wait to be sent" in look(station)["storage-blocked"].what


def test_another_agent_that_does_not_answer_is_found_with_its_process(
    station: Workstation,
) -> None:
    """Started with another runtime folder, say: the lock tells."""
    with only_one(station.paths.state):
        finding = look(station)["agent"]
    assert finding.blocks
    assert str(os.getpid()) in finding.mend
    assert (station.paths.state / LOCK).exists()


@pytest.mark.parametrize("folder", ["config", "state", "logs", "runtime"])
def test_a_folder_that_is_none_is_found(station: Workstation, folder: str) -> None:
    """A file in its place."""
    path: Path = getattr(station.paths, folder)
    path.rename(path.with_suffix(".aside"))
    path.write_text("", "utf-8")
    assert look(station)["folders"].blocks


def test_a_socket_that_would_have_too_long_a_name_is_found(
    station: Workstation, tmp_path: Path
) -> None:
    """The kernel takes 108 bytes."""
    station.folder = tmp_path / ("long" * 30)
    assert "too long" in look(station)["folders"].what


def test_what_the_display_does_not_let_us_do_is_found(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of `capture.permission`, each once."""
    poor = Allowance(input="no XInput", screen="no memory is shared", window="")
    monkeypatch.setattr("agent.capture.permission.examine", lambda _environment: poor)
    finding = look(station)["sources"]
    assert finding.blocks
    assert finding.what == "no XInput; no memory is shared"


def test_a_certificate_that_cannot_be_read_is_not_called_expired(station: Workstation) -> None:
    """It is fetched again by itself."""
    (station.paths.state / "device.pem").write_text("nothing", "utf-8")
    assert "cannot be read" in look(station)["certificate"].what


def test_where_the_log_lies_is_said(station: Workstation) -> None:
    """With how large it may become."""
    assert str(station.paths.logs / "agent.log") in look(station)["log"].what


def test_looking_changes_nothing(station: Workstation) -> None:
    """Not a byte, not a file, whatever it finds."""
    acts(station, paused())
    ledger = station.paths.state / "consent.jsonl"
    ledger.write_bytes(ledger.read_bytes() + b"torn")
    (station.paths.state / MARK_NAME).touch()
    before = everything(station.folder)
    look(station)
    assert everything(station.folder) == before


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


def test_the_proxy_that_is_used_is_named(station: Workstation) -> None:
    """As it is configured."""
    (station.paths.config / "config.toml").write_text('proxy = "http://proxy.example:3128"\n')
    assert look(station)["proxy"].what.endswith("through http://proxy.example:3128")


def test_a_proxy_of_the_environment_is_said_not_to_be_used(station: Workstation) -> None:
    """And where to write it instead."""
    found = look(station, HTTPS_PROXY="http://proxy.example:3128")["proxy"]
    assert found.mark == "note"
    assert "HTTPS_PROXY is set and not used" in found.what
    assert "config.toml" in found.mend


def test_a_collector_of_a_newer_version_is_a_note(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works; doctor says that there is more."""
    monkeypatch.setattr(WellDoor, "is_newer", True)
    found = look(station)["collector"]
    assert found.mark == "note"
    assert "newer version" in found.what


def test_a_session_that_is_not_proved_blocks_and_one_that_is_says_by_whom(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the four facts names its source."""
    assert look(station)["session"].what == (
        "unlocked: the test; awake: the test; in front: the test; local: the test"
    )

    async def afar() -> SessionSeen:
        return SessionSeen(local=Known(holds=False, by="SSH_CONNECTION is set"))

    monkeypatch.setattr(session, "look", afar)
    found = look(station)["session"]
    assert found.blocks
    assert "It is used from another machine (SSH_CONNECTION is set)" in found.what
