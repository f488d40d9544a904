"""Stops at random moments under a thousand events a second: nothing comes after "silent".

The real desktop, sensors, tray and icon, and the real agent, which is watched
(`benchmarks.watched_agent`): it writes down when each source was unhooked, by the sensor's own
word, and what came last from it.  Input is injected before each stop, during it, and until
recording is to go on.  Stops are said on the agent's own socket, at random moments, while
sources open too.

How much is left to open in the end is chance, and by far: most of what is kept comes in the seconds
in which the collector's stop is on its way to the agent, and where an opt-out or a withdrawal
follows before that was sent, it is deleted with all else that had not left.  The figure has both.

Only instants are compared, all of one boot clock (wall clock for what was opened in the end): the
acknowledgement's against those of everything that any source saw, sent, or had opened.  How long
it takes is no test; `make bench` says that.
"""

import json
import random
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from Xlib.display import Display

from base.clock import SystemClock
from benchmarks.watched import WatchedStation
from benchmarks.watched_agent import Silence
from demo.desktop import wait_until
from demo.organisation import Organisation
from demo.typist import Load
from demo.workstation import children
from tests.conftest import Size
from tests.e2e.opened import open_everything
from tests.fakes.clients import clients_of
from wire.category import Category
from wire.control import OptIn, OptOut, Pause, Quit, Resume, Silent, Withdraw

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]

ALL: Final = frozenset(Category)
BUSY: Final = Load(keys=350, moves=300, text="abcdefghij", area=(100, 120, 300, 200))
"""A thousand events a second: each key is pressed and released."""
RECORDING_SECONDS: Final = (0.0, 0.5)
KEEPING_SECONDS: Final = (0.5, 1.2)  # what is younger than the hold-back is never kept
KEEPING_SHARE: Final = 0.25  # each of these makes batches, which are sealed, sent and opened
OPENING_SECONDS: Final = (0.0, 0.3)  # sources are being opened for about as long
OPENING_SHARE: Final = 0.25
LEAST_KEPT: Final = 100
QUIET_BYTES: Final = 50 * 14  # in which the typist writes down some fifty events
RARE: Final[dict[str, float]] = {"opt-out": 0.04, "keyboard": 0.04, "withdraw": 0.01}
RARER: Final[dict[str, float]] = {"quit": 0.005, "stop": 0.005}  # each takes some seconds
MILLISECOND: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One stop: what it was to silence, and three instants on both clocks."""

    kind: str
    silenced: frozenset[Category]
    asked_at: int
    silent_at: int
    silent_wall: int
    until_at: int
    until_wall: int


@dataclass(kw_only=True)
class Desk:
    """The workstation, who works at it, and chance."""

    station: WatchedStation
    organisation: Organisation
    dice: random.Random
    taken_back: int = 0  # batches that were deleted here before they were sent

    def stop(self, kind: str) -> Stop:
        """Stop at a random moment in the way *kind*, stay so for a while, and go on."""
        station = self.station
        if self.dice.random() < OPENING_SHARE:
            station.typist.start(BUSY)
            station.let_pass(self.dice.uniform(*OPENING_SECONDS))
        else:
            station.record()
            station.typist.start(BUSY)
            keeps = self.dice.random() < KEEPING_SHARE
            station.let_pass(self.dice.uniform(*(KEEPING_SECONDS if keeps else RECORDING_SECONDS)))
        asked_at = now()[0]
        silent_at, silent_wall = getattr(self, f"_{kind.replace('-', '_')}")()
        station.let_type(QUIET_BYTES)
        silenced = frozenset({Category.KEYS}) if kind == "keyboard" else ALL
        if silenced == ALL and kind != "quit":
            wait_until("no source at the X server", lambda: not self.clients_of_sensors())
        until_at, until_wall = now()
        station.typist.stop()
        self._go_on(kind)
        return Stop(
            kind=kind,
            silenced=silenced,
            asked_at=asked_at,
            silent_at=silent_at,
            silent_wall=silent_wall,
            until_at=until_at,
            until_wall=until_wall,
        )

    def keep(self, events: int) -> None:
        """Record until so many events more are kept."""
        station = self.station
        station.record()
        before = sum(station.ask().kept.values())
        station.typist.start(BUSY)
        station.until("kept events", lambda s: sum(s.kept.values()) >= before + events)
        station.typist.stop()

    def clients_of_sensors(self) -> int:
        """Return how many connections the sensors have to the X server, by the server's word."""
        with closing(Display(self.station.desktop.env["DISPLAY"])) as display:
            return sum(clients_of(display, pid) for pid in sensors_of(self.station.agent.pid))

    # --- ways to stop, each returns the instant from which on it is silent -----------------

    def _pause(self) -> tuple[int, int]:
        return instant(self.station.say(Pause()))

    def _opt_out(self) -> tuple[int, int]:
        return self._take_back(OptOut())

    def _keyboard(self) -> tuple[int, int]:
        return self._take_back(OptOut(category=Category.KEYS))

    def _withdraw(self) -> tuple[int, int]:
        return self._take_back(Withdraw())

    def _take_back(self, command: OptOut | Withdraw) -> tuple[int, int]:
        before = self.station.ask().spool.forgotten
        silent = instant(self.station.say(command))
        self.taken_back += self.station.ask().spool.forgotten - before
        return silent

    def _quit(self) -> tuple[int, int]:
        self.station.say(Quit())
        wait_until("the end", lambda: self.station.agent.ended() is not None, 60)
        assert self.station.agent.stop() == 0
        return now()

    def _stop(self) -> tuple[int, int]:
        self.organisation.collector.run("stop", "the store is moved to another disk")
        self.station.until("the stop", lambda status: status.stopped and not status.recording)
        wait_until("no source at the X server", lambda: not self.clients_of_sensors())
        return now()

    def _go_on(self, kind: str) -> None:
        station = self.station
        match kind:
            case "pause":
                station.click(Resume())
            case "opt-out":
                station.click(OptIn())
            case "keyboard":
                station.click(OptIn(category=Category.KEYS))
            case "withdraw":
                station.agree(*Category)
            case "quit":
                station.run_agent()
            case _:
                self.organisation.collector.run("go-on")
                station.until("the end of the stop", lambda status: not status.stopped)


def sensors_of(agent: int) -> set[int]:
    """Return the sensor processes of *agent*; one that was killed may be missing for a while."""
    found = set()
    for pid in children(agent):
        with suppress(OSError):  # it has just ended
            if b"agent.sensors." in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def now() -> tuple[int, int]:
    """Return the boot clock and the wall clock."""
    read = SystemClock().now()
    return read.boot, read.wall


def instant(answer: object) -> tuple[int, int]:
    """Return from when on it is silent, as the agent acknowledged."""
    assert isinstance(answer, Silent), answer
    return answer.at, answer.wall


def kinds(count: int, dice: random.Random) -> list[str]:
    """Return how to stop each time: by a pause mostly, in each other way at least once."""
    chosen = [
        kind for kind, share in (RARE | RARER).items() for _ in range(max(1, round(count * share)))
    ]
    chosen += ["pause"] * (count - len(chosen))
    dice.shuffle(chosen)
    return chosen


@pytest.fixture
def at_work(text_organisation: Organisation, desk: Path, dice: random.Random) -> Iterator[Desk]:
    """A workstation on which everything is recorded, and a typist who does not stop."""
    with WatchedStation(desk, text_organisation.enrolment_file("latency")) as station:
        station.open_terminal()
        station.consent(*Category)
        station.person.activate("work")
        station.record()
        yield Desk(station=station, organisation=text_organisation, dice=dice)


@pytest.mark.timeout(10_800)  # at full size it takes half an hour, on a busy machine longer
def test_nothing_is_seen_sent_or_kept_after_an_acknowledged_stop(
    at_work: Desk, tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """See the module; full size is a thousand stops."""
    station = at_work.station
    count = size(share=16, full=1_000)
    stops = [at_work.stop(kind) for kind in kinds(count, at_work.dice)]
    at_work.keep(LEAST_KEPT)  # chance may have kept nothing before
    station.say(Pause())
    station.wait_until_sent(600)
    silences = station.silences()
    injected = station.typist.sent()
    opened = open_everything(at_work.organisation, station, tmp_path / "export")

    check_injected(stops, injected)
    delays = check_silences(stops, silences)
    check_opened(stops, opened.events)
    assert len(opened.events) >= LEAST_KEPT
    said = Counter(stop.kind for stop in stops)
    seconds = sum(stop.until_at - stop.asked_at for stop in stops) / 1e9
    rate = sum(injections(stop, injected) for stop in stops) / seconds
    acknowledged = [s.silent_at - s.asked_at for s in stops if s.kind in ("pause", "opt-out")]
    figure(
        f"{count} stops {json.dumps(said)}, {rate:.0f} events a second injected: 0 items after the"
        f" acknowledgement, of {len(opened.events)} opened ({at_work.taken_back} batches were"
        f" taken back before they were sent); from the command to the last possible"
        f" callback {percentiles(delays)}, to the acknowledgement {percentiles(acknowledged)}"
    )


def injections(stop: Stop, injected: list[int]) -> int:
    """Return how many events were injected from the command until it went on."""
    return bisect_left(injected, stop.until_at) - bisect_right(injected, stop.asked_at)


def check_injected(stops: list[Stop], injected: list[int]) -> None:
    """In each silence something was injected that could have been seen."""
    for stop in stops:
        first = bisect_right(injected, stop.silent_at)
        # One that was under way is not counted.
        assert bisect_left(injected, stop.until_at) - first > 1, stop


def check_silences(stops: list[Stop], silences: list[Silence]) -> list[int]:
    """No source was hooked, and nothing came from it, from the acknowledgement on.

    Returns for each stop that found sources open how long after the command the last was unhooked.
    """
    delays = []
    for stop in stops:
        open_then = [
            each
            for each in silences
            if each.categories & stop.silenced
            and each.asked_at < stop.until_at
            and each.silent_at > stop.asked_at
        ]
        for each in open_then:
            assert each.asked_at < stop.silent_at, ("opened in silence", stop, each)
            assert each.happened_at <= stop.silent_at, ("happened after", stop, each)
            if stop.kind == "stop":  # nobody acknowledges it: only the X server was asked
                continue
            assert each.silent_at <= stop.silent_at, ("not closed", stop, each)
            assert each.arrived_at <= stop.silent_at, ("came after", stop, each)
            assert each.happened_at <= (each.unhooked_at or each.silent_at), ("seen after", each)
        if open_then and stop.kind not in ("quit", "stop"):  # whose command is somebody else's
            last = max(each.unhooked_at or each.silent_at for each in open_then)
            delays.append(last - stop.asked_at)
    assert delays
    return delays


def check_opened(stops: list[Stop], events: list[dict[str, Any]]) -> None:
    """Nothing that was opened in the end carries an instant of a silence."""
    times = [event["wall_ns"] for event in events]
    for stop in stops:
        between = events[
            bisect_right(times, stop.silent_wall) : bisect_left(times, stop.until_wall)
        ]
        assert [e for e in between if Category(e["category"]) in stop.silenced] == [], stop


def percentiles(delays: list[int]) -> str:
    """Return median, 99th percentile and the largest, in milliseconds."""
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    named = (cuts[49], cuts[98], max(delays))
    p50, p99, most = (each / MILLISECOND for each in named)
    return f"p50 {p50:.1f}, p99 {p99:.1f}, at most {most:.1f} ms"


# --- the checks themselves ------------------------------------------------------------------

STOP: Final = Stop(
    kind="pause",
    silenced=ALL,
    asked_at=1_000,
    silent_at=2_000,
    silent_wall=2_000,
    until_at=3_000,
    until_wall=3_000,
)
QUIET: Final = Silence(
    sensor="input",
    categories=frozenset({Category.KEYS}),
    asked_at=100,
    opened_at=200,
    unhooked_at=1_500,
    silent_at=1_600,
    happened_at=1_400,
    arrived_at=1_550,
    items=1,
)


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"asked_at": 2_500, "silent_at": 2_900}, "opened in silence"),
        ({"silent_at": 2_001}, "not closed"),
        ({"arrived_at": 2_001}, "came after"),
        ({"happened_at": 1_501}, "seen after"),
    ],
)
def test_a_source_that_is_not_silent_is_found(spoilt: dict[str, Any], why: str) -> None:
    """Each of the four ways; as it is, it passes."""
    assert check_silences([STOP], [QUIET]) == [500]
    with pytest.raises(AssertionError, match=why):
        check_silences([STOP], [msgspec.structs.replace(QUIET, **spoilt)])


def test_an_event_of_a_silence_is_found_and_so_is_one_without_any_input() -> None:
    """An instant before and one after pass."""
    events = [{"wall_ns": at, "category": "keys"} for at in (2_000, 3_000)]
    check_opened([STOP], events)
    with pytest.raises(AssertionError):
        check_opened([STOP], [events[0], {"wall_ns": 2_001, "category": "keys"}, events[1]])
    check_injected([STOP], [1_900, 2_100, 2_200, 3_100])
    with pytest.raises(AssertionError):
        check_injected([STOP], [1_900, 2_100, 3_100])
