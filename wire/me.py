"""What a data subject asks about their own data, and orders of it; docs/spec/rights-v1.md in code.

A *query* is signed as a demand is (`wire.rights`): by the rights key, or by a device that it
appointed.  It is good once and for minutes: an answer tells about a person, and must not go to
whoever has found an old query.  An *order* has batches given back; it is signed by the rights
key and by nobody else, and names the one key to which the guard may seal.
"""

import hashlib
from enum import StrEnum
from typing import Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature

from wire.age import decode_recipient
from wire.ed25519 import public_key
from wire.errors import UNREADABLE, ExpiredError, ForgedError, MalformedError, NotCoveredError
from wire.ids import KeptInstant, WallInstant
from wire.rights import APPOINTMENT_LABEL, NONCE_BYTES, Speaker, subject_of

QUERY_LABEL: Final = b"assent/me/v1\0"
ORDER_LABEL: Final = b"assent/return/v1\0"
LARGEST_ORDER: Final = 32  # batches: each is some 20 kB between collector and guard
FRESH_SECONDS: Final = 300  # a query, either way: clocks differ
ORDER_SECONDS: Final = 24 * 3600  # an order: what was interrupted goes on with the same one
_HASH_BYTES: Final = 32
_NANOSECONDS: Final = 1_000_000_000
_LONGEST_CURSOR: Final = 64
T = TypeVar("T")


class About(StrEnum):
    """What a query asks for; each has its own path."""

    BATCHES = "batches"
    DELETIONS = "deletions"
    ACCESSES = "accesses"
    FRAME = "frame"


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question of one data subject to one collector.

    `after` is the `next` of the page before; empty is the first page.  `batch` is the hash of
    the frame that is asked for, and empty for everything else.
    """

    nonce: bytes
    origin: str
    subject: bytes  # SubjectId
    about: About
    after: str = ""
    batch: bytes = b""
    made_at: KeptInstant


class SignedQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes of a `Query`, signed by the rights key, or by a device that it appointed."""

    query: bytes
    rights_key: bytes  # raw Ed25519, public
    signature: bytes
    device_key: bytes = b""  # the same of the device that signed; empty: the rights key did
    appointment: bytes = b""


class ReturnOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """These batches are to be given back to the data subject, and to no other key than this."""

    nonce: bytes
    origin: str
    subject: bytes  # SubjectId
    recipient: str  # age1pq...: the data subject's own
    batches: tuple[bytes, ...]
    made_at: KeptInstant


class SignedReturn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes of a `ReturnOrder`, signed by the rights key itself.

    A device cannot order: whoever steals it, or runs a program on it, would read back all that
    ever left it; without orders its key reads nothing.
    """

    order: bytes
    rights_key: bytes  # raw Ed25519, public
    signature: bytes

    @property
    def digest(self) -> bytes:
        """The SHA-256 by which leaves name the order, as they name an access request."""
        return hashlib.sha256(self.order).digest()


def sign_query(query: Query, speaker: Speaker) -> SignedQuery:
    """Return *query* as *speaker* signs it."""
    data = msgspec.json.encode(query)
    own = speaker.key.public_key().public_bytes_raw()
    return SignedQuery(
        query=data,
        rights_key=speaker.rights_key,
        signature=speaker.key.sign(QUERY_LABEL + data),
        device_key=b"" if own == speaker.rights_key else own,
        appointment=speaker.appointment,
    )


def verify_query(signed: SignedQuery, origin: str, about: About) -> Query:
    """Return the query, if it is the data subject's own, for the collector at *origin*.

    Whether it is fresh is `check_fresh`'s to say, whether it is new the collector's.

    Raises:
        MalformedError: Not in its format.
        ForgedError: Not signed by the rights key, nor by a device that it appointed.
        NotCoveredError: For another collector, of another data subject than the key's, or
            about something else.

    """
    key = public_key(signed.rights_key)
    try:
        if signed.device_key:
            key.verify(signed.appointment, APPOINTMENT_LABEL + signed.device_key)
            key = public_key(signed.device_key)
        key.verify(signed.signature, QUERY_LABEL + signed.query)
    except InvalidSignature:
        raise ForgedError("not signed with the rights key, nor by a device it appointed") from None
    query = _decoded(signed.query, Query)
    _check_own(query, signed.rights_key)
    if query.origin != origin:
        raise NotCoveredError("this is for another collector")
    if query.about is not about:
        raise NotCoveredError(f"this query is about {query.about}, and was sent for {about}")
    if len(query.after) > _LONGEST_CURSOR:
        raise MalformedError("a page begins after what the page before it says")
    if len(query.batch) != (_HASH_BYTES if about is About.FRAME else 0):
        raise MalformedError("a query for a frame names one batch, and no other does")
    return query


def sign_return(order: ReturnOrder, speaker: Speaker) -> SignedReturn:
    """Return *order* as the rights key signs it."""
    data = msgspec.json.encode(order)
    return SignedReturn(
        order=data,
        rights_key=speaker.rights_key,
        signature=speaker.key.sign(ORDER_LABEL + data),
    )


def verify_return(signed: SignedReturn, origin: str) -> ReturnOrder:
    """Return the order, if it is the data subject's own, for the collector at *origin*.

    Raises:
        MalformedError: Not in its format.
        ForgedError: Not signed by the rights key.
        NotCoveredError: For another collector, or of another data subject than the key's.

    """
    order = order_in(signed)
    if order.origin != origin:
        raise NotCoveredError("this is for another collector")
    return order


def order_in(signed: SignedReturn) -> ReturnOrder:
    """Return the order, if it is the data subject's own, for whichever collector.

    Raises:
        MalformedError: Not in its format.
        ForgedError: Not signed by the rights key.
        NotCoveredError: Of another data subject than the key's.

    """
    try:
        public_key(signed.rights_key).verify(signed.signature, ORDER_LABEL + signed.order)
    except InvalidSignature:
        raise ForgedError("the order is not signed with the rights key itself") from None
    order = _decoded(signed.order, ReturnOrder)
    _check_own(order, signed.rights_key)
    decode_recipient(order.recipient)
    if not 0 < len(order.batches) <= LARGEST_ORDER:
        raise MalformedError(f"an order names 1 to {LARGEST_ORDER} batches")
    if any(len(batch) != _HASH_BYTES for batch in order.batches):
        raise MalformedError("a batch is named by its SHA-256")
    if len(set(order.batches)) != len(order.batches):
        raise MalformedError("an order names each batch once")
    return order


def check_fresh(made_at: WallInstant, now: WallInstant, seconds: int) -> None:
    """Check that what was signed at *made_at* still counts.

    Raises:
        ExpiredError: It was signed longer ago than *seconds*, or lies as far ahead.

    """
    if abs(made_at - now) > seconds * _NANOSECONDS:
        off = abs(made_at - now) // _NANOSECONDS
        which = "ago" if made_at < now else "ahead"
        raise ExpiredError(
            f"signed {off} s {which} by the clock here, at most {seconds} s count; "
            "set the clock, or sign anew"
        )


def _check_own(said: Query | ReturnOrder, rights_key: bytes) -> None:
    if said.subject != subject_of(rights_key):
        raise NotCoveredError("this rights key is another data subject's")
    if len(said.nonce) != NONCE_BYTES:
        raise MalformedError(f"a nonce has {NONCE_BYTES} bytes")


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as exc:
        raise MalformedError(f"this is no {kind.__name__}: {exc}") from exc
