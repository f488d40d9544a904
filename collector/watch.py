"""Looks at the guard every few seconds: has it called a halt, is it there at all?

A guard that has not answered for two minutes stops the programme, because nobody would hear
of a halt that it calls; the stop ends by itself with the guard's next answer.  Once an hour
it looks for batches whose last day is over, and has the witness date the log.
"""

import logging
import threading
from typing import Final

from sqlalchemy import Connection

from base.clock import NANOSECONDS
from base.errors import AssentError
from collector.assembly import Collector
from collector.expiry import clear
from collector.forget import AT_ONCE, sweep_left
from collector.halt import Cause, call_halt, call_stop, go_on
from collector.refusal import RefusedError
from collector.rights import pass_on_all

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.5  # agents look every 5 s, and have to be closed within 10
TIDY_SECONDS: Final = 3600  # what ends with a day may go in the first hour of the next
WITNESS_SECONDS: Final = 3600  # so exactly can an audit say when something was written
AGAIN_SECONDS: Final = 300
OUTAGE_SECONDS: Final = 120  # a guard that is started again is no reason to stop everybody


class Watch:
    """One thread beside the server, for as long as the collector runs."""

    def __init__(self, collector: Collector) -> None:
        """Nothing is looked at yet."""
        self._collector = collector
        self._answered_at = collector.clock.now().boot
        self._tidy_at = 0
        self._witness_at = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def begin(self) -> None:
        """Look from now on, every `LOOK_SECONDS`."""
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def silent_seconds(self) -> float:
        """Return for how long the guard has not answered; at first, since the watch was made."""
        return (self._collector.clock.now().boot - self._answered_at) / NANOSECONDS

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self.look()
            except AssentError as exc:
                _log.error("the guard's state could not be noted: %s", exc)
            try:
                self.tidy()
            except AssentError as exc:
                _log.error("what may not be kept any longer is still here: %s", exc)

    def tidy(self) -> None:
        """Delete what was erased, and what may not be kept any longer if it is time to look.

        Raises:
            AssentError: It could not be written down; the next look tries again.

        """
        now = self._collector.clock.now().boot
        sweep_left(self._collector.index, self._collector.store, self._collector.now())
        if now >= self._tidy_at and clear(self._collector) < AT_ONCE:
            self._tidy_at = now + TIDY_SECONDS * NANOSECONDS
        if now >= self._witness_at:
            self._witness_at = now + self._witnessed() * NANOSECONDS

    def _witnessed(self) -> int:
        """Have the witness date the log, so that an audit can say when what was written.

        Return in how many seconds it is to be asked again.
        """
        try:
            self._collector.witnessed.now(self._collector.now())
        except RefusedError as exc:
            _log.warning("the log was not witnessed: %s", exc)
            return AGAIN_SECONDS
        return WITNESS_SECONDS

    def look(self) -> None:
        """Ask the guard once, and act on what it says or on its silence.

        Raises:
            AssentError: It could not be written down; the next look tries again.

        """
        collector = self._collector
        if collector.guard is None:
            return
        try:
            said = collector.guard.state()
        except RefusedError:
            self._missed()
            return
        self._answered_at = collector.clock.now().boot
        with collector.index.writing() as connection:
            go_on(connection, collector.now(), Cause.GUARD_AWAY)
            if said.halted and call_halt(connection, said.why, collector.now(), said.by):
                _log.warning("the guard has halted the programme")
            self._follow_stop(connection, said.stopped)
        if left := pass_on_all(collector):
            _log.warning("%d erasures are not confirmed by the guard", left)

    def _follow_stop(self, connection: Connection, why: str) -> None:
        now = self._collector.now()
        if not why:
            go_on(connection, now, Cause.GUARD_STOPPED)
        elif call_stop(connection, f"{why} (said by the guard)", now, Cause.GUARD_STOPPED):
            _log.warning("the guard has stopped the programme")

    def _missed(self) -> None:
        collector = self._collector
        away = collector.clock.now().boot - self._answered_at
        if away < OUTAGE_SECONDS * NANOSECONDS:
            return
        why = "the guard, who holds the second lock, does not answer"
        with collector.index.writing() as connection:
            if call_stop(connection, why, collector.now(), Cause.GUARD_AWAY):
                _log.warning("the guard does not answer: the programme stands still")
