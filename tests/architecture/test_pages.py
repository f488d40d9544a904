"""Our pages for people say what is so: what they name exists."""

import re
from pathlib import Path
from typing import Final

import pytest

from base.errors import ExitCode
from tests.architecture.source import PACKAGES, ROOT
from wire.category import Category, registry

PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FOLDERS: Final = (*PACKAGES, "tests", "docs", "packaging", "requirements", "benchmarks", "fuzz")


def name(page: Path) -> str:
    """Return how a test calls *page*."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Links inside the repository are relative to the page, and what they name is there."""
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A path in backticks that begins with one of our folders is a real one."""
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]*)`", page.read_text("utf-8"))
    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def test_every_exit_code_is_documented() -> None:
    """Scripts rely on them, so each has its line: number and meaning."""
    text = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
    documented = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE))
    assert documented == {(str(int(code)), code.name) for code in ExitCode}


def test_every_category_is_in_the_registry() -> None:
    """What can be recorded at all is listed with somebody who answers for it."""
    assert set(registry()) == set(Category)
    assert all(entry.reviewer and entry.review_by for entry in registry().values())
