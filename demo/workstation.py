"""A data subject's workstation: a virtual desktop, the enrolled agent, and the person at it.

`Workstation` starts all of it in one folder and stops it again.  What the person does goes
through `person` (mouse and eyes) and `typist` (keyboard, with a record of every stroke).
"""

import base64
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import msgspec

from agent import control
from agent.decisions import VARIABLE as DECISIONS
from base.errors import RetryableError
from demo.desktop import DesktopError, VirtualDesktop, wait_until
from demo.person import Person
from demo.programs import Program
from demo.typist import Typist
from wire.category import Category, registry
from wire.control import Answer, GetStatus, Status

CONSENT: Final = "Assent: what may be recorded"
RESUME: Final = "Assent: your pause is over"
RESUME_EARLY: Final = "Assent: your pause still runs"
OPT_IN: Final = "Assent: opt in again"
WITHDRAW: Final = "Assent: withdraw consent"
PAUSE: Final = "Pause for 30 minutes"
POLL_SECONDS: Final = 0.1
SETTLED_SECONDS: Final = 0.3


class Workstation:
    """One workstation below *folder*."""

    makes_agent: ClassVar[type[Program]] = Program
    when_stopped: ClassVar[list[Callable[[Path], None]]] = []
    """Called with the file of the agent's decisions, once agent and desktop are stopped."""

    def __init__(self, folder: Path, enrolment: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.decisions = folder / "decisions.jsonl"
        self.desktop = VirtualDesktop(folder / "desktop")
        self.env = env or {}
        self._enrolment = enrolment
        self._was_asked = False
        self._parts: list[Any] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self) -> None:
        self.desktop.start()
        watched = {DECISIONS: str(self.decisions), **self.env}
        self.agent = self.makes_agent("agent", self.folder, {**self.desktop.env, **watched})
        self.typist = Typist(self.desktop.env, self.folder / "typed.jsonl")
        self.person = Person(self.desktop.env, self.typist.leave_the_mouse)
        self._parts = [self.typist]
        self.rights_key = self.folder / "rights-key.txt"
        self.agent.run("enroll", self._enrolment, "--rights-key", self.rights_key)
        self.run_agent()

    def run_agent(self) -> None:
        """Start the agent and wait until its tray is on the panel."""
        self.agent.serve("run")
        self.agent.wait_until("icon on the panel", self.person.sees_tray)

    def stop(self) -> None:
        """Stop agent and desktop."""
        if hasattr(self, "agent"):
            self.agent.stop()
        for part in self._parts:
            part.close()
        self.desktop.stop()
        for look in self.when_stopped:
            look(self.decisions)

    # --- what the person does -----------------------------------------------------------

    def open_terminal(self, title: str = "work") -> int:
        """Open a terminal whose screen is cleared by Return, and give it the focus.

        Returns its process id.
        """
        command = ["xterm", "-geometry", "100x30+60+60", "-T", title]
        command += ["-e", "sh", "-c", "while read -r line; do clear; done"]
        terminal = self.desktop.run(f"terminal-{title}", command)
        self.person.activate(title, 20)
        return terminal.pid

    def consent(self, *categories: Category, picture: Path | None = None) -> None:
        """Switch categories on in the consent window, and agree.

        It opens by itself the first time; a click that opens it too would begin its quiet
        anew, in which clicks count for nothing.
        """
        if self._was_asked or not self._soon(CONSENT):
            self.person.click_tray("What may be recorded…")
        self._was_asked = True
        self.person.wait_for_window(CONSENT)
        for category in categories:
            title = registry()[category].title
            self.person.click(CONSENT, title)
            wait_until(f"{title} to be on", partial(self.person.is_on, CONSENT, title))
        if picture is not None:
            self.desktop.screenshot(picture)
        self.person.click(CONSENT, "Agree to the selected")
        self.wait_for_status("the grants", lambda s: set(categories) <= granted(s))

    def pause(self, picture: Path | None = None) -> dict[str, Any]:
        """Click on "Pause for 30 minutes", once; return the status once it says paused."""
        self.person.click_tray(PAUSE, screenshot=picture)
        return self.wait_for_status("the pause", lambda s: s["reason"] == "paused-until")

    def resume(self, picture: Path | None = None) -> None:
        """Open the resume window from the menu and click on Resume."""
        self.person.click_tray("Resume…")
        title = self.either_window(RESUME, RESUME_EARLY)
        if picture is not None:
            wait_until("the buttons", lambda: self.person.can_click(title, "Resume now"))
            self.desktop.screenshot(picture)
        self.person.click(title, "Resume now")
        self.wait_for_status("the end of the pause", lambda s: s["reason"] != "paused-until")

    def either_window(self, *titles: str) -> str:
        """Return the first of these windows that is there."""

        def there() -> str | None:
            return next((title for title in titles if self.person.find_window(title)), None)

        return wait_until(f"one of {titles}", there)

    # --- what the agent says --------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what `assent-agent status --json` says."""
        said: dict[str, Any] = json.loads(self.agent.run("status", "--json"))
        return said

    def wait_for_status(
        self, what: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 30.0
    ) -> dict[str, Any]:
        """Return the first status for which *holds* is true, a moment later.

        After a change of focus nothing counts as inside for 0.1 s: whoever typed at once would
        lose the first letters.

        Raises:
            DesktopError: It did not come; the message has the last status.

        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.status_now()
            if holds(status):
                time.sleep(SETTLED_SECONDS)
                return status
            if time.monotonic() > deadline:
                raise DesktopError(f"waited {seconds:g} s in vain for {what}: {brief(status)}")
            time.sleep(POLL_SECONDS)

    def status_now(self) -> dict[str, Any]:
        """Return the same as `status`, asked by ourselves: a program for each poll is a load."""
        if type(self.agent) is not Program:  # it runs as somebody else, whom alone it answers
            return self.status()
        with contextlib.suppress(RetryableError):
            answer = self.asked()
            if isinstance(answer, Status):
                return {"running": True, **json.loads(msgspec.json.encode(answer))}
        return self.status()  # which says why there is none

    def asked(self) -> Answer | None:
        """Return the agent's answer to "what is your status?"; None when no agent runs.

        Raises:
            RetryableError: It does not answer in time, or ended meanwhile.

        """
        folder = Path(self.agent.env["XDG_RUNTIME_DIR"]) / "assent/agent"
        return control.ask(folder, GetStatus())

    def wait_until_sent(self, seconds: float = 60.0) -> dict[str, Any]:
        """Return the status when no sealed batch is left on this machine."""

        def empty(status: dict[str, Any]) -> bool:
            spool = status["spool"]
            return not spool["held"] and not spool["waiting"] and bool(spool["sent"])

        return self.wait_for_status("an empty spool", empty, seconds)

    @property
    def pseudonym(self) -> str:
        """The data subject's pseudonym on this workstation, hexadecimal."""
        facts = json.loads((self.agent.home / "state/enrolment.json").read_text("utf-8"))
        return base64.b64decode(facts["subject"]).hex()

    def kill_tray(self) -> None:
        """Kill the tray (SIGKILL)."""
        os.kill(self.child("tray"), signal.SIGKILL)

    def child(self, module: str) -> int:
        """Return the process id of the agent's child that runs *module*.

        Raises:
            DesktopError: There is none.

        """
        for pid in children(self.agent.pid):
            with contextlib.suppress(OSError):  # it has just ended
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if module.encode() in words:
                    return pid
        raise DesktopError(f"the agent has no child {module}")

    def _soon(self, title: str) -> bool:
        try:
            self.person.wait_for_window(title, 60)
        except DesktopError:
            return False
        return True


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children of *pid*."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            found += [int(each) for each in (task / "children").read_text("ascii").split()]
    return found


def granted(status: dict[str, Any]) -> set[str]:
    """Return the categories that a status says are granted."""
    return {each["category"] for each in status["categories"] if each["granted"]}


def brief(status: dict[str, Any]) -> str:
    """Return the parts of a status that explain why something does not happen."""
    parts = {k: status[k] for k in ("reason", "detail", "recording", "indicator", "spool")}
    return json.dumps({**parts, "collector": status["collector"]})
