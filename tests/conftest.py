"""What holds for every test: no outside network, how large it runs, what is left to chance.

The network guard is an audit hook of this process (PEP 578); it cannot be taken out again,
and children that a test starts do not have it.
"""

import ipaddress
import os
import random
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import hypothesis
import pytest

from base import structs
from tests import second_look
from tests.fakes.ceph import Ceph, running_ceph
from tests.fakes.indexes import Place, PostgresPlace, SqlitePlace
from tests.fakes.postgres import Server, server

ROOT: Final = Path(__file__).resolve().parents[1]
LOOPBACK_NAMES: Final = frozenset({None, "", "localhost", b"localhost"})

# Shared build machines stall: a slow example is no finding, so examples have no deadline.
hypothesis.settings.register_profile("assent", deadline=None, print_blob=True)
hypothesis.settings.load_profile("assent")

_went_outside: list[str] = []


class OutsideNetworkError(AssertionError):
    """A test tried to reach something other than this machine."""


def is_loopback(host: object) -> bool:
    """Whether *host*, a name or an address, is this machine."""
    if host in LOOPBACK_NAMES:
        return True
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _refuse_outside(event: str, arguments: tuple[object, ...]) -> None:
    match event, arguments:
        case "socket.connect" | "socket.sendto", (socket.socket() as sock, (host, *_)):
            inside = sock.family not in (socket.AF_INET, socket.AF_INET6) or is_loopback(host)
        case "socket.getaddrinfo" | "socket.gethostbyname", (host, *_):
            inside = is_loopback(host)
        case _:
            return
    if not inside:
        _went_outside.append(f"{event} {host!r}")
        raise OutsideNetworkError(f"{event} {host!r}: tests reach loopback only")


sys.addaudithook(_refuse_outside)


@pytest.fixture(autouse=True)
def _no_outside_network() -> Iterator[list[str]]:
    """Fail a test that tried to leave, even where the code under test swallowed the refusal."""
    _went_outside.clear()
    yield _went_outside
    assert _went_outside == []


@pytest.fixture(scope="session", autouse=True)
def _commands_leave_us_dumpable() -> Iterator[None]:
    """Run commands that hold a key within this process, which goes on after them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            *("governance.options", "governance.keys_command"),
            *("reader.__main__", "guard.__main__", "collector.__main__"),
        ):
            patch.setattr(f"{module}.forbid_tracing", lambda: None)
        patch.setattr("agent.rights.become_undumpable", lambda: None)
        patch.setattr("collector.__main__.forbid_core_files", lambda: None)
        yield


@pytest.fixture(autouse=True)
def _still_dumpable() -> Iterator[None]:
    """Fail a test that shut its own process for good, as commands do that see plaintext.

    Those that come after it in the same process could start nothing with a core of its own.
    """
    yield
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0, "patch become_undumpable"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--data`, `--soak` and `--seed`."""
    parser.addoption(
        "--data",
        default=os.environ.get("ASSENT_TEST_DATA", str(ROOT.parent / "shared" / "data")),
        help="folder of the test data that others wrote (ASSENT_TEST_DATA)",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="run the tests marked `soak` at full size, not only their share: hours",
    )
    parser.addoption(
        "--seed",
        type=int,
        help="repeat what chance did in a run; each test that uses it prints its seed",
    )


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """Return the folder of the test data that others wrote, or skip and say so."""
    folder = Path(request.config.getoption("--data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set ASSENT_TEST_DATA or --data")
    return folder


# --- both back ends of the index ----------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Return a PostgreSQL server that all tests of this process share, each in its database."""
    with server() as running:
        yield running


NewPlace: TypeAlias = Callable[[Path], Place]


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    """Return what makes a place for a new index, with its tables: on SQLite and on PostgreSQL.

    A file of tests that takes it runs twice; `make check` runs the first half.
    """
    if request.param == "sqlite":
        return lambda folder: SqlitePlace(folder / "index.sqlite")
    running: Server = request.getfixturevalue("postgres")
    return lambda _folder: PostgresPlace(running, running.index())


# --- a store ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """Run a real S3 store, for all tests of this process that ask for one."""
    with running_ceph() as ceph:
        yield ceph


# --- long forms ---------------------------------------------------------------------------


class Size(Protocol):
    """Says how large a test runs."""

    def __call__(self, *, share: int, full: int) -> int:
        """Return *share* in `make test`, *full* in `make soak`."""
        ...


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Size:
    """Return what chooses between a test's share and its full size."""
    soaking = bool(request.config.getoption("--soak"))

    def choose(*, share: int, full: int) -> int:
        return full if soaking else share

    return choose


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return a source of chance; its seed stands in the report of a test that failed."""
    given = request.config.getoption("--seed")
    seed = random.SystemRandom().randrange(1 << 32) if given is None else int(given)
    sys.stdout.write(f"chance: --seed {seed} repeats it\n")
    return random.Random(seed)  # noqa: S311 - moments of crashes, no secret


_FIGURES: Final = pytest.StashKey[list[str]]()
_FIGURE: Final = "figure"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what puts a line, with the figures that a test saw, under the whole run's report."""
    return lambda line: request.node.user_properties.append((_FIGURE, line))


def report(config: pytest.Config, line: str) -> None:
    """Put *line* under the whole run's report; lost where tests run side by side."""
    config.stash.setdefault(_FIGURES, []).append(line)


class Figures:
    """Collects what `figure` was told, by whichever process, and prints it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures of one test, which come along with its last report."""
        if report.when == "teardown":
            lines = [str(line) for name, line in report.user_properties if name == _FIGURE]
            found = self._config.stash.setdefault(_FIGURES, [])
            found += [f"{report.nodeid}: {line}" for line in lines]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print them."""
        if lines := self._config.stash.get(_FIGURES, []):
            terminalreporter.section("figures")
            for line in lines:
                terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the long files come first where files run side by side in the order that they have."""
    if not config.getoption("loadscopereorder", default=True):
        items.sort(key=lambda item: second_look.place(item.nodeid))


def pytest_collection_finish() -> None:
    """Learn the structs while there is one thread: the programs' threads run in ours."""
    structs.learn()


def pytest_configure(config: pytest.Config) -> None:
    """Have the figures collected, and failures written down."""
    config.pluginmanager.register(Figures(config))
    if (witness := second_look.witness()) is not None:
        config.pluginmanager.register(witness)
