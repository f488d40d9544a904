"""The person at the desktop of a machine on which the package is installed.

Runs there, not as root, with the installed `assent-agent` and the repository's scripted
hands and eyes.  Each line on standard input is a step; each is answered with one line of JSON.

Usage: python -m tests.install.session FOLDER ENROLMENT
"""

import base64
import configparser
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from base.errors import AssentError, ExitCode
from demo import workstation
from demo.desktop import wait_until
from demo.programs import Program
from demo.typist import Load
from demo.workstation import Workstation, children
from wire.category import Category

AUTOSTART: Final = Path("/etc/xdg/autostart/assent-agent.desktop")
HOSTILE: Final = {"PYTHONPATH": "/tmp/hostile", "PYTHONSTARTUP": "/tmp/hostile/x.py"}  # noqa: S108


class Installed(Program):
    """The agent as it was installed: its command, the folders of the person's own home."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(module, folder, {**(env or {}), **HOSTILE})
        del self.env["ASSENT_HOME"]
        for name in ("VIRTUAL_ENV", "LD_LIBRARY_PATH"):
            self.env.pop(name, None)

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        if words == ("run",):  # as the session does it
            return shlex.split(autostart()["Exec"])
        return ["assent-agent", *map(str, words)]


class Desk(Workstation):
    """A workstation with the installed agent."""

    makes_agent: ClassVar[type[Program]] = Installed
    old_strokes = 0  # before this agent started

    @property
    def pseudonym(self) -> str:
        """Return it from where the installed agent keeps it: the person's own home."""
        facts = json.loads((self.state() / "enrolment.json").read_text("utf-8"))
        return base64.b64decode(facts["subject"]).hex()

    def state(self) -> Path:
        """Return the agent's folder, as it says itself."""
        return Path(self.agent.facts("config")["paths"]["state"])

    def status(self) -> dict[str, Any]:
        """Return what the agent says, waiting for one that begins anew just now."""

        def said() -> dict[str, Any] | None:
            answer: dict[str, Any] = json.loads(
                self.agent.run("status", "--json", accept=(0, ExitCode.LATER))
            )
            return answer if answer["running"] else None

        return wait_until("a running agent", said)

    def sit_down(self) -> None:
        """Wait until all is recorded, with the focus in the terminal."""
        self.person.activate("work")
        self.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))

    def pause_when_all_is_kept(self) -> dict[str, Any]:
        """Pause once every stroke has left the hold-back; say what was sent when all of it is."""
        before = self.status()["spool"]["sent"]
        self.wait_for_status("every stroke", lambda s: s["kept"].get("keys", 0) >= self.strokes())
        self.agent.run("pause")
        status = self.wait_for_status(
            "the batches' receipts",
            lambda s: (
                not s["spool"]["held"] + s["spool"]["waiting"] and s["spool"]["sent"] > before
            ),
            60,
        )
        return {"sent": status["spool"]["sent"], "kept": status["kept"]}

    def strokes(self) -> int:
        """Return how many strokes the person made since this agent started."""
        return len(self._record()) - self.old_strokes

    def typed(self) -> str:
        """Return all that the person typed."""
        return "".join(each["char"] for each in self._record() if each["pressed"])

    def _record(self) -> list[dict[str, Any]]:
        lines = map(json.loads, self.typist.record.read_text("utf-8").splitlines())
        return [line for line in lines if line["kind"] == "key"]

    def look(self) -> dict[str, Any]:
        """Return the agent and its children: process ids, command lines, accounts."""
        pids = (self.agent.pid, *children(self.agent.pid))
        return {
            "pids": pids,
            "commands": [words(pid) for pid in pids],
            "accounts": sorted({account for pid in pids for account in accounts(pid)}),
            "recording": self.status()["recording"],
        }

    def begun_anew(self) -> dict[str, Any]:
        """Wait until the agent has other children, and say how it stands then."""
        before = set(children(self.agent.pid))

        def others() -> bool:
            now = set(children(self.agent.pid))
            return len(now) == len(before) and not now & before and bool(self.person.sees_tray())

        wait_until("another agent in its place", others, 90)
        self.old_strokes = len(self._record())
        return {**self.look(), "reason": self.status()["reason"]}

    def ended(self) -> tuple[int] | None:
        """Return the agent's exit code as soon as there is one."""
        code = self.agent.ended()
        return None if code is None else (code,)

    def agree(self) -> dict[str, Any]:
        """Open a program to work in, and agree to everything."""
        self.open_terminal()
        self.consent(*Category)
        return {"granted": sorted(workstation.granted(self.status()))}

    def work(self) -> dict[str, Any]:
        """Type a line, then pause."""
        self.sit_down()
        self.typist.type_text("somebody works here and agreed to it ", keys_per_second=20)
        return self.pause_when_all_is_kept()

    def go_on(self) -> dict[str, Any]:
        """End the pause."""
        self.resume()
        return {"reason": self.status()["reason"]}

    def begin_to_type(self) -> dict[str, Any]:
        """Type on and on, whatever else happens."""
        self.sit_down()
        self.typist.start(Load(keys=10))
        return {}

    def end_to_type(self) -> dict[str, Any]:
        """Type no more, then pause."""
        self.typist.stop()
        return self.pause_when_all_is_kept()

    def restart(self) -> dict[str, Any]:
        """End the agent as the end of a session does, and begin the next session."""
        ended = self.agent.stop()
        self.old_strokes = len(self._record())
        self.run_agent()
        return {"ended": ended, "granted": sorted(workstation.granted(self.status()))}


STEPS: Final[Mapping[str, Callable[[Desk], dict[str, Any]]]] = {
    "consent": Desk.agree,
    "work": Desk.work,
    "resume": Desk.go_on,
    "begin to type": Desk.begin_to_type,
    "end to type": Desk.end_to_type,
    "look": Desk.look,
    "begun anew": Desk.begun_anew,
    "restart": Desk.restart,
    "typed": lambda desk: {"text": desk.typed(), "subject": desk.pseudonym},
    "ended": lambda desk: {"code": wait_until("the agent's end", desk.ended, 20)[0]},
}


def autostart() -> Mapping[str, str]:
    """Return the autostart entry that the package brought."""
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(AUTOSTART, "utf-8")
    return entry["Desktop Entry"]


def words(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def accounts(pid: int) -> set[int]:
    """Return the numbers of the accounts that a process has: real, effective, saved, files."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    (uids,) = [line for line in lines if line.startswith("Uid:")]
    return set(map(int, uids.split()[1:]))


def main() -> None:
    """Sit down, do what each line says, and leave."""
    with Desk(Path(sys.argv[1]), Path(sys.argv[2])) as desk:
        print(json.dumps({"ready": True}), flush=True)  # noqa: T201
        for line in sys.stdin:
            try:
                said = STEPS[line.strip()](desk)
            except AssentError:
                desk.desktop.screenshot(desk.folder / "failed.png")
                raise
            print(json.dumps(said), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
