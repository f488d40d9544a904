"""Deletion of a batch (by its device, or at its end): a tombstone, then nothing left to open.

In one transaction: index row and salt gone, tombstone and its leaf there.  Only then is the
file removed; a crash in between leaves a tombstone without `swept_at`, which the next start
sweeps.  A deletion can come before its batch does: the tombstone waits for it.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    insert,
    literal,
    select,
    true,
    update,
)

from collector.index import Index
from collector.index.tables import batches, consents, expiries, leaves, salts, tombstones
from collector.log import append
from collector.store import BodyStore
from wire.errors import MalformedError
from wire.frame import decode_core, split
from wire.ids import BatchHash, DeviceId, WallInstant
from wire.leaf import Kind, deletion_payload, expiry_payload

AT_ONCE: Final = 200  # so that nothing waits for long behind the transaction
_UNSWEPT: Final = (
    select(tombstones.c.batch, tombstones.c.device)
    .where(tombstones.c.swept_at.is_(None))
    .limit(AT_ONCE)
)
_SWEPT: Final = (
    update(tombstones)
    .where(tombstones.c.batch == bindparam("of"), tombstones.c.device == bindparam("by"))
    .values(swept_at=bindparam("at"))
)


def entomb(
    connection: Connection,
    device: DeviceId,
    batch: BatchHash,
    now: WallInstant,
    expires: str = "",
) -> tuple[int, bool]:
    """Write the tombstone of *batch*; return the number of its leaf and whether it was stored.

    Batches of other devices are not touched, and look like batches that have not come.  With
    *expires* it is not the device that deletes it: its last day was that, and the leaf says so.
    """
    mine = (tombstones.c.batch == batch, tombstones.c.device == device)
    before = connection.execute(
        select(tombstones.c.leaf, tombstones.c.stored, leaves.c.kind)
        .join(leaves, leaves.c.number == tombstones.c.leaf)
        .where(*mine)
    ).one_or_none()
    if before is not None and before.kind == Kind.TOMBSTONE:
        return before.leaf, before.stored
    if before is not None:  # of an erasure or its last day; who deletes it gets a leaf of its own
        leaf = append(connection, Kind.TOMBSTONE, deletion_payload(batch), now)
        connection.execute(update(tombstones).where(*mine).values(leaf=leaf))
        return leaf, before.stored
    row = connection.execute(
        select(batches.c.leaf).where(batches.c.batch == batch, batches.c.device == device)
    ).one_or_none()
    if row is not None:
        connection.execute(delete(batches).where(batches.c.batch == batch))
        connection.execute(delete(salts).where(salts.c.leaf == row.leaf))
    if expires:
        leaf = append(connection, Kind.EXPIRY, expiry_payload(batch, expires), now)
        connection.execute(expiries.insert().values(batch=batch, expires=expires, leaf=leaf))
    else:
        leaf = append(connection, Kind.TOMBSTONE, deletion_payload(batch), now)
    connection.execute(
        tombstones.insert().values(
            batch=batch,
            device=device,
            stored=row is not None,
            made_at=now,
            leaf=leaf,
        )
    )
    return leaf, row is not None


def entomb_all(
    connection: Connection, meant: Sequence[ColumnElement[bool]], leaf: int, now: WallInstant
) -> int:
    """Put a tombstone in the place of each batch that is *meant*; return how many they are.

    *meant* may ask for columns of batches and of their consents.  A few statements, however
    many there are.
    """
    agreed = batches.c.grant == consents.c.grant
    before = select(tombstones.c.batch).where(
        tombstones.c.batch == batches.c.batch, tombstones.c.device == batches.c.device
    )
    found = (
        select(
            batches.c.batch,
            batches.c.device,
            true(),
            literal(now, BigInteger),
            literal(leaf),
        )
        .join(consents, agreed)
        .where(*meant, ~before.exists())
    )
    connection.execute(
        insert(tombstones).from_select(["batch", "device", "stored", "made_at", "leaf"], found)
    )
    of_leaf = select(batches.c.leaf).join(consents, agreed).where(*meant)
    connection.execute(delete(salts).where(salts.c.leaf.in_(of_leaf)))
    return connection.execute(delete(batches).where(batches.c.leaf.in_(of_leaf))).rowcount


def sweep(
    index: Index, store: BodyStore, batch: BatchHash, device: DeviceId, now: WallInstant
) -> None:
    """Remove the file behind this device's tombstone, note that, and overwrite row and salt."""
    sweep_all(index, store, [(batch, device)], now)


def sweep_all(
    index: Index,
    store: BodyStore,
    entombed: Sequence[tuple[BatchHash, DeviceId]],
    now: WallInstant,
) -> None:
    """Do that for several tombstones, and empty the index's log once.

    Raises:
        OSError: A file could not be removed; all others were.
        AssentError: The store or the index is away; what was removed is removed again later.

    """
    swept, unremoved = [], None
    for batch, device in entombed:
        try:
            _remove(store, batch, device)
        except OSError as exc:
            unremoved = exc
        else:
            swept.append({"of": batch, "by": device, "at": now})
    if swept:
        with index.writing() as connection:
            connection.execute(_SWEPT, swept)
        index.forget_deleted()
    if unremoved is not None:
        raise unremoved


def _remove(store: BodyStore, batch: BatchHash, device: DeviceId) -> None:
    frame = store.get(batch)
    if frame is not None and _is_of(device, frame):
        # Safe without a lock: only this device could commit a row for these bytes, and its
        # tombstone forbids that.
        store.remove(batch)


def sweep_left(index: Index, store: BodyStore, now: WallInstant) -> int:
    """Sweep at most `AT_ONCE` tombstones behind which a file may lie; return how many.

    An erasure has just left them there, or a crash.
    """
    with index.reading() as connection:
        rows = connection.execute(_UNSWEPT).all()
    if rows:
        left = [(BatchHash(row.batch), DeviceId(row.device)) for row in rows]
        sweep_all(index, store, left, now)
    return len(rows)


def _is_of(device: DeviceId, frame: bytes) -> bool:
    try:
        return decode_core(split(frame).core).device == device
    except MalformedError:
        return True  # emptied by a removal that was interrupted
