"""What a data subject demands of collector and guard: a signed request, and the guard's receipt.

docs/spec/rights-v1.md in code.  The rights key is an Ed25519 key that follows from the data
subject's identity, and the pseudonym follows from the rights key: whoever shows a key shows
with it for whom it speaks, and nobody has to be told or believed beforehand.  A device asks
with its own key, and with the *appointment* that the rights key signed at enrolment.

A request restricts: there is none that grants.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.age import decode_identity
from wire.category import Category
from wire.ed25519 import KEY_BYTES, public_key
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError
from wire.guard_order import SignedOrder
from wire.ids import KeptInstant, SubjectId, WallInstant, can_be_kept

KEY_INFO: Final = b"assent/rights-key/v1"
SUBJECT_LABEL: Final = b"assent/subject/v1\0"
APPOINTMENT_LABEL: Final = b"assent/appointment/v1\0"
REQUEST_LABEL: Final = b"assent/rights/v1\0"
ERASURE_LABEL: Final = b"assent/erasure/v1\0"
NONCE_BYTES: Final = 16
MOST_AT_ONCE: Final = 100
"""Of demands, and of orders of the guard, in one answer to a device: the newest there are."""
_DAY: Final = re.compile(r"20\d\d-\d\d-\d\d")


class Demand(StrEnum):
    """What is demanded; `erase` of a category or of all takes the consent back too."""

    WITHDRAW = "withdraw"
    ERASE = "erase"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One demand of one data subject at one collector, about what was agreed to before `made_at`.

    `category` None is all of them; `first_day` and `last_day` (UTC, inclusive) narrow an
    erasure to a span, empty is ever.
    """

    nonce: bytes
    origin: str
    subject: bytes  # SubjectId
    demand: Demand
    category: Category | None
    first_day: str = ""
    last_day: str = ""
    made_at: KeptInstant

    @property
    def has_span(self) -> bool:
        """Whether it is about some days only."""
        return bool(self.first_day)

    def covers(self, category: Category, day: str) -> bool:
        """Whether a batch of *category* and *day* is meant."""
        return self.category in (None, category) and (
            not self.has_span or self.first_day <= day <= self.last_day
        )

    def covers_month(self, category: str, month: str) -> bool:
        """Whether all that *month* ("2027-03") can hold of *category* is meant."""
        last = _last_day(month)
        return self.category in (None, category) and (
            not self.has_span or (self.first_day <= f"{month}-01" and last <= self.last_day)
        )


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes of a `Request`, signed by the rights key, or by a device that it appointed."""

    request: bytes
    rights_key: bytes  # raw Ed25519, public
    signature: bytes
    device_key: bytes = b""  # the same of the device that signed; empty: the rights key did
    appointment: bytes = b""

    @property
    def digest(self) -> bytes:
        """The SHA-256 by which leaves and receipts name the request."""
        return hashlib.sha256(self.request).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who asks: the rights key itself, or a device with its appointment."""

    key: Ed25519PrivateKey
    rights_key: bytes
    appointment: bytes = b""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """The guard's word: so many keys are gone, and from `pending_until` on its backups of them."""

    request: bytes  # the digest
    keys: int
    erased_at: WallInstant
    pending_until: WallInstant


class SignedErasure(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of an `Erasure`, signed by the key that the policy names as the guard's."""

    erasure: bytes
    signature: bytes


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What was demanded elsewhere for the data subject of a device: the newest requests.

    `orders` are what the guard has erased of this data subject by its own hand.  More of either
    than `MOST_AT_ONCE` is no such answer: each costs a device two signatures to verify.
    """

    requests: Annotated[tuple[SignedRequest, ...], msgspec.Meta(max_length=MOST_AT_ONCE)]
    orders: Annotated[tuple[SignedOrder, ...], msgspec.Meta(max_length=MOST_AT_ONCE)] = ()


# --- keys and names -------------------------------------------------------------------------


def rights_key_of(identity: str) -> Ed25519PrivateKey:
    """Return the rights key of an identity: HKDF-SHA256 of its secret, info `KEY_INFO`.

    Raises:
        MalformedError: *identity* is none.

    """
    derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=KEY_INFO)
    return Ed25519PrivateKey.from_private_bytes(derive.derive(decode_identity(identity)))


def subject_of(rights_key: bytes) -> SubjectId:
    """Return the pseudonym of the data subject with this (raw, public) rights key."""
    return SubjectId(hashlib.sha256(SUBJECT_LABEL + rights_key).digest()[:16])


def appoint(rights_key: Ed25519PrivateKey, device_key: bytes) -> bytes:
    """Return the rights key's word that this device may ask for restrictions and erasures."""
    return rights_key.sign(APPOINTMENT_LABEL + device_key)


# --- requests -------------------------------------------------------------------------------


def sign_request(request: Request, speaker: Speaker) -> SignedRequest:
    """Return *request* as *speaker* signs it; the same request gives the same bytes."""
    data = msgspec.json.encode(request)
    own = speaker.key.public_key().public_bytes_raw()
    return SignedRequest(
        request=data,
        rights_key=speaker.rights_key,
        signature=speaker.key.sign(REQUEST_LABEL + data),
        device_key=b"" if own == speaker.rights_key else own,
        appointment=speaker.appointment,
    )


def verify_request(signed: SignedRequest, origin: str) -> Request:
    """Return the request, if it is the data subject's own, for the collector at *origin*.

    Raises:
        MalformedError: Not in its format.
        ForgedError: Not signed by the rights key, nor by a device that it appointed.
        NotCoveredError: For another collector, or of another data subject than the key's.

    """
    _check_signed(signed.rights_key, signed.device_key, signed)
    try:
        request = msgspec.json.decode(signed.request, type=Request)
    except UNREADABLE as exc:
        raise MalformedError(f"the request cannot be read: {exc}") from exc
    if request.subject != subject_of(signed.rights_key):
        raise NotCoveredError("this rights key is another data subject's")
    if request.origin != origin:
        raise NotCoveredError("this request is for another collector")
    if len(request.nonce) != NONCE_BYTES:
        raise MalformedError(f"a nonce has {NONCE_BYTES} bytes")
    _check_span(request)
    return request


def _check_signed(rights: bytes, device: bytes, signed: SignedRequest) -> None:
    key = public_key(rights)
    try:
        if device:
            key.verify(signed.appointment, APPOINTMENT_LABEL + device)
            key = public_key(device)
        key.verify(signed.signature, REQUEST_LABEL + signed.request)
    except InvalidSignature:
        raise ForgedError("not signed with the rights key, nor by a device it appointed") from None


def _check_span(request: Request) -> None:
    if not request.first_day and not request.last_day:
        return
    if request.demand is Demand.WITHDRAW:
        raise MalformedError("a consent is withdrawn as a whole, not for some days")
    try:
        for day in (request.first_day, request.last_day):
            date.fromisoformat(day if _DAY.fullmatch(day) else "")
    except ValueError:
        raise MalformedError("a span has two days, each written as in 2027-03-15") from None
    if request.last_day < request.first_day:
        raise MalformedError("the last day of the span lies before its first")


# --- the guard's receipt --------------------------------------------------------------------


def sign_erasure(erasure: Erasure, guard: Ed25519PrivateKey) -> SignedErasure:
    """Return *erasure* as the guard signs it."""
    data = msgspec.json.encode(erasure)
    return SignedErasure(erasure=data, signature=guard.sign(ERASURE_LABEL + data))


def verify_erasure(signed: SignedErasure, request: bytes, signing_key: str) -> Erasure:
    """Return the guard's word on the request with this digest.

    *signing_key* is `Policy.guard.signing_key`.

    Raises:
        ForgedError: Not the word of the guard that the policy names, or on another request.
        MalformedError: Not in its format.

    """
    try:
        key = public_key(base64.b64decode(signing_key, validate=True))
        key.verify(signed.signature, ERASURE_LABEL + signed.erasure)
    except InvalidSignature:
        raise ForgedError("the erasure is not signed by the policy's guard") from None
    except (binascii.Error, *UNREADABLE) as exc:
        raise MalformedError(f"the guard's receipt cannot be read: {exc}") from exc
    erasure = read_erasure(signed)
    if erasure.request != request:
        raise ForgedError("the guard's receipt is for another request")
    return erasure


def read_erasure(signed: SignedErasure) -> Erasure:
    """Return what *signed* says, whoever signed it; its times are such as a calendar has.

    Raises:
        MalformedError: It is not in its format.

    """
    try:
        erasure = msgspec.json.decode(signed.erasure, type=Erasure)
    except UNREADABLE as exc:
        raise MalformedError(f"the guard's receipt cannot be read: {exc}") from exc
    if not can_be_kept(erasure.erased_at, erasure.pending_until):
        raise MalformedError("the guard's receipt has a time that no calendar has")
    return erasure


def _last_day(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    after = date(year + number // 12, number % 12 + 1, 1)
    return date.fromordinal(after.toordinal() - 1).isoformat()
