"""What the guard has erased by its own hand, and our half of it.

The guard connects to nobody, so it is asked, every few seconds:

1. what it says is signed by the key that the policy in force names as the guard's
2. in one transaction: its leaf, a tombstone for each batch that is meant, rows and salts gone,
   the guard's keys forgotten here
3. the leaf is shown to the guard, who says it no more
4. the files behind the tombstones: some at once, the others by `watch`

From 2 on, frames that were sealed to those keys get 410, and the devices of the data subject
are told.  Asked again, or said again, nothing more is done.
"""

import logging
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select

from collector.assembly import Collector
from collector.guard.client import GuardClient
from collector.index.tables import batches, guard_keys, orders
from collector.log import append
from collector.policies import in_force
from collector.rights.forget import entomb_all, sweep_left
from wire.errors import WireError
from wire.guard_http import MOST_ORDERS, Obeyed, OrdersRequest
from wire.guard_order import Order, SignedOrder, verify_order
from wire.ids import WallInstant
from wire.leaf import Kind, order_payload

_log: Final = logging.getLogger(__name__)

MOST_ROUNDS: Final = 20  # of `MOST_ORDERS`; what is left waits for the next look


def follow(collector: Collector) -> int:
    """Ask the guard for its orders and carry them out; return how many were new.

    Raises:
        RefusedError: The guard is away, or does not accept us.
        RetryableError: Index or store cannot be used now; it is asked again.

    """
    if collector.guard is None:
        return 0
    _have_signed_anew(collector, collector.guard)
    obeyed: tuple[Obeyed, ...] = ()
    new = 0
    for _ in range(MOST_ROUNDS):
        said = collector.guard.orders(OrdersRequest(obeyed=obeyed))[:MOST_ORDERS]
        done = [one for each in said if (one := obey(collector, each)) is not None]
        new += sum(is_new for _proof, is_new in done)
        obeyed = tuple(proof for proof, _is_new in done)
        if not obeyed:
            break
    return new


def _have_signed_anew(collector: Collector, guard: GuardClient) -> None:
    """Have those signed anew that are by a key before the guard's present one.

    Devices check them by the policy's key alone; as long as the guard does not do it, those who
    know of them keep to them, and nobody is handed a key for what they close.
    """
    with collector.index.reading() as connection:
        key = in_force(connection).policy.guard.signing_key
        old = select(orders.c.digest).where(orders.c.signed_by != key).limit(MOST_ORDERS)
        wanted = tuple(connection.execute(old).scalars())
    if not wanted:
        return
    for signed in guard.orders(OrdersRequest(again=wanted)):
        try:
            verify_order(signed, collector.config.origin, key)
        except WireError as exc:
            _log.info("an order of the guard is not signed anew yet: %s", exc)
            continue
        # A crash before this leaves it as it was; it is asked for again.
        with collector.index.writing() as connection:
            connection.execute(
                orders.update()
                .where(orders.c.digest == signed.digest)
                .values(signed_by=key, signed_anew=msgspec.json.encode(signed))
            )


def obey(collector: Collector, signed: SignedOrder) -> tuple[Obeyed, bool] | None:
    """Carry out one order, once; return its proof, and whether it is new; None: it is no order."""
    now = collector.now()
    with collector.index.writing() as connection:
        before = select(orders.c.leaf).where(orders.c.digest == signed.digest)
        number: int | None = connection.execute(before).scalar()
        is_new = number is None
        if number is None:
            signing_key = in_force(connection).policy.guard.signing_key
            try:
                order = verify_order(signed, collector.config.origin, signing_key)
            except WireError as exc:
                _log.error("what the guard says it has erased is not believed: %s", exc)
                return None
            number = _note(connection, signed, order, now, signing_key)
    if is_new:
        _log.warning("the guard has erased keys by its own hand: what they sealed is deleted")
        sweep_left(collector.index, collector.store, now)
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return Obeyed(order=signed.digest, logged=collector.log.logged(leaf)), is_new


def _note(
    connection: Connection, signed: SignedOrder, order: Order, now: WallInstant, signed_by: str
) -> int:
    """Write the order down with all that follows; return its leaf."""
    leaf = append(connection, Kind.DELETION, order_payload(signed.digest), now)
    meant = [batches.c.subject == order.subject]
    keys = [guard_keys.c.subject == order.subject]
    if order.category is not None:
        meant.append(batches.c.category == order.category)
        keys.append(guard_keys.c.category == order.category)
    if order.days is not None:
        meant += [batches.c.day >= order.days[0], batches.c.day <= order.days[1]]
        keys.append(guard_keys.c.month == order.month)
    erased = entomb_all(connection, meant, leaf, now)
    connection.execute(delete(guard_keys).where(*keys))
    connection.execute(
        orders.insert().values(
            digest=signed.digest,
            subject=order.subject,
            category=order.category,
            month=order.month,
            received_at=now,
            signed=msgspec.json.encode(signed),
            erased=erased,
            leaf=leaf,
            signed_by=signed_by,
        )
    )
    return leaf
