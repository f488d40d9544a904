"""What failed is looked at once more: a few tests, in a new process, with nothing beside them.

Tests of a real desktop on a shared machine fail now and then for want of time.  A test that
passes the second time is *unsteady*: the run goes on, names it and keeps what it said, and it
has to be mended.  There is no second look at what may have been a promise that was broken once,
nor when much failed, nor when a run did not come to its end (docs/decisions/0059).

`python -m tests.second_look` runs both parts of `make test` and, if need be, looks again.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
MOST: Final = 5  # tests; where more failed, it was not chance
TOLD: Final = "ASSENT_TEST_FAILURES"  # the file that failures are written to, a line each
CAME_LATE: Final = (  # how what was waited for in vain begins; all else may have been seen
    "TimeoutError",
    "subprocess.TimeoutExpired",
    "Failed: Timeout ",
    "demo.desktop.DesktopError: waited ",
)
OF_THE_TEST: Final = (  # what pytest notices in a thread, and says only after the test
    "pytest.PytestUnhandledThreadExceptionWarning"
)
# Files that take a minute and more: first, for the others would wait for who had one last.
LONG: Final = (
    "tests/model/test_gate_model.py",
    "tests/model/test_mutants.py",
    "tests/e2e/test_pynput_source.py",
    "tests/e2e/test_bad_surroundings.py",
    "tests/contracts/test_http_api.py",
    "tests/faults/test_collector_kill.py",
    "tests/faults/test_agent_disk_faults.py",
    "tests/e2e/test_bad_input.py",
    "tests/e2e/test_bucket.py",
    "tests/e2e/test_one_door.py",
    "tests/e2e/test_supervision.py",
    "tests/e2e/test_crash.py",
    "tests/e2e/test_session.py",
    "tests/unit/test_collector_drill.py",
    "tests/faults/test_agent_network_faults.py",
    "tests/e2e/test_run_out_notice.py",
    "tests/e2e/test_whole_path.py",
    "tests/model/test_induction.py",
    "tests/e2e/test_blindness.py",
    "tests/faults/test_release_kill.py",
    "tests/contracts/test_log_verifiers.py",
    "tests/e2e/test_scaled.py",
    "tests/faults/test_collector_drills.py",
    "tests/model/test_core_machine.py",
    "tests/unit/test_collector_workers.py",
    "tests/e2e/test_two_locks.py",
    "tests/unit/test_agent_service.py",
)
PHASES: Final = ("setup", "call", "teardown")  # xdist reports a process that died as another
TEST_FAILED: Final = 1  # pytest's exit status: it ran to its end, and something failed


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One test that failed: in which phase, and what it said."""

    test: str
    phase: str
    said: str


class Witness:
    """Writes down each failure as it is reported, by whichever process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write one line."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = str(report.longrepr) if crash is None else crash.message
            failure = Failure(test=report.nodeid, phase=str(report.when), said=said)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(failure) + b"\n")


def place(nodeid: str) -> int:
    """Return where a test comes in the run: long files first, all others as they were found."""
    file = nodeid.partition("::")[0]
    return LONG.index(file) if file in LONG else len(LONG)


def witness() -> Witness | None:
    """Return what writes failures down, if this run was told where and is not one of many."""
    path = os.environ.get(TOLD)
    return None if path is None or "PYTEST_XDIST_WORKER" in os.environ else Witness(Path(path))


def why_final(failures: Sequence[Failure], evidence: frozenset[str]) -> str:
    """Return why there is no second look at *failures*, "" if there is one.

    Args:
        failures: What failed.
        evidence: The tests that prove a promise, without their parameters.

    """
    if not failures:
        return "nothing says what failed"
    if len({_cause(failure) for failure in failures}) > MOST:
        return f"more than {MOST} tests failed"
    for failure in failures:
        if failure.phase not in PHASES:
            return f"{failure.test} ended its process"
        after = failure.phase == "teardown" and not failure.said.startswith(OF_THE_TEST)
        proves = after or failure.test.partition("[")[0] in evidence
        if proves and not failure.said.startswith(CAME_LATE):
            return f"{failure.test} may have seen something that must never be"
    return ""


def _cause(failure: Failure) -> tuple[str, str]:
    """Return what counts as one: what a file's tests share, and cannot have, fails for each."""
    if failure.phase == "setup":
        return failure.test.partition("::")[0], failure.said
    return failure.test, ""


def evidence_of(claims: Path) -> frozenset[str]:
    """Return the tests that docs/claims.toml names."""
    told = tomllib.loads(claims.read_text("utf-8"))
    return frozenset(test for claim in told["claim"] for test in claim.get("tests", ()))


def run(
    runs: Sequence[Sequence[str]], *, folder: Path, root: Path, evidence: frozenset[str]
) -> int:
    """Run pytest once for each of *runs*, then once more for what failed; return 0 if all is well.

    Args:
        runs: Arguments of each run.
        folder: Where failures are written down.
        root: Where pytest runs.
        evidence: The tests that prove a promise, without their parameters.

    """
    told = folder / "failures.jsonl"
    told.unlink(missing_ok=True)
    heard = {**os.environ, TOLD: str(told)}
    statuses = [_pytest(arguments, root, heard) for arguments in runs]
    if not any(statuses):
        return 0
    failures = _read(told)
    final = why_final(failures, evidence)
    if not set(statuses) <= {0, TEST_FAILED}:
        final = "a run did not come to its end"
    if final:
        sys.stdout.write(f"no second look: {final}\n")
        return 1
    tests = sorted({failure.test for failure in failures})
    sys.stdout.write(f"\na second look at {len(tests)} of them, with nothing beside\n")
    sys.stdout.flush()
    if _pytest(tests, root, os.environ):
        return 1
    for failure in failures:
        said = failure.said.partition("\n")[0]
        sys.stdout.write(f"UNSTEADY, to be mended: {failure.test} ({failure.phase}): {said}\n")
    return 0


def _pytest(arguments: Sequence[str], root: Path, environ: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=root, env=environ, check=False).returncode


def _read(told: Path) -> list[Failure]:
    if not told.exists():
        return []
    return [msgspec.convert(json.loads(line), Failure) for line in told.read_bytes().splitlines()]


def main() -> int:
    """Run every test; see the module's first lines."""
    # One process more than there are cores: tests of real programs wait more than they compute.
    many = (os.cpu_count() or 1) + 1
    abreast = (f"--numprocesses={many}", "--dist=loadfile", "--no-loadscope-reorder")
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    return run(
        # A file in one process; those that need a quiet desktop one by one, last.
        [
            (*abreast, "-m", "not install and (steady or not e2e)"),
            ("-m", "e2e and not steady"),
        ],
        folder=folder,
        root=ROOT,
        evidence=evidence_of(ROOT / "docs" / "claims.toml"),
    )


if __name__ == "__main__":
    sys.exit(main())
