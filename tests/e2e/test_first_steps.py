"""docs/guides/first-steps.md is typed, line by line, by the four parties.

Each party has a home of its own and all type in one folder, as the guide says for trying it
on one machine.  Words in capitals are what earlier lines printed; names of hosts become
ports of this machine, and the guide's year the one that comes next.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from demo.organisation import free_port
from demo.programs import Program

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = ROOT / "docs/guides/first-steps.md"
SERVERS: Final = {"assent-guard serve": "guard", "assent-collector serve": "collector"}
DESKTOP: Final = {"assent-agent run", "assent-agent doctor"}  # tests/e2e/test_whole_path.py runs it
PRINTED: Final = {  # what a command prints, and how the guide calls it
    ("council", "signing_key"): "SIGNING_KEY",
    ("council", "witness"): "WITNESS",
    ("council", "lease_key"): "GUARD_LEASE",
    ("controller", "lease_key"): "COLLECTOR_LEASE",
    ("council", "tls_pin"): "GUARD_PIN",
    ("council", "root sha256"): "ROOT_SHA256",
    ("controller", "tls_pin"): "COLLECTOR_PIN",
    ("controller", "log_key"): "LOG_KEY",
    ("controller", "review"): "REVIEW",
}


class Step(NamedTuple):
    """One line, and who types it."""

    party: str
    line: str


def steps() -> list[Step]:
    """Return all lines of the guide, in order."""
    blocks = re.findall(
        r"^```sh (\w+)\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [
        Step(party, line)
        for party, block in blocks
        for line in re.sub(r"\\\n *", "", block).splitlines()
    ]


class Parties:
    """Four homes, one folder, and what has been printed so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.typing = folder / "typing"
        self.typing.mkdir()
        self.known: dict[str, str] = {}
        self.serving: list[Program] = []
        self.hosts = {
            "guard.council.example:8444": f"127.0.0.1:{free_port()}",
            "guard.council.example:8446": f"127.0.0.1:{free_port()}",
            "collector.acme.example:8443": f"127.0.0.1:{free_port()}",
            "collector.acme.example:8445": f"127.0.0.1:{free_port()}",
            "2027-": f"{datetime.now(UTC).year + 1}-",
        }

    def environment(self, party: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ASSENT_"))}
        home = self.folder / party
        home.mkdir(exist_ok=True)
        return {
            **kept,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        }

    def type(self, step: Step) -> None:
        """Type a line, say yes where it asks, and remember what it prints."""
        line = step.line
        for written, real in (*self.hosts.items(), *self.known.items()):
            line = line.replace(written, real)
        assert not re.search(r"\b[A-Z]+_(PIN|KEY|SHA256)\b", line), f"nobody printed {line}"
        if line in SERVERS:
            self._serve(step.party, SERVERS[line])
            return
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.typing,
            env=self.environment(step.party),
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.returncode}: {done.stderr}"
        for (party, name), word in PRINTED.items():
            found = re.search(rf"^{name} +([^\s,]+)", done.stdout, re.MULTILINE)
            if party == step.party and found:
                self.known[word] = found[1]

    def _serve(self, party: str, module: str) -> None:
        program = Program(module, self.folder / "output", self.environment(party))
        del program.env["ASSENT_HOME"]  # everything lies where the guide says
        program.serve("serve", "--port-file", self.folder / f"{module}.port")
        self.serving.append(program)
        program.wait_until("open port", (self.folder / f"{module}.port").exists)


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    found = Parties(tmp_path)
    try:
        yield found
    finally:
        for program in found.serving:
            program.stop()


def test_every_line_of_the_guide_works_in_its_order(parties: Parties) -> None:
    """From nothing to an enrolled device and an approved access; the desktop comes elsewhere."""
    typed = [step for step in steps() if step.party != "everybody" and step.line not in DESKTOP]
    assert {step.party for step in typed} == {"council", "controller", "team", "ada"}
    *typed, export = typed
    for step in typed:
        parties.type(step)
    assert (parties.typing / "rights-key.txt").read_text().startswith("AGE-SECRET-KEY-PQ-1")
    # Nobody has recorded anything, so there is nothing to export yet: the last line says so.
    with pytest.raises(AssertionError, match="nothing is released here yet"):
        parties.type(export)
