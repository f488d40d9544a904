"""The half minute that the demo shows: consent, work, a pause with a secret, more work.

`tell` lives it on a workstation and returns the facts; nothing here prints.  The secret is
typed only while paused, so it must be nowhere afterwards.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from base.clock import NANOSECONDS, boot_ns
from demo.organisation import Organisation
from demo.search import Hit, Searcher, plant_controls
from demo.typist import Load
from demo.workstation import Workstation, children
from wire.category import Category

BEFORE: Final = "we agreed to this sentence being recorded and we can take it back"
AFTER: Final = "and now the pause is over and work goes on"
SECRET: Final = "my bank pin is 4711 and nobody may see it"  # noqa: S105 - the demo's own
AREA: Final = (100, 120, 400, 250)  # inside the terminal
HANDS: Final = Load(keys=0, moves=60, clicks=0.5, scrolls=0.5, area=AREA)
KEYS_PER_SECOND: Final = 8.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What happened, as counted by those who did it and by those who recorded it."""

    injected: Counter[str]  # while recording
    injected_paused: Counter[str]
    captured: Counter[str]
    typed_text: str
    recorded_text: str
    batches: int
    sealed_bytes: int
    seconds_to_receipt: float
    controls: set[str]  # disguises in which a planted control was found
    planted: set[str]
    searched_files: int
    searched_bytes: int
    searched_processes: int
    hits: list[Hit]
    export: Path
    joined: Path

    def troubles(self) -> list[str]:
        """Return in one line each what should have been and was not."""
        return list(self._troubles())

    def recorded_texts(self) -> list[str]:
        """Return what was recorded before and after the pause, apart where it is as typed."""
        if self.recorded_text == BEFORE + AFTER:
            return [BEFORE, AFTER]
        return [self.recorded_text]

    def _troubles(self) -> Iterator[str]:
        if self.hits:
            yield f"the secret was found: {self.hits[0].where} ({self.hits[0].disguise})"
        if not self.planted <= self.controls:
            yield f"the search is blind to {', '.join(sorted(self.planted - self.controls))}"
        if self.recorded_text != self.typed_text:
            yield "what was typed while recording is not what was opened in the end"
        if not self.captured["frames"]:
            yield "no picture was recorded"


def tell(
    organisation: Organisation, station: Workstation, pictures: Path, say: Say, note: Say
) -> Facts:
    """Live the half minute.  *say* begins a step, *note* adds what came of it."""
    say("The data subject reads the notice, switches four categories on and agrees")
    station.open_terminal()
    station.consent(*Category, picture=pictures / "1-consent.png")
    station.person.activate("work")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
    note("recording: the icon is red, and the panel shows it")

    say("Work is recorded: typing, moving, clicking, scrolling, pictures of the terminal")
    recording_since = boot_ns()
    work(station, BEFORE)

    say("One click on “Pause for 30 minutes”")
    station.typist.stop()
    time.sleep(0.7)  # the hold-back: what is younger when the pause comes is dropped
    paused_at = boot_ns()
    station.pause(pictures / "2-pause-menu.png")
    note("silent: the hooks are gone, and the agent says so only after it wrote it down")

    say("A secret is typed while paused")
    work(station, SECRET)
    station.typist.stop()
    searcher = Searcher(SECRET)
    processes = our_processes(organisation, station)
    hits = [hit for pid in processes for hit in searcher.in_process(pid)]
    station.typist.type_text("\n")  # the terminal clears its screen

    say("“Resume now” is clicked in the tray's own window; more work is recorded")
    station.resume(pictures / "3-resume.png")
    station.person.activate("work")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
    resumed_at = boot_ns()
    work(station, AFTER)
    station.typist.stop()
    time.sleep(0.7)
    station.desktop.screenshot(pictures / "4-working.png")
    station.agent.run("pause")

    say("Sealed batches leave for the one collector, which cannot open them")
    status = station.wait_until_sent()
    stored = organisation.stored()
    note(f"{len(stored)} batches, {sum(stored.values()):,} bytes, receipted")

    say("A reader asks; both parties approve; the release is logged; the guard lets go")
    grant = organisation.access_grant(*Category)
    export, joined = organisation.folder / "export", organisation.folder / "joined"
    organisation.reader.run("fetch", "--grant", grant)
    organisation.reader.run("verify")
    organisation.reader.run("open", "--joined", joined)
    organisation.reader.run("export", "--out", export)
    events = [
        msgspec.json.decode(line)
        for line in (export / "events.jsonl").read_text("utf-8").splitlines()
    ]

    say("Everything is searched for the secret, after planted controls were found")
    folders = [organisation.folder, station.folder]
    planted, controls = controls_found(searcher, folders)
    hits += searcher.in_folders(folders)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return Facts(
        injected=injected(station, [(recording_since, paused_at), (resumed_at, boot_ns())]),
        injected_paused=injected(station, [(paused_at, resumed_at)]),
        captured=Counter(kind_of(event) for event in events),
        typed_text=BEFORE + AFTER,
        recorded_text=text_of(events),
        batches=len(stored),
        sealed_bytes=sum(stored.values()),
        seconds_to_receipt=(
            status["collector"]["last_receipt_at"] - max(event["wall_ns"] for event in events)
        )
        / NANOSECONDS,
        controls=controls,
        planted=planted,
        searched_files=len(files),
        searched_bytes=sum(path.stat().st_size for path in files),
        searched_processes=len(processes),
        hits=hits,
        export=export,
        joined=joined,
    )


def work(station: Workstation, text: str) -> None:
    """Type *text* while the hands also move, click and scroll."""
    station.typist.start(HANDS)
    station.typist.type_text(text, keys_per_second=KEYS_PER_SECOND)


def our_processes(organisation: Organisation, station: Workstation) -> list[int]:
    """Return the programs whose memory can be searched: root may, others may not."""
    if os.geteuid() != 0:
        return []
    agent = station.agent.pid
    return [agent, *children(agent), organisation.collector.pid, organisation.guard.pid]


def controls_found(searcher: Searcher, folders: list[Path]) -> tuple[set[str], set[str]]:
    """Plant controls in each folder, look for them, remove them; return planted and found."""
    planted: set[str] = set()
    found: set[str] = set()
    for number, folder in enumerate(folders):
        place = folder / "planted-controls"
        planted |= plant_controls(SECRET, place)
        here = {hit.disguise for hit in searcher.in_folders([folder])}
        found = here if number == 0 else found & here
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    return planted, found


def injected(station: Workstation, spans: list[tuple[int, int]]) -> Counter[str]:
    """Return how many events of each kind the typist made in these spans of the boot clock."""
    return Counter(
        {"key": "keys", "move": "moves", "button": "buttons", "scroll": "scrolls"}[event["kind"]]
        for event in station.typist.events()
        if any(since <= event["at"] < until for since, until in spans)
    )


def kind_of(event: dict[str, Any]) -> str:
    """Return the kind under which an exported event is counted."""
    kinds = {
        "key": "keys",
        "move": "moves",
        "button": "buttons",
        "scroll": "scrolls",
        "frame": "frames",
        "still": "looks",  # the picture before it was still on the screen
        "focus": "windows",
    }
    return kinds[event["type"]]


def text_of(events: list[dict[str, Any]]) -> str:
    """Return what was typed, as the recipient reads it."""
    return "".join(e["text"] for e in events if e["type"] == "key" and e["pressed"])
