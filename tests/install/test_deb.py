"""The Debian packages in a clean Debian 12: installed, lived with, upgraded, removed, purged.

Collector and guard run outside, on loopback.  It needs root, for the clean system, and
packages from this machine's mirror.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from demo.organisation import Organisation, Plan
from tests.install.debian import BASE, PERSON, ROOT, CleanDebian, start
from wire.category import Category

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(900)]

BUILD: Final = ROOT / "packaging" / "deb" / "build.py"
DESKTOP: Final = ROOT / "packaging" / "setup" / "apt-desktop.txt"
HOME: Final = f"/home/{PERSON}"
NEXT: Final = "999.0"
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


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both packages as `make packages` builds them, and the first one's next version."""
    folder = tmp_path_factory.mktemp("packages")
    make(folder)
    found = {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}
    return {**found, "next": next_version(found["assent"], folder)}


@pytest.fixture(scope="module")
def debian() -> Iterator[CleanDebian]:
    """A clean Debian 12, or a line that says what is missing for one."""
    if os.geteuid() != 0:
        pytest.skip("a clean Debian needs root (mounts, chroot); only the packages were looked at")
    if not BASE.exists() and shutil.which("mmdebstrap") is None:
        pytest.skip("a clean Debian needs mmdebstrap; run `make setup` as root")
    if not BASE.exists():
        subprocess.run([ROOT / "packaging/setup/try-in-chroot.sh", "--only-base"], check=True)
    with CleanDebian() as clean:
        clean.run("apt-get", "update", "-qq")
        yield clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What came of it: the answer to each step, and what was found between them."""

    said: dict[str, dict[str, Any]]
    alone: str
    stored_batches: int
    owned: set[str]
    left_after_remove: set[str]
    left_after_purge: set[str]
    state: set[str]
    hostile: list[str]
    new_files_of_next: str


@pytest.fixture(scope="module")
def lived(
    debian: CleanDebian, packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Lived:
    """Install, enrol, consent, work, upgrade while running, work, restart, remove, purge."""
    for path in HOSTILE_PLACES:
        plant(debian, path)
    bring(debian, packages["assent"], packages["next"])
    debian.install(f"/root/{packages['assent'].name}")
    alone = debian.run(
        *("/usr/lib/assent/bin/python3", "-I", "-c"),
        "import gi; gi.require_version('Gtk', '3.0'); "
        "gi.require_version('AyatanaAppIndicator3', '0.1'); "
        "from gi.repository import AyatanaAppIndicator3, Gtk; "
        "import PIL.Image, agent.service, tray.view, agent.sensors.context; "
        "import agent.sensors.screen, agent.sensors.input; print('all of it')",
    )
    owned = set(debian.run("dpkg", "--listfiles", "assent").splitlines())
    debian.install(*listed(DESKTOP))
    said: dict[str, dict[str, Any]] = {}
    with Organisation(tmp_path_factory.mktemp("organisation"), Plan(hold_seconds=1)) as parties:
        enrolment = debian.root / HOME[1:] / "enrolment.json"
        shutil.copy(parties.enrolment_file("installed"), enrolment)
        debian.run("chown", "-R", f"{PERSON}:", HOME)
        with sitting(debian) as step:
            for name in ("consent", "work", "look"):
                said[name] = step(name)
            debian.install(f"/root/{packages['next'].name}")
            said["after upgrade"] = step("look")
            said["resume"] = step("resume")
            said["work after upgrade"] = step("work")
            said["restart"] = step("restart")
            said["resume again"] = step("resume")
            said["work after restart"] = step("work")
            new = debian.run("cat", "/usr/share/doc/assent/version-of-test")
            debian.run("apt-get", "remove", "--yes", "-qq", "assent")
            said["removed"] = step("ended")
        stored = parties.collector.facts("status")["counts"]["batches"]
    left_after_remove = debian.files(*(path for path in owned if not shared(path)))
    debian.run("apt-get", "purge", "--yes", "-qq", "assent")
    folders = ("/usr", "/etc", "/var/lib", "/var/cache", "/opt", "/run")
    return Lived(
        said=said,
        alone=alone,
        stored_batches=stored,
        owned=owned,
        left_after_remove=left_after_remove,
        left_after_purge={path for path in debian.files(*folders) if "assent" in path},
        state={
            path
            for path in debian.files(HOME)
            if path.endswith(("state/agent/enrolment.json", "assent/agent/enrolment.json"))
        },
        hostile=marks(debian),
        new_files_of_next=new,
    )


def test_apt_brings_all_that_the_programs_load(lived: Lived) -> None:
    """Before anything else was installed, tray and sensors find all libraries they need."""
    assert lived.alone == "all of it\n"


def test_a_person_who_is_not_root_enrols_consents_and_sends(lived: Lived) -> None:
    """The installed agent records with consent, and the collector's receipts come back."""
    assert set(lived.said["consent"]["granted"]) == set(Category)
    assert lived.said["work"]["sent"] > 0
    assert lived.stored_batches >= lived.said["work after restart"]["sent"] > 0


def test_all_processes_run_from_the_package(lived: Lived) -> None:
    """Agent, tray and the three sensors are of the package's own environment."""
    commands = lived.said["look"]["commands"]
    assert len(commands) == 5
    assert [c for c in commands if not c.startswith("/usr/lib/assent/bin/python3 ")] == []


def test_the_person_s_own_python_gets_nothing_in(lived: Lived) -> None:
    """Neither PYTHONPATH nor ~/.local decides what is loaded beside the keyboard."""
    assert [line for line in lived.hostile if line.startswith("/usr/lib/assent/")] == []
    assert lived.hostile, "not even the scripted person's own Python loaded it"


def test_an_upgrade_lets_the_running_agent_run(lived: Lived) -> None:
    """Files are replaced below it; it goes on, records and sends; the next start is the new one."""
    said = lived.said
    assert said["after upgrade"]["pid"] == said["look"]["pid"]
    assert said["work after upgrade"]["sent"] > said["work"]["sent"]
    assert set(said["restart"]["granted"]) == set(Category)
    assert said["work after restart"]["sent"] > 0
    assert lived.new_files_of_next == NEXT


def test_removal_ends_the_running_agent(lived: Lived) -> None:
    """Whoever removes the package expects that nothing records any more."""
    assert lived.said["removed"]["code"] == 0


def test_removal_leaves_the_settings_and_nothing_else(lived: Lived) -> None:
    """What an administrator may have changed stays until purge."""
    assert lived.left_after_remove == {"/etc/xdg/autostart/assent-agent.desktop"}


def test_purge_leaves_nothing(lived: Lived) -> None:
    """No file with our name is left; what lies in a person's home is the person's."""
    assert lived.left_after_purge == set()
    assert lived.state


@pytest.mark.parametrize("name", ["assent", "assent-servers"])
def test_no_script_of_a_package_reaches_the_network_or_starts_anything(
    packages: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """Installing is unpacking: nothing is enabled, started or fetched."""
    subprocess.run(["dpkg-deb", "--control", packages[name], tmp_path / name], check=True)
    scripts = {"preinst", "postinst", "prerm", "postrm"}
    text = "".join(
        path.read_text("utf-8") for path in (tmp_path / name).iterdir() if path.name in scripts
    )
    forbidden = ("curl", "wget", "pip", "systemctl start", "systemctl enable", "deb-systemd-invoke")
    assert [word for word in forbidden if word in text] == []


def test_the_servers_are_set_up_sandboxed_and_not_enabled(
    debian: CleanDebian, packages: dict[str, Path]
) -> None:
    """Two accounts, two units that systemd accepts, nothing running; purge takes keys and state."""
    bring(debian, packages["assent-servers"])
    debian.install("systemd", f"/root/{packages['assent-servers'].name}")
    for server in ("assent-collector", "assent-guard"):
        unit = f"/lib/systemd/system/{server}.service"
        debian.run("systemd-analyze", "verify", "--man=no", unit)
        debian.run(
            *("systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager", unit)
        )
        debian.run(
            *("setpriv", f"--reuid={server}", f"--regid={server}", "--clear-groups"),
            *("env", f"ASSENT_HOME=/var/lib/{server}", server, "init"),
            *("--origin", "https://127.0.0.1:9", "--tenant", "acme"),
        )
    assert not debian.files("/etc/systemd/system") & {
        f"/etc/systemd/system/multi-user.target.wants/{server}.service"
        for server in ("assent-collector", "assent-guard")
    }
    for command in ("assent-reader", "assent-govern"):
        debian.run(command, "--help")
    debian.run("apt-get", "remove", "--yes", "-qq", "assent-servers")
    assert (debian.root / "var/lib/assent-guard/config/signing.key").exists()
    debian.run("apt-get", "purge", "--yes", "-qq", "assent-servers")
    left = debian.files("/usr", "/etc", "/var/lib", "/run")
    assert {path for path in left if "assent-" in path} == set()


def test_a_package_is_built_the_same_each_time(packages: dict[str, Path], tmp_path: Path) -> None:
    """Whoever builds it from the same commit gets the same bytes."""
    make(tmp_path, "assent-servers")
    (again,) = tmp_path.glob("*.deb")
    assert again.read_bytes() == packages["assent-servers"].read_bytes()


# --- how ------------------------------------------------------------------------------------


def make(folder: Path, *packages: str) -> None:
    """Build packages as `make packages` does, but for the compression."""
    build = [sys.executable, str(BUILD), "--large", "--out", str(folder), *packages]
    subprocess.run(build, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1790000000"})


def next_version(deb: Path, folder: Path) -> Path:
    """Return the same package with a higher version and one more file."""
    root = folder / "next"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, root], check=True)
    control = root / "DEBIAN" / "control"
    lines = control.read_text("utf-8").splitlines()
    control.write_text(
        "".join(f"Version: {NEXT}\n" if x.startswith("Version:") else f"{x}\n" for x in lines)
    )
    (root / "usr/share/doc/assent/version-of-test").write_text(NEXT)
    made = folder / f"assent-next_{NEXT}.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(made)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return made


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


def bring(debian: CleanDebian, *files: Path) -> None:
    """Copy files into the clean system's /root."""
    for path in files:
        shutil.copy(path, debian.root / "root")


def listed(path: Path) -> list[str]:
    """Return the packages of a list of set-up."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def shared(path: str) -> bool:
    """Whether a folder is everybody's and not the package's own."""
    return "assent" not in path


@contextlib.contextmanager
def sitting(debian: CleanDebian) -> Iterator[Any]:
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
