"""What a reader may see before a release: which frames there are, and their sealed bytes.

Nothing can be asked about one person: frames are found by category and day, never by
subject or device.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, Row, bindparam, select

from base.clock import NANOSECONDS
from collector.index.tables import batches, planted, tombstones
from collector.refusal import RefusedError, Why
from collector.store import BodyStore
from wire.category import Category
from wire.collector_http import FrameList, StoredFrame
from wire.ids import BatchHash, WallInstant

PAGE: Final = 1_000
_STORED: Final = select(batches).where(batches.c.batch == bindparam("batch"))
_PLANTED: Final = select(planted).where(planted.c.batch == bindparam("batch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which frames a reader asks for; None is no restriction, days are inclusive."""

    after: int = -1
    category: Category | None = None
    first_day: str | None = None
    last_day: str | None = None


def page(connection: Connection, wanted: Wanted, now: WallInstant) -> FrameList:
    """Return the next frames after the leaf `wanted.after`, those that have not run out."""
    query = select(batches).where(batches.c.leaf > wanted.after, batches.c.expires >= today(now))
    if wanted.category is not None:
        query = query.where(batches.c.category == wanted.category)
    if wanted.first_day is not None:
        query = query.where(batches.c.day >= wanted.first_day)
    if wanted.last_day is not None:
        query = query.where(batches.c.day <= wanted.last_day)
    rows = connection.execute(query.order_by(batches.c.leaf).limit(PAGE + 1)).all()
    listed = tuple(
        StoredFrame(
            batch_hash=row.batch,
            index=row.leaf,
            category=Category(row.category),
            day=row.day,
            bytes=row.bytes,
        )
        for row in rows[:PAGE]
    )
    return FrameList(frames=listed, more=len(rows) > PAGE)


def find(connection: Connection, batch: BatchHash, now: WallInstant) -> Row[tuple[object, ...]]:
    """Return the index row of a frame that a reader may have.

    Raises:
        RefusedError: It is not here, was deleted, or its retention has run out.

    """
    row = connection.execute(_STORED, {"batch": batch}).one_or_none()
    if row is None:  # a drill asks for these as for any other
        row = connection.execute(_PLANTED, {"batch": batch}).one_or_none()
    if row is not None and row.expires >= today(now):
        return row
    gone = connection.execute(
        select(tombstones.c.leaf).where(tombstones.c.batch == batch, tombstones.c.stored)
    ).first()
    if row is not None or gone is not None:
        raise RefusedError(Why.ERASED, f"batch {batch.hex()} was erased, or its time has run out")
    raise RefusedError(Why.NOT_FOUND, f"batch {batch.hex()} is not here")


def body(store: BodyStore, batch: BatchHash) -> bytes:
    """Return the frame of a batch that `find` has found.

    Raises:
        RefusedError: It was deleted between the two.

    """
    frame = store.get(batch)
    if not frame:
        raise RefusedError(Why.ERASED, f"batch {batch.hex()} was erased")
    return frame


def today(now: WallInstant) -> str:
    """Return the day of *now*, UTC."""
    return f"{datetime.fromtimestamp(now / NANOSECONDS, UTC):%Y-%m-%d}"
