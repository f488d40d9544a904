"""Whoever holds a secret key cannot be looked into by another process of the same user."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import pytest

import agent.__main__
import collector.__main__
import governance.__main__
import guard.__main__
import reader.__main__
from base.command import outcome
from base.errors import ExitCode, SetupError

STATE = """
import ctypes, os, resource
from base.process import forbid_tracing
os.umask(0o022)
forbid_tracing()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), os.umask(0))
"""

# command, its words, where it closes the process, and what reads or makes the key after that
HOLDERS = [
    (agent.__main__.agent, ["rights", "withdraw", "--key", "k"], "agent.rights", "read_card"),
    (agent.__main__.agent, ["rights", "erase", "--key", "k"], "agent.rights", "read_card"),
    (
        governance.__main__.cli,
        ["halt", ".", "why", "--key", "k", "--out", "o"],
        "governance.options",
        "read_private",
    ),
    (
        governance.__main__.cli,
        ["keys", "new", "folder", "--party", "Acme"],
        "governance.keys_command",
        "new_key",
    ),
    (reader.__main__.cli, ["keygen", "--name", "lab"], "reader.__main__", "reader.keys.make_keys"),
    (reader.__main__.cli, ["keys", "rotate"], "reader.__main__", "reader.keys.rotate"),
    (guard.__main__.cli, ["status"], "guard.__main__", "our_premises"),
    (
        guard.__main__.cli,
        ["keys", "announce"],
        "guard.__main__",
        "guard.keys_commands.our_premises",
    ),
    (guard.__main__.cli, ["tls", "renew"], "guard.__main__", "guard.tls_commands.our_premises"),
    (guard.__main__.cli, ["backup", "b"], "guard.__main__", "guard.backup_commands.our_premises"),
    (
        collector.__main__.cli,
        ["token", "--out", "o"],
        "collector.__main__",
        "collector.commands.enrolment.our_premises",
    ),
    (
        collector.__main__.cli,
        ["ca", "begin"],
        "collector.__main__",
        "collector.commands.rotate._premises",
    ),
    (collector.__main__.cli, ["status"], "collector.__main__", "our_premises"),
]


@pytest.mark.parametrize(
    ("command", "words", "module", "key"), HOLDERS, ids=[" ".join(held[1][:2]) for held in HOLDERS]
)
def test_the_process_is_closed_before_a_key_is_in_it(
    command: click.Command,
    words: list[str],
    module: str,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No core file and no tracing from then on; the key comes after that."""
    seen: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    Path("k").touch()

    def note(word: str) -> Callable[..., None]:
        return lambda *_args, **_options: seen.append(word)

    def read(*_args: object, **_options: object) -> NoReturn:
        seen.append("key")
        raise SetupError("far enough")

    close = "become_undumpable" if module == "agent.rights" else "forbid_tracing"
    monkeypatch.setattr(f"{module}.{close}", note("closed"))
    monkeypatch.setattr(key if "." in key else f"{module}.{key}", read)
    assert outcome(command, "prog", words, refusals=()) == ExitCode.SETUP
    assert seen == ["closed", "key"]


def test_the_collectors_server_leaves_no_core_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be looked into, which the proof of blindness does; its keys lie in no file."""
    seen: list[str] = []

    def serves() -> NoReturn:
        seen.append("serves")
        raise SetupError("far enough")

    monkeypatch.setattr("collector.__main__.forbid_tracing", lambda: seen.append("closed"))
    monkeypatch.setattr("collector.__main__.forbid_core_files", lambda: seen.append("no core"))
    monkeypatch.setattr("collector.__main__.our_premises", serves)
    code = outcome(collector.__main__.cli, "prog", ["serve"], refusals=())
    assert code == ExitCode.SETUP
    assert seen == ["no core", "serves"]


def test_a_closed_process_leaves_no_core_and_still_writes_for_others() -> None:
    """Not dumpable, and public keys are readable to the other parties."""
    said = subprocess.run(
        [sys.executable, "-c", STATE], check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout.split("\n")[0] == "0 (0, 0) 18"
