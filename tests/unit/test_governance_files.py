"""Whatever is wrong with a file that `assent-govern` reads: one clear line, and nothing changes.

`FILES` has each of them with the commands that read it; `Case.of` says what else may happen.
That nobody may read a file is in `tests/e2e/test_bad_input.py`, which has no rights of root.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import pytest

from base.command import outcome
from base.errors import ExitCode
from governance.__main__ import cli
from tests.fakes.damage import (
    DAMAGES,
    Damage,
    a_folder,
    empty,
    foreign,
    garbled,
    later_kind,
    truncated,
)
from tests.fakes.damage import unreadable as _needs_another_user
from tests.fakes.governed import governed
from wire.errors import WireError


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, a command that reads it, and what is a file of that kind all the same."""

    file: str
    words: str
    harmless: tuple[Damage, ...] = ()
    later: bool = True  # a later version can be told by it

    def damages(self) -> Iterator[Damage]:
        """Return what can be wrong with it."""
        yield from (d for d in DAMAGES if d not in (*self.harmless, _needs_another_user))
        if self.later:
            yield later_kind


SIGN: Final = "sign policy --key ada/policy-key.pem --yes"
FIRST_OF_TWO: Final = (
    "sign empty --key ada/policy-key.pem --public ada/policy-key.public.json "
    "--public grace/policy-key.public.json --yes"
)
LOCKED: Final = "--passphrase-file passphrase.txt"
FIRST: Final = f"sign unsigned --key locked/policy-key.pem {LOCKED} --yes"
APPROVE: Final = "approve request.json --name Ada --key ada/approver-key.pem --yes --out new.json"
HALT: Final = "halt policy unheard --key ada/policy-key.pem --out new.json"
HALT_LOCKED: Final = f"halt rotated unheard --key locked/policy-key.pem {LOCKED} --out new.json"
DIFF: Final = "diff policy/policy.json empty/policy.json"
REVIEW: Final = "review --policy policy/policy.json --out review.txt"
SIGN_ROTATED: Final = "sign rotated --key grace/policy-key.pem --yes"
ROTATE: Final = "recipient rotate policy/policy.json recipient.json"
GUARD: Final = "guard rotate policy/policy.json guard.json"
REVOKE: Final = "recipient revoke policy/policy.json e46974b7"
DRAFT: Final = "draft new.json --controller Acme"
RECEIPT: Final = "receipt verify receipt.json --key device.pem"
AUDIT: Final = (
    "audit audit --root audited/root.json --seen audited/seen.txt --opened audited/opened.txt "
    "--at 2027-03-19"
)
TEXT: Final = (empty, truncated, foreign)  # which the lint or a person judges

FILES: Final = (
    *(
        Case(file=f"policy/{name}.json", words=words)
        for name in ("policy", "root", "snapshot", "targets")
        for words in (SIGN, "show policy", "verify policy", f"{APPROVE} --policy policy")
    ),
    *(
        Case(file=f"rotated/{name}.json", words=words)
        for name in ("1.root", "parties/acme-ltd")
        for words in (SIGN_ROTATED, *(("verify rotated",) if name == "1.root" else ()))
    ),
    *(Case(file=f"policy/{name}.json", words=HALT) for name in ("policy", "root", "targets")),
    Case(file="policy/policy.json", words="lint policy/policy.json"),
    Case(file="policy/policy.json", words=DIFF),
    Case(file="empty/policy.json", words=DIFF),
    Case(file="policy/policy.json", words=REVIEW),
    Case(
        file="review.txt", words=REVIEW, harmless=(empty, truncated, foreign, garbled), later=False
    ),
    Case(file="unsigned/policy.json", words=FIRST),
    Case(file="unsigned/parties/locked.json", words=FIRST),
    Case(file="passphrase.txt", words=FIRST, later=False),
    Case(file="ada/policy-key.pem", words=SIGN, later=False),
    Case(file="ada/policy-key.pem", words=FIRST_OF_TWO, later=False),
    Case(file="ada/policy-key.pem", words=HALT, later=False),
    Case(file="locked/policy-key.pem", words=HALT_LOCKED, later=False),
    Case(file="passphrase.txt", words=HALT_LOCKED, later=False),
    Case(file="ada/policy-key.public.json", words=FIRST_OF_TWO),
    Case(file="grace/policy-key.public.json", words=FIRST_OF_TWO),
    Case(file="ada/approver-key.pem", words=APPROVE, later=False),
    Case(
        file="ada/approver-key.public.json",
        words=f"{DRAFT} --approver ada/approver-key.public.json",
    ),
    Case(
        file="passphrase.txt",
        words="keys new carol --party Acme --passphrase-file passphrase.txt",
        harmless=(truncated, foreign),
        later=False,
    ),
    Case(
        file="passphrase.txt",
        words=f"{APPROVE} {LOCKED}".replace("ada/", "locked/"),
        later=False,
    ),
    Case(file="notice.txt", words=f"{DRAFT} --notice-file notice.txt", harmless=TEXT, later=False),
    Case(
        file="recipient.txt",
        words=f"{DRAFT} --recipient Readers=recipient.txt",
        harmless=TEXT,
        later=False,
    ),
    Case(
        file="first.json",
        words=f"{DRAFT} --recipient training-team=first.json",
        harmless=(empty,),
    ),
    Case(file="recipient.json", words=ROTATE),
    Case(file="guard.json", words=GUARD),
    *(Case(file="policy/policy.json", words=words) for words in (ROTATE, REVOKE, GUARD)),
    Case(file="request.json", words=APPROVE),
    Case(file="grant.json", words=APPROVE.replace("request.json", "grant.json")),
    Case(file="grant.json", words=APPROVE.replace("new.json", "grant.json")),
    Case(file="receipt.json", words=RECEIPT),
    Case(file="device.pem", words=RECEIPT, later=False),
    Case(file="audit/SHA256SUMS", words=AUDIT, later=False),
    Case(file="audit/bundle.json", words=AUDIT),
    Case(file="audit/log/checkpoint", words=AUDIT, later=False),
    Case(file="audit/consents.jsonl", words=AUDIT, later=False),
    Case(file="audit/batches/0000000.jsonl", words=AUDIT, later=False),
    Case(file="audited/root.json", words=AUDIT),
    Case(file="audited/seen.txt", words=AUDIT, later=False),
    Case(file="audited/opened.txt", words=AUDIT, harmless=(empty,), later=False),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every file that governance knows."""
    return governed(tmp_path_factory.mktemp("governed"))


def ends(words: str) -> int:
    return outcome(cli, "assent-govern", words.split(), refusals=(WireError,))


def contents(home: Path) -> dict[str, bytes | None]:
    """Return what is in each file; None for a folder."""
    return {
        str(path.relative_to(home)): path.read_bytes() if path.is_file() else None
        for path in home.rglob("*")
    }


@pytest.mark.parametrize("case", FILES, ids=lambda case: f"{case.file}:{case.words.split()[0]}")
def test_a_file_that_will_not_do_is_one_line_and_nothing_changes(
    case: Case,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Empty, half, foreign, no text at all, a folder in its place, of a later version.

    What a person names on the command line and is no file is a mistake in the command line.
    """
    shutil.copytree(home, tmp_path / "good")
    monkeypatch.chdir(tmp_path / "good")
    assert ends(case.words) == ExitCode.DONE, capsys.readouterr().err
    for damage in case.damages():
        work = shutil.copytree(home, tmp_path / damage.__name__)
        damage(work / case.file)
        before = contents(work)
        monkeypatch.chdir(work)
        capsys.readouterr()
        code = ends(case.words)
        said = capsys.readouterr().err.splitlines()
        named = damage is a_folder and case.file in re.split("[ =]", case.words)
        if named and code == ExitCode.USAGE:
            assert "is a directory" in said[-1]
        else:
            assert code in (ExitCode.SETUP, ExitCode.REJECTED), (damage.__name__, code, said)
            assert len(said) == 1, (damage.__name__, said)
            assert len(said[0]) > len("assent-govern: ") + 20, said
        assert contents(work) == before, (damage.__name__, said)


def test_every_file_of_governance_is_in_the_table(home: Path) -> None:
    """A new one without a row ends here; so does a row whose file nobody makes any more."""
    same = r"grace/.*|.*\.public\.json|.*/parties/.*|empty/.*|locked/.*"
    # The others of the bundle are as those that have a row.
    same += r"|audit/(log/.*/|releases/).*|audit/log/checkpoints.jsonl|audit/[^b][^/]*\.jsonl"
    twins = re.compile(rf"{same}|rotated/(policy|root|snapshot|targets)\.json")
    files = {name for name, content in contents(home).items() if content is not None}
    rows = {case.file for case in FILES}
    assert {name for name in files if not twins.fullmatch(name)} <= rows
    assert rows <= files


def test_every_command_that_takes_a_file_is_in_the_table() -> None:
    """One more option or argument that names a file has to be given a row."""
    missing = [
        f"{' '.join(words)} {parameter.opts[0]}"
        for words, parameter in paths_of(cli, ())
        if not any(takes(case.words, words, parameter) for case in FILES)
    ]
    assert missing == []


def paths_of(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Yield each parameter that names a file or a folder, with the words of its command."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from paths_of(each, (*words, name))
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            yield words, parameter


def takes(line: str, words: tuple[str, ...], parameter: click.Parameter) -> bool:
    given = line.split()
    same = tuple(given[: len(words)]) == words
    return same and (isinstance(parameter, click.Argument) or parameter.opts[0] in given)
