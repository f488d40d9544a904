"""The whole agent (agent, tray, three sensors) at work, against pynput that only counts.

A real organisation with its servers, a desktop with a panel, a terminal that the policy lists
and in which text moves, the typical load; the servers are not counted.  pynput gets the same
desktop and load when the agent has ended.
"""

import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.desk import INPUT_SECONDS, TYPICAL, Counter, write_on
from benchmarks.meter import Meter, Use
from benchmarks.result import Row
from demo.organisation import Organisation, Plan
from demo.typist import Typist
from demo.workstation import Workstation
from wire.category import Category

PLAN: Final = Plan(rates={"keys": 1_000.0, "pointer": 1_000.0, "screen": 2.0}, hold_seconds=1)
MINUTE: Final = 60.0
SETTLE_SECONDS: Final = 2.0  # key frame, first batch, the tray's first drawing


def run() -> list[Row]:
    """Return share of a core, memory and bytes written."""
    with tempfile.TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as folder:
        where = Path(folder)
        with Organisation(where / "o", PLAN) as organisation:
            enrolment = organisation.enrolment_file("bench")
            with Workstation(where / "w", enrolment) as station:
                return _measured(station)


def _measured(station: Workstation) -> list[Row]:
    write_on(station.desktop)
    station.person.activate("scroller", 20)
    station.consent(*Category)
    station.person.activate("scroller")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
    time.sleep(SETTLE_SECONDS)
    meter = Meter(station.agent.pid)
    ours, lasted = _under_load(station.typist, meter)
    kept = sum(station.status()["kept"].values())
    station.pause()  # what is open is sealed and written
    station.wait_until_sent()
    written = meter.read().written_bytes
    station.agent.stop()
    counter = Counter(station.desktop, "pynput")
    bare = Meter(counter.pid)
    floor, bare_lasted = _under_load(station.typist, bare)
    counter.stop()
    return [
        _row(
            f"of one core ({kept:,} events and pictures kept)",
            100 * ours.cpu_seconds / lasted,
            100 * floor.cpu_seconds / bare_lasted,
            "%",
            "2.3-4.2 % (sketches with pictures)",
        ),
        _row(
            "resident memory, 5 processes against 1, shared pages in each",
            ours.resident_megabytes,
            floor.resident_megabytes,
            "MB",
            "90 MB (one process)",
        ),
        _row(
            "given to write calls a minute (files, pipes, X)",
            written / 1e6 * MINUTE / lasted,
            bare.read().written_bytes / 1e6,
            "MB",
            "20 MB (JPEG)",
        ),
    ]


def _row(what: str, ours: float, floor: float, unit: str, best_known: str) -> Row:
    return Row(
        bench="agent",
        what=what,
        ours=ours,
        floor=floor,
        unit=unit,
        more_is_better=False,
        best_known=best_known,
    )


def _under_load(typist: Typist, meter: Meter) -> tuple[Use, float]:
    """Return what the tree of *meter* used under the typical load, and how long that was."""
    start, began = meter.read(), time.monotonic()
    typist.start(TYPICAL)
    time.sleep(INPUT_SECONDS)
    typist.stop()
    end = meter.read()
    used = Use(
        cpu_seconds=end.cpu_seconds - start.cpu_seconds,
        resident_megabytes=end.resident_megabytes,
        written_bytes=end.written_bytes - start.written_bytes,
    )
    return used, time.monotonic() - began
