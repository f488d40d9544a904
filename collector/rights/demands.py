"""What data subjects demand of us, and our half of it; the other half is the guard's.

1. the request is the data subject's own (`wire.rights`), and no revoked device's
2. in one transaction: its leaf, and for an erasure a tombstone for each batch that is meant,
   rows and salts gone, the guard's keys forgotten here
3. the guard, which checks the signature itself, erases its keys and signs for it
4. the files behind the tombstones: some at once, the others by `watch`

From 2 on, what was agreed to before the request is refused (`taken_back`), and nobody is
handed a frame any more; from 3 on nobody could open one, whoever has a copy.  A crash after 2
leaves a request without the guard's receipt, which `watch` passes on until there is one.
Asked again, nothing more is done.
"""

import math
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, not_, or_, select, update

from base.clock import NANOSECONDS
from collector.assembly import Collector
from collector.auth import Device
from collector.index.tables import (
    batches,
    consents,
    guard_keys,
    orders,
    requests,
)
from collector.log import append
from collector.policies import guard_named, in_force
from collector.refusal import RefusedError, Why
from collector.rights.forget import entomb_all, sweep_left
from collector.rights.personal import check_device, check_known, refusing
from wire.collector_http import Carried
from wire.errors import WireError
from wire.guard_order import SignedOrder
from wire.ids import SubjectId, WallInstant
from wire.leaf import Kind, request_payload
from wire.rights import (
    MOST_AT_ONCE,
    Demand,
    Request,
    Requests,
    SignedErasure,
    SignedRequest,
    verify_erasure,
    verify_request,
)

AHEAD: Final = 24 * 3600 * NANOSECONDS  # how far the clock of who asks may be before ours
MOST_PASSED_ON: Final = 50  # in one round; the guard writes each down
# Each stays for ever, here, in the log and with the guard, and each upload asks for all.  Of one
# data subject by one key: so many of days, and apart from them so many that end consents.
MOST_A_DAY: Final = 200
_DAY: Final = 24 * 3600 * NANOSECONDS
OUTSTANDING: Final = (
    select(requests.c.signed, requests.c.leaf)
    .where(requests.c.guard.is_(None), requests.c.demand == Demand.ERASE)
    .order_by(requests.c.leaf)
)
_LONGEST_WAIT_SECONDS: Final = 900  # as of all that is counted


def carry_out(collector: Collector, signed: SignedRequest) -> Carried:
    """Carry out a request, as far as that is possible now; return what is done.

    Raises:
        RefusedError: It is not the data subject's own, or cannot be read; nothing was done.

    """
    request = _verified(signed, collector.config.origin)
    now = collector.now()
    with collector.index.writing() as connection:
        number, erased = _note(connection, signed, request, now)
    word = pass_on(collector, signed, request)
    sweep_left(collector.index, collector.store, now)
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
        named = guard_named(connection)
    return Carried(erased=erased, logged=collector.log.logged(leaf), guard=word, named=named)


def pass_on(collector: Collector, signed: SignedRequest, request: Request) -> SignedErasure | None:
    """Return the guard's receipt; ask for it if there is none yet, None if it cannot be had.

    One that is not by the key of the policy in force, which devices check it by, is asked for
    again: the guard erases nothing twice, and signs what it did.
    """
    kept = select(requests.c.guard).where(requests.c.digest == signed.digest)
    with collector.index.reading() as connection:
        word = connection.execute(kept).scalar()
        signing_key = in_force(connection).policy.guard.signing_key
    before = None if word is None else msgspec.json.decode(word, type=SignedErasure)
    if before is not None and _is_by(before, signed, signing_key):
        return before
    if request.demand is not Demand.ERASE or collector.guard is None:
        return before
    try:
        given = collector.guard.erase(signed, signing_key)
    except RefusedError:
        return before  # None stays outstanding, and is said to be
    with collector.index.writing() as connection:
        connection.execute(
            update(requests)
            .where(requests.c.digest == signed.digest)
            .values(guard=msgspec.json.encode(given))
        )
    return given


def _is_by(word: SignedErasure, signed: SignedRequest, signing_key: str) -> bool:
    try:
        verify_erasure(word, signed.digest, signing_key)
    except WireError:
        return False
    return True


def pass_on_next(collector: Collector, after: int) -> tuple[int, bool]:
    """Pass on some of what the guard has not signed for, from behind the leaf *after*.

    Return the leaf to go on behind, and whether the guard left one outstanding: that one ends
    this round, since it may be away, and the next round begins behind it.
    """
    asked = OUTSTANDING.limit(MOST_PASSED_ON)
    with collector.index.reading() as connection:
        waiting = connection.execute(asked.where(requests.c.leaf > after)).all()
        waiting = waiting or connection.execute(asked).all()
    for row in waiting:
        after = row.leaf
        signed = msgspec.json.decode(row.signed, type=SignedRequest)
        request = msgspec.json.decode(signed.request, type=Request)
        if pass_on(collector, signed, request) is None:
            return after, True
    return after, False


def check_none_outstanding(connection: Connection, subject: SubjectId) -> None:
    """Check that the guard has carried out all that *subject* demanded.

    Else a key that is made now could be taken for one of those that are to go.

    Raises:
        RefusedError: It has not; it is asked again every few seconds.

    """
    asked = select(requests.c.leaf).where(
        requests.c.subject == subject,
        requests.c.guard.is_(None),
        requests.c.demand == Demand.ERASE,
    )
    if connection.execute(asked.limit(1)).first() is not None:
        raise RefusedError(Why.GUARD_UNREACHABLE, "the guard has yet to erase what it was told to")


def last_erasure(connection: Connection, subject: SubjectId) -> int:
    """Return the leaf of the newest erasure of *subject*, demanded or ordered; -1 if none was."""
    demanded = select(func.max(requests.c.leaf)).where(
        requests.c.subject == subject, requests.c.demand == Demand.ERASE
    )
    ordered = select(func.max(orders.c.leaf)).where(orders.c.subject == subject)
    found = (connection.execute(asked).scalar() for asked in (demanded, ordered))
    return max(-1 if leaf is None else int(leaf) for leaf in found)


def for_device(connection: Connection, device: Device) -> Requests:
    """Return what was demanded elsewhere for the data subjects of this device.

    And what the guard has erased of them by its own hand.
    """
    own = select(consents.c.subject).where(consents.c.device == device.id)
    found = connection.execute(
        select(requests.c.signed)
        .where(requests.c.subject.in_(own), requests.c.by_device != device.key.public_bytes_raw())
        .order_by(requests.c.received_at.desc())
        .limit(MOST_AT_ONCE)
    ).scalars()
    obeyed = connection.execute(
        select(func.coalesce(orders.c.signed_anew, orders.c.signed))
        .where(orders.c.subject.in_(own))
        .order_by(orders.c.leaf.desc())
        .limit(MOST_AT_ONCE)
    ).scalars()
    return Requests(
        requests=tuple(msgspec.json.decode(data, type=SignedRequest) for data in found),
        orders=tuple(msgspec.json.decode(data, type=SignedOrder) for data in obeyed),
    )


def _verified(signed: SignedRequest, origin: str) -> Request:
    with refusing():
        return verify_request(signed, origin)


def _note(
    connection: Connection, signed: SignedRequest, request: Request, now: WallInstant
) -> tuple[int, int]:
    """Write the request down with all that follows; return its leaf, and how many batches."""
    before = connection.execute(
        select(requests.c.leaf, requests.c.erased).where(requests.c.digest == signed.digest)
    ).one_or_none()
    if before is not None:
        return before.leaf, before.erased
    _check_new(connection, signed, request, now)
    leaf = append(connection, Kind.DELETION, request_payload(signed.digest), now)
    erased = _entomb(connection, request, leaf, now) if request.demand is Demand.ERASE else 0
    connection.execute(
        requests.insert().values(
            digest=signed.digest,
            subject=request.subject,
            demand=request.demand,
            category=request.category,
            first_day=request.first_day,
            last_day=request.last_day,
            made_at=request.made_at,
            by_device=signed.device_key,
            received_at=now,
            signed=msgspec.json.encode(signed),
            erased=erased,
            leaf=leaf,
        )
    )
    return leaf, erased


def _check_new(
    connection: Connection, signed: SignedRequest, request: Request, now: WallInstant
) -> None:
    if request.made_at > now + AHEAD:
        raise RefusedError(
            Why.BAD_REQUEST, "this request is of tomorrow; set the clock and ask again"
        )
    check_known(connection, SubjectId(request.subject))
    if signed.device_key:
        check_device(connection, signed.device_key)
    _check_not_too_many(connection, signed, request, now)


def _check_not_too_many(
    connection: Connection, signed: SignedRequest, request: Request, now: WallInstant
) -> None:
    days = requests.c.first_day != ""
    since = connection.execute(
        select(requests.c.received_at)
        .where(
            requests.c.subject == request.subject,
            requests.c.by_device == signed.device_key,  # no device uses up what the person has
            days if request.has_span else not_(days),
            requests.c.received_at > now - _DAY,
        )
        .order_by(requests.c.received_at.desc())
        .offset(MOST_A_DAY - 1)
        .limit(1)
    ).scalar()
    if since is not None:
        seconds = math.ceil((since + _DAY - now) / NANOSECONDS)
        raise RefusedError(
            Why.TOO_MANY,
            f"at most {MOST_A_DAY} such demands of one data subject in a day",
            retry_after_seconds=min(seconds, _LONGEST_WAIT_SECONDS),
        )


def _entomb(connection: Connection, request: Request, leaf: int, now: WallInstant) -> int:
    """Put a tombstone in the place of each batch that is meant; return how many they are."""
    # What came before it was demanded was agreed to before, whatever its device's clock said.
    before = or_(
        consents.c.given_at <= request.made_at,
        consents.c.received_at < min(request.made_at, now),
    )
    meant = [batches.c.subject == request.subject, before]
    if request.category is not None:
        meant.append(batches.c.category == request.category)
    if request.has_span:
        meant += [batches.c.day >= request.first_day, batches.c.day <= request.last_day]
    gone = entomb_all(connection, meant, leaf, now)
    _forget_keys(connection, request)
    return gone


def _forget_keys(connection: Connection, request: Request) -> None:
    own = guard_keys.c.subject == request.subject
    for row in connection.execute(select(guard_keys).where(own)).all():
        if request.covers_month(row.category, row.month):
            connection.execute(
                delete(guard_keys).where(
                    own, guard_keys.c.category == row.category, guard_keys.c.month == row.month
                )
            )
