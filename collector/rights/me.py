"""What a data subject is told of their own data: batches, what is gone, who had it opened.

Everything is found by the pseudonym that follows from the rights key, and comes with the proof
that the log has it, under a head that the witness cosigned where the guard can be had.  What
cannot be told apart from another person's is not told: what a device deleted by itself, where
more than one person ever agreed on it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select

from collector.assembly import Collector
from collector.index.tables import (
    approvals,
    batches,
    consents,
    expiries,
    leaves,
    orders,
    policies,
    releases,
    requests,
    returns,
    salts,
    tombstones,
)
from collector.policies import guard_named
from collector.refusal import RefusedError, Why
from collector.release.frames import body, today
from wire.grant import AccessGrant, Approval
from wire.ids import BatchHash, WallInstant
from wire.leaf import Kind
from wire.me import Query, SignedReturn
from wire.me_answers import (
    PAGE,
    InForce,
    OwnAccess,
    OwnAccesses,
    OwnBatch,
    OwnBatches,
    OwnDeletions,
    OwnDemand,
    OwnTombstone,
    Proof,
)
from wire.policy import Guard
from wire.rights import SignedErasure, SignedRequest
from wire.tlog import verify_checkpoint

MOST_DEMANDS: Final = 100  # the newest


def own_batches(collector: Collector, query: Query) -> OwnBatches:
    """Return the next batches that are stored, in the order in which they came.

    Raises:
        RefusedError: The page cannot be read.

    """
    asked = (
        select(batches, salts.c.salt)
        .join(salts, salts.c.leaf == batches.c.leaf)
        .where(batches.c.subject == query.subject, batches.c.leaf > _leaf_in(query.after))
        .order_by(batches.c.leaf)
        .limit(PAGE + 1)
    )
    with collector.index.reading() as connection:
        rows = connection.execute(asked).all()
    page = rows[:PAGE]
    note, size = _head(collector, (row.leaf for row in page))
    return OwnBatches(
        checkpoint=note,
        named=_named(collector),
        batches=tuple(
            OwnBatch(
                batch_hash=row.batch,
                core=row.core,
                bytes=row.bytes,
                received_at=row.received_at,
                leaf=_proof(collector, row.leaf, row.salt, size),
            )
            for row in page
        ),
        next=str(page[-1].leaf) if len(rows) > PAGE else "",
    )


def own_frame(collector: Collector, query: Query) -> bytes:
    """Return the sealed frame of one batch.

    Raises:
        RefusedError: It was erased, its time has run out, or it is not the asker's: nobody
            else's can be told from what never was.

    """
    with collector.index.reading() as connection:
        own_row(connection, query.subject, query.batch, collector.now())
    return body(collector.store, BatchHash(query.batch))


def own_row(connection: Connection, subject: bytes, batch: bytes, now: WallInstant) -> Row[Any]:
    """Return the index row of a batch that its data subject may have.

    Raises:
        RefusedError: As `own_frame` says.

    """
    asked = select(batches).where(batches.c.batch == batch, batches.c.subject == subject)
    row = connection.execute(asked).one_or_none()
    if row is not None and row.expires >= today(now):
        return row
    gone = select(tombstones.c.leaf).where(tombstones.c.batch == batch, _gone_of(subject))
    if row is not None or connection.execute(gone.limit(1)).first() is not None:
        raise RefusedError(Why.ERASED, f"batch {batch.hex()} was erased, or its time has run out")
    raise RefusedError(Why.NOT_FOUND, f"no batch {batch.hex()} of this data subject is here")


# --- what is gone -----------------------------------------------------------------------


def own_deletions(collector: Collector, query: Query) -> OwnDeletions:
    """Return the newest demands, and the next batches that are gone, by their hashes.

    Raises:
        RefusedError: The page cannot be read.

    """
    asked = (
        select(tombstones, leaves.c.kind, salts.c.salt, expiries.c.expires)
        .join(leaves, leaves.c.number == tombstones.c.leaf)
        .join(salts, salts.c.leaf == tombstones.c.leaf)
        .join(expiries, expiries.c.leaf == tombstones.c.leaf, isouter=True)
        .where(_gone_of(query.subject), tombstones.c.batch > _hash_in(query.after))
        .order_by(tombstones.c.batch)
        .limit(PAGE + 1)
    )
    with collector.index.reading() as connection:
        rows = connection.execute(asked).all()
        demanded = [] if query.after else _demanded(connection, query.subject)
        of_leaf = _demands_at(connection, rows)
    page = rows[:PAGE]
    note, size = _head(collector, (row.leaf for row in (*page, *demanded)))
    return OwnDeletions(
        checkpoint=note,
        named=_named(collector),
        demands=tuple(_demand(collector, row, size) for row in demanded),
        tombstones=tuple(
            OwnTombstone(
                batch_hash=row.batch,
                made_at=row.made_at,
                swept_at=row.swept_at,
                kind=Kind(row.kind),
                of=of_leaf.get(row.leaf, (row.expires or "").encode("ascii")),
                leaf=_proof(collector, row.leaf, row.salt, size),
            )
            for row in page
        ),
        next=page[-1].batch.hex() if len(rows) > PAGE else "",
    )


def _gone_of(subject: bytes) -> ColumnElement[bool]:
    """Return what says that a tombstone is in the place of a batch of *subject*."""
    by_demand = select(requests.c.leaf).where(requests.c.subject == subject)
    by_guard = select(orders.c.leaf).where(orders.c.subject == subject)
    own = select(consents.c.device).where(consents.c.subject == subject)
    others = select(consents.c.device).where(consents.c.subject != subject)
    by_device = and_(tombstones.c.device.in_(own), tombstones.c.device.not_in(others))
    return and_(
        tombstones.c.stored,
        or_(tombstones.c.leaf.in_(by_demand), tombstones.c.leaf.in_(by_guard), by_device),
    )


def _demanded(connection: Connection, subject: bytes) -> Sequence[Row[Any]]:
    asked = (
        select(requests, salts.c.salt)
        .join(salts, salts.c.leaf == requests.c.leaf)
        .where(requests.c.subject == subject)
        .order_by(requests.c.leaf.desc())
        .limit(MOST_DEMANDS)
    )
    return connection.execute(asked).all()


def _demands_at(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, bytes]:
    numbers = {row.leaf for row in rows}
    asked = select(requests.c.leaf, requests.c.digest).where(requests.c.leaf.in_(numbers))
    by_guard = select(orders.c.leaf, orders.c.digest).where(orders.c.leaf.in_(numbers))
    return {row.leaf: row.digest for row in connection.execute(asked.union_all(by_guard))}


def _demand(collector: Collector, row: Row[Any], size: int) -> OwnDemand:
    return OwnDemand(
        signed=msgspec.json.decode(row.signed, type=SignedRequest),
        received_at=row.received_at,
        erased=row.erased,
        leaf=_proof(collector, row.leaf, row.salt, size),
        guard=None if row.guard is None else msgspec.json.decode(row.guard, type=SignedErasure),
    )


# --- who had it opened ------------------------------------------------------------------


def own_accesses(collector: Collector, query: Query) -> OwnAccesses:
    """Return the next releases of batches of the asker, stored ones and those that are gone.

    Raises:
        RefusedError: The page cannot be read.

    """
    stored = select(batches.c.batch).where(batches.c.subject == query.subject)
    gone = select(tombstones.c.batch).where(_gone_of(query.subject))
    asked = (
        select(releases, salts.c.salt)
        .join(salts, salts.c.leaf == releases.c.leaf)
        .where(or_(releases.c.batch.in_(stored), releases.c.batch.in_(gone)))
        .where(releases.c.leaf > _leaf_in(query.after))
        .order_by(releases.c.leaf)
        .limit(PAGE + 1)
    )
    with collector.index.reading() as connection:
        rows = connection.execute(asked).all()
        page = rows[:PAGE]
        named = {row.access for row in page}
        grants, ordered = _grants(connection, named), _orders(connection, named)
        known = connection.execute(_published()).all()
        in_force = {row.leaf: _at(known, row.released_at) for row in page}
        used = _policies(connection, set(in_force.values()))
    note, size = _head(collector, (row.leaf for row in page))
    return OwnAccesses(
        checkpoint=note,
        named=_named(collector),
        accesses=tuple(
            OwnAccess(
                batch_hash=row.batch,
                core_hash=row.core_hash,
                access=row.access,
                policy=in_force[row.leaf],
                released_at=row.released_at,
                leaf=_proof(collector, row.leaf, row.salt, size),
            )
            for row in page
        ),
        grants=grants,
        orders=ordered,
        policies=used,
        next=str(page[-1].leaf) if len(rows) > PAGE else "",
    )


def _grants(connection: Connection, named: set[bytes]) -> tuple[AccessGrant, ...]:
    asked = select(approvals).where(approvals.c.access.in_(named))
    found: dict[bytes, list[Approval]] = {}
    rows = connection.execute(asked.order_by(approvals.c.approver, approvals.c.signature)).all()
    for row in rows:
        one = Approval(approver=row.approver, signature=row.signature)
        found.setdefault(row.request, []).append(one)
    return tuple(
        AccessGrant(request=request, approvals=tuple(signed)) for request, signed in found.items()
    )


def _orders(connection: Connection, named: set[bytes]) -> tuple[SignedReturn, ...]:
    asked = select(returns.c.signed).where(returns.c.access.in_(named))
    found = connection.execute(asked.order_by(returns.c.access)).scalars()
    return tuple(msgspec.json.decode(data, type=SignedReturn) for data in found)


def _published() -> Select[Any]:
    return select(policies.c.digest, policies.c.published_at).order_by(policies.c.number)


def _at(known: Sequence[Row[Any]], moment: WallInstant) -> bytes:
    """Return the digest of the policy that was in force at *moment*."""
    before = [row.digest for row in known if row.published_at <= moment]
    return before[-1] if before else b""


def _policies(connection: Connection, digests: set[bytes]) -> tuple[InForce, ...]:
    asked = select(policies).where(policies.c.digest.in_(digests)).order_by(policies.c.number)
    return tuple(
        InForce(root=row.root, snapshot=row.snapshot, targets=row.targets, policy=row.policy)
        for row in connection.execute(asked)
    )


# --- proofs -----------------------------------------------------------------------------


def _head(collector: Collector, numbers: Iterable[int]) -> tuple[str, int]:
    """Return a head over all these leaves and its size: cosigned, if the guard can be had."""
    least = max(numbers, default=-1) + 1
    try:
        note = collector.witnessed.latest(collector.now())
        size = verify_checkpoint(note, collector.log.verifier_key).size
        if size < least:
            note = collector.witnessed.now(collector.now())
    except RefusedError:
        note = collector.log.checkpoint()  # who asks sees that it lacks the cosignature
    return note, verify_checkpoint(note, collector.log.verifier_key).size


def _named(collector: Collector) -> Guard | None:
    with collector.index.reading() as connection:
        return guard_named(connection)


def _proof(collector: Collector, leaf: int, salt: bytes, size: int) -> Proof:
    return Proof(index=leaf, salt=salt, proof=collector.log.inclusion(leaf, size))


def _leaf_in(after: str) -> int:
    if not after:
        return -1
    if not (after.isascii() and after.isdecimal() and len(after) < 18):
        raise RefusedError(Why.BAD_REQUEST, "a page begins after what the page before it says")
    return int(after)


def _hash_in(after: str) -> bytes:
    try:
        return bytes.fromhex(after)
    except ValueError:
        line = "a page begins after what the page before it says"
        raise RefusedError(Why.BAD_REQUEST, line) from None
