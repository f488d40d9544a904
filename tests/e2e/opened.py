"""What was opened in the end: the exported events, as a recipient has them."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.clock import boot_ns
from demo.organisation import Organisation
from demo.workstation import Workstation


@dataclass(frozen=True, slots=True)
class Opened:
    """The events of an export and its index."""

    folder: Path
    events: list[dict[str, Any]]
    index: dict[str, Any]

    def presses(self) -> list[dict[str, Any]]:
        """Return the key presses, in order."""
        return [e for e in self.events if e["type"] == "key" and e["pressed"]]

    def text(self) -> str:
        """Return what was typed, as far as it was recorded."""
        return "".join(press["text"] for press in self.presses())

    def of(self, *types: str) -> list[dict[str, Any]]:
        """Return the events of these types."""
        return [event for event in self.events if event["type"] in types]

    def reasons_of_gaps(self) -> set[str]:
        """Return why, as the batches themselves say, nothing was kept at times."""
        return {gap["why"] for batch in self.index["batches"] for gap in batch["gaps"]}


def open_everything(organisation: Organisation, station: Workstation, out: Path) -> Opened:
    """Have everything released, open, verify and export it; return what is of *station*."""
    grant = organisation.access_grant("keys", "pointer", "screen", "window")
    organisation.reader.run("fetch", "--grant", grant)
    organisation.reader.run("verify")
    organisation.reader.run("export", "--out", out)
    lines = (out / "events.jsonl").read_text("utf-8").splitlines()
    index = json.loads((out / "index.json").read_text("utf-8"))
    mine = station.pseudonym
    index["batches"] = [batch for batch in index["batches"] if batch["subject"] == mine]
    events = [event for event in map(json.loads, lines) if event["subject"] == mine]
    return Opened(out, events, index)


def wall_of(boot: int) -> int:
    """Return the wall time of a boot instant; good while nobody sets the clock."""
    return time.time_ns() - boot_ns() + boot
