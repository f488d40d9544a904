"""A claim's test notices when the claim is not so any more.

`mutations.toml` holds lines of the code with what takes the promise out of them.  Each is put
into a copy of the tree, in which the named test, and nothing else, has to turn red; in the
same copy, unchanged, it is green.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from governance.claims import review
from tests.conftest import ROOT, Size

pytestmark = pytest.mark.slow

# What the programs and their tests are made of, and what the tests read beside them.
COPIED: Final = (
    *("wire", "base", "agent", "tray", "collector", "guard", "reader", "governance", "demo"),
    *("tests", "docs", "benchmarks", "fuzz", "packaging", "requirements"),
    *("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
)
SHARE: Final = 12
RED: Final = 1  # pytest: tests ran, and some failed; anything else says nothing of the claim
LONGEST_SECONDS: Final = 3600  # all tests once, desktops among them, on a busy machine


class Mutation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line, what stands there instead, and whom that should not escape."""

    claim: str
    file: str
    old: str
    new: str
    test: str


def mutations() -> list[Mutation]:
    text = Path(__file__).with_name("mutations.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["mutation"], list[Mutation])


class Scratch:
    """A copy of the tree, in which tests of the copy run."""

    def __init__(self, folder: Path) -> None:
        """Copy what is here now, committed or not."""
        self.folder = folder
        left_out = shutil.ignore_patterns("__pycache__", "node_modules", ".*")
        for name in COPIED:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=left_out)
            else:
                shutil.copy2(source, target)

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[None]:
        """Have the one line changed."""
        path = self.folder / mutation.file
        before = path.read_text("utf-8")
        lines = before.splitlines()
        lines[lines.index(mutation.old)] = mutation.new
        path.write_text("\n".join(lines) + "\n", "utf-8")
        try:
            yield
        finally:
            path.write_text(before, "utf-8")

    def run(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run *tests* of the copy, whose code comes before that of the environment."""
        # No byte code: a line changed twice within a second could be taken for the other one.
        own = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        pytest_ = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
        return subprocess.run(
            [*pytest_, *dict.fromkeys(tests)],
            cwd=self.folder,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_mutation_of_what_is_claimed_turns_its_test_red(
    tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Each of them, its own test; and the same tests are green where nothing was changed."""
    chosen = mutations()[: size(share=SHARE, full=len(mutations()))]
    scratch = Scratch(tmp_path / "tree")
    unchanged = scratch.run([each.test for each in chosen])
    assert unchanged.returncode == 0, unchanged.stdout[-3000:]
    survived = []
    for each in chosen:
        with scratch.mutated(each):
            ran = scratch.run([each.test])
        if ran.returncode != RED or f"FAILED {each.test}" not in ran.stdout:
            survived.append(f"{each.claim}: {each.file}: {each.new}\n{ran.stdout[-1500:]}")
    figure(f"{len(chosen)} lines changed, {len(chosen) - len(survived)} noticed")
    assert survived == [], "\n".join(survived)


def test_every_mutation_is_of_a_claim_and_its_line_is_in_the_code() -> None:
    """One line, once; and the test is one of those that are named for the claim."""
    proved = {claim.id: claim.tests for claim in review().promises}
    for each in mutations():
        assert each.test in proved.get(each.claim, ()), (each.claim, each.test)
        lines = (ROOT / each.file).read_text("utf-8").splitlines()
        assert lines.count(each.old) == 1, f"{each.file}: {each.old!r}"
        assert each.new.strip()
        assert each.new != each.old
        assert len(each.new) - len(each.new.lstrip()) == len(each.old) - len(each.old.lstrip())


def test_there_are_enough_mutations_all_over_the_programs() -> None:
    """Twenty at least, of as many different claims as that; no program goes without."""
    found = mutations()
    assert len(found) >= 20
    assert len({each.claim for each in found}) >= 20
    programs = {each.file.partition("/")[0] for each in found}
    assert programs == {
        *("agent", "tray", "collector", "guard", "reader", "governance", "wire", "base")
    }
    assert len({each.file.partition("/")[0] for each in found[:SHARE]}) >= 6
