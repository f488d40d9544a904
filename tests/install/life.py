"""The life of the packages in a clean Debian, from installation to purge; told once.

`live` is the story, in order.  It judges nothing: what was seen on the way is in `Lived`, and
the tests beside it say what should be true of it.
"""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from demo.organisation import Plan
from tests.install.debian import PERSON, ROOT, CleanDebian, start
from tests.install.servers import TRACES, Asked, InstalledOrganisation, Unit

DESKTOP: Final = ROOT / "packaging" / "setup" / "apt-desktop.txt"
HOME: Final = f"/home/{PERSON}"
SERVERS: Final = ("assent-collector", "assent-guard")
# What is typed is recorded as text, so that the opened batches can be compared with it.
PLAN: Final = Plan(levels={"keys": "text"}, hold_seconds=1, test_only=True)
# Loaded instead of the real one, it would leave a mark: as sitecustomize, as a package of ours
# or a pinned one, and from the folder of the person's own packages.
HOSTILE: Final = (
    "import sys\nopen('/tmp/hostile/loaded', 'a').write(f'{sys.executable} {__name__}\\n')\n"
)
HOSTILE_PLACES: Final = (
    "/tmp/hostile/sitecustomize.py",  # noqa: S108
    "/tmp/hostile/click.py",  # noqa: S108
    "/tmp/hostile/wire/__init__.py",  # noqa: S108
    f"{HOME}/.local/lib/python3.11/site-packages/usercustomize.py",
    f"{HOME}/.local/lib/python3.11/site-packages/msgspec.py",
)
LOAD_ALL: Final = """
import importlib, pkgutil
for package in ("base", "wire", "agent", "tray"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(found.name)
print("all of it")
"""


@dataclass(kw_only=True)
class Lived:
    """What was seen on the way."""

    alone: str = ""  # what the package could load before anything else was installed
    said: dict[str, dict[str, Any]] = field(default_factory=dict)  # the person, at each step
    worker: int = 0  # the number of the person's account
    stored: int = 0  # batches, by the collector's own count
    typed: str = ""
    opened: str = ""  # what the reader has, of the same keys
    keys: list[int] = field(default_factory=list)  # their numbers, as opened
    maps: dict[str, list[str]] = field(default_factory=dict)  # files that the agent has in memory
    running: dict[str, list[str]] = field(default_factory=dict)  # processes of the package
    changed: dict[str, set[str]] = field(default_factory=dict)  # against before
    gone: set[str] = field(default_factory=set)
    state: set[str] = field(default_factory=set)  # the person's own, after the purge
    hostile: list[str] = field(default_factory=list)
    accounts: dict[str, set[str]] = field(default_factory=dict)  # who owns what of the servers'
    asked: dict[str, Asked] = field(default_factory=dict)
    allowed: dict[str, set[str]] = field(default_factory=dict)  # system calls, by server
    ended_with: dict[str, int | None] = field(default_factory=dict)


def live(debian: CleanDebian, packages: dict[str, Path], folder: Path) -> Lived:
    """Install, enrol, consent, work, upgrade meanwhile, work, restart, remove, purge."""
    lived = Lived()
    for path in HOSTILE_PLACES:
        plant(debian, path)
    debian.bring(*packages.values())
    package, newer = (f"/root/{packages[name].name}" for name in ("assent", "next"))
    debian.install(package)
    with screen() as display:
        python = ("env", f"DISPLAY={display}", "/usr/lib/assent/bin/python3", "-I")
        lived.alone = debian.run(*python, "-c", LOAD_ALL, person=True)
    debian.run("apt-get", "purge", "--yes", "-qq", "assent")
    debian.install("systemd", "strace", f"/root/{packages['assent-servers'].name}")
    debian.install(*listed(DESKTOP))
    with InstalledOrganisation(debian, folder, PLAN) as parties:
        before = _snapshot(debian)
        debian.install(package)
        lived.worker = int(debian.run("id", "--user", PERSON))
        enrolment = debian.root / HOME[1:] / "enrolment.json"
        shutil.copy(parties.enrolment_file("installed"), enrolment)
        debian.run("chown", "-R", f"{PERSON}:", HOME)
        with sitting(debian) as step:
            _work(debian, lived, step, newer)
            lived.running["before removal"] = debian.processes("/usr/lib/assent/")
            debian.run("apt-get", "remove", "--yes", "-qq", "assent")
            lived.said["removed"] = step("ended")
            lived.running["after removal"] = debian.processes("/usr/lib/assent/")
            lived.changed["by removal"] = _changed(debian, before)
            debian.run("apt-get", "purge", "--yes", "-qq", "assent")
            lived.changed["by purge"] = _changed(debian, before)
            lived.gone = before.keys() - _snapshot(debian).keys()
        lived.stored = len(parties.stored())
        _open(lived, parties, folder / "opened")
        lived.accounts = _owners(debian)
    for server in parties.servers:
        lived.ended_with[server.account] = server.ended_with
        lived.asked[server.account] = Asked.read(debian, server.account)
        lived.allowed[server.account] = Unit.read(debian, server.account).allowed_calls(debian)
    lived.hostile = marks(debian)
    lived.state = {
        path
        for path in debian.run("find", HOME).splitlines()
        if path.endswith("assent/agent/enrolment.json")
    }
    return lived


def _work(debian: CleanDebian, lived: Lived, step: "Step", newer: str) -> None:
    """Live with it: consent, work, an upgrade in the middle of work, a pause, work again."""
    said = lived.said
    for name in ("consent", "work", "resume", "begin to type"):
        said[name] = step(name)
    said["before upgrade"] = step("look")
    debian.install(newer)
    said["after upgrade"] = step("look")
    lived.maps["after upgrade"] = _mapped(debian, said["after upgrade"]["pids"][0])
    said["end to type"] = step("end to type")
    said["begun anew"] = step("begun anew")
    lived.maps["begun anew"] = _mapped(debian, said["begun anew"]["pids"][0])
    said["resume, begun anew"] = step("resume")
    said["work, begun anew"] = step("work")
    said["restart"] = step("restart")
    said["resume, restarted"] = step("resume")
    said["work, restarted"] = step("work")
    said["typed"] = step("typed")
    said["next"] = {"version": debian.run("cat", "/usr/share/doc/assent/version-of-test")}


def _open(lived: Lived, parties: InstalledOrganisation, out: Path) -> None:
    """Have all of it released and opened, and compare it with what was typed."""
    grant = parties.access_grant("keys", "pointer", "screen", "window")
    parties.reader.run("fetch", "--grant", grant)
    parties.reader.run("verify")
    parties.reader.run("export", "--out", out)
    lines = (out / "events.jsonl").read_text("utf-8").splitlines()
    mine = lived.said["typed"]["subject"]
    events = [event for event in map(json.loads, lines) if event["subject"] == mine]
    presses = [e for e in events if e["type"] == "key" and e["pressed"]]
    lived.typed = lived.said["typed"]["text"]
    lived.opened = "".join(press["text"] for press in presses)
    lived.keys = [event["sequence"] for event in events if event["type"] == "key"]


def _snapshot(debian: CleanDebian) -> dict[str, str]:
    return debian.snapshot(*(f"/var/lib/{server}" for server in SERVERS), TRACES)


def _changed(debian: CleanDebian, before: dict[str, str]) -> set[str]:
    """Return what is there and was not, or was otherwise."""
    now = _snapshot(debian)
    return {path for path, facts in now.items() if before.get(path) != facts}


def _mapped(debian: CleanDebian, pid: int) -> list[str]:
    """Return the files of the package that a process has in its memory."""
    lines = debian.run("cat", f"/proc/{pid}/maps").splitlines()
    return sorted({line[line.index("/") :] for line in lines if "/usr/lib/assent/" in line})


def _owners(debian: CleanDebian) -> dict[str, set[str]]:
    """Return who owns what the servers keep, and who else may look at it."""
    found: dict[str, set[str]] = {}
    for server in SERVERS:
        facts = debian.run("find", f"/var/lib/{server}", "-printf", "%u:%g %m\\n").splitlines()
        found[server] = set(facts)
    return found


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """An X server of this machine, so that the clean one needs none; yields its display.

    It is found inside by its abstract socket.
    """
    ours, theirs = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(theirs)], pass_fds=(theirs,))
    os.close(theirs)
    try:
        with os.fdopen(ours, encoding="ascii") as said:
            yield f":{said.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def plant(debian: CleanDebian, path: str) -> None:
    """Put a module there that leaves a mark when it is loaded."""
    target = debian.root / path[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(HOSTILE, "utf-8")
    (debian.root / "tmp/hostile").chmod(0o777)


def marks(debian: CleanDebian) -> list[str]:
    """Return who loaded what was planted."""
    found = debian.root / "tmp" / "hostile" / "loaded"
    return found.read_text("utf-8").splitlines() if found.exists() else []


def listed(path: Path) -> list[str]:
    """Return the packages of a list of set-up."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


Step: TypeAlias = Callable[[str], dict[str, Any]]
"""Takes a step, and returns the person's answer."""


@contextlib.contextmanager
def sitting(debian: CleanDebian) -> Iterator[Step]:
    """Let the person sit down; yields what takes a step and returns the answer."""
    python = str(ROOT / ".venv" / "bin" / "python")
    words = ("-B", "-m", "tests.install.session", f"{HOME}/desk", f"{HOME}/enrolment.json")
    session = start(debian.command(python, *words, person=True))
    assert session.stdin is not None
    assert session.stdout is not None

    def answer() -> dict[str, Any]:
        line = session.stdout.readline() if session.stdout else ""
        assert line, "the session ended; its last words stand above"
        said: dict[str, Any] = json.loads(line)
        return said

    def step(name: str) -> dict[str, Any]:
        assert session.stdin is not None
        session.stdin.write(f"{name}\n")
        return answer()

    try:
        answer()
        yield step
        session.stdin.close()
        assert session.wait(60) == 0
    finally:
        picture = debian.root / HOME[1:] / "desk" / "failed.png"
        if picture.exists():
            shutil.copy(picture, ROOT / "build" / "install-failed.png")
        if session.poll() is None:
            session.kill()
        session.wait()
        session.stdout.close()
