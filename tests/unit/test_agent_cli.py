"""The command line: it shows, it restricts, and it never grants."""

import errno
import json
import os
from pathlib import Path

import pytest

from agent import control
from agent.__main__ import agent
from agent.consent.ledger import Ledger
from agent.consent.states import Consent, Flag, Pause
from base.clock import SystemClock
from base.command import outcome
from base.errors import ExitCode
from tests.fakes.workstation import Workstation
from wire.category import Category
from wire.errors import WireError


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workstation:
    """Return an enrolled workstation on which no agent runs, as this process's own."""
    home = tmp_path / "home"
    monkeypatch.setenv("ASSENT_HOME", str(home))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # Undumpable would be for good, for this process and its coverage.
    monkeypatch.setattr("agent.__main__.become_undumpable", lambda: None)
    return Workstation.enrolled(home)


def run(*words: str) -> int:
    return outcome(agent, "assent-agent", list(words), refusals=(WireError,))


def ledger(station: Workstation) -> Ledger:
    device = station.device
    return Ledger.open(station.paths.state, device.key.public_key(), SystemClock().now())


@pytest.mark.parametrize("words", [(), ("keys",), ("keys", "--yes")])
@pytest.mark.parametrize("command", ["grant", "opt-in", "resume"])
def test_what_only_a_click_can_do_says_so(
    station: Workstation, capsys: pytest.CaptureFixture[str], command: str, words: tuple[str, ...]
) -> None:
    """Whatever stands behind it: it explains itself, and ends with the code for consent."""
    assert run(command, *words) == ExitCode.CONSENT
    assert capsys.readouterr().err == f"assent-agent: {control.ONLY_IN_THE_TRAY}\n"


def test_status_says_when_no_agent_runs(
    station: Workstation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is recorded then, and how it is started."""
    assert run("status") == ExitCode.LATER
    assert "nothing is recorded" in capsys.readouterr().err
    assert run("status", "--json") == ExitCode.LATER
    assert json.loads(capsys.readouterr().out) == {"running": False}


def test_a_bundle_that_cannot_be_written_is_said_in_one_line(
    station: Workstation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The findings are shown all the same, and nothing is left of the file."""

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "bundle.tar.gz")

    monkeypatch.setattr("agent.bundle.durable.replace", full)
    assert run("doctor", "--bundle", str(tmp_path / "bundle.tar.gz")) == ExitCode.SETUP
    said = capsys.readouterr()
    assert "enrolment" in said.out
    assert said.err.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in said.err
    assert list(tmp_path.glob("*bundle*")) == []


def test_a_no_needs_no_running_agent(station: Workstation) -> None:
    """Opt-out, withdrawal and pause hold from the next start on."""
    assert run("opt-out", "screen") == ExitCode.DONE
    assert run("withdraw", "keys", "--erase") == ExitCode.DONE
    assert run("pause", "--forget", "5") == ExitCode.DONE
    assert run("forget", "5") == ExitCode.DONE
    standing = ledger(station).standing
    assert standing.flags[Category.SCREEN] is Flag.OPTED_OUT
    assert standing.flags[Category.KEYS] is Flag.CLEAR
    assert standing.consents[Category.KEYS] is Consent.WITHDRAWN
    assert [each.category for each in standing.erasing] == [Category.KEYS]
    assert standing.pause is Pause.PAUSED


@pytest.mark.parametrize(
    "words",
    [
        ("opt-out",),
        ("opt-out", "screen", "--all"),
        ("opt-out", "microphone"),
        ("withdraw",),
        ("erase", "--from", "yesterday", "--to", "2027-03-01"),
        ("erase", "--from", "2027-03-01", "--to", "2027-3-2"),
        ("forget", "0"),
        ("forget", "many"),
        ("pause", "--forget", "-1"),
        ("pause", "--forget", "100000"),
        ("nonsense",),
    ],
)
def test_a_command_that_is_not_understood_changes_nothing(
    station: Workstation, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """And says how it is written."""
    assert run(*words) == ExitCode.USAGE
    assert capsys.readouterr().err
    assert not (station.paths.state / "consent.jsonl").exists()


def test_config_shows_what_is_in_force(
    station: Workstation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths, configuration, opt-outs and the policy, for people and for programs."""
    (station.paths.config / "config.toml").write_text('opt_out = ["screen"]\n', "utf-8")
    assert run("config", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts["paths"]["state"] == str(station.paths.state)
    assert facts["opt_outs"] == {"configuration": ["screen"]}
    assert facts["policy"]["collector"] == station.policy.collector.origin
    assert run("config") == ExitCode.DONE
    shown = capsys.readouterr().out
    assert station.policy.collector.origin in shown
    assert "opt_out       screen\n" in shown
    assert not set("{}<>'") & set(shown)  # a person reads it


def test_an_unknown_key_is_one_line(
    station: Workstation, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and the exit code for set-up."""
    (station.paths.config / "config.toml").write_text("colour = 1\n", "utf-8")
    for command in ("config", "run"):
        assert run(command) == ExitCode.SETUP
        assert capsys.readouterr().err.count("\n") == 1


def test_run_without_an_enrolment_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and the exit code for set-up."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path))
    monkeypatch.setattr("agent.__main__.become_undumpable", lambda: None)
    monkeypatch.setattr("agent.__main__.start_logging", lambda *_a, **_k: None)
    assert run("run") == ExitCode.SETUP
    assert "assent-agent enroll FILE" in capsys.readouterr().err


def test_run_outside_a_desktop_session_says_so(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over ssh there is no icon to show, so there is nothing to try again and again."""
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("agent.__main__.start_logging", lambda *_a, **_k: None)
    assert run("run") == ExitCode.SETUP
    said = capsys.readouterr().err
    assert said == "assent-agent: DISPLAY is not set: Start the agent inside a desktop session.\n"


@pytest.mark.parametrize("command", sorted(agent.commands))
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """`--help` of each says what it does."""
    assert run(command, "--help") == ExitCode.DONE
    assert len(capsys.readouterr().out.splitlines()) >= 4


def test_there_is_no_command_that_lets_more_in() -> None:
    """What is there is this list; a new command has to be thought about here."""
    assert set(agent.commands) == {
        "run", "enroll", "status", "config", "doctor",  # look
        "receipts", "erasures",
        "pause", "opt-out", "withdraw", "forget", "erase",  # restrict
        "rights",  # the same without the device
        "grant", "opt-in", "resume",  # refuse, and say where
    }  # fmt: skip
