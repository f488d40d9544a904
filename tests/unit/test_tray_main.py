"""The tray's command line: where no icon can be shown it ends with one clear line."""

import os
import socket
import subprocess
import sys

from base.errors import ExitCode


def run(*arguments: str, pass_fds: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """Run the tray without any display."""
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "tray", *arguments],
        env={name: value for name, value in os.environ.items() if name not in hidden},
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_without_a_display_it_ends_with_one_line_and_the_code_for_setup() -> None:
    """No fall-back to an icon that cannot be clicked: no indicator, no recording."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run("--channel", str(theirs.fileno()), pass_fds=(theirs.fileno(),))
    assert done.returncode == ExitCode.SETUP
    (line,) = [each for each in done.stderr.splitlines() if "assent-tray" in each]
    assert "no icon can be shown, so nothing will be recorded" in line
    assert "Traceback" not in done.stderr


def test_without_a_channel_it_says_who_starts_it() -> None:
    """A person who starts it by hand learns what to do instead."""
    done = run()
    assert done.returncode == ExitCode.USAGE
    assert "--channel" in done.stderr
    assert "assent-agent run" in run("--help").stdout
