"""What the end-to-end tests share: one organisation a module, and where pictures are kept."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.organisation import Organisation, Plan
from demo.workstation import Workstation
from tests.conftest import report
from tests.model.replay import replay

PICTURES = Path(__file__).parents[2] / "build/screenshots"


@pytest.fixture(scope="session")
def pictures() -> Path:
    """The folder in which screenshots are kept for people to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@pytest.fixture(scope="session", autouse=True)
def _every_decision_is_judged_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Replay the decisions of every workstation when it is stopped: gate and tables agree."""
    counted = 0

    def look(file: Path) -> None:
        nonlocal counted
        counted += replay(file)

    Workstation.when_stopped.append(look)
    yield
    Workstation.when_stopped.remove(look)
    if counted:
        report(request.config, f"{counted} decisions of real runs replayed, all accepted")


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
