"""The person at the desktop of a machine on which the package is installed.

Runs there, not as root, with the installed `assent-agent` and the repository's scripted
hands and eyes.  Each line on standard input is a step; each is answered with one line of JSON.

Usage: python -m tests.install.session FOLDER ENROLMENT
"""

import configparser
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from base.errors import AssentError
from demo import workstation
from demo.desktop import wait_until
from demo.programs import Program
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

    def work(self, text: str) -> dict[str, Any]:
        """Type while all is recorded, pause, and say what was sent when all of it is."""
        before = self.status()["spool"]["sent"]
        self.person.activate("work")
        self.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
        self.typist.type_text(text, keys_per_second=20)
        self.agent.run("pause")
        status = self.wait_for_status(
            "the batches' receipts",
            lambda s: (
                not s["spool"]["held"] + s["spool"]["waiting"] and s["spool"]["sent"] > before
            ),
            60,
        )
        return {"sent": status["spool"]["sent"], "kept": status["kept"]}

    def ended(self) -> tuple[int] | None:
        """Return the agent's exit code as soon as there is one."""
        code = self.agent.ended()
        return None if code is None else (code,)

    def steps(self, step: str) -> dict[str, Any]:
        """Do what the line *step* says."""
        match step:
            case "consent":
                self.open_terminal()
                self.consent(*Category)
                return {"granted": sorted(workstation.granted(self.status()))}
            case "work":
                return self.work("somebody works here and agreed to it ")
            case "resume":
                self.resume()
                return {"reason": self.status()["reason"]}
            case "look":
                agent = self.agent.pid
                return {"pid": agent, "commands": [words(p) for p in (agent, *children(agent))]}
            case "restart":
                ended = self.agent.stop()
                self.run_agent()
                return {"ended": ended, "granted": sorted(workstation.granted(self.status()))}
            case "ended":
                return {"code": wait_until("the agent's end", self.ended, 20)[0]}
            case _:
                raise SystemExit(f"no such step: {step}")


def autostart() -> Mapping[str, str]:
    """Return the autostart entry that the package brought."""
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(AUTOSTART, "utf-8")
    return entry["Desktop Entry"]


def words(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def main() -> None:
    """Sit down, do what each line says, and leave."""
    with Desk(Path(sys.argv[1]), Path(sys.argv[2])) as desk:
        print(json.dumps({"ready": True}), flush=True)  # noqa: T201
        for line in sys.stdin:
            try:
                said = desk.steps(line.strip())
            except AssentError:
                desk.desktop.screenshot(desk.folder / "failed.png")
                raise
            print(json.dumps(said), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
