"""Every command line ends in one line and a code that means something."""

import click
import pytest

from base.command import outcome
from base.errors import ConsentError, ExitCode, RejectedError, RetryableError, SetupError


class ForeignError(Exception):
    """What a program calls a refusal, as wire's errors are."""


CASES: list[tuple[Exception, int, str]] = [
    (SetupError("mend it"), ExitCode.SETUP, "prog: mend it\n"),
    (ConsentError("ask"), ExitCode.CONSENT, "prog: ask\n"),
    (RetryableError("later"), ExitCode.LATER, "prog: later\n"),
    (RejectedError("never"), ExitCode.REJECTED, "prog: never\n"),
    (ForeignError("forged"), ExitCode.REJECTED, "prog: forged\n"),
    (click.Abort(), ExitCode.FAILED, "prog: stopped; nothing was done\n"),
    (
        FileNotFoundError(2, "No such file", "x"),
        ExitCode.SETUP,
        "prog: x: No such file; check the path\n",
    ),
]


@pytest.mark.parametrize(("error", "code", "said"), CASES, ids=lambda v: type(v).__name__)
def test_an_error_is_one_line_and_its_code(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for what a person can act on."""

    @click.command()
    def command() -> None:
        raise error

    assert outcome(command, "prog", [], refusals=(ForeignError,)) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("kind", [RejectedError, ForeignError])
def test_what_the_other_side_said_steers_no_terminal(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """A collector's error may hold what it likes; here it is one line, and ends."""

    @click.command()
    def command() -> None:
        raise kind("the collector says: \x1b]0;owned\x07\x1b[2J\nall well" + "x" * 10**6)

    assert outcome(command, "prog", [], refusals=(ForeignError,)) == ExitCode.REJECTED
    said = capsys.readouterr().err
    assert said.startswith("prog: the collector says: ]0;owned [2J all wellx")
    assert said[:-1].isprintable()
    assert len(said) < 3_000


def test_a_defect_of_ours_is_not_hidden() -> None:
    """What nobody foresaw keeps its traceback."""

    @click.command()
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        outcome(command, "prog", [], refusals=())


def test_help_is_done_and_a_wrong_option_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit codes 0 and 2, as click has them."""

    @click.command()
    def command() -> None:
        """Teach."""

    assert outcome(command, "prog", ["--help"], refusals=()) == ExitCode.DONE
    assert "Teach." in capsys.readouterr().out
    assert outcome(command, "prog", ["--nope"], refusals=()) == ExitCode.USAGE
    assert outcome(command, "prog", [], refusals=()) == ExitCode.DONE
