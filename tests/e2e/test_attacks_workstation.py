"""Attacks on a running workstation: by another user, by the same user's scripts, by signals.

One recording workstation, started with the most careless umask and with every folder above
the agent's own open to all, so that what keeps others out is ours.  The attacks come in the
order of the file: the last ones end what the earlier ones need.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from base.clock import boot_ns
from demo.desktop import DesktopError, wait_until
from demo.organisation import Organisation
from demo.typist import Load
from demo.workstation import Workstation, children
from tests.e2e.opened import open_everything
from tests.fakes.connections import internet_sockets, names_that_listen
from wire.category import Category

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user"),
]

PYTHON: Final = "/usr/bin/python3"  # ours may lie in a folder that others cannot enter
NOBODY: Final = 65534
LISTENING: Final = "0A"  # as the kernel's tables have it
AREA: Final = (100, 120, 300, 200)
BUSY: Final = Load(keys=350, moves=300, text="abcdefghij", area=AREA)  # 1,000 a second
ROUNDS: Final = 6
SENSORS: Final = tuple(f"agent.sensors.{name}" for name in ("input", "screen", "context"))
HOSTILE: Final = {"PYSTRAY_BACKEND": "dummy", "PYTHONSTARTUP": "/nonexistent"}

INTRUDER: Final = """
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)

def take_descriptor(pid):
    check(libc.syscall(438, os.pidfd_open(pid), 4, 0))

def read_memory(pid):
    where = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(where), 8)
    check(libc.process_vm_readv(pid, vector, 1, vector, 1, 0))

def attempts(task):
    for path in task.get("folders", []):
        yield f"list {path}", lambda: os.listdir(path)
        yield f"write {path}", lambda: open(os.path.join(path, "planted"), "w")
    for path in task.get("files", []):
        yield f"read {path}", lambda: open(path, "rb").read(1)
    for path in task.get("sockets", []):
        yield f"connect {path}", lambda: connect(path)
    for pid in task["pids"]:
        for name in ("environ", "mem", "maps", "auxv", "stack", "syscall"):
            yield f"{name} of {pid}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1)
        yield f"descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd")
        yield f"a descriptor of {pid}", lambda: take_descriptor(pid)
        yield f"memory of {pid}", lambda: read_memory(pid)
        yield f"trace {pid}", lambda: check(libc.ptrace(16, pid, 0, 0))
        if task["signals"]:
            yield f"signal {pid}", lambda: os.kill(pid, 0)

got = []
for what, attempt in attempts(json.load(sys.stdin)):
    try:
        attempt()
    except (PermissionError, OSError):
        continue
    got.append(what)
json.dump(got, sys.stdout)
"""


def intrude(**task: object) -> list[str]:
    """Return what another user (nobody) got of all that he tried."""
    ran = subprocess.run(
        [PYTHON, "-I", "-c", INTRUDER],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        timeout=30,
        check=True,
    )
    got: list[str] = json.loads(ran.stdout)
    return got


@pytest.fixture(scope="module")
def station(text_organisation: Organisation) -> Iterator[Workstation]:
    """A workstation that records, in a tree that anybody may walk."""
    umask = os.umask(0)
    with tempfile.TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        try:
            enrolment = text_organisation.enrolment_file("attacked")
            for way in ("desk", "desk/desktop"):  # to what is ours, and not by us: nobody else's
                (folder / way).mkdir(mode=0o755)
            with Workstation(folder / "desk", enrolment, HOSTILE) as station:
                station.open_terminal()
                station.consent(*Category)
                record(station)
                for path in (folder, folder / "desk", station.agent.home, runtime(station).parent):
                    path.chmod(0o755)
                runtime(station).parent.parent.chmod(0o755)
                yield station
        finally:
            os.umask(umask)


def runtime(station: Workstation) -> Path:
    """Return the agent's folder in memory."""
    return Path(station.desktop.env["XDG_RUNTIME_DIR"]) / "assent" / "agent"


def record(station: Workstation) -> None:
    """Have the terminal in front, and wait until all is recorded."""
    station.person.activate("work")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))


def ours(station: Workstation) -> list[int]:
    """Return agent, sensors and tray."""
    return [station.agent.pid, *children(station.agent.pid)]


def pause(station: Workstation) -> dict[str, Any]:
    """Pause by command; return what it says."""
    said: dict[str, Any] = json.loads(station.agent.run("pause", "--json"))
    return said


def is_gone(pid: int) -> bool:
    """Whether a process is no more, or only a name that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- another user -------------------------------------------------------------------------


def test_another_user_gets_nothing(station: Workstation) -> None:
    """No folder, file, socket, memory, descriptor, variable; and no signal arrives."""
    state, logs = station.agent.home / "state", station.agent.home / "logs"
    files = [p for folder in (state, logs, runtime(station)) for p in folder.rglob("*")]
    assert len(files) > 5
    for_all = str(station.agent.log)  # what the demo itself keeps: the way to it is open
    assert intrude(files=[for_all], pids=[], signals=True) == [f"read {for_all}"]
    got = intrude(
        folders=[str(p) for p in (state, logs, state / "spool", runtime(station))],
        files=[str(p) for p in files if p.is_file()],
        sockets=[str(p) for p in files if p.is_socket()],
        pids=ours(station),
        signals=True,
    )
    assert got == []


def test_nothing_that_we_write_is_for_others_even_with_umask_0(station: Workstation) -> None:
    """Each file and folder by itself, also where a folder above it is closed already."""
    places = [station.agent.home / name for name in ("config", "state", "logs")]
    places += [runtime(station), runtime(station).with_name("tray")]
    found = [p for place in places for p in (place, *place.rglob("*"))]
    assert [str(p) for p in found if p.lstat().st_mode & 0o077] == []


def test_no_port_of_ours_is_open(station: Workstation) -> None:
    """What others could connect to on loopback: nothing."""
    assert [sock for sock in internet_sockets(ours(station)) if sock.state == LISTENING] == []


def test_the_only_name_to_connect_to_is_that_of_the_control_socket(station: Workstation) -> None:
    """Tray and sensors talk over what they inherited: nobody else finds a way to them."""
    pids = ours(station)
    assert len(pids) > 4
    assert names_that_listen(pids) == {str(runtime(station) / "control.sock")}


@pytest.mark.parametrize("dumpable", [False, True], ids=["ours", "control"])
def test_not_even_the_same_user_looks_into_a_process_of_ours(*, dumpable: bool) -> None:
    """A script of the data subject: no memory, no descriptor (so no channel), no tracing.

    The control is an ordinary process of that user: there the same attempts succeed.
    """
    code = (
        "import ctypes, os, sys; from base.process import become_undumpable;"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY});"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0);"  # as any program is that a user starts
        f"{dumpable} or become_undumpable();"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout is not None
        victim.stdout.readline()
        got = intrude(pids=[victim.pid], signals=False)
        victim.kill()
    assert bool(got) is dumpable


# --- a race against silence ---------------------------------------------------------------


def test_pauses_at_any_moment_are_silence(
    station: Workstation, text_organisation: Organisation, tmp_path: Path
) -> None:
    """A thousand events a second; pauses at random moments, also while sensors start.

    No event of the opened batches lies between an acknowledgement and the next resume.
    """
    dice = random.Random(7)  # noqa: S311 - where in time a pause falls, no secret
    quiet: list[tuple[int, int]] = []
    for number in range(ROUNDS):
        record(station)
        station.typist.start(BUSY)
        if number % 3 == 2:
            os.kill(station.child(dice.choice(SENSORS)), signal.SIGKILL)
        time.sleep(dice.random() * 1.2)
        said = pause(station)
        time.sleep(0.3)  # of input that nobody may have
        station.typist.stop()
        quiet.append((said["wall"], time.time_ns()))
        station.resume()
    pause(station)
    station.wait_until_sent()
    opened = open_everything(text_organisation, station, tmp_path / "export")
    assert len(opened.events) > 500
    late = [e for e in opened.events for since, until in quiet if since < e["wall_ns"] < until]
    assert late == []


@pytest.mark.parametrize("module", SENSORS)
def test_a_sensor_that_is_stopped_is_killed_by_a_pause(station: Workstation, module: str) -> None:
    """SIGSTOP keeps it from unhooking; then the kernel does that, in a quarter of a second."""
    resume(station)
    victim = station.child(module)
    os.kill(victim, signal.SIGSTOP)
    before = boot_ns()
    said = pause(station)
    assert is_gone(victim)
    assert said["at"] - before < 2e9  # with the start of the command itself
    wait_until("a new sensor", lambda: _has(station, module), 60)


def test_a_tray_that_is_stopped_ends_capture(station: Workstation) -> None:
    """Three heartbeats that do not come; and it goes on once the tray does."""
    resume(station)
    victim = station.child("tray")
    os.kill(victim, signal.SIGSTOP)
    try:
        dark = station.wait_for_status("no light", lambda s: not s["recording"], 6)
        assert dark["reason"] == "indicator-missing"
    finally:
        os.kill(victim, signal.SIGCONT)
    record(station)


def test_pausing_while_the_tray_starts_again_is_a_pause(station: Workstation) -> None:
    """What the command asked for holds when the light is back."""
    resume(station)
    station.kill_tray()
    said = pause(station)
    assert said["silent"]
    wait_until("the icon", station.person.sees_tray, 60)
    after = station.wait_for_status("the pause", lambda s: not s["indicator"], 60)
    assert after["reason"] == "paused-until"


def resume(station: Workstation) -> None:
    """Click Resume if a pause runs, and wait until all is recorded."""
    if station.status()["reason"] == "paused-until":
        station.resume()
    record(station)


def _has(station: Workstation, module: str) -> bool:
    try:
        return station.child(module) > 0
    except DesktopError:
        return False


# --- the end of the agent -----------------------------------------------------------------


def test_a_killed_agent_leaves_nobody_who_listens(station: Workstation) -> None:
    """Sensors die with it, stopped or not, and so does the tray."""
    resume(station)
    left = children(station.agent.pid)
    assert len(left) == 4
    os.kill(station.child(SENSORS[0]), signal.SIGSTOP)
    station.agent.stop(signal.SIGKILL)
    wait_until("the end of all", lambda: all(map(is_gone, left)), 3)
    assert not list((station.agent.home).rglob("core*"))


def test_without_its_record_of_consents_nothing_is_consented(station: Workstation) -> None:
    """A script that deletes the record gains nothing: unknown is no."""
    (station.agent.home / "state/consent.jsonl").unlink()
    station.run_agent()
    status = station.status()
    assert status["reason"] == "not-consented"
    assert status["recording"] == []
