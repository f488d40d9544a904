"""What the guard has erased by its own hand, told to the collector until it proves to obey.

The guard connects to nobody: the collector asks.  An order stays in the queue until the
collector shows the leaf of its log that commits to it, under a head that the log has signed.
"""

import logging
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guard.erasures import Ordered
from guard.keys import ALL, Keys
from wire.category import Category
from wire.collector_http import verify_logged
from wire.errors import WireError
from wire.guard_http import MOST_ORDERS, Orders, OrdersRequest
from wire.guard_order import Order, SignedOrder, sign_order
from wire.ids import WallInstant
from wire.leaf import Kind, order_payload

_log: Final = logging.getLogger(__name__)


def answer(
    keys: Keys,
    asked: OrdersRequest,
    *,
    origin: str,
    log_key: str,
    signing_key: Ed25519PrivateKey,
    now: WallInstant,
) -> Orders:
    """Take note of what the collector at *origin* proves; return what it is still to do.

    Or, if it *asked* for some orders again, those: it has obeyed them, and by which key they
    are signed has changed.
    """
    if asked.again:
        every = (_signed(each, origin, signing_key) for each in keys.ordered())
        wanted = set(asked.again)
        return Orders(orders=tuple(one for one in every if one.digest in wanted)[:MOST_ORDERS])
    waiting = {_signed(each, origin, signing_key): each for each in keys.untold(origin)}
    by_digest = {signed.digest: signed for signed in waiting}
    for proof in asked.obeyed:
        signed = by_digest.get(proof.order)
        if signed is None or signed not in waiting:
            continue  # proved before
        try:
            verify_logged(proof.logged, Kind.DELETION, order_payload(proof.order), log_key)
        except WireError as exc:
            _log.warning("the collector does not prove that it obeyed: %s", exc)
            continue
        keys.note_told(origin, waiting.pop(signed), now)
    return Orders(orders=tuple(waiting)[:MOST_ORDERS])


def _signed(order: Ordered, origin: str, key: Ed25519PrivateKey) -> SignedOrder:
    # Signed when it is told: for the collector and by the key that the policy names then.
    said = Order(
        origin=origin,
        subject=order.subject,
        category=None if order.category == ALL else Category(order.category),
        month=order.month,
        at=order.at,
    )
    return sign_order(said, key)
