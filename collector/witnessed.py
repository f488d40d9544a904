"""The heads of the log that the guard's witness has cosigned: asked for, kept, handed out.

Each release needs one that covers it.  Besides, one is asked for every few minutes, because
a device takes what it saw of the log for good only once a witness has seen as much.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from base.clock import NANOSECONDS
from collector.guard_client import GuardClient
from collector.index import Index
from collector.index.tables import checkpoints
from collector.log import Log
from collector.policies import in_force
from collector.refusal import RefusedError, Why
from wire.ids import WallInstant
from wire.policy import Policy
from wire.tlog import verify_checkpoint

EVERY_SECONDS: Final = 300  # a row a time where the log grows: 35 MB a year


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """Has the log cosigned.  May be used by several threads."""

    index: Index
    log: Log
    guard: GuardClient | None

    def now(self, policy: Policy, now: WallInstant) -> str:
        """Return a head over the whole log, cosigned just now.

        Raises:
            RefusedError: The guard is away, or does not cosign.

        """
        if self.guard is None:
            raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
        note = self.guard.cosign(self.log, policy.guard.witness)
        kept = insert(checkpoints).values(
            size=verify_checkpoint(note, self.log.verifier_key).size, note=note, cosigned_at=now
        )
        newer = {"note": kept.excluded.note, "cosigned_at": kept.excluded.cosigned_at}
        with self.index.writing() as connection:
            connection.execute(kept.on_conflict_do_update(index_elements=["size"], set_=newer))
        return note

    def latest(self) -> str:
        """Return the newest head that was cosigned.

        Raises:
            RefusedError: There is none yet.

        """
        if (newest := self._newest()) is None:
            raise RefusedError(Why.NOT_FOUND, "no witness has seen this log yet")
        return newest[0]

    def keep_up(self, now: WallInstant) -> None:
        """Have a newer head cosigned, if it is time.

        Raises:
            RefusedError: There is no policy yet, the guard is away, or does not cosign.

        """
        newest = self._newest()
        if newest is None or now - newest[1] >= EVERY_SECONDS * NANOSECONDS:
            with self.index.reading() as connection:
                policy = in_force(connection).policy
            self.now(policy, now)

    def _newest(self) -> tuple[str, int] | None:
        query = select(checkpoints.c.note, checkpoints.c.cosigned_at)
        with self.index.reading() as connection:
            row = connection.execute(query.order_by(checkpoints.c.size.desc()).limit(1)).first()
        return None if row is None else (row.note, row.cosigned_at)
