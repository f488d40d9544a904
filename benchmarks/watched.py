"""A workstation whose agent is watched: `benchmarks.watched_agent`, and the caller's side of it."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from agent import control
from agent.consent.policy import read_fetched
from base.errors import RetryableError
from benchmarks.watched_agent import CLICKS, SILENCES, VARIABLE, Silence
from demo.desktop import DesktopError
from demo.programs import Program
from demo.typist import sent_file
from demo.workstation import Workstation
from wire.category import Category
from wire.control import Answer, Command, GetStatus, Grant, Refused, Status
from wire.policy import decode_policy, words_sha256

PATIENCE_SECONDS: Final = 300.0  # a busy machine starves the panel, and the icon with it
NUDGE_SECONDS: Final = 3.0  # a window that came in between may have the focus
STEP_SECONDS: Final = 0.005


class WatchedAgent(Program):
    """The agent's program, watched."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(module, folder, {**(env or {}), VARIABLE: str(folder)})

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        return [sys.executable, "-m", "benchmarks.watched_agent", *map(str, words)]


class WatchedStation(Workstation):
    """The workstation around it."""

    makes_agent: ClassVar[type[Program]] = WatchedAgent

    def say(self, command: Command) -> Answer:
        """Return the answer to a command on the named socket, as `assent-agent` says it."""
        runtime = Path(self.desktop.env["XDG_RUNTIME_DIR"]) / "assent/agent"
        return _answered(runtime, command)

    def click(self, command: Command) -> Answer:
        """Return the answer to what else takes a click in the tray's own window.

        Raises:
            DesktopError: It was refused.

        """
        answer = _answered(self.folder / CLICKS, command)
        if isinstance(answer, Refused):
            raise DesktopError(answer.why)
        return answer

    def agree(self, *categories: Category) -> None:
        """Agree to *categories* once more, to the words of the policy in force."""
        fetched = read_fetched(self.agent.home / "state")
        if fetched is None:
            raise DesktopError("the agent has no policy")
        policy = decode_policy(fetched.policy)
        for category in categories:
            words = words_sha256(policy, category)
            self.click(Grant(category=category, words_sha256=words))

    def record(self) -> None:
        """Return when everything is recorded; put the terminal in front where it is not."""
        nudged = time.monotonic()
        deadline = nudged + PATIENCE_SECONDS
        while len((status := self.ask()).recording) < len(Category):
            if time.monotonic() > deadline:
                raise DesktopError(f"not everything is recorded: {status}")
            if time.monotonic() > nudged + NUDGE_SECONDS:
                nudged = time.monotonic()
                self.person.activate("work")
            time.sleep(STEP_SECONDS)

    def until(self, what: str, holds: Callable[[Status], bool]) -> None:
        """Return when *holds* of what the agent says."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(status := self.ask()):
            if time.monotonic() > deadline:
                raise DesktopError(f"waited in vain for {what}: {status}")
            time.sleep(STEP_SECONDS)

    @staticmethod
    def let_pass(seconds: float) -> None:
        """Return after so long: chance chose the moment, nothing is waited for."""
        time.sleep(seconds)

    def let_type(self, bytes_more: int) -> None:
        """Return when the record of what the typist made is so many bytes longer."""
        record = sent_file(self.typist.record)
        wanted = record.stat().st_size + bytes_more
        deadline = time.monotonic() + PATIENCE_SECONDS
        while record.stat().st_size < wanted:
            if time.monotonic() > deadline:
                raise DesktopError("the typist does not type")
            time.sleep(STEP_SECONDS)

    def silences(self) -> list[Silence]:
        """Return each opening of a source that is over."""
        lines = (self.folder / SILENCES).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Silence) for line in lines]

    def ask(self) -> Status:
        """Return how the agent says it is."""
        status = self.say(GetStatus())
        if not isinstance(status, Status):
            raise DesktopError(f"the agent does not say how it is: {status}")
        return status


def _answered(folder: Path, command: Command) -> Answer:
    """Return the answer; an agent whose disk hangs answers late, and is asked again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(RetryableError):
            if (answer := control.ask(folder, command)) is not None:
                return answer
            raise DesktopError("no agent runs")
    raise DesktopError("the agent does not answer")
