"""The guard's public keys, handed on to devices and remembered.

A device asks for the key of its own subject, one category, one month.  What was handed out
is kept, so that devices can seal while the guard is away, and so that `receive` can refuse
a frame that is sealed to any other key (it would outlive an erasure).
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from base.clock import NANOSECONDS
from collector.auth import Device
from collector.guard.client import GuardClient
from collector.index import Index
from collector.index.statements import insert
from collector.index.tables import guard_keys
from collector.ingest.taken_back import ORDERS, check_not_closed
from collector.policies import in_force
from collector.refusal import RefusedError, Why
from collector.rights.consents import subject_of
from collector.rights.demands import check_none_outstanding, last_erasure
from wire.category import Category
from wire.guard_http import KeyAnswer, KeyRequest
from wire.ids import WallInstant, key_id


def guard_key(
    index: Index,
    guard: GuardClient | None,
    device: Device,
    category: Category,
    month: str,
    now: WallInstant,
) -> KeyAnswer:
    """Return the guard's key for this device's subject, as the guard signed it.

    Raises:
        RefusedError: Another month than the last, this or the next; no consent record; or
            the guard is away, or has erased the key.

    """
    if month not in _months_around(now):
        raise RefusedError(Why.MONTH_REFUSED, "ask for the last, this or the next month")
    with index.reading() as connection:
        signing_key = in_force(connection).policy.guard.signing_key
        subject = subject_of(connection, device, category)
        check_not_closed(connection.execute(ORDERS, {"subjects": [subject]}), category, month)
        kept = connection.execute(
            select(guard_keys.c.public_key, guard_keys.c.signature).where(
                guard_keys.c.subject == subject,
                guard_keys.c.category == category,
                guard_keys.c.month == month,
            )
        ).one_or_none()
    if kept is not None:
        return KeyAnswer(public_key=kept.public_key, signature=kept.signature)
    with index.reading() as connection:
        check_none_outstanding(connection, subject)
        before = last_erasure(connection, subject)
    if guard is None:
        raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
    answer = guard.key(KeyRequest(subject=subject, category=category, month=month), signing_key)
    with index.writing() as connection:
        if last_erasure(connection, subject) != before:
            # Kept now, an erased key would be handed out for the rest of the month.
            raise RefusedError(Why.GUARD_UNREACHABLE, "keys were erased meanwhile; ask again")
        connection.execute(
            insert(connection, guard_keys)
            .values(
                subject=subject,
                category=category,
                month=month,
                key_id=key_id(answer.public_key),
                public_key=answer.public_key,
                signature=answer.signature,
            )
            .on_conflict_do_nothing()  # two asked at once; the guard gives both the same key
        )
    return answer


def _months_around(now: WallInstant) -> tuple[str, str, str]:
    first = datetime.fromtimestamp(now / NANOSECONDS, UTC).replace(day=1)
    before, after = first - timedelta(days=1), first + timedelta(days=31)
    return f"{before:%Y-%m}", f"{first:%Y-%m}", f"{after:%Y-%m}"
