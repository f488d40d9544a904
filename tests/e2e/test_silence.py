"""Pause means silence, and so do opt-out, withdrawal, and the end of tray or panel.

A typist injects 200 key events a second from beginning to end.  While recording is on, the
letters are of the first half of the alphabet; as soon as the agent has acknowledged, only
letters of the second half are typed, the secret among them.  So a single leaked key shows,
in whatever form, and whatever time it claims.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from agent.children import BACK_OFF_SECONDS
from base.clock import boot_ns
from demo.desktop import DesktopError, wait_until
from demo.organisation import Organisation
from demo.search import Searcher
from demo.typist import Load
from demo.workstation import WITHDRAW, Workstation, children
from tests.e2e.opened import Opened, open_everything, wall_of
from tests.fakes.searched import found
from wire.category import Category, registry

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORK: Final = "abcdefghijklm"
SECRET: Final = "qzxwvutsrpyno"  # all letters that WORK does not have, once each
AREA: Final = (100, 120, 300, 200)  # inside the terminal
TYPING: Final = Load(keys=100, moves=50, clicks=1, text=WORK, area=AREA)
SPYING: Final = Load(keys=100, moves=50, clicks=1, text=SECRET, area=AREA)
SECOND_NS: Final = 1_000_000_000
HOLD_BACK_NS: Final = SECOND_NS // 2
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

    def before(self) -> str:
        """Return what was typed so long before the act that it has to be there."""
        return self.strokes(0, self.acted_at - HOLD_BACK_NS - INJECTION_NS)

    def clicks(self, since: int, until: int) -> int:
        """Return how often the typist pressed a button in that span of the boot clock."""
        return sum(
            stroke["kind"] == "button" and stroke["pressed"] and since <= stroke["at"] < until
            for stroke in self.station.typist.events()
        )

    def rate(self) -> float:
        """Return how many events a second were injected from two seconds before the act on."""
        since, until = self.acted_at - 2 * SECOND_NS, self.silent_at + 2 * SECOND_NS
        made = [each for each in self.station.typist.events() if since <= each["at"] < until]
        return len(made) * SECOND_NS / (until - since)

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
        station.wait_for_status("some keys", lambda s: s["kept"].get("keys", 0) > 0)
        let_type(station, 250)
        acted_at = boot_ns()
        act(station)
        station.wait_for_status("silence", silent)
        silent_at = boot_ns()
        station.typist.start(SPYING)
        let_type(station, 250)
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


def let_type(station: Workstation, letters: int) -> None:
    """Return when the typist has typed so many more letters."""
    before = len(station.typist.events())

    def enough() -> bool:
        time.sleep(0.1)  # the record is long, and is read whole
        made = station.typist.events()[before:]
        return len([e for e in made if e["kind"] == "key" and e["pressed"]]) >= letters

    wait_until(f"{letters} letters", enough, 60)


def is_shut(status: dict[str, Any]) -> bool:
    """Nothing at all is recorded."""
    return not status["recording"]


# --- pause ------------------------------------------------------------------------------


def test_a_pause_is_silence(
    tell: Tell, tmp_path: Path, pictures: Path, figure: Callable[[str], None]
) -> None:
    """All typed before the click on "Pause for 30 minutes" is there, nothing after it is.

    Not in any folder of any program, not in memory, not in a core file, not in what was
    opened; and the search that says so finds planted controls in each disguise.
    """
    story = tell("pause", lambda s: s.pause(pictures / "pause-menu.png"), is_shut)
    station, searcher = story.station, Searcher(SECRET)
    figure(f"{story.rate():.0f} events a second while pause was clicked and the secret typed")

    check_memory(story, searcher)

    station.typist.stop()
    station.person.activate("work")
    station.typist.type_text("\n")  # the terminal clears its screen
    resumed_after = boot_ns()
    station.resume(pictures / "resume-window.png")
    station.person.activate("work")
    station.typist.start(TYPING)
    let_type(station, 250)
    station.typist.stop()
    station.pause()
    station.wait_until_sent()

    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    text = opened.text()
    assert not set(text) & set(SECRET)
    # Before: every letter older than the hold-back, none missing, none out of order.
    assert len(story.before()) > 100
    assert text.startswith(story.before())
    # In between: no event of any kind carries a time of the pause.
    paused = (wall_of(story.silent_at), wall_of(resumed_after))
    assert [e for e in opened.events if paused[0] < e["wall_ns"] < paused[1]] == []
    # After: recording went on, and the record says what is missing and why.
    after = [e for e in opened.presses() if e["wall_ns"] > paused[1]]
    assert len(after) > 50
    assert "paused-until" in opened.reasons_of_gaps()

    assert a_core_file_is_found(story, searcher)
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
    let_type(station, 250)
    stopped_at = boot_ns()
    station.typist.stop()
    station.pause()
    station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    mine = opened.events
    silent = wall_of(story.silent_at)
    assert [e for e in mine if e["type"] == "key"] == [], "held key batches are deleted too"
    # The server counts whole milliseconds, so the first click may be dated a little earlier.
    since = story.silent_at + INJECTION_NS
    clicked = story.clicks(since, stopped_at - HOLD_BACK_NS - INJECTION_NS)
    went_on = [e for e in mine if e["type"] == "button" and e["wall_ns"] > silent]
    assert 0 < clicked <= sum(e["pressed"] for e in went_on), "the pointer is recorded on"
    assert not set(opened.text()) & set(SECRET)
    search_everywhere(story, opened)


def test_a_withdrawal_is_silence_and_leaves_nothing_behind(
    text_organisation: Organisation, tell: Tell
) -> None:
    """After "Withdraw" of everything nothing is recorded, held, or sent any more."""
    stored = text_organisation.stored()
    story = tell("withdrawal", withdraw_everything, is_shut)
    status = story.station.status()
    assert status["reason"] == "not-consented"
    assert status["spool"]["held"] == status["spool"]["waiting"] == 0
    story.station.typist.stop()
    assert text_organisation.stored() == stored
    search_everywhere(story)


def withdraw_everything(station: Workstation) -> None:
    """Click "Withdraw consent…", then "Withdraw": everything granted is chosen already."""
    station.person.click_tray("Withdraw consent…")
    station.person.wait_for_window(WITHDRAW)
    station.person.click(WITHDRAW, "Withdraw")


# --- no light, no capture -------------------------------------------------------------------


def test_killing_the_tray_is_silence_until_its_icon_is_back(tell: Tell, tmp_path: Path) -> None:
    """All typed before the tray's SIGKILL is there, nothing of the time without an icon is."""
    story = tell("tray", kill_the_tray, is_shut)
    station = story.station
    assert station.status()["reason"] == "indicator-missing"
    station.typist.stop()
    station.typist.type_text("\n")  # the terminal clears its screen
    dark_until = asked = boot_ns()
    while station.status_now()["indicator"]:  # it was dark when it was asked
        dark_until, asked = asked, boot_ns()
    station.person.activate("work")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
    station.typist.start(TYPING)
    let_type(station, 150)
    station.typist.stop()
    station.pause()
    station.wait_until_sent()
    opened = open_everything(story.organisation, story.station, tmp_path / "export")
    dark = (wall_of(story.silent_at), wall_of(dark_until))
    assert dark[1] - dark[0] > SECOND_NS
    assert [e for e in opened.events if dark[0] < e["wall_ns"] < dark[1]] == []
    assert len(story.before()) > 100
    assert opened.text().startswith(story.before())
    assert [e for e in opened.presses() if e["wall_ns"] > dark[1]], "it goes on with the light"
    search_everywhere(story, opened)


def kill_the_tray(station: Workstation) -> None:
    """Kill it, and each that the agent starts in its place, until it waits for ten seconds."""
    killed = 0
    for _ in range(BACK_OFF_SECONDS.index(10.0) + 1):
        killed = wait_until("another tray", partial(other_tray, station, killed), 30)
        os.kill(killed, signal.SIGKILL)


def other_tray(station: Workstation, than: int) -> int | None:
    """Return the process id of the tray that runs, unless it is *than*."""
    with contextlib.suppress(DesktopError):
        return pid if (pid := station.child("tray")) != than else None
    return None


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
    assert len(story.before()) > 100
    assert opened.text().startswith(story.before())
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
    with keeper() as process:
        return bool(searcher.in_process(process.pid))


def a_core_file_is_found(story: Story, searcher: Searcher) -> bool:
    """Whether the search finds the secret in the core file of a process that was told it.

    It crashes beside the agent, under the same limits.  Where this machine hands core files to
    a program, or keeps them elsewhere, there can be none in our folders, and nothing to find.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text("utf-8")
    if pattern.startswith(("|", "/")):
        return True
    home = story.station.agent.home
    with keeper("prlimit", "--core=unlimited", "--", cwd=home) as process:
        process.send_signal(signal.SIGSEGV)
        process.wait()
    cores = core_files(story)
    hits = [hit for core in cores for hit in searcher.in_file(core)]
    for core in cores:
        core.unlink()
    return bool(hits)


@contextlib.contextmanager
def keeper(*before: str, cwd: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that was told the secret and is not protected as ours are."""
    program = "import sys; kept = sys.stdin.readline(); print(flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [*before, sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=cwd,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SECRET.encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process


def core_files(story: Story) -> list[Path]:
    """Return the core files in our folders."""
    return [path for folder in story.folders() for path in folder.rglob("core*") if path.is_file()]


def crash_everything(story: Story) -> None:
    """End the agent and its children as crashes do that leave core files, where they may."""
    agent = story.station.agent
    victims = [*children(agent.pid), agent.pid]
    for pid, how in zip(victims, [signal.SIGSEGV, signal.SIGABRT] * len(victims), strict=False):
        os.kill(pid, how)
    agent.stop()
    assert core_files(story) == [], "processes that see plaintext leave no core file"


def search_everywhere(story: Story, opened: Opened | None = None) -> None:
    """Search every folder for the secret; first prove that it would be found there."""
    folders = [*story.folders(), *([] if opened is None else [opened.folder])]
    assert found(SECRET, folders, but=[story.station.typist.record]) == []
