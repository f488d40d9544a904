"""The Debian packages, as far as can be told without building them; `make trial` does the rest."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.architecture.source import PROGRAMS, ROOT, modules

DEB: Final = ROOT / "packaging" / "deb"
UNITS: Final = DEB / "assent-servers" / "root" / "lib" / "systemd" / "system"
FROM_SET_UP_ALONE: Final = {"python3", "python3-venv"}  # the package names a range, and has no venv


def names(path: Path) -> set[str]:
    """Return the Debian packages that a list of set-up names."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return {line for line in lines if line}


def depends(package: str) -> set[str]:
    """Return the names that a package's own control file depends on."""
    control = (DEB / package / "control").read_text("utf-8")
    found = re.search(r"^Depends: (.*)$", control, re.MULTILINE)
    assert found is not None
    return {name.strip() for name in found[1].split(",")} - {"@python@"}


def test_the_package_of_a_workstation_depends_on_what_set_up_installs() -> None:
    """A library that the programs load is named in both places, or it is missing in one."""
    set_up = names(ROOT / "packaging" / "setup" / "apt-programs.txt")
    assert depends("assent") == set_up - FROM_SET_UP_ALONE


def test_collector_and_guard_are_confined_alike() -> None:
    """The two units differ in the server's name and what it is, and in nothing else."""
    collector, guard = (
        (UNITS / f"assent-{name}.service").read_text("utf-8").splitlines()
        for name in ("collector", "guard")
    )
    differ = [
        (a, b)
        for a, b in zip(collector, guard, strict=True)
        if a.replace("collector", "guard") != b
    ]
    assert [a.partition("=")[0] for a, _ in differ] == ["Description"]


def test_each_unit_has_its_account() -> None:
    """Made by sysusers, with the unit's own folder as its home."""
    accounts = (DEB / "assent-servers/root/usr/lib/sysusers.d/assent-servers.conf").read_text()
    for unit in UNITS.glob("*.service"):
        assert re.search(rf'^u {unit.stem} - ".*" /var/lib/{unit.stem}$', accounts, re.MULTILINE)


def test_removal_ends_the_agent_that_the_session_starts() -> None:
    """The command line that `prerm` looks for is the launcher's, with the entry's own words."""
    entry = (DEB / "assent/root/etc/xdg/autostart/assent-agent.desktop").read_text("utf-8")
    started = re.search(r"^Exec=(.*)$", entry, re.MULTILINE)
    launcher = re.search(
        r"^#!/usr/lib/\{package\}/(.*)$", (DEB / "build.py").read_text(), re.MULTILINE
    )
    assert started is not None
    assert launcher is not None
    looked_for = f"^/usr/lib/assent/{launcher[1]} {started[1]}"
    assert f"grep -q '{looked_for}'" in (DEB / "assent" / "prerm").read_text("utf-8")


def test_what_a_program_reads_beside_its_modules_is_in_its_package() -> None:
    """The registry, the form of a notice, the claims: each file that the code asks for by name."""
    asked = f"import needed; print(*needed.texts({PROGRAMS!r}), sep=chr(10))"
    ran = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=DEB,
        check=True,
        capture_output=True,
        text=True,
    )
    shipped = {Path(line).name for line in ran.stdout.split()}
    read = [
        name
        for module in modules()
        for name in re.findall(r"resources\.files\(.*?\)\.joinpath\((.*?)\)", module.text)
    ]
    assert len(read) == 3
    assert {"categories.toml", "claims.toml", "notice.txt"} == shipped
    assert (ROOT / "governance" / "claims.toml").resolve() == ROOT / "docs" / "claims.toml"
