"""What comes from outside: pinned, hashed, really installed, and really used."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.source import PACKAGES, ROOT, modules

LISTS: Final = ("run", "test")  # those that stand in the environment
BESIDE: Final = ("interop",)
FROM_DEBIAN: Final = {"pygobject"}  # built against the system's own libraries


@pytest.mark.parametrize("name", [*LISTS, *BESIDE])
def test_every_package_is_pinned_with_hashes_and_nothing_else_is_said(name: str) -> None:
    """A list is pins and hashes: no address, no option, no package without a hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    joined = re.sub(r"#.*", "", text).replace("\\\n", " ")
    entry = re.compile(r"[a-z0-9.-]+==[a-z0-9.]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [line for line in joined.splitlines() if line and not entry.fullmatch(line)] == []


def test_the_pinned_versions_are_the_installed_ones() -> None:
    """No package of Debian's stands in for a pinned one."""
    lists = [str(ROOT / "requirements" / f"{name}.txt") for name in LISTS]
    assert run_pins(*lists).stderr == ""


def test_a_package_of_another_version_is_named(tmp_path: Path) -> None:
    """What set-up says when the environment is not what the list says."""
    (tmp_path / "list.txt").write_text("click==0.0.1 \\\nno-such-package==1.0 \\\n", "utf-8")
    answer = run_pins(str(tmp_path / "list.txt"))
    assert answer.returncode == 1
    assert "click is " in answer.stderr
    assert "no-such-package 1.0 is not installed" in answer.stderr


def test_what_we_import_is_asked_for_by_name() -> None:
    """No program leans on what some other package happens to bring along."""
    assert imported() - asked_for() - FROM_DEBIAN == set()


def test_what_we_ask_for_is_imported() -> None:
    """Whatever is installed can also break or be attacked; so nothing unused is."""
    assert asked_for() - imported() == set()


def run_pins(*lists: str) -> subprocess.CompletedProcess[str]:
    """Run the check of set-up on *lists*."""
    command = [sys.executable, str(ROOT / "packaging" / "setup" / "pins.py"), *lists]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def asked_for() -> set[str]:
    """Return the packages that run.in names."""
    text = (ROOT / "requirements" / "run.in").read_text("utf-8")
    return set(re.findall(r"^[a-z][a-z0-9.-]*", text, re.MULTILINE))


def imported() -> set[str]:
    """Return the packages from which our code imports, the standard library left out."""
    owners = packages_distributions()
    found = set()
    for module in modules():
        for _node, name in module.imports():
            first, _, rest = name.partition(".")
            if first == "backports":  # a folder that many packages share
                found.add(f"backports.{rest.partition('.')[0]}")
            elif first not in sys.stdlib_module_names and first not in PACKAGES:
                found.add(owners.get(first, [first])[0].lower().replace("_", "-"))  # PEP 503
    return found
