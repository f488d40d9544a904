"""Which objects a drill asks for: the planted, those of the last hole, and others at random."""

import secrets
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select

from collector.drill.probes import Object
from collector.index import Index
from collector.index.tables import batches, drills
from wire.category import Category
from wire.ids import BatchHash

PAGE: Final = 2_000  # objects in memory at a time
_OBJECT: Final = select(batches.c.batch, batches.c.category, batches.c.day, batches.c.leaf)
_NEXT: Final = (
    _OBJECT.where(batches.c.leaf > bindparam("after")).order_by(batches.c.leaf).limit(PAGE)
)
_FROM: Final = _OBJECT.where(batches.c.leaf >= bindparam("at")).order_by(batches.c.leaf).limit(1)
_FAILED: Final = (
    select(drills.c.batch).where(drills.c.batch.is_not(None)).order_by(drills.c.number.desc())
)
SUSPECTS: Final = 20


def at_random(connection: Connection, count: int) -> list[Object]:
    """Return *count* stored objects, drawn by their leaves; fewer where there are fewer."""
    newest = connection.execute(select(func.max(batches.c.leaf))).scalar()
    if newest is None:
        return []
    found: dict[BatchHash, Object] = {}
    for _ in range(count):
        at = secrets.randbelow(newest + 1)
        row = connection.execute(_FROM, {"at": at}).first()
        if row is not None:
            one = _object(row)
            found[one.batch] = one
    return list(found.values())


def suspects(connection: Connection) -> list[Object]:
    """Return the objects about which a drill has failed, the last ones first, if still here."""
    names = list(connection.execute(_FAILED.limit(SUSPECTS)).scalars())
    rows = connection.execute(_OBJECT.where(batches.c.batch.in_(names))).all()
    return [_object(row) for row in rows]


def everything(index: Index) -> Iterator[list[Object]]:
    """Yield all stored objects, page by page, none of which holds up a writer."""
    after = -1
    while True:
        with index.reading() as connection:
            rows = connection.execute(_NEXT, {"after": after}).all()
        if not rows:
            return
        yield [_object(row) for row in rows]
        after = rows[-1].leaf


def _object(row: Any) -> Object:  # noqa: ANN401 - a row of `_OBJECT`
    return Object(batch=BatchHash(row.batch), category=Category(row.category), day=row.day)
