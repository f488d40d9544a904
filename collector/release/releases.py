"""A reader wants batches opened: no log, no key.

Each release is a leaf before anything can be opened, and the guard opens nothing without
it.  Order: the grant; each batch and whether the grant covers it; one leaf each; the
witness's cosignature; the answer.  A crash or an absent guard in between leaves leaves
without an answer: the log then says more than happened, never less, and the same order
asked again finds the same leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select

from collector.auth import Reader
from collector.guard.witnessed import Witnessed
from collector.index import Index
from collector.index.statements import insert
from collector.index.tables import approvals, releases
from collector.log import Leaf, Log, append
from collector.refusal import RefusedError, Why
from collector.release.access import Entry
from collector.release.frames import find
from wire.collector_http import LoggedRelease, ReleaseList, ReleaseOrder
from wire.grant import AccessGrant, AccessRequest, access_digest
from wire.guard_http import LARGEST_RELEASE
from wire.ids import BatchHash, CoreHash, WallInstant
from wire.leaf import Kind, release_payload
from wire.tlog import verify_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Releaser:
    """Logs releases, and has them witnessed."""

    index: Index
    log: Log
    witnessed: Witnessed
    entry: Entry

    def release(self, reader: Reader, order: ReleaseOrder, now: WallInstant) -> ReleaseList:
        """Log one release for each batch of *order*; return them with their proofs.

        Raises:
            RefusedError: A batch or the grant does not allow it (then nothing is logged), or
                the guard is away (then it is logged, and may be asked for again).

        """
        if not 0 < len(order.batches) <= LARGEST_RELEASE:
            raise RefusedError(Why.BAD_REQUEST, f"ask for 1 to {LARGEST_RELEASE} batches")
        with self.index.reading() as connection:  # what is refused holds up nobody who writes
            self.entry.admit(connection, reader, order.grant, now)
        with self.index.writing() as connection:
            admitted = self.entry.admit(connection, reader, order.grant, now)
            request = admitted.request
            rows = [find(connection, BatchHash(batch), now) for batch in order.batches]
            for row in rows:
                admitted.check_covers(row)
            if self.witnessed.guard is None:
                raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
            if reader.drill:  # it got this far, which is what it wants to know
                return ReleaseList(checkpoint="", releases=())
            access = access_digest(order.grant)
            _keep_approvals(connection, order.grant)
            numbers = [_logged(connection, row, access, request, now) for row in rows]
        note = self.witnessed.now(now)
        with self.index.reading() as connection:
            leaves = [self.log.leaf(connection, number) for number in numbers]
        return self._answer(order.batches, leaves, note)

    def _answer(self, batches: Sequence[bytes], leaves: Sequence[Leaf], note: str) -> ReleaseList:
        size = verify_checkpoint(note, self.log.verifier_key).size
        listed = []
        for batch, leaf in zip(batches, leaves, strict=True):
            if leaf.salt is None:
                raise RefusedError(Why.ERASED, f"batch {batch.hex()} was erased")
            listed.append(
                LoggedRelease(
                    batch_hash=batch,
                    entry=leaf.entry,
                    salt=leaf.salt,
                    index=leaf.number,
                    proof=self.log.inclusion(leaf.number, size),
                )
            )
        return ReleaseList(checkpoint=note, releases=tuple(listed))


def _keep_approvals(connection: Connection, grant: AccessGrant) -> None:
    access = access_digest(grant)
    for each in grant.approvals:
        new = insert(connection, approvals).values(
            access=access,
            approver=each.approver,
            signature=each.signature,
            request=grant.request,
        )
        connection.execute(new.on_conflict_do_nothing())


def _logged(
    connection: Connection,
    row: Row[tuple[object, ...]],
    access: bytes,
    request: AccessRequest,
    now: WallInstant,
) -> int:
    """Return the number of the leaf of this release, written now or before."""
    before = connection.execute(
        select(releases.c.leaf).where(releases.c.batch == row.batch, releases.c.access == access)
    ).scalar()
    if before is not None:
        return int(before)
    payload = release_payload(
        BatchHash(row.batch), CoreHash(row.core_hash), access, request.recipient
    )
    number = append(connection, Kind.RELEASE, payload, now)
    connection.execute(
        releases.insert().values(
            batch=row.batch,
            access=access,
            core_hash=row.core_hash,
            reader=request.reader,
            released_at=now,
            leaf=number,
        )
    )
    return number
