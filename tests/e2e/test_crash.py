"""The running agent is killed at random moments, over and over; then everything is looked at.

One workstation on which everything is recorded, with characters.  In each of its lives the
agent is started, a fuse is lit, and the person works until it has burnt: types, pauses,
resumes where a click is needed; now and then a sensor or the tray is killed first.  SIGKILL
ends most lives, SIGABRT and SIGSEGV some, because only these leave a core file.

In the end: every batch that lay sealed on the disk at any of these deaths is at the
collector and opens, no number of an event or a batch is there twice, no batch number is
missing, and what was typed is nowhere in the clear.
"""

import contextlib
import hashlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from agent.spool import HELD, READY, SENT
from agent.spooled import read_sent
from demo.organisation import Organisation, Plan
from demo.search import Searcher
from demo.typist import Load
from demo.workstation import Workstation
from tests.conftest import Size
from tests.e2e.opened import Opened, open_everything
from tests.fakes.death import core_folders, cores_in, deaths, fuse, leave_a_core
from tests.fakes.planted import planted_in
from tests.fakes.searched import found
from wire.category import Category
from wire.control import Reason, Status
from wire.frame import join_unsigned, split

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow, pytest.mark.soak]

STARTING_SECONDS: Final = (0.05, 5.0)  # after the first instant of starting
RECORDING_SECONDS: Final = (0.0, 8.0)  # after everything was recorded
RECORDING_SHARE: Final = 0.5
SHARE: Final = (2, 1)
FULL: Final = (100, 10)
PATIENCE_SECONDS: Final = 90.0  # for an agent that nobody kills to record again
ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
NEEDS_A_CLICK: Final = frozenset({Reason.PAUSED_UNTIL, Reason.RESUME_PENDING})
CHILDREN: Final = ("tray", "agent.sensors.input", "agent.sensors.screen", "agent.sensors.context")
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - read, never written


class EndedError(Exception):
    """The agent has died under the person's hands."""


@dataclass(kw_only=True)
class Lives:
    """The workstation, who works at it, and what was seen at each death."""

    station: Workstation
    dice: random.Random
    text: str
    held: set[str] = field(default_factory=set)  # hashes of unsigned frames
    ready: set[str] = field(default_factory=set)  # hashes of frames
    deaths: Counter[str] = field(default_factory=Counter)
    while_recording: int = 0
    clicks: int = 0
    children_killed: int = 0
    _recording: bool = False

    # --- one life ---------------------------------------------------------------------

    def live(self, how: signal.Signals) -> None:
        """Start the agent, work until *how* ends it, look at what it left."""
        self._recording = False
        pid = self.station.agent.serve("run")
        seconds = self.dice.uniform(*STARTING_SECONDS)
        if self.dice.random() < RECORDING_SHARE:  # however long it takes to get there
            self.begin()
            seconds = self.dice.uniform(*RECORDING_SECONDS)
        with fuse(pid, how, seconds) as burnt:
            try:
                if not self._recording:
                    self.begin()
                self.work()
            except AssertionError:
                raise
            except Exception:
                # Whatever the person was doing: without an agent it does not work.
                if not burnt.is_set():
                    raise
        code = self.station.agent.stop()
        sys.stdout.write(f"{how.name} after {seconds:.3f} s, recording: {self._recording}\n")
        assert code == -how
        self.station.typist.stop()
        self.look(how)

    def work(self) -> None:
        """Work until the agent ends, which is said with an exception."""
        sealing = (self.kill_the_tray, self.pause)
        acts: Sequence[Callable[[], None]] = sealing
        while True:
            time.sleep(self.dice.uniform(0.1, 1.0))
            self.dice.choice(acts)()
            acts = (*sealing, self.kill_a_child, self.wait)

    def begin(self) -> None:
        """Have everything recorded, by clicks where they are needed, and type."""
        station = self.station
        station.agent.wait_until("icon on the panel", station.person.sees_tray)
        station.typist.stop()  # whatever goes on now, no key may end up in a window of ours
        self.until("that everything may be recorded", self.may_record)
        station.person.activate("work")
        self.until("everything recorded", lambda s: len(s.recording) == len(Category))
        self._recording = True
        station.typist.start(Load(keys=100, text=self.text + "\n"))

    def may_record(self, status: Status) -> bool:
        """Whether nothing but the focus keeps it from recording; click where that helps."""
        if status.reason in NEEDS_A_CLICK:
            self.station.resume()
            self.clicks += 1
            return False
        return status.reason in (Reason.ACTIVE, Reason.OUTSIDE_SCOPE)

    def wait(self) -> None:
        """Do nothing but type; notice the end."""
        self.status()

    def kill_the_tray(self) -> None:
        """Which closes and seals everything until its icon is back."""
        self.kill("tray")

    def kill_a_child(self) -> None:
        """Kill a sensor or the tray."""
        self.kill(self.dice.choice(CHILDREN))

    def kill(self, module: str) -> None:
        """Kill a child in one of the three ways; go on when it is there again."""
        how = self.dice.choice((signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV))
        os.kill(self.station.child(module), how)
        self.children_killed += 1
        self.until("its end", lambda s: len(s.recording) < len(Category))
        self.begin()

    def pause(self) -> None:
        """Pause, which seals what is open, and resume with a click."""
        self.station.agent.run("pause")
        self.begin()

    # --- what is seen -----------------------------------------------------------------

    def status(self) -> Status:
        """Return what the agent says; asked directly, for a command takes its time.

        The icon on the panel may still be that of the life before, so the agent need not be
        there yet.
        """
        while not isinstance(answer := self.station.asked(), Status):
            if self.station.agent.ended() is not None:
                raise EndedError
            time.sleep(0.02)
        return answer

    def until(self, what: str, holds: Callable[[Status], bool]) -> None:
        """Wait for a status, as long as the agent lives."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds(status := self.status()):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"waited in vain for {what}: {status}")
            time.sleep(0.05)

    def look(self, how: signal.Signals) -> None:
        """Note what lies sealed on the disk; look for core files."""
        self.deaths[how.name] += 1
        self.while_recording += self._recording
        self.held |= self.spooled(HELD)
        self.ready |= self.spooled(READY)
        for core in cores_in(self.station.folder):
            # Before it has made itself undumpable it may leave one: it knows nothing then.
            assert not self._recording, f"{core} of an agent that was recording"
            assert list(Searcher(self.text).in_file(core)) == []
            core.unlink()

    def spooled(self, folder: str) -> set[str]:
        """Return the names of the whole batches in a folder of the spool."""
        return {path.stem for path in (self.spool / folder).glob("*.frame")}

    @property
    def spool(self) -> Path:
        """The agent's spool."""
        return self.station.agent.home / "state/spool"

    def receipted(self) -> set[str]:
        """Return the hashes for which the agent has deleted its copy on a receipt."""
        path = self.spool / SENT
        lines = (read_sent(line, path) for line in path.read_bytes().split(b"\n")[:-1])
        return {sent.hash.hex() for sent in lines if sent is not None}


@pytest.fixture
def organisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Organisation, Path]]:
    """Return an organisation whose test policy records characters, and its temporary folder."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    plan = Plan(
        levels={"keys": "text"},
        rates={"keys": 1000.0, "pointer": 1000.0, "screen": 1.0},
        hold_seconds=1,
        test_only=True,
    )
    with Organisation(tmp_path / "organisation", plan) as made:
        yield made, temporary


def test_an_agent_that_is_killed_at_any_moment_loses_repeats_and_leaks_nothing(
    organisation: tuple[Organisation, Path],
    desk: Path,
    tmp_path: Path,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """See the module; full size is 100 SIGKILLs, 10 SIGABRTs and 10 SIGSEGVs."""
    parties, temporary = organisation
    text = "".join(dice.sample(ALPHABET, 13))  # no letter twice, and by chance nowhere else
    station = Workstation(desk, parties.enrolment_file("crash"))
    with station:
        station.open_terminal()
        station.consent(*Category)
        lives = Lives(station=station, dice=dice, text=text)
        lives.begin()
        station.agent.stop()
        station.typist.stop()
        kills, cores = size(share=SHARE[0], full=FULL[0]), size(share=SHARE[1], full=FULL[1])
        for how in deaths(kills, cores, dice):
            lives.live(how)

        # One more life, which nobody ends: all that is left of the others goes its way.
        station.agent.serve("run")
        lives.begin()
        time.sleep(2.0)
        station.typist.stop()
        station.agent.run("pause")
        station.wait_until_sent(600)
        station.agent.stop()
        folders = [parties.folder, desk, temporary]
        check_nowhere(text, folders, station.typist.record)

    opened = open_everything(parties, station, tmp_path / "export")
    check_nothing_lost(lives, parties, opened)
    check_nothing_twice(opened)
    assert text in opened.text().replace("\n", "")
    assert lives.while_recording
    figure(
        f"{sum(lives.deaths.values())} deaths ({dict(sorted(lives.deaths.items()))}), "
        f"{lives.while_recording} of them while recording, {lives.children_killed} of children, "
        f"{lives.clicks} clicks on Resume; of {len(lives.held | lives.ready)} batches seen on "
        f"the disk 0 lost; {len(opened.index['batches'])} opened, {len(opened.events)} events, "
        f"0 numbers twice; the text nowhere"
    )


def check_nothing_lost(lives: Lives, parties: Organisation, opened: Opened) -> None:
    """Whatever was receipted, or lay sealed on the disk at a death, was opened in the end."""
    there = {str(batch["batch"]) for batch in opened.index["batches"]}
    unsigned = set()
    state = parties.collector.home / "state"
    planted = planted_in(state)
    for path in (each for each in state.glob("objects/??/*") if each.name not in planted):
        parts = split(path.read_bytes())
        plain = join_unsigned(parts.core, parts.shelf, parts.body)
        unsigned.add(hashlib.sha256(plain).hexdigest())
    assert lives.receipted() == there
    assert lives.ready <= there
    assert lives.held <= unsigned
    # A number is given when a batch leaves its hold: one that is missing is a batch that is.
    numbers = sorted(int(batch["sequence"]) for batch in opened.index["batches"])
    assert numbers == list(range(1, len(numbers) + 1))


def check_nothing_twice(opened: Opened) -> None:
    """No number of an event is there twice in its category."""
    seen = Counter((event["category"], event["sequence"]) for event in opened.events)
    assert [number for number, times in seen.items() if times > 1] == []


def check_nowhere(text: str, folders: list[Path], record: Path) -> None:
    """The text is in none of these folders, nor where this machine puts shared memory and cores.

    Where core files go to another program (`core_pattern` with a pipe), that program's folder
    is not ours to search; that none is written at all is looked at elsewhere then.
    """
    control_folder = folders[0] / "control"
    places = core_folders(control_folder)
    if places == [control_folder]:
        cores = leave_a_core(text, control_folder)
        assert [hit for core in cores for hit in Searcher(text).in_file(core)], "no control"
        for core in cores:
            core.unlink()
    outside = [place for place in (SHARED_MEMORY, *places) if place != control_folder]
    with contextlib.suppress(OSError):
        control_folder.rmdir()
    assert found(text, folders, but=[record]) == []
    assert Searcher(text).in_folders([place for place in outside if place.is_dir()]) == []
