"""Has a running server drill: at once, then hourly, and a patrol every 20 s.

The patrol tries what one hole for all would show, and how the files lie: so a hole of that kind
stops the programme within a minute of its appearance, not within an hour.  It leaves a record
only if it fails.  The first drill opens the gate before ingest (`gate`); until one has passed,
by itself or by hand, it is held again and again.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from base.errors import AssentError, RetryableError
from base.serving import Listeners
from collector import halt
from collector.assembly import Collector
from collector.drill import records
from collector.drill.doors import announce, listening
from collector.drill.probes import Hole
from collector.drill.records import Kind, Outcome
from collector.drill.run import Drill, StoreAwayError, drill
from collector.premises import Premises

_log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
PATROL_SECONDS: Final = 20.0  # with every time-out on the way, a hole stops within 60 s
AGAIN_SECONDS: Final = 300.0  # after a drill that failed, unless somebody drills by hand


class Schedule:
    """One thread beside the server, for as long as the collector runs."""

    def __init__(
        self, one: Drill, every_seconds: float, patrol_seconds: float = PATROL_SECONDS
    ) -> None:
        """Nothing is tried yet; *one* says what."""
        self._drill = one
        self._every, self._patrol_every = every_seconds, patrol_seconds
        self._drill_at = self._patrol_at = 0.0
        self._turn = 0
        self._ended, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="drills", daemon=True)
        self.last_seconds = 0.0

    def begin(self, then: Callable[[], None] = lambda: None) -> None:
        """Begin with the first drill; call *then* when it is over, whatever came of it."""
        self._then = then
        self._thread.start()

    def end(self) -> None:
        """Drill no more; one under way is finished first."""
        self._ended.set()
        self._thread.join()

    def wait_for_first(self, seconds: float) -> bool:
        """Wait until the first drill is over; False if it is not by then."""
        return self._first.wait(seconds)

    def why_waiting(self) -> str:
        """Return why no batch is taken, as far as that is up to drills; empty if it is not."""
        collector = self._drill.collector
        with collector.index.reading() as connection:
            failed = halt.why_stopped(connection, halt.Cause.DRILL_FAILED)
        if failed:
            return f"{failed}; mend it, run assent-collector drill, then assent-collector go-on"
        return "" if collector.gate.is_open else "the first drill has not passed yet"

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.look(time.monotonic())
            except AssentError as exc:
                _log.error("no drill could be held: %s", exc)
            if not self._first.is_set():
                self._first.set()
                self._then()
            self._ended.wait(TICK_SECONDS)

    def look(self, now: float) -> None:
        """Drill, or patrol, if it is time to.

        Raises:
            AssentError: What came of it could not be written down; the next look tries again.

        """
        if now >= self._drill_at:
            self._drill_at, self._patrol_at = now + AGAIN_SECONDS, now + self._patrol_every
            began = time.monotonic()
            outcome = self._held(Kind.SAMPLE)
            if outcome is None:
                self._drill_at = self._patrol_at
                return
            self.last_seconds = time.monotonic() - began
            if outcome.passed:
                self._drill_at = now + self._every
        elif now >= self._patrol_at:
            self._patrol_at = now + self._patrol_every
            self._held(Kind.PATROL)
            self._turn += 1
        self._open()

    def _held(self, kind: Kind) -> Outcome | None:
        """Return what came of a drill; None while nobody can reach the store."""
        one = replace(self._drill, kind=kind, turn=self._turn, found=_said)
        try:
            return drill(one)
        except StoreAwayError as exc:
            _log.warning("%s", exc)
            return None
        except AssentError as exc:
            self._stop(str(exc))
            raise
        except Exception as exc:
            _log.exception("a drill came to no end: this is our mistake")
            self._stop("this is our mistake; see the log")
            raise RetryableError("a defect") from exc

    def _stop(self, why: str) -> None:
        """Stop because no drill can be held: who cannot look does not know."""
        collector = self._drill.collector
        hole = Hole(line=f"it could not be held: {why}")
        with collector.index.writing() as connection:
            records.stop_for(connection, hole, collector.now())

    def _open(self) -> None:
        """Open the gate if a whole drill has passed on this server, by itself or by hand."""
        collector = self._drill.collector
        if collector.gate.is_open:
            return
        with collector.index.reading() as connection:
            passed = records.has_passed(connection, self._drill.listening.server)
        if passed:
            collector.gate.open()
            _log.info("the first drill has passed: batches are taken")


def _said(hole: str) -> None:
    _log.error("a drill failed: %s", hole)


def scheduled(collector: Collector, premises: Premises, listeners: Listeners) -> Schedule:
    """Return the drills of a server on *listeners*, as its configuration wants them.

    Where it listens is written down for commands beside it.

    Raises:
        SetupError: Its certificates cannot be read.

    """
    found = listening(premises, listeners.bound)
    announce(premises, found)
    config = collector.config.drills
    one = Drill(collector=collector, premises=premises, listening=found, sample=config.sample)
    return Schedule(one, config.every_seconds, config.patrol_seconds)
