"""How long a stop takes: from the command to the last possible callback, and to "silent".

The whole agent with everything recorded, under a thousand events a second; pauses on its named
socket at random moments.  The last callback is the last sensor's word that it has unhooked.  The
floor is a process that watches the same input in the least possible way, told to stop over a pipe
in turn with ours: mask taken back and confirmed, then one line written and synced.
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from base.clock import boot_ns
from benchmarks.desk import ROOT
from benchmarks.result import Row
from benchmarks.watched import WatchedStation
from benchmarks.watched_agent import Silence
from demo.organisation import Organisation, Plan
from demo.typist import Load
from wire.category import Category
from wire.control import Pause, Resume, Silent

PLAN: Final = Plan(rates={"keys": 1_000.0, "pointer": 1_000.0, "screen": 2.0}, hold_seconds=1)
BUSY: Final = Load(keys=350, moves=300, text="abcdefghij", area=(100, 120, 300, 200))
"""A thousand events a second: each key is pressed and released."""
STOPS: Final = 100
RECORDING_SECONDS: Final = 0.4  # at most, before a stop
MILLISECOND: Final = 1e6
AIM_MS: Final = 50.0  # of 99 in 100 stops, from the command to the last possible callback

Delays = tuple[int, int]
"""From the command to the last possible callback, and until all was done; nanoseconds."""


class BareStopper:
    """The floor's process; see `bare_stopper`."""

    def __init__(self, env: Mapping[str, str], file: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_stopper", str(file)],
            env={**env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._answer()

    def stop(self) -> Delays:
        """Stop it; return how long that took."""
        asked_at = boot_ns()
        confirmed, done = self._say(b"stop\n")
        return confirmed - asked_at, done - asked_at

    def go(self) -> None:
        """Let it watch again."""
        self._say(b"go\n")

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=10)

    def _say(self, command: bytes) -> tuple[int, int]:
        stream = self._process.stdin
        if stream is None:
            raise RuntimeError("the bare stopper has no standard input")
        stream.write(command)
        stream.flush()
        return self._answer()

    def _answer(self) -> tuple[int, int]:
        line = b"" if self._process.stdout is None else self._process.stdout.readline()
        confirmed, done = line.split()
        return int(confirmed), int(done)


def run() -> list[Row]:
    """Return both delays, each at the median and at the 99th percentile."""
    with tempfile.TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as folder:
        where = Path(folder)
        with Organisation(where / "o", PLAN) as organisation:
            enrolment = organisation.enrolment_file("stop")
            with WatchedStation(where / "w", enrolment) as station:
                return _rows(*_measured(station, BareStopper(station.desktop.env, where / "line")))


def _measured(station: WatchedStation, bare: BareStopper) -> tuple[list[Delays], list[Delays]]:
    station.open_terminal()
    station.consent(*Category)
    station.person.activate("work")
    station.typist.start(BUSY)
    dice = random.Random(1)  # noqa: S311 - moments, no secret
    stops: list[Delays] = []  # when it was asked, and when it was silent
    floor = []
    for _ in range(STOPS):
        station.record()
        time.sleep(dice.uniform(0, RECORDING_SECONDS))
        asked_at, answer = boot_ns(), station.say(Pause())
        if not isinstance(answer, Silent):
            raise TypeError(f"the pause was not acknowledged: {answer}")
        stops.append((asked_at, answer.at))
        floor.append(bare.stop())
        bare.go()
        station.click(Resume())
    bare.close()
    station.typist.stop()
    silences = station.silences()
    return [_delays(asked, silent, silences) for asked, silent in stops], floor


def _delays(asked_at: int, silent_at: int, silences: list[Silence]) -> Delays:
    """Return how long that stop took; a sensor that had to be killed gave no word of its own."""
    last = max(
        each.unhooked_at or each.silent_at
        for each in silences
        if asked_at < each.silent_at <= silent_at
    )
    return last - asked_at, silent_at - asked_at


def _rows(ours: list[Delays], floor: list[Delays]) -> list[Row]:
    rows = []
    for number, what in enumerate(("the last possible callback", "the acknowledgement")):
        mine, bare = (_p50_p99([each[number] for each in both]) for both in (ours, floor))
        for share, mine_ms, bare_ms in zip(("p50", "p99"), mine, bare, strict=True):
            is_aim = number == 0 and share == "p99"
            rows.append(
                Row(
                    bench="stop",
                    what=f"from the command to {what}, {share} of {len(ours)}",
                    ours=mine_ms,
                    floor=bare_ms,
                    unit="ms",
                    more_is_better=False,
                    at_most=AIM_MS if is_aim else None,
                )
            )
    return rows


def _p50_p99(delays: list[int]) -> tuple[float, float]:
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return cuts[49] / MILLISECOND, cuts[98] / MILLISECOND
