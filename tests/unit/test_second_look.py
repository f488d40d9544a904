"""Which failures are looked at again, and which never are."""

from pathlib import Path

import pytest

from tests.second_look import LONG, MOST, Failure, evidence_of, place, run, why_final

PROOF = "tests/unit/test_gate.py::test_a_promise"
NONE: frozenset[str] = frozenset()

CONFTEST = """
from tests.second_look import witness
def pytest_configure(config):
    if (plugin := witness()) is not None:
        config.pluginmanager.register(plugin)
"""

# Fails the first time that it runs in a folder, and says what it is told to.
ONCE = """
import pathlib
def test_a_promise():
    seen = pathlib.Path("seen")
    if not seen.exists():
        seen.touch()
        {fails}
"""


def failed(
    test: str = PROOF, *, phase: str = "call", said: str = "TimeoutError: no icon"
) -> Failure:
    return Failure(test=test, phase=phase, said=said)


def test_what_came_too_late_is_looked_at_again() -> None:
    """Even a proof: nothing was seen that must not be."""
    assert why_final([failed()], frozenset({PROOF})) == ""


@pytest.mark.parametrize(
    "said",
    [
        "assert 1 == 0",
        "AssertionError: x",
        "Failed: DID NOT RAISE",
        "ExceptionGroup: Hypothesis found 2 distinct failures",
        "subprocess.CalledProcessError: died with SIGSEGV",
    ],
)
def test_a_promise_that_was_seen_broken_once_is_broken(said: str) -> None:
    """However often it is kept afterwards, and with whatever parameters."""
    assert why_final([failed(PROOF + "[x]", said=said)], frozenset({PROOF}))
    assert not why_final([failed(said=said)], NONE)


def test_what_holds_for_every_test_is_never_looked_at_again() -> None:
    """No way out of this machine is looked for after each test."""
    assert why_final([failed(phase="teardown", said="assert ['socket.connect'] == []")], NONE)


def test_when_much_fails_it_is_not_chance() -> None:
    """The limit counts tests, not failures."""
    assert not why_final([failed(f"t{each % MOST}") for each in range(2 * MOST)], NONE)
    assert why_final([failed(f"t{each}") for each in range(MOST + 1)], NONE)
    shared = [failed(f"a.py::t{each}", phase="setup") for each in range(MOST + 1)]
    assert not why_final(shared, NONE)


def test_long_files_come_first(pytestconfig: pytest.Config) -> None:
    """Those that are named are there; all others stay in their order."""
    assert all((pytestconfig.rootpath / name).is_file() for name in LONG)
    found = ["tests/a.py::t", f"{LONG[1]}::t[x]", "tests/b.py::t", f"{LONG[0]}::t"]
    assert sorted(found, key=place) == [found[3], found[1], found[0], found[2]]


def test_the_tests_of_the_claims_are_the_evidence(pytestconfig: pytest.Config) -> None:
    """They are written like a test's own name, so that they match."""
    evidence = evidence_of(pytestconfig.rootpath / "docs" / "claims.toml")
    assert all(test.startswith("tests/") and "::" in test for test in evidence)


LATE, BROKEN, ENDED = "raise TimeoutError('late')", "assert not 'leaked'", "import os; os._exit(3)"
ALONE, ABREAST = (), ("-p", "xdist", "--numprocesses=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "how", "status"),
    [(LATE, ABREAST, 0), (BROKEN, ABREAST, 1), (ENDED, ABREAST, 1), (ENDED, ALONE, 1)],
    ids=["late", "broken", "ended beside others", "ended"],
)
def test_a_run_passes_at_its_second_try_only_when_nothing_was_broken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fails: str,
    how: tuple[str, ...],
    status: int,
) -> None:
    """With pytest itself; what was unsteady is named."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_once.py").write_text(ONCE.format(fails=fails))
    evidence = frozenset({"test_once.py::test_a_promise"})
    assert run([how, ALONE], folder=tmp_path, root=tmp_path, evidence=evidence) == status
    assert ("UNSTEADY" in capfd.readouterr().out) == (status == 0)


IN_A_THREAD = "import threading; t = threading.Thread(target=int, args='x'); t.start(); t.join()"


@pytest.mark.slow
@pytest.mark.parametrize("evidence", [NONE, frozenset({"test_once.py::test_a_promise"})])
def test_what_a_thread_of_the_test_raised_is_the_test_s_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evidence: frozenset[str],
) -> None:
    """Pytest says it only after the test; evidence stays evidence."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_once.py").write_text(ONCE.format(fails=IN_A_THREAD))
    assert run([ALONE], folder=tmp_path, root=tmp_path, evidence=evidence) == bool(evidence)
