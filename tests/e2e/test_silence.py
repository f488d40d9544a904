"""Pause means silence, and so do opt-out, withdrawal, and the end of tray or panel.

A typist injects 200 key events a second from beginning to end.  While recording is on, the
letters are of the first half of the alphabet; as soon as the agent has acknowledged, only
letters of the second half are typed, the secret among them.  So a single leaked key shows,
in whatever form, and whatever time it claims.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from base.clock import boot_ns
from demo.organisation import Organisation
from demo.search import Searcher, plant_controls
from demo.typist import Load
from demo.workstation import WITHDRAW, Workstation, children
from tests.e2e.opened import Opened, open_everything
from wire.category import Category, registry

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORK: Final = "abcdefghijklm"
SECRET: Final = "qzxwvutsrpyno"  # all letters that WORK does not have, once each
AREA: Final = (100, 120, 300, 200)  # inside the terminal
TYPING: Final = Load(keys=100, moves=50, clicks=1, text=WORK, area=AREA)
SPYING: Final = Load(keys=100, moves=50, clicks=1, text=SECRET, area=AREA)
HOLD_BACK_NS: Final = 500_000_000
INJECTION_NS: Final = 100_000_000  # from the record of a stroke to its arrival, generously


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One workstation on which something ended the recording: when, and as seen from where."""

    station: Workstation
    organisation: Organisation
    terminal: int
    acted_at: int  # boot clock, just before the act
    silent_at: int  # boot clock, when the agent had acknowledged it

    def strokes(self, since: int, until: int) -> str:
        """Return the letters that the typist pressed in that span of the boot clock."""
        return "".join(
            stroke["char"]
            for stroke in self.station.typist.events()
            if stroke["kind"] == "key" and stroke["pressed"] and since <= stroke["at"] < until
        )

    def folders(self) -> list[Path]:
        """Return every folder that any of our programs can write to."""
        return [self.organisation.folder, self.station.folder]


Tell = Callable[[str, Callable[[Workstation], object], Callable[[dict[str, Any]], bool]], Story]


@pytest.fixture
def tell(text_organisation: Organisation, desk: Path) -> Iterator[Tell]:
    """Record until *act* ends it, wait until the status says so, then type the secret."""
    stations: list[Workstation] = []

    def told(
        name: str, act: Callable[[Workstation], object], silent: Callable[[dict[str, Any]], bool]
    ) -> Story:
        station = Workstation(desk / name, text_organisation.enrolment_file(name))
        stations.append(station.__enter__())  # left when the test ends
        terminal = station.open_terminal()
        station.consent(*Category)
        station.person.activate("work")
        station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
        station.typist.start(TYPING)
        station.wait_for_status("some keys", lambda s: s["kept"].get("keys", 0) > 0 or _some(s))
        time.sleep(2.0)
        acted_at = boot_ns()
        act(station)
        station.wait_for_status("silence", silent)
        silent_at = boot_ns()
        station.typist.start(SPYING)
        time.sleep(2.0)
        return Story(
            station=station,
            organisation=text_organisation,
            terminal=terminal,
            acted_at=acted_at,
            silent_at=silent_at,
        )

    yield told
    for station in stations:
        station.stop()


def _some(status: dict[str, Any]) -> bool:
    return "keys" in status["recording"]


def is_shut(status: dict[str, Any]) -> bool:
    """Nothing at all is recorded."""
    return not status["recording"]


# --- pause ------------------------------------------------------------------------------


def test_a_pause_is_silence(tell: Tell, tmp_path: Path, pictures: Path) -> None:
    """All typed before the click on "Pause for 30 minutes" is there, nothing after it is.

    Not in any folder of any program, not in memory, not in a core file, not in what was
    opened; and the search that says so finds planted controls in each disguise.
    """
    story = tell("pause", lambda s: s.pause(pictures / "pause-menu.png"), is_shut)
    station, searcher = story.station, Searcher(SECRET)

    check_memory(story, searcher)

    station.typist.stop()
    station.person.activate("work")
    station.typist.type_text("\n")  # the terminal clears its screen
    resumed_after = boot_ns()
    station.resume(pictures / "resume-window.png")
    station.person.activate("work")
    station.typist.start(TYPING)
    time.sleep(2.0)
    station.typist.stop()
    station.pause()
    station.wait_until_sent()

    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    text = opened.text()
    assert not set(text) & set(SECRET)
    # Before: every letter older than the hold-back, none missing, none out of order.
    before = story.strokes(0, story.acted_at - HOLD_BACK_NS - INJECTION_NS)
    assert len(before) > 100
    assert text.startswith(before)
    # In between: no event of any kind carries a time of the pause.
    paused = (wall_of(story.silent_at), wall_of(resumed_after))
    assert [e for e in opened.events if paused[0] < e["wall_ns"] < paused[1]] == []
    # After: recording went on, and the record says what is missing and why.
    after = [e for e in opened.presses() if e["wall_ns"] > paused[1]]
    assert len(after) > 50
    assert "paused-until" in opened.reasons_of_gaps()

    crash_everything(story)
    search_everywhere(story, opened)


def test_a_pause_by_command_is_silence_from_the_instant_it_names(
    tell: Tell, tmp_path: Path
) -> None:
    """What `assent-agent pause` prints as the instant of silence is later than every event."""
    said: list[dict[str, Any]] = []

    def pause(station: Workstation) -> None:
        said.append(json.loads(station.agent.run("pause", "--json")))

    story = tell("command", pause, is_shut)
    story.station.typist.stop()
    story.station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    assert not set(opened.text()) & set(SECRET)
    mine = opened.events
    assert max(event["wall_ns"] for event in mine) <= said[0]["wall"]
    assert story.acted_at <= said[0]["at"] <= story.silent_at


# --- opt-out and withdrawal -----------------------------------------------------------------


def test_opting_out_of_one_category_silences_it_and_the_others_go_on(
    tell: Tell, tmp_path: Path
) -> None:
    """No key after the click on "Never record: Keyboard"; the pointer is recorded on."""
    label = f"Never record: {registry()[Category.KEYS].title}"
    story = tell(
        "opt-out",
        lambda s: s.person.click_tray(label),
        lambda status: set(status["recording"]) == {"pointer", "screen", "window"},
    )
    station = story.station
    station.person.activate("work")
    time.sleep(1.5)
    station.typist.stop()
    station.pause()
    station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    mine = opened.events
    silent = wall_of(story.silent_at)
    assert [e for e in mine if e["type"] == "key"] == [], "held key batches are deleted too"
    assert [e for e in mine if e["type"] == "move" and e["wall_ns"] > silent + HOLD_BACK_NS]
    assert not set(opened.text()) & set(SECRET)
    search_everywhere(story, opened)


def test_a_withdrawal_is_silence_and_leaves_nothing_behind(
    text_organisation: Organisation, tell: Tell
) -> None:
    """After "Withdraw" of everything nothing is recorded, held, or sent any more."""
    stored = text_organisation.collector.facts("status")["counts"]["batches"]
    story = tell("withdrawal", withdraw_everything, is_shut)
    status = story.station.status()
    assert status["reason"] == "not-consented"
    assert status["spool"]["held"] == status["spool"]["waiting"] == 0
    story.station.typist.stop()
    assert text_organisation.collector.facts("status")["counts"]["batches"] == stored
    search_everywhere(story)


def withdraw_everything(station: Workstation) -> None:
    """Click "Withdraw consent…", then "Withdraw": everything granted is chosen already."""
    station.person.click_tray("Withdraw consent…")
    station.person.wait_for_window(WITHDRAW)
    station.person.click(WITHDRAW, "Withdraw")


# --- no light, no capture -------------------------------------------------------------------


def test_killing_the_tray_is_silence_until_its_icon_is_back(tell: Tell, tmp_path: Path) -> None:
    """From the tray's SIGKILL to the new icon no event exists."""
    seen: list[int] = []

    def kill(station: Workstation) -> None:
        station.kill_tray()
        station.wait_for_status("no indicator", lambda s: s["reason"] == "indicator-missing")
        seen.append(boot_ns())
        while station.status()["reason"] == "indicator-missing":
            seen.append(boot_ns())

    story = tell("tray", kill, lambda status: not status["indicator"])
    station = story.station
    station.typist.stop()
    station.pause()
    station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    mine = opened.events
    dark = (wall_of(seen[0]), wall_of(seen[-2]))
    assert dark[0] < dark[1]
    assert [e for e in mine if dark[0] < e["wall_ns"] < dark[1]] == []
    assert [e for e in mine if e["wall_ns"] < dark[0]]
    assert [e for e in mine if e["wall_ns"] > dark[1]], "it goes on once the light is back"


def test_killing_the_panel_is_silence(tell: Tell, tmp_path: Path) -> None:
    """Without a panel that hosts the icon nothing is recorded, however alive the tray is."""
    story = tell("panel", lambda s: s.desktop.kill_panel(), is_shut)
    assert story.station.status()["reason"] == "indicator-missing"
    story.station.typist.stop()
    story.station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    mine = opened.events
    assert max(event["wall_ns"] for event in mine) < wall_of(story.silent_at)
    assert not set(opened.text()) & set(SECRET)
    search_everywhere(story, opened)


# --- how it is looked for -------------------------------------------------------------------


def our_processes(story: Story) -> list[int]:
    """Return the agent with tray and sensors, collector and guard."""
    agent = story.station.agent.pid
    return [agent, *children(agent), story.organisation.collector.pid, story.organisation.guard.pid]


def check_memory(story: Story, searcher: Searcher) -> None:
    """No process of ours has the secret: root may look, and nobody else can even try."""
    assert found_in_a_process_that_has_it(searcher)
    if os.geteuid() == 0:
        assert [hit for pid in our_processes(story) for hit in searcher.in_process(pid)] == []
        return
    agent = story.station.agent.pid
    for pid in (agent, *children(agent)):
        with pytest.raises(PermissionError):
            searcher.in_process(pid)


def found_in_a_process_that_has_it(searcher: Searcher) -> bool:
    """Whether the search finds the secret in a process that was told it."""
    keeper = "import sys; kept = sys.stdin.readline(); print(flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", keeper], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SECRET.encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        return bool(searcher.in_process(process.pid))


def crash_everything(story: Story) -> None:
    """End the agent and its children as crashes do that leave core files, where they may."""
    agent = story.station.agent
    victims = [*children(agent.pid), agent.pid]
    for pid, how in zip(victims, [signal.SIGSEGV, signal.SIGABRT] * len(victims), strict=False):
        os.kill(pid, how)
    agent.stop()
    cores = [path for folder in story.folders() for path in folder.rglob("core*") if path.is_file()]
    assert cores == [], "processes that see plaintext leave no core file"


def search_everywhere(story: Story, opened: Opened | None = None) -> None:
    """Search every folder for the secret; first prove that it would be found there."""
    searcher = Searcher(SECRET)
    folders = [*story.folders(), *([] if opened is None else [opened.folder])]
    for folder in folders:
        planted = folder / "planted"
        expected = plant_controls(SECRET, planted)
        found = {hit.disguise for hit in searcher.in_folders([folder])}
        assert expected <= found, folder
        for path in planted.iterdir():
            path.unlink()
        planted.rmdir()
    record = str(story.station.typist.record)
    assert [hit for hit in searcher.in_folders(folders) if hit.where != record] == []


def wall_of(boot: int) -> int:
    """Return the wall time of a boot instant; good while nobody sets the clock."""
    return time.time_ns() - boot_ns() + boot
