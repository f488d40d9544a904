"""Looks at the guard every few seconds: has it called a halt, is it there at all?

A guard that has not answered for two minutes stops the programme, because nobody would hear
of a halt that it calls; the stop ends by itself with the guard's next answer.  Of several
collectors one is enough to hear it, and says so in the index.  Once an hour it looks for batches
whose last day is over, and has the witness date the log.  What people had erased is passed on to
it, and what it has erased by its own hand asked for, in a thread apart: that can take seconds, and
a halt does not wait.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select

from base.clock import NANOSECONDS
from base.errors import AssentError
from collector.assembly import Collector
from collector.halt import Cause, call_halt, call_stop, go_on
from collector.index.statements import insert
from collector.index.tables import heard
from collector.refusal import RefusedError
from collector.rights import orders
from collector.rights.demands import pass_on_next
from collector.rights.expiry import clear
from collector.rights.forget import AT_ONCE, sweep_left
from collector.store import Unsettled

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.5  # agents look every 5 s, and have to be closed within 10
ORDERS_SECONDS: Final = 10.0  # a key that the guard has erased is of no use to anybody meanwhile
TIDY_SECONDS: Final = 3600  # what ends with a day may go in the first hour of the next
WITNESS_SECONDS: Final = 3600  # so exactly can an audit say when something was written
AGAIN_SECONDS: Final = 300
OUTAGE_SECONDS: Final = 120  # a guard that is started again is no reason to stop everybody
HEARD_SECONDS: Final = 30  # so often the others are told that the guard answers
_GUARD: Final = "guard"
_HEARD: Final = select(heard.c.times).where(heard.c["from"] == _GUARD)


class Watch:
    """Beside the server, for as long as the collector runs.

    Forgetting and the guard's orders have threads of their own: these can take seconds, and a
    halt is to be heard meanwhile.
    """

    def __init__(self, collector: Collector) -> None:
        """Nothing is looked at yet."""
        self._collector = collector
        self._answered_at = collector.clock.now().boot
        self._tidy_at = 0
        self._tidied_at: int | None = None  # boot instant
        self._witness_at = 0
        self._marks: tuple[Unsettled, ...] = ()
        self._marks_at = 0
        self._told_at: int | None = None  # boot instant
        self._heard: int | None = None  # what all collectors have counted
        self._orders_at = 0
        self._passed_on = -1  # the leaf of the erasure that was passed on last
        self._ended = threading.Event()
        self._threads = (
            threading.Thread(target=self._run, name="watch", daemon=True),
            threading.Thread(target=self._forget, name="forgetting", daemon=True),
            threading.Thread(target=self._obey, name="orders", daemon=True),
        )

    def begin(self) -> None:
        """Look from now on, every `LOOK_SECONDS`."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def silent_seconds(self) -> float:
        """Return for how long the guard has not answered; at first, since the watch was made."""
        return (self._collector.clock.now().boot - self._answered_at) / NANOSECONDS

    def tidied_seconds(self) -> float | None:
        """Return for how long nothing may be here that is over its last day; None: nobody knows."""
        if self._tidied_at is None:
            return None
        return (self._collector.clock.now().boot - self._tidied_at) / NANOSECONDS

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._try(self.look, "the guard's state could not be noted")
            self._try(self.sweep, "what was erased still lies in the store")
            self._try(self.tidy, "what may not be kept any longer is still here")

    def _try(self, act: Callable[[], None], else_: str) -> None:
        """Do *act*, or say in one line why not; the next look tries again."""
        try:
            act()
        except AssentError as exc:
            _log.error("%s: %s", else_, exc)
        except OSError as exc:  # of the disk; its text would name a file
            _log.error("%s: %s", else_, exc.strerror)
        except Exception as exc:  # noqa: BLE001 - a thread that ended would hear of no halt
            _log.error("%s: a defect of ours: %s", else_, type(exc).__name__)

    def sweep(self) -> None:
        """Remove the files that an erasure or a crash left behind tombstones, some at a time.

        Raises:
            AssentError: Store or index are away; the next look tries again.
            OSError: A file could not be removed; all others were.

        """
        sweep_left(self._collector.index, self._collector.store, self._collector.now())

    def _forget(self) -> None:
        while not self._ended.wait(TIDY_SECONDS):
            self._try(
                self._collector.index.forget_the_rest, "what was deleted is not overwritten yet"
            )

    def _obey(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._try(self.pass_on, "what was demanded could not be passed on to the guard")
            now = self._collector.clock.now().boot
            if now >= self._orders_at:
                self._orders_at = now + int(ORDERS_SECONDS * NANOSECONDS)
                self._try(self.obey, "what the guard has erased could not be followed")

    def pass_on(self) -> None:
        """Pass on to the guard, in portions, the erasures that it has not confirmed.

        Raises:
            AssentError: It could not be written down; the next round tries again.

        """
        if self._collector.guard is None:
            return
        self._passed_on, outstanding = pass_on_next(self._collector, self._passed_on)
        if outstanding:
            _log.warning("there are erasures that the guard has not confirmed")

    def obey(self) -> None:
        """Carry out what the guard has erased by its own hand.

        Raises:
            AssentError: Index or store are away; the next look tries again.
            OSError: A file could not be removed; the next sweep tries again.

        """
        try:
            orders.follow(self._collector)
        except RefusedError:
            return  # away, which `look` says

    def tidy(self) -> None:
        """Delete what may not be kept any longer, date the log, clear up, if it is time for that.

        Raises:
            AssentError: It could not be written down; the next look tries again.
            OSError: A file could not be removed; the next look tries again.

        """
        now = self._collector.clock.now().boot
        if now >= self._tidy_at and clear(self._collector) < AT_ONCE:
            self._tidy_at, self._tidied_at = now + TIDY_SECONDS * NANOSECONDS, now
        if self._collector.guard is not None and now >= self._witness_at:
            self._witness_at = now + self._witnessed() * NANOSECONDS
        if now >= self._marks_at:
            self._marks_at = now + TIDY_SECONDS * NANOSECONDS
            self._settle_old_marks()

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

    def _settle_old_marks(self) -> None:
        """Settle what was unsettled an hour ago, too: no upload of any collector takes so long.

        A frame that was refused while others came without a gap, or that the index had no room
        for, has no row, so no erasure would find it: it must not lie there until the next start.
        """
        found = tuple(self._collector.store.unsettled())
        self._collector.settle(mark for mark in found if mark in self._marks)
        self._marks = found

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
            self._tell_the_others(connection)
            go_on(connection, collector.now(), Cause.GUARD_AWAY)
            if said.halted and call_halt(connection, said.why, collector.now(), said.by):
                _log.warning("the guard has halted the programme")
            self._follow_stop(connection, said.stopped)

    def _follow_stop(self, connection: Connection, why: str) -> None:
        now = self._collector.now()
        if not why:
            go_on(connection, now, Cause.GUARD_STOPPED)
        elif call_stop(connection, f"{why} (said by the guard)", now, Cause.GUARD_STOPPED):
            _log.warning("the guard has stopped the programme")

    def _missed(self) -> None:
        collector = self._collector
        self._hear_from_others()
        away = collector.clock.now().boot - self._answered_at
        if away < OUTAGE_SECONDS * NANOSECONDS:
            return
        why = "the guard, who holds the second lock, does not answer"
        with collector.index.writing() as connection:
            if call_stop(connection, why, collector.now(), Cause.GUARD_AWAY):
                _log.warning("the guard does not answer: the programme stands still")

    def _tell_the_others(self, connection: Connection) -> None:
        now = self._answered_at
        if not self._collector.index.is_shared:
            return
        if self._told_at is not None and now - self._told_at < HEARD_SECONDS * NANOSECONDS:
            return
        self._told_at = now
        first = insert(connection, heard).values({"from": _GUARD, "times": 1})
        counted = {"times": heard.c.times + 1}
        connection.execute(first.on_conflict_do_update(index_elements=["from"], set_=counted))

    def _hear_from_others(self) -> None:
        """Take it for an answer if another collector has counted one since the last look."""
        if not self._collector.index.is_shared:
            return
        with self._collector.index.reading() as connection:
            counted = connection.execute(_HEARD).scalar() or 0
        if self._heard is not None and counted != self._heard:
            self._answered_at = self._collector.clock.now().boot
        self._heard = counted
