"""What a person at a shell finds: help, man page, completion by Tab, a sound autostart entry."""

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from governance.claims import review
from tests.install.debian import CleanDebian
from tests.install.life import Lived

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(1800)]

COMMANDS: Final = tuple(f"assent-{n}" for n in ("agent", "collector", "govern", "guard", "reader"))
SHELLS: Final = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "-i"),
}
PREPARE: Final = {
    "bash": "source /usr/share/bash-completion/bash_completion; PS1=read; PS1=${PS1}y:",
    "zsh": "autoload -U compinit; compinit -u; PS1=read; PS1=${PS1}y:",
    "fish": "function fish_prompt; echo -n read; echo -n y:; end",
}
SECONDS: Final = 30.0


@pytest.fixture(scope="module")
def shells(debian: CleanDebian, packages: dict[str, Path], lived: Lived) -> Iterator[CleanDebian]:
    """A system with both packages and all that a person at a shell wants."""
    assert lived.state  # it needs the system as clean as it is; this is after it
    debian.install("bash-completion", "zsh", "fish", "man-db", "desktop-file-utils")
    debian.install(*(f"/root/{packages[name].name}" for name in ("assent", "assent-servers")))
    yield debian
    debian.run("apt-get", "purge", "--yes", "-qq", "assent")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, debian: CleanDebian, name: str) -> None:
        ours, theirs = pty.openpty()
        terminal = ("setsid", "--ctty", "env", "TERM=xterm")
        command = debian.command(*terminal, *SHELLS[name], person=True)
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._terminal = ours
        self._said = ""
        self.type(PREPARE[name] + "\n")
        self.until("ready:")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._terminal, text.encode())

    def until(self, text: str) -> str:
        """Return what it showed until *text* was there; the rest waits."""
        deadline = time.monotonic() + SECONDS
        while text not in self._said:
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self._said!r}"
            self._said += os.read(self._terminal, 4096).decode("utf-8", "replace")
        before, _, self._said = self._said.partition(text)
        return before

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "then", "said"),
    [
        ("assent-agent pau", " --help", "Usage: assent-agent pause"),
        ("assent-agent config --js", "", '"quota_bytes"'),
        ("assent-agent opt-out scr", " --all", "name one category, or say --all"),
        ("assent-guard sta", " --help", "Usage: assent-guard status"),
        ("assent-govern rev", " --help", "Usage: assent-govern review"),
    ],
)
def test_tab_completes(shells: CleanDebian, shell: str, typed: str, then: str, said: str) -> None:
    """Commands, options and what they may be given: what Tab makes of a beginning can be run."""
    with contextlib.closing(Shell(shells, shell)) as person:
        person.type(f"{typed}\t")
        person.type(f"{then}\n")
        person.until(said)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_man_page_say_the_same_commands(shells: CleanDebian, command: str) -> None:
    """`man` finds the page, shows it without a complaint, and it has each command of `--help`."""
    helped = shells.run(command, "--help", person=True)
    listed = helped.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    names = [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]
    assert names
    page = shells.run("man", "--warnings", "-P", "cat", command, person=True)
    assert [name for name in names if f"{name} " not in page] == []


def test_the_installed_privacy_review_is_ours_to_the_byte(shells: CleanDebian) -> None:
    """Whoever reads it on a server reads what was tested here."""
    assert shells.run("assent-govern", "review", person=True) == (
        f"{review().text}\nreview  {review().digest}\n"
    )


def test_the_autostart_entry_is_valid(shells: CleanDebian) -> None:
    """By the specification's own judge."""
    entry = "/etc/xdg/autostart/assent-agent.desktop"
    assert shells.run("desktop-file-validate", entry) == ""


def test_without_an_enrolment_the_autostart_ends_with_one_line(shells: CleanDebian) -> None:
    """On a machine on which nobody has enrolled, a session is as it was."""
    ran = subprocess.run(
        shells.command("/usr/bin/assent-agent", "run", person=True),
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 3
    assert "assent-agent enroll" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
