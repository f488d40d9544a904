"""The heads of the log that witnesses have cosigned: asked for, kept, handed out.

Each release needs one that covers it, by the policy's quorum.  The guard's witness is on all of
them; whoever dates the log or compares it goes on with that alone.  Besides, a device takes what
it saw of the log for good only once a witness has seen as much.  Nothing runs in the background:
whoever asks for the newest one gets it, and when that is some minutes old, a newer one is asked
for first.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import select

from base.clock import NANOSECONDS
from collector.guard.client import RETRY_SECONDS, GuardClient, waits
from collector.guard.witnesses import WitnessDoor, ask_all
from collector.index import Index
from collector.index.statements import insert
from collector.index.tables import checkpoints
from collector.log import Log
from collector.policies import in_force
from collector.refusal import RefusedError, Why
from wire.days import SLACK, seconds_of
from wire.errors import WireError
from wire.ids import WallInstant
from wire.policy import Policy
from wire.quorum import cosigners, counted, verify_quorum, with_cosignatures
from wire.tlog import verify_checkpoint, verify_cosignature

_log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 300  # a row a time where the log grows: 35 MB a year


class _Kept(NamedTuple):
    note: str
    cosigned_at: int


@dataclass(kw_only=True)
class Witnessed:
    """Has the log cosigned.  May be used by several threads."""

    index: Index
    log: Log
    guard: GuardClient | None
    others: tuple[WitnessDoor, ...] = ()
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _again_at: int = 0  # after the guard refused or was away

    def by_quorum(self, now: WallInstant, size: int | None = None) -> str:
        """Return a head over *size* leaves (all) that the policy's quorum cosigned just now.

        Raises:
            RefusedError: The guard is away or does not cosign, or there are too few others.

        """
        note = self.now(now, size)
        with self.index.reading() as connection:
            policy = in_force(connection).policy
        try:
            verify_quorum(note, policy)
        except WireError as exc:
            _log.error("a quorum is missing: %s", exc)
            raise RefusedError(
                Why.WITNESSES_MISSING,
                str(exc),
                retry_after_seconds=RETRY_SECONDS,
            ) from exc
        return note

    def now(self, now: WallInstant, size: int | None = None) -> str:
        """Return a head over *size* leaves (all), cosigned just now; it is kept.

        By the guard's witness, and by as many of the others as make a quorum, if they answer.
        While the guard changes its keys the answer is cosigned by both, for it may act on the
        next policy already, or on the one before still; what is kept has what its policy names.

        Raises:
            RefusedError: The guard is away or does not cosign, or no policy says whose word counts.

        """
        if self.guard is None:
            raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
        with self.index.reading() as connection:
            published = in_force(connection)
        policy = published.policy
        note = self.guard.cosign(self.log, policy.guard.witness, size)
        size = verify_checkpoint(note, self.log.verifier_key).size
        note = self._with_others(note, size, policy)
        kept = counted(note, policy)
        last = {"last_note": kept, "last_at": now}
        with self.index.writing() as connection:
            # One that was cosigned while another policy was published is of no policy's time.
            if in_force(connection).digest == published.digest:
                at = _dated(verify_cosignature(kept, policy.guard.witness), now)
                first = {"size": size, "note": kept, "witnessed_at": at}
                row = insert(connection, checkpoints).values(**first, **last)
                connection.execute(row.on_conflict_do_update(index_elements=["size"], set_=last))
        return note

    def _with_others(self, note: str, size: int, policy: Policy) -> str:
        if policy.quorum < 2 or not self.others:  # the guard's own is enough, or all there is
            return note

        def is_enough(lines: Sequence[str]) -> bool:
            both = with_cosignatures(note, lines, policy)
            return len(cosigners(both, policy)) >= policy.quorum

        lines = ask_all(self.others, self.log, _bare(note), size, is_enough)
        return with_cosignatures(note, lines, policy)

    def latest(self, now: WallInstant) -> str:
        """Return the newest head that was cosigned, of the last few minutes if that can be had.

        Raises:
            RefusedError: There is none yet, and the guard gives none now.

        """
        newest = self._newest()
        if self._is_due(newest, now) and self._asking.acquire(blocking=newest is None):
            try:
                newest = self._newest()  # another thread may have asked
                if self._is_due(newest, now):
                    return self.now(now)
            except RefusedError as exc:
                _log.warning("the log was not cosigned: %s", exc)
                self._again_at = now + RETRY_SECONDS * NANOSECONDS
            finally:
                self._asking.release()
        if newest is None:
            raise RefusedError(Why.NOT_FOUND, "no witness has seen this log yet")
        return newest.note

    def _is_due(self, newest: _Kept | None, now: WallInstant) -> bool:
        every = EVERY_SECONDS * NANOSECONDS
        old = newest is None or not 0 <= now - newest.cosigned_at < every  # or the clock was ahead
        return not waits(now, self._again_at) and (old or not self._is_of_policy(newest))

    def _is_of_policy(self, newest: _Kept | None) -> bool:
        """Whether it is cosigned by the witness that devices of the policy in force look for."""
        with self.index.reading() as connection:
            policy = in_force(connection).policy
        try:
            verify_cosignature(newest.note if newest else "", policy.guard.witness)
        except WireError:
            return False
        return True

    def _newest(self) -> _Kept | None:
        query = select(checkpoints.c.last_note, checkpoints.c.last_at)
        with self.index.reading() as connection:
            row = connection.execute(query.order_by(checkpoints.c.size.desc()).limit(1)).first()
        return None if row is None else _Kept(row.last_note, row.last_at)


def _dated(at: int, now: WallInstant) -> int | None:
    """Return when the guard says that it cosigned; None if our clock says another time.

    By these dates batches are refused for good, and nobody mends that when a clock is set right.
    """
    if abs(at - seconds_of(now)) > SLACK:
        _log.error("the guard's clock and this one differ by more than an hour; set them right")
        return None
    return at


def _bare(note: str) -> str:
    """Return *note* with the log's signature alone, which is what a witness is offered."""
    head, _, signatures = note.rpartition("\n\n")
    return f"{head}\n\n{signatures.partition(chr(10))[0]}\n"
