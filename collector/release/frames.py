"""What a reader may see before a release: which frames its grant covers, and their sealed bytes.

Nothing can be asked about one person: frames are found by category and day, never by
subject or device.  Whether there is a grant at all is judged in `collector.release.access`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select

from base.clock import NANOSECONDS
from collector.index.tables import batches, consents, devices, planted, tombstones
from collector.policies import text
from collector.refusal import RefusedError, Why
from collector.store import BodyStore
from wire.category import Category
from wire.collector_http import FrameList, KeptConsent, StoredFrame, Terms
from wire.grant import AccessRequest
from wire.ids import BatchHash, PolicyDigest, WallInstant

PAGE: Final = 1_000
_STORED: Final = select(batches).where(batches.c.batch == bindparam("batch"))
_CONSENT: Final = (
    select(consents.c.record, consents.c.signature, consents.c.policy, devices.c.public_key)
    .join(devices, devices.c.device == consents.c.device)
    .where(consents.c.grant == bindparam("grant"))
)
_PLANTED: Final = select(planted).where(planted.c.batch == bindparam("batch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A grant that holds now; `before` is the first day of which nothing is given yet."""

    request: AccessRequest
    before: str

    def check_covers(self, row: Row[Any]) -> None:
        """Check that the grant is for the frame of this index row.

        Raises:
            RefusedError: Another category, day, programme or purpose, or it is too new.

        """
        request = self.request
        covered = (
            row.category in request.categories
            and request.first_day <= row.day <= request.last_day
            and row.programme == request.programme
            and row.purpose == request.purpose
        )
        if not covered:
            raise RefusedError(Why.NOT_COVERED, f"the grant does not cover batch {row.batch.hex()}")
        if row.day >= self.before:
            line = f"batch {row.batch.hex()} is of today; people may still take it back"
            raise RefusedError(Why.NOT_YET, f"{line}; ask tomorrow")


def page(connection: Connection, access: Access, after: int, now: WallInstant) -> FrameList:
    """Return the next frames after the leaf *after* that *access* covers, unless they ran out."""
    request = access.request
    query = select(batches).where(
        batches.c.leaf > after,
        batches.c.category.in_(request.categories),
        batches.c.day >= request.first_day,
        batches.c.day <= request.last_day,
        batches.c.day < access.before,
        batches.c.programme == request.programme,
        batches.c.purpose == request.purpose,
        batches.c.expires >= today(now),
    )
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


def find(connection: Connection, batch: BatchHash, now: WallInstant) -> Row[Any]:
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


def terms(connection: Connection, row: Row[Any]) -> Terms:
    """Return what the frame of this index row was recorded under, for a reader to check.

    Raises:
        RefusedError: It was recorded under nothing that is here: a drill planted it.

    """
    if "grant" not in row._fields:
        raise RefusedError(Why.NOT_FOUND, f"nobody recorded batch {row.batch.hex()}")
    found = connection.execute(_CONSENT, {"grant": row.grant}).one()
    digests = dict.fromkeys((PolicyDigest(found.policy), PolicyDigest(row.policy)))
    kept = KeptConsent(record=found.record, signature=found.signature, device_key=found.public_key)
    return Terms(consent=kept, policies=tuple(text(connection, digest) for digest in digests))
