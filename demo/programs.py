"""Runs the product's programs the way an operator would: their commands, a folder each.

`Program.run` waits for one command, `Program.serve` keeps one running; both use a folder of
their own (`ASSENT_HOME`), so that six programs on one machine share nothing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from base.errors import AssentError

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
STEP_SECONDS: Final = 0.02


class ProgramError(AssentError):
    """A command failed; the message is what it said."""


def side_by_side(*acts: Callable[[], object]) -> None:
    """Do all of *acts*, as many at once as there are cores, each in a thread.

    The first error is raised once all have ended: no command is left running.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        under_way = [threads.submit(act) for act in acts]
    for each in under_way:
        each.result()


class Program:
    """One of the six programs, with a folder below *folder*."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.module = module
        self.home = folder / module
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder / "tmp"  # below *folder* as all else, so that it is searched too
        temporary.mkdir(exist_ok=True, mode=0o700)
        own = {"ASSENT_HOME": str(self.home)}
        self.env = {**os.environ, "TMPDIR": str(temporary), **(env or {}), **own}
        self.log = self.home / "output.log"
        self._running: subprocess.Popen[bytes] | None = None

    def run(self, *words: str | Path, accept: tuple[int, ...] = (0,)) -> str:
        """Run one command to its end and return what it printed.

        Raises:
            ProgramError: It ended with a code that is not in *accept*.

        """
        ran = subprocess.run(
            self._command(words), env=self.env, capture_output=True, text=True, check=False
        )
        if ran.returncode not in accept:
            said = ran.stderr.strip() or ran.stdout.strip()
            line = " ".join(map(str, words))
            raise ProgramError(f"{self.module} {line}: exit code {ran.returncode}: {said}")
        return ran.stdout

    def facts(self, *words: str | Path) -> Any:  # noqa: ANN401 - whatever the command prints
        """Run one command that prints JSON and return it."""
        return msgspec.json.decode(self.run(*words, "--json"))

    def serve(self, *words: str | Path) -> int:
        """Start a command that keeps running, its output to `output.log`; return its pid."""
        # It ends with us, however we end.  Core files are wanted: what a crash leaves on the
        # disk is searched, too.
        bound = ["setpriv", "--pdeathsig", "KILL", "--", "prlimit", "--core=unlimited", "--"]
        command = [*bound, *self._command(words)]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                command,
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,
            )
        return self._running.pid

    @property
    def pid(self) -> int:
        """The process that `serve` started."""
        if self._running is None:
            raise ProgramError(f"{self.module} is not running")
        return self._running.pid

    def ended(self) -> int | None:
        """Return the exit code of what `serve` started, or None while it runs."""
        return None if self._running is None else self._running.poll()

    def wait_until(
        self, what: str, holds: Callable[[], object], seconds: float = READY_SECONDS
    ) -> None:
        """Wait until *holds* returns something true.

        Raises:
            ProgramError: It did not within *seconds*, or the program ended meanwhile.

        """
        deadline = time.monotonic() + seconds
        while not holds():
            code = self.ended()
            if code is not None:
                raise ProgramError(f"{self.module} ended with {code}: {self.last_lines()}")
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.module}: no {what} in {seconds} s: {self.last_lines()}")
            time.sleep(STEP_SECONDS)

    def last_lines(self, count: int = 5) -> str:
        """Return the end of what the running program said."""
        return " | ".join(self.log.read_text("utf-8", "replace").splitlines()[-count:])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Stop what `serve` started and return its exit code."""
        if self._running is None:
            return None
        if self._running.poll() is None:
            self._running.send_signal(how)
            try:
                self._running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
        code = self._running.returncode
        self._running = None
        return code

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", self.module, *map(str, words)]
