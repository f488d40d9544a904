"""A data subject wants own batches back: the same two locks, with another key to the first.

Each is a leaf of kind "release" before the guard is asked, as for a reader; what stands behind
it is no approved grant but the order that the rights key signed.  Order: the signature; each
batch and whether it is the person's own; one leaf each; the witness's cosignature; the guard.
A crash or an absent guard in between leaves leaves without an answer, and the same order asked
again finds the same leaves.  A halt does not hold it up.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from collector.assembly import Collector
from collector.index.statements import insert
from collector.index.tables import THEMSELF, releases, returns
from collector.log import Leaf, append
from collector.refusal import RefusedError, Why
from collector.release.frames import body
from collector.rights.me import own_row
from collector.rights.personal import refusing
from wire.age import decode_recipient
from wire.errors import NotCoveredError
from wire.frame import core_hash, decode_core, split
from wire.guard_http import LoggedBatch, ReleaseAnswer, ReturnRequest
from wire.ids import BatchHash, CoreHash, WallInstant, key_id
from wire.leaf import Kind, release_payload
from wire.me import ReturnOrder, SignedReturn
from wire.me_answers import GivenBack, Proof, Returned
from wire.tlog import verify_checkpoint


def give_back(collector: Collector, signed: SignedReturn, order: ReturnOrder) -> Returned:
    """Log the release of each batch of an order, and have the guard seal it to the person.

    *order* is what `personal.order_of` has found in *signed*.

    Raises:
        RefusedError: A batch is not the data subject's own (then nothing is logged), or the
            guard is away (then it is logged, and may be asked for again).

    """
    now = collector.now()
    if collector.guard is None:
        raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
    with collector.index.writing() as connection:
        rows = [_own(connection, order, batch, now) for batch in order.batches]
        _keep(connection, signed, order)
        numbers = [_logged(connection, row, signed, order, now) for row in rows]
    note = collector.witnessed.by_quorum(now)
    with collector.index.reading() as connection:
        leaves = [collector.log.leaf(connection, number) for number in numbers]
    shown = _shown(collector, order.batches, leaves, note)
    asked = ReturnRequest(order=signed, checkpoint=note, batches=shown)
    answers = collector.guard.give_back(asked)
    return Returned(checkpoint=note, batches=tuple(map(_given, shown, answers)))


def _own(connection: Connection, order: ReturnOrder, batch: bytes, now: WallInstant) -> Row[Any]:
    row = own_row(connection, order.subject, batch, now)
    with refusing():
        # The guard looks, too; but what it will refuse need not stand in the log.
        if decode_core(row.core).recipients[-1] != key_id(decode_recipient(order.recipient)):
            raise NotCoveredError("the order's key is not the one that the batch is sealed to")
    return row


def _keep(connection: Connection, signed: SignedReturn, order: ReturnOrder) -> None:
    new = insert(connection, returns).values(
        access=signed.digest, subject=order.subject, signed=msgspec.json.encode(signed)
    )
    connection.execute(new.on_conflict_do_nothing())


def _logged(
    connection: Connection,
    row: Row[Any],
    signed: SignedReturn,
    order: ReturnOrder,
    now: WallInstant,
) -> int:
    """Return the number of the leaf of this release, written now or before."""
    before = connection.execute(
        select(releases.c.leaf).where(
            releases.c.batch == row.batch, releases.c.access == signed.digest
        )
    ).scalar()
    if before is not None:
        return int(before)
    payload = release_payload(
        BatchHash(row.batch), CoreHash(row.core_hash), signed.digest, order.recipient
    )
    number = append(connection, Kind.RELEASE, payload, now)
    connection.execute(
        releases.insert().values(
            batch=row.batch,
            access=signed.digest,
            core_hash=row.core_hash,
            reader=THEMSELF,
            released_at=now,
            leaf=number,
        )
    )
    return number


def _shown(
    collector: Collector, batches: Sequence[bytes], leaves: Sequence[Leaf], note: str
) -> tuple[LoggedBatch, ...]:
    size = verify_checkpoint(note, collector.log.verifier_key).size
    shown = []
    for batch, leaf in zip(batches, leaves, strict=True):
        if leaf.salt is None:
            raise RefusedError(Why.ERASED, f"batch {batch.hex()} was erased")
        parts = split(body(collector.store, BatchHash(batch)))
        logged = LoggedBatch(
            batch_hash=batch,
            core=parts.core,
            shelf=parts.shelf,
            entry=leaf.entry,
            salt=leaf.salt,
            index=leaf.number,
            proof=collector.log.inclusion(leaf.number, size),
        )
        shown.append(logged)
    return tuple(shown)


def _given(batch: LoggedBatch, answer: ReleaseAnswer) -> GivenBack:
    return GivenBack(
        batch_hash=batch.batch_hash,
        core_hash=core_hash(batch.core),
        leaf=Proof(index=batch.index, salt=batch.salt, proof=batch.proof),
        released=answer.released,
        refused=answer.refused,
        error=answer.error,
    )
