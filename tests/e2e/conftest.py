"""What the end-to-end tests share: one organisation a module, and where pictures are kept."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.organisation import Organisation, Plan

PICTURES = Path(__file__).parents[2] / "build/screenshots"


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder in which screenshots are kept for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@pytest.fixture
def desk() -> Iterator[Path]:
    """A folder for one workstation, with a path so short that sockets may lie below it."""
    with tempfile.TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def text_organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """A running organisation whose test policy records characters, at any speed."""
    plan = Plan(
        levels={"keys": "text"},
        rates={"keys": 1000.0, "pointer": 1000.0, "screen": 2.0},
        hold_seconds=1,
        test_only=True,
    )
    with Organisation(tmp_path_factory.mktemp("organisation"), plan) as organisation:
        yield organisation
