"""The commands that a person types: they exist, and everything that names them agrees."""

import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from tests.architecture.source import ROOT


def test_every_make_target_that_is_written_somewhere_exists() -> None:
    """Nobody is sent to a command that is not there."""
    named = {
        (str(page.relative_to(ROOT)), target)
        for page in pages()
        for target in re.findall(
            r"(?:`|^    |^\$ )make ([a-z]+)\b", page.read_text("utf-8"), re.MULTILINE
        )
    }
    assert named, "the pages name no target at all"
    assert {(page, target) for page, target in named if target not in targets()} == set()


def test_every_make_target_is_explained_by_make_help() -> None:
    """`make` alone lists them all, each with a sentence."""
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    explained = set(re.findall(r"^  make ([a-z]+) +\S+ \S+", shown.stdout, re.MULTILINE))
    assert explained == targets()


def test_the_ci_runs_the_checks_and_then_the_readme_s_test_command() -> None:
    """What lands has passed what a newcomer is told to run."""
    runs = re.findall(
        r"^timeout .*?(make \w+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE
    )
    assert runs == ["make lint", "make test"]
    assert "make test" in (ROOT / "README.md").read_text("utf-8")


def test_every_program_has_its_command() -> None:
    """What pyproject.toml promises is installed here and leads to a module that exists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    installed = {
        entry.name: entry.value
        for entry in entry_points(group="console_scripts")
        if entry.name.startswith("assent-")
    }
    assert installed == project["scripts"]
    assert [v for v in installed.values() if find_spec(v.partition(":")[0]) is None] == []


def test_packaging_is_no_package() -> None:
    """An __init__.py there would hide the `packaging` that pip and pytest import."""
    assert list((ROOT / "packaging").rglob("__init__.py")) == []


def pages() -> list[Path]:
    """Return our pages for people."""
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))
