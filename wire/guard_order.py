"""What the guard erases by its own hand, and says so: a signed order to the collector.

docs/spec/rights-v1.md, "Orders of the guard", in code.  An order restricts and nothing else:
whoever has one can erase what the guard has closed already, for the data subject, category and
month that it names, at the one collector that it names.  It passes by way of the collector to
the device, which believes the guard's signature alone.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.category import Category
from wire.ed25519 import public_key
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError
from wire.ids import WallInstant, can_be_kept

ORDER_LABEL: Final = b"assent/guard-order/v1\0"
SUBJECT_BYTES: Final = 16
_MONTH: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The guard's keys of one data subject are gone, and are not made again.

    `category` None is all of them, an empty `month` is every one, past and to come.
    """

    origin: str  # of the collector that it is for
    subject: bytes  # SubjectId
    category: Category | None
    month: str
    at: WallInstant

    def covers(self, category: Category, day: str) -> bool:
        """Whether a batch of *category* and *day* (or month) cannot be opened any more."""
        return self.category in (None, category) and day.startswith(self.month)

    @property
    def days(self) -> tuple[str, str] | None:
        """The first and the last day, as they sort; None: all there are."""
        return (f"{self.month}-01", f"{self.month}-31") if self.month else None


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes of an `Order`, signed by the key that the policy names as the guard's."""

    order: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        """The SHA-256 by which leaves name the order."""
        return hashlib.sha256(self.order).digest()


def sign_order(order: Order, guard: Ed25519PrivateKey) -> SignedOrder:
    """Return *order* as the guard signs it; the same order gives the same bytes."""
    data = msgspec.json.encode(order)
    return SignedOrder(order=data, signature=guard.sign(ORDER_LABEL + data))


def verify_order(signed: SignedOrder, origin: str, signing_key: str) -> Order:
    """Return the order, if it is the guard's, for the collector at *origin*.

    *signing_key* is `Policy.guard.signing_key`.

    Raises:
        ForgedError: Not the word of the guard that the policy names.
        MalformedError: Not in its format, or not in the one way to write it.
        NotCoveredError: For another collector.

    """
    try:
        key = public_key(base64.b64decode(signing_key, validate=True))
        key.verify(signed.signature, ORDER_LABEL + signed.order)
        order = msgspec.json.decode(signed.order, type=Order)
    except InvalidSignature:
        raise ForgedError("the order is not signed by the policy's guard") from None
    except (binascii.Error, *UNREADABLE) as exc:
        raise MalformedError(f"the guard's order cannot be read: {exc}") from exc
    # One way to write it: each order has one digest, and is carried out once.
    if msgspec.json.encode(order) != signed.order:
        raise MalformedError("the guard's order is not in the one form in which it is written")
    if len(order.subject) != SUBJECT_BYTES or (order.month and not _MONTH.fullmatch(order.month)):
        raise MalformedError("the guard's order names no data subject, or no month")
    if not can_be_kept(order.at):
        raise MalformedError("the guard's order has a time that no calendar has")
    if order.origin != origin:
        raise NotCoveredError("the guard's order is for another collector")
    return order
