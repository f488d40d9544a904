"""Bad surroundings of a real agent: full disks, no display, no tray host, no D-Bus, a wrong clock.

Whatever is missing is said in one line by `status` and `doctor`, nothing is recorded
meanwhile, nothing that was acknowledged is lost, and no log has a traceback or a name.
"""

import contextlib
import errno
import hashlib
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from agent import indicator
from base.errors import ExitCode
from demo.desktop import VirtualDesktop, wait_until
from demo.organisation import Organisation, Plan
from demo.programs import Program
from demo.typist import Load
from demo.workstation import Workstation
from tests.fakes.device import Device
from wire.category import Category
from wire.collector_http import Enrolment
from wire.event import Key
from wire.ids import BootInstant

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
WHO: Final = "zorabelle"  # the data subject's user name, and in her home folder
TITLE: Final = "letter to quentin"
TYPED: Final = "xylophone"
TYPING: Final = Load(keys=20, moves=20, text=TYPED, area=(100, 120, 300, 200))
PATIENCE_SECONDS: Final = 90.0


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a disk of that size at *folder*, in memory; skip where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = f"size={mebibytes}m,mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted as root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """Fill *disk* to its last byte; return the file to remove, which can be there already."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler


def filled(disk: Path) -> Path:
    """Fill *disk*, and see that it is full; nobody else may use it meanwhile."""
    filler = fill(disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (disk / "more").write_bytes(bytes(1 << 13))
    (disk / "more").unlink(missing_ok=True)
    return filler


def logs_of(program: Program) -> str:
    """Return all that a program logged and printed."""
    kept = [path for path in (program.home / "logs").glob("*") if path.is_file()]
    return "".join(path.read_text("utf-8", "replace") for path in [*kept, program.log])


# On so small a disk the room that a collector keeps free would be all of it.
TIGHT: Final = Plan(collector_settings="[limits]\nspare_bytes = 65536\n")


# --- the collector's disk is full -----------------------------------------------------------


def test_a_collector_whose_disk_is_full_says_so_and_takes_the_batch_later(tmp_path: Path) -> None:
    """507 with Retry-After, one line on its command line, and all it acknowledged is there."""
    with (
        pytest.MonkeyPatch.context() as patch,
        small_disk(tmp_path / "acme/collector", 8) as disk,
        Organisation(tmp_path / "acme", TIGHT) as acme,
    ):
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        enrolment = msgspec.json.decode(acme.enrolment_file("ann").read_bytes(), type=Enrolment)
        device = Device(acme.folder / "ann", enrolment).enrol()
        consent, key = device.agree(Category.KEYS), device.guard_key(Category.KEYS)
        typed = Key(at=BootInstant(1), sequence=1, pressed=True, kind="letter", text="")
        first, second = (device.seal(consent, key, typed) for _ in range(2))
        name = device.upload(first).hex()

        filler = filled(disk)
        answer = device.door.request("PUT", f"/v1/batches/{_hash(second)}", second)
        assert answer.status == 507, answer
        assert answer.retry_after_seconds
        assert b"storage-full" in answer.body
        assert device.door.request("GET", "/v1/state").status == 200
        for words in (("halt", "why"), ("token", "--out", tmp_path / "token")):
            said = failing(acme.collector, *words)
            assert "room" in said or "disk" in said, said
        again = device.door.request("PUT", f"/v1/batches/{name}", first)
        assert again.status in (200, 507)  # of what is stored already, its receipt or the truth

        filler.unlink()
        device.upload(second)
        assert device.door.request("PUT", f"/v1/batches/{name}", first).status == 200
        assert len(acme.stored()) == 2
        assert "Traceback" not in logs_of(acme.collector)


def _hash(frame: bytes) -> str:
    return hashlib.sha256(frame).hexdigest()


def failing(program: Program, *words: str | Path) -> str:
    """Run a command that has to fail in one line; return that line."""
    ran = subprocess.run(
        program._command(words),  # noqa: SLF001 - the demo's own way to call it
        env=program.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode in (ExitCode.SETUP, ExitCode.LATER), (words, ran.stderr)
    assert "Traceback" not in ran.stderr
    assert ran.stderr.count("\n") == 1, ran.stderr
    return ran.stderr


# --- the agent's disk is full, its logs, its clock ------------------------------------------


@pytest.fixture(scope="module")
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """Return one whose policy records characters, so that what was typed could be found."""
    plan = Plan(levels={"keys": "text"}, hold_seconds=1, test_only=True)
    with Organisation(tmp_path_factory.mktemp("acme"), plan) as organisation:
        yield organisation


def test_a_full_disk_shuts_capture_and_loses_nothing_that_was_acknowledged(
    organisation: Organisation, desk: Path
) -> None:
    """STORAGE_BLOCKED while it is full; it goes on by itself once there is room.

    Then the same run's logs and bundle are searched for whoever worked there and for what
    was typed, and the clock is set to 1970 and to 2100.
    """
    home = desk / "home" / WHO
    home.mkdir(parents=True)
    env = {"USER": WHO, "LOGNAME": WHO, "HOME": str(home)}
    with small_disk(desk / "agent", 24) as disk:
        station = Workstation(desk, organisation.enrolment_file("zora"), env)
        with station:
            station.open_terminal(TITLE)
            station.consent(*Category)
            station.person.activate(TITLE)
            station.typist.start(TYPING)
            before = station.wait_for_status(
                "something sent", lambda s: s["spool"]["sent"] >= 2, PATIENCE_SECONDS
            )
            filler = fill(disk)

            def is_noticed(status: dict[str, Any]) -> bool:
                fill(disk)  # what was sent meanwhile has made room again
                return bool(status["reason"] == "storage-blocked")

            full = station.wait_for_status("a full disk", is_noticed, PATIENCE_SECONDS)
            assert full["recording"] == []
            assert "make room" in full["detail"]
            assert "disk" in said_by_doctor(station, "agent")["what"]
            filler.unlink()
            station.wait_for_status("capture", lambda s: s["recording"], PATIENCE_SECONDS)
            after = station.wait_for_status(
                "more sent",
                lambda s: s["spool"]["sent"] > before["spool"]["sent"] + 1,
                PATIENCE_SECONDS,
            )
            assert after["spool"]["quarantined"] == 0
            check_names_nobody(station, organisation)
            check_a_wrong_clock(station)
        assert len(organisation.stored()) >= after["spool"]["sent"]


def said_by_doctor(station: Workstation, name: str) -> dict[str, Any]:
    """Return the finding of that name."""
    findings = msgspec.json.decode(station.agent.run("doctor", "--json", accept=(0, 3)))
    (finding,) = [each for each in findings if each["name"] == name]
    found: dict[str, Any] = finding
    return found


def check_names_nobody(station: Workstation, organisation: Organisation) -> None:
    """Neither logs nor the bundle say who worked here, on what, or what was typed."""
    path = station.folder / "bundle.tar.gz"
    station.agent.run("doctor", "--bundle", path, accept=(0, 3))
    with tarfile.open(path) as archive:
        bundle = "".join(
            content.read().decode()
            for member in archive.getmembers()
            if (content := archive.extractfile(member)) is not None
        )
    state = station.agent.home / "state"
    secrets = [WHO, str(station.env["HOME"]), TITLE, TYPED, station.pseudonym]
    secrets += station.rights_key.read_text("ascii").split()[:1]
    secrets += (state / "device.key").read_text("ascii").splitlines()[1:-1]
    host = socket.gethostname()
    secrets += [host] if len(host) > 4 else []
    logs = logs_of(station.agent)
    for place, text in (("bundle", bundle), ("logs", logs)):
        found = [secret for secret in secrets if secret.lower() in text.lower()]
        assert found == [], (place, found)
        assert "Traceback" not in text, place
    assert "agent.service" in logs or "agent.tray" in logs  # there is something in them
    assert organisation.collector.facts("status")["origin"] not in bundle


def check_a_wrong_clock(station: Workstation) -> None:
    """Nothing is recorded, `status` says which year it is said to be, and then all is well."""
    if not FAKETIME.exists():
        pytest.skip("libfaketime is not installed (packaging/setup/apt-desktop.txt)")
    for year, reason in (("1970", "clock-untrusted"), ("2100", "policy-invalid")):
        assert station.agent.stop() == 0
        right = dict(station.agent.env)
        station.agent.env |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME": f"@{year}-01-02 00:00:00",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        station.agent.serve("run")
        station.agent.wait_until("socket", lambda: _answers(station))
        said = station.wait_for_status(f"{year}", partial(has_reason, reason))
        assert said["recording"] == []
        assert f"year {year}" in said["detail"], said["detail"]
        assert "\n" not in said["detail"]
        station.agent.env = right
    assert "Traceback" not in logs_of(station.agent)


def has_reason(reason: str, status: dict[str, Any]) -> bool:
    """Whether a status gives that reason."""
    return bool(status["reason"] == reason)


def _answers(station: Workstation) -> bool:
    said = msgspec.json.decode(station.agent.run("status", "--json", accept=(0, 5)))
    return bool(said.get("running", True))  # only where none runs does it say so


# --- the desktop lacks something ------------------------------------------------------------


@pytest.fixture
def enrolled(organisation: Organisation, desk: Path, request: pytest.FixtureRequest) -> Program:
    """Return an agent that is enrolled and does not run."""
    agent = Program("agent", desk, {"XDG_RUNTIME_DIR": str(desk / "run")})
    (desk / "run").mkdir(mode=0o700)
    agent.run(
        "enroll",
        organisation.enrolment_file(f"x{hash(request.node.name)}"),
        "--rights-key",
        desk / "rights",
    )
    return agent


def test_without_a_desktop_it_says_what_is_missing(enrolled: Program, desk: Path) -> None:
    """No display, one that nobody serves, no bus: `run` and `doctor`, one line each."""
    for display in ("", ":98765"):
        enrolled.env |= {"DISPLAY": display, "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
        enrolled.env.pop("WAYLAND_DISPLAY", None)
        enrolled.env["XDG_SESSION_TYPE"] = "x11"
        assert "DISPLAY" in failing(enrolled, "run")
        blocking = blocked(enrolled)
        assert {"display", "sources", "indicator"} <= set(blocking)
        assert blocking["indicator"]["what"] == indicator.NO_BUS
    assert "Traceback" not in "".join(
        path.read_text("utf-8") for path in (enrolled.home / "logs").iterdir()
    )


@pytest.mark.parametrize("lacks", ["a tray host", "D-Bus"])
def test_without_a_tray_host_or_bus_it_runs_records_nothing_and_says_why(
    enrolled: Program, desk: Path, lacks: str
) -> None:
    """The words are the indicator's own."""
    with VirtualDesktop(desk / "desktop", panel=False) as desktop:
        enrolled.env |= desktop.env
        why = indicator.NO_WATCHER
        if lacks == "D-Bus":
            enrolled.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nowhere"
            why = indicator.NO_BUS
        enrolled.serve("run")
        try:

            def said() -> dict[str, Any] | None:
                text = enrolled.run("status", "--json", accept=(0, 5))
                status: dict[str, Any] = msgspec.json.decode(text)
                return status if status.get("indicator") == why else None

            status = wait_until(why, said, PATIENCE_SECONDS)
            assert status["recording"] == []
            assert blocked(enrolled)["indicator"]["what"] == why
        finally:
            assert enrolled.stop() == 0
        assert "Traceback" not in logs_of(enrolled)


def blocked(agent: Program) -> dict[str, dict[str, Any]]:
    """Return what `doctor` says that blocks, by name; each with what to do."""
    findings = msgspec.json.decode(agent.run("doctor", "--json", accept=(3,)))
    blocking = {each["name"]: each for each in findings if each["blocks"]}
    assert all(each["mend"] for each in blocking.values())
    assert all("\n" not in each["what"] for each in blocking.values())
    return blocking
