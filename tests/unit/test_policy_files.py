"""Whatever is wrong with a signed policy or a party's halt: collector and guard say it in one line.

Nothing that they hold changes.  That nobody may read a file is in `tests/e2e/test_bad_input.py`.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
import pytest

from base.command import outcome
from base.errors import ExitCode
from base.paths import paths_for
from collector.__main__ import cli as collector_cli
from collector.premises import Premises as CollectorPremises
from governance import policy_set
from guard.__main__ import cli as guard_cli
from guard.premises import Premises
from tests.fakes.damage import DAMAGES, later_kind, unreadable
from tests.fakes.organisation import WITNESS_NAME, Organisation, ed25519
from wire.errors import WireError
from wire.halting import Halt, sign_halt
from wire.ids import WallInstant
from wire.policy import policy_digest

ORIGIN: Final = ("init", "--origin", "https://127.0.0.1:8443", "--tenant", "acme", "--json")
CLIS: Final[dict[str, click.Command]] = {"collector": collector_cli, "guard": guard_cli}
PUBLISH: Final = ("publish", "acme")
TRUST: Final = ("trust", "acme", "--yes")
HALT: Final = ("halt", "--statement", "halt.json")
POLICY_SET: Final = ("root", "1.root", "snapshot", "targets", "policy")


@dataclass(frozen=True)
class Case:
    """A file that a person brings, and the command that takes it in the folders of *home*."""

    home: str
    words: tuple[str, ...]
    file: str

    @property
    def program(self) -> str:
        """Whose command it is."""
        return self.home.partition("-")[0]


FILES: Final = (
    *(Case("collector", PUBLISH, f"acme/{name}.json") for name in POLICY_SET),
    *(Case("guard", TRUST, f"acme/{name}.json") for name in POLICY_SET),
    *(Case("guard-lived", TRUST, f"acme/{name}.json") for name in POLICY_SET),
    *(Case(f"{program}-lived", HALT, "halt.json") for program in CLIS),
)


def ends(program: str, words: tuple[str, ...]) -> int:
    return outcome(CLIS[program], f"assent-{program}", list(words), refusals=(WireError,))


@pytest.fixture(autouse=True)
def debuggable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the test's process as it is: what a guard does to its own cannot be undone."""
    monkeypatch.setattr("guard.__main__.become_undumpable", lambda: None)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both programs, before and after they took a policy with two roots."""
    folder = tmp_path_factory.mktemp("world")
    acme = Organisation()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("guard.__main__.become_undumpable", lambda: None)
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        patch.chdir(folder)
        for program, more in (("collector", ()), ("guard", ("--name", WITNESS_NAME))):
            patch.setenv("ASSENT_HOME", str(folder / program))
            assert ends(program, (*ORIGIN, *more)) == ExitCode.DONE
        _sign(acme, folder)
        for program, words in (("collector", PUBLISH), ("guard", TRUST)):
            shutil.copytree(folder / program, folder / f"{program}-lived")
            patch.setenv("ASSENT_HOME", str(folder / f"{program}-lived"))
            assert ends(program, words) == ExitCode.DONE
    return folder


def _sign(acme: Organisation, folder: Path) -> None:
    """Sign a policy for both programs, change the council's key, and let it call a halt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSENT_HOME", str(folder / "guard"))
        guard = Premises(paths_for("guard"))
        acme.guard, acme.witness = guard.signing_key(), guard.witness_key()
        acme.guard_lease = guard.lease_key()
        patch.setenv("ASSENT_HOME", str(folder / "collector"))
        policy, collector = acme.policy(), CollectorPremises(paths_for("collector"))
        about = msgspec.structs.replace(
            policy.collector,
            origin=collector.config().origin,
            log=collector.log_verifier_key(),
            lease_key=collector.lease_public_key(),
            tls_pins=(collector.tls_pin(),),
        )
    now = datetime.now(UTC)
    acme.publish(folder / "acme", msgspec.structs.replace(policy, collector=about), at=now)
    before, acme.council = acme.council, ed25519()
    acme.name_parties(folder / "acme")
    for key in (before, acme.council, acme.controller):
        policy_set.sign(folder / "acme", key, now)
    digest = policy_digest((folder / "acme/policy.json").read_bytes())
    halt = Halt(policy=digest, why="unheard", called_at=WallInstant(int(now.timestamp() * 1e9)))
    (folder / "halt.json").write_bytes(msgspec.json.encode(sign_halt(halt, acme.council)))


def kept(home: Path) -> dict[str, bytes]:
    """Return what is in each file; logs, locks and SQLite's own aside."""
    passing = ("-shm", "-wal", "lock", ".log")
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith(passing)
    }


@pytest.mark.parametrize("case", FILES, ids=lambda c: f"{c.home}:{c.words[0]}:{c.file}")
def test_what_is_wrong_with_it_is_one_line_and_nothing_changes(
    case: Case,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Empty, half, foreign, no text at all, a folder in its place, of a later version."""
    for damage in (*(d for d in DAMAGES if d is not unreadable), later_kind, None):
        work = tmp_path / (damage.__name__ if damage else "good")
        for name in ("acme", case.home):
            shutil.copytree(world / name, work / name)
        shutil.copy(world / "halt.json", work)
        monkeypatch.chdir(work)
        monkeypatch.setenv("ASSENT_HOME", str(work / case.home))
        if damage is None:
            assert ends(case.program, case.words) == ExitCode.DONE, capsys.readouterr().err
            continue
        damage(work / case.file)
        before = kept(work)
        capsys.readouterr()
        code, said = ends(case.program, case.words), capsys.readouterr().err.splitlines()
        if code == ExitCode.USAGE:
            assert case.file in case.words
            assert "is a directory" in said[-1]
        else:
            assert code in (ExitCode.SETUP, ExitCode.REJECTED), (damage.__name__, code, said)
            assert len(said) == 1, (damage.__name__, said)
            assert len(said[0]) > len("assent-collector: ") + 20, said
        assert kept(work) == before, (damage.__name__, said)
