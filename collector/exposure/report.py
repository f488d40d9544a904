"""What can have been exposed in a span of time, from index and store.

Taken as widely as it can be: a hole is found after it has come to be, so each batch that lay here
at any moment of the span counts, and each person whose batch was erased meanwhile.  Whether it was
encrypted is found out by parsing each object as the frame that its device sealed: what does not
parse counts as plaintext, whatever anybody noted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Row, bindparam, or_, select

from collector.drill.local import is_sealed
from collector.index import Index
from collector.index.tables import (
    THEMSELF,
    approvals,
    batches,
    consents,
    devices,
    drills,
    orders,
    releases,
    requests,
    tombstones,
)
from collector.store import BodyStore
from wire.category import Category
from wire.errors import WireError
from wire.frame import batch_hash
from wire.grant import AccessRequest, decode_request
from wire.ids import BatchHash, WallInstant
from wire.rights import Demand

PAGE: Final = 1_000
_LIVE: Final = (
    select(
        *(batches.c.batch, batches.c.subject, batches.c.category, batches.c.day),
        *(batches.c.leaf, devices.c.public_key),
    )
    .join(devices, devices.c.device == batches.c.device)
    .where(batches.c.leaf > bindparam("after"), batches.c.received_at <= bindparam("until"))
    .order_by(batches.c.leaf)
    .limit(PAGE)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From when to when, both inclusive."""

    since: WallInstant
    until: WallInstant

    def has(self, at: int) -> bool:
        """Whether *at* lies in it."""
        return self.since <= at <= self.until


class OfCategory(msgspec.Struct, kw_only=True):
    """What there is of one category."""

    batches: int = 0
    first_day: str = ""
    last_day: str = ""
    subjects: set[bytes] = msgspec.field(default_factory=set)

    def add(self, row: Row[Any]) -> None:
        """Count one batch."""
        self.batches += 1
        self.first_day = min(filter(None, (self.first_day, row.day)))
        self.last_day = max(self.last_day, row.day)
        self.subjects.add(row.subject)


class Access(msgspec.Struct, kw_only=True):
    """What one reader had released under one approved request."""

    access: bytes  # SHA-256 of the request
    reader: str
    approvers: tuple[str, ...]
    request_id: str
    purpose: str
    why: str
    first_at: WallInstant
    last_at: WallInstant
    batches: int = 0
    gone: int = 0  # of them, that are erased by now
    nobodys: int = 0  # of those, of whom nobody knows any more whose they were
    subjects: set[bytes] = msgspec.field(default_factory=set)  # whose they are, or may have been
    of_subject: dict[bytes, int] = msgspec.field(default_factory=dict)
    perhaps_of: dict[bytes, int] = msgspec.field(default_factory=dict)  # or of others at the device
    gone_of: set[bytes] = msgspec.field(default_factory=set)  # who for sure had some that are gone

    def add(self, owners: Sequence[bytes], *, gone: bool) -> None:
        """Count one batch of one of *owners*."""
        self.batches += 1
        self.gone += gone
        self.nobodys += not owners
        self.subjects.update(owners)
        counted = self.of_subject if len(owners) == 1 else self.perhaps_of
        for subject in owners:
            counted[subject] = counted.get(subject, 0) + 1
        if gone and len(owners) == 1:
            self.gone_of.update(owners)


class HoleFound(msgspec.Struct, frozen=True, kw_only=True):
    """A drill that failed: what it said, and between which passed ones the hole can have been."""

    found_at: WallInstant
    line: str
    open_since: WallInstant | None  # the last drill before that passed; None: nobody knows
    closed_at: WallInstant | None  # the first one after


class OfSubject(msgspec.Struct, kw_only=True):
    """What a notice tells one data subject."""

    batches: dict[Category, int] = msgspec.field(default_factory=dict)
    first_day: str = ""
    last_day: str = ""
    plain: int = 0
    erased: bool = False  # there was more, which is erased


class Exposure(msgspec.Struct, kw_only=True):
    """The whole report, with pseudonyms: for who runs the collector, on its machine."""

    since: WallInstant
    until: WallInstant
    categories: dict[Category, OfCategory] = msgspec.field(default_factory=dict)
    sealed: int = 0
    plain: int = 0  # not the frame that was sealed: counted as plaintext
    missing: int = 0  # noted in the index, and not in the store
    erased: int = 0  # batches that lay there in the span, and are erased by now
    erased_of: set[bytes] = msgspec.field(default_factory=set)  # data subjects
    accesses: list[Access] = msgspec.field(default_factory=list)
    holes: list[HoleFound] = msgspec.field(default_factory=list)
    people: dict[bytes, OfSubject] = msgspec.field(default_factory=dict)

    @property
    def subjects(self) -> set[bytes]:
        """The pseudonyms of everybody concerned."""
        return set(self.people)

    @property
    def batches(self) -> int:
        """How many lay here at some moment and still do."""
        return self.sealed + self.plain + self.missing


@dataclass(kw_only=True)
class _Finding:
    index: Index
    store: BodyStore
    span: Span
    found: Exposure
    progress: Callable[[int], None]
    owners: dict[bytes, bytes] = field(default_factory=dict)  # of the batches that are here
    of_erased: dict[bytes, Sequence[bytes]] = field(default_factory=dict)  # whose they may be


def exposure(
    index: Index, store: BodyStore, span: Span, progress: Callable[[int], None] = lambda _n: None
) -> Exposure:
    """Return what can have been exposed in *span*; every object of it is read once."""
    finding = _Finding(
        index=index,
        store=store,
        span=span,
        found=Exposure(since=span.since, until=span.until),
        progress=progress,
    )
    _live(finding)
    with index.reading() as connection:
        _erased(connection, finding)
        _accesses(connection, finding)
        finding.found.holes = list(_holes(connection, span))
    return finding.found


# --- batches ------------------------------------------------------------------------------


def _live(finding: _Finding) -> None:
    found, after = finding.found, -1
    while True:
        with finding.index.reading() as connection:
            asked = {"after": after, "until": finding.span.until}
            rows: Sequence[Any] = connection.execute(_LIVE, asked).all()
        if not rows:
            return
        for row in rows:
            category = Category(row.category)
            finding.owners[row.batch] = row.subject
            found.categories.setdefault(category, OfCategory()).add(row)
            person = found.people.setdefault(row.subject, OfSubject())
            person.batches[category] = person.batches.get(category, 0) + 1
            person.first_day = min(filter(None, (person.first_day, row.day)))
            person.last_day = max(person.last_day, row.day)
            person.plain += _parsed(finding, row)
        after = rows[-1].leaf
        finding.progress(found.batches)


def _parsed(finding: _Finding, row: Row[Any]) -> bool:
    """Count an object as what it is; whether that is plaintext."""
    frame = finding.store.get(BatchHash(row.batch))
    if frame is None:
        finding.found.missing += 1
        return False
    key = Ed25519PublicKey.from_public_bytes(row.public_key)
    if batch_hash(frame) == row.batch and is_sealed(frame, key):
        finding.found.sealed += 1
        return False
    finding.found.plain += 1
    return True


def _erased(connection: Connection, finding: _Finding) -> None:
    """Count what was erased since the span began: until then it was here.

    And what was erased before, but whose file was still there: to be removed is not to be gone.
    Whose it was, follows from the demand or the guard's order, or from the device's consents.
    """
    found, since = finding.found, finding.span.since
    asked = select(tombstones.c.batch, tombstones.c.device, tombstones.c.leaf).where(
        tombstones.c.stored.is_(True),
        or_(
            tombstones.c.made_at >= since,
            tombstones.c.swept_at.is_(None),
            tombstones.c.swept_at >= since,
        ),
    )
    rows = connection.execute(asked).all()
    by_leaf = _named_by(connection)
    for row in rows:
        found.erased += 1
        owners = [by_leaf[row.leaf]] if row.leaf in by_leaf else _speaks_for(connection, row.device)
        finding.of_erased[row.batch] = owners
        for subject in owners:
            found.erased_of.add(subject)
            found.people.setdefault(subject, OfSubject()).erased = True


def _named_by(connection: Connection) -> dict[int, bytes]:
    """Return whom each demand to erase is about, and each order of the guard, by its leaf."""
    demanded = select(requests.c.leaf, requests.c.subject).where(requests.c.demand == Demand.ERASE)
    ordered = select(orders.c.leaf, orders.c.subject)
    rows = connection.execute(demanded.union_all(ordered))
    return {row.leaf: row.subject for row in rows}


def _speaks_for(connection: Connection, device: bytes) -> list[bytes]:
    """Return the data subjects of a device."""
    asked = select(consents.c.subject).where(consents.c.device == device).distinct()
    return list(connection.execute(asked).scalars())


# --- accesses -----------------------------------------------------------------------------


def _accesses(connection: Connection, finding: _Finding) -> None:
    asked = (
        select(releases)
        .where(releases.c.released_at.between(finding.span.since, finding.span.until))
        .where(releases.c.reader != THEMSELF)  # what people had given back exposed them to nobody
        .order_by(releases.c.leaf)
    )
    known: dict[bytes, Access] = {}
    for row in connection.execute(asked):
        access = known.get(row.access)
        if access is None:
            access = known[row.access] = _access(connection, row)
        access.last_at = WallInstant(max(access.last_at, row.released_at))
        gone = row.batch not in finding.owners
        owners = finding.of_erased.get(row.batch, ()) if gone else (finding.owners[row.batch],)
        access.add(owners, gone=gone)
    finding.found.accesses = list(known.values())


def _access(connection: Connection, row: Row[Any]) -> Access:
    asked = select(approvals).where(approvals.c.access == row.access)
    rows = connection.execute(asked.order_by(approvals.c.approver)).all()
    request = _request(rows[0].request) if rows else None
    return Access(
        access=row.access,
        reader=row.reader,
        approvers=tuple(dict.fromkeys(each.approver for each in rows)),
        request_id=request.request_id if request else "",
        purpose=request.purpose if request else "",
        why=request.why if request else "",
        first_at=WallInstant(row.released_at),
        last_at=WallInstant(row.released_at),
    )


def _request(data: bytes) -> AccessRequest | None:
    try:
        return decode_request(data)
    except WireError:
        return None  # of a later version: named by its digest alone


# --- holes --------------------------------------------------------------------------------


def _holes(connection: Connection, span: Span) -> Iterator[HoleFound]:
    """Yield the drills of the span that failed, with the passed ones around each."""
    rows = connection.execute(select(drills).order_by(drills.c.number)).all()
    passed = [row for row in rows if row.passed]
    for row in rows:
        if row.passed or not span.has(row.ended_at):
            continue
        before = [each.began_at for each in passed if each.number < row.number]
        after = [each.ended_at for each in passed if each.number > row.number]
        yield HoleFound(
            found_at=WallInstant(row.ended_at),
            line=row.hole,
            open_since=WallInstant(before[-1]) if before else None,
            closed_at=WallInstant(after[0]) if after else None,
        )
