"""The guard's public keys, handed on to devices and remembered.

A device asks for the key of its own subject, one category, one month.  What was handed out
is kept, so that devices can seal while the guard is away, and so that `receive` can refuse
a frame that is sealed to any other key (it would outlive an erasure).  What is kept is handed
out only while it is signed by the guard's key in the policy in force; else the guard, which has
the same key still, is asked to sign it anew.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

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
from wire.errors import WireError
from wire.guard_http import MOST_SIGNATURES, KeyAnswer, KeyRequest, verify_key
from wire.ids import WallInstant, key_id

_SIGNATURE: Final = 64  # bytes, of Ed25519


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
        check_not_closed(ORDERS.all(connection, subjects=[subject]), category, month)
        request = KeyRequest(subject=subject, category=category, month=month)
        kept = _kept(connection, request)
    if kept is not None and _is_by(kept, request, signing_key):
        return kept
    with index.reading() as connection:
        check_none_outstanding(connection, subject)
        before = last_erasure(connection, subject)
    if guard is None:
        raise RefusedError(Why.GUARD_UNREACHABLE, "no guard is configured here yet")
    answer = guard.key(request, signing_key)
    with index.writing() as connection:
        if last_erasure(connection, subject) != before:
            # Kept now, an erased key would be handed out for the rest of the month.
            raise RefusedError(Why.GUARD_UNREACHABLE, "keys were erased meanwhile; ask again")
        _keep(connection, request, answer)
    return answer


def _kept(connection: Connection, request: KeyRequest) -> KeyAnswer | None:
    row = connection.execute(
        select(guard_keys.c.public_key, guard_keys.c.signature, guard_keys.c.also).where(
            guard_keys.c.subject == request.subject,
            guard_keys.c.category == request.category,
            guard_keys.c.month == request.month,
        )
    ).one_or_none()
    if row is None:
        return None
    also = row.also or b""
    return KeyAnswer(
        public_key=row.public_key,
        signature=row.signature,
        also=tuple(also[at : at + _SIGNATURE] for at in range(0, len(also), _SIGNATURE)),
    )


def _keep(connection: Connection, request: KeyRequest, answer: KeyAnswer) -> None:
    also = [one for one in answer.also if len(one) == _SIGNATURE][: MOST_SIGNATURES - 1]
    made = {
        "key_id": key_id(answer.public_key),
        "public_key": answer.public_key,
        "signature": answer.signature,
        "also": b"".join(also) or None,
    }
    of = {"subject": request.subject, "category": request.category, "month": request.month}
    row = insert(connection, guard_keys).values(**of, **made)
    # Two asked at once, and the guard gives both the same; or it is signed anew.
    connection.execute(row.on_conflict_do_update(index_elements=[*of], set_=made))


def _is_by(answer: KeyAnswer, request: KeyRequest, signing_key: str) -> bool:
    try:
        verify_key(answer, request, signing_key)
    except WireError:
        return False
    return True


def _months_around(now: WallInstant) -> tuple[str, str, str]:
    first = datetime.fromtimestamp(now / NANOSECONDS, UTC).replace(day=1)
    before, after = first - timedelta(days=1), first + timedelta(days=31)
    return f"{before:%Y-%m}", f"{first:%Y-%m}", f"{after:%Y-%m}"
