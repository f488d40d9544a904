"""Consent records and access grants: who agreed to what, and who may open what.

A *consent record* (`wire.consent_record`) is what a data subject gave: one purpose, one
category, one policy, signed by the device.  Every batch names one by its hash.  An *access
grant* is a reader's request, approved by the people whom the policy names; the guard
releases nothing without.
"""

import base64
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from wire.category import Category
from wire.consent_record import ConsentRecord, decode_record, encode_record
from wire.ed25519 import public_key
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError
from wire.frame import is_day
from wire.ids import GrantHash, KeptInstant, WallInstant
from wire.policy import Approver, Policy
from wire.recipients import check_opens
from wire.text import is_plain

CONSENT_LABEL: Final = b"assent/consent-record/v1\0"
ACCESS_LABEL: Final = b"assent/access-request/v1\0"
LEAST_APPROVALS: Final = 2  # whatever a policy says: with one approval one party decides
LONGEST_GRANT_DAYS: Final = 90  # an access that is needed for longer is asked for again
_DAY_NANOSECONDS: Final = 86_400 * 1_000_000_000


class SignedConsent(msgspec.Struct, frozen=True, kw_only=True):
    """A consent record in the bytes that were signed, and the device's signature."""

    record: bytes
    signature: bytes


def sign_consent(record: ConsentRecord, device: Ed25519PrivateKey) -> SignedConsent:
    """Return *record* signed by the device key."""
    data = encode_record(record)
    return SignedConsent(record=data, signature=device.sign(CONSENT_LABEL + data))


def verify_consent(signed: SignedConsent, device: Ed25519PublicKey) -> ConsentRecord:
    """Return the record.

    Raises:
        ForgedError: The signature is not the device's.
        MalformedError: The signed bytes are no consent record.

    """
    try:
        device.verify(signed.signature, CONSENT_LABEL + signed.record)
    except InvalidSignature:
        raise ForgedError("the consent record is not signed by this device") from None
    return decode_record(signed.record)


def grant_hash(signed: SignedConsent) -> GrantHash:
    """Return the hash by which batches name this consent."""
    return GrantHash(hashlib.sha256(signed.record).digest())


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a reader asks to open: `first_day` to `last_day` inclusive, ISO dates."""

    request_id: str
    reader: str
    recipient: str  # age1pq...: the only key to which the guard will re-seal
    programme: str
    purpose: str
    categories: tuple[Category, ...]
    first_day: str
    last_day: str
    expires_at: KeptInstant
    why: str


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One approver's signature under the request's bytes."""

    approver: str
    signature: bytes


class AccessGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request in the bytes that were signed, and the approvals it has.

    Who approves writes it anew: a field that is not known here would be lost.
    """

    request: bytes
    approvals: tuple[Approval, ...]


def encode_request(request: AccessRequest) -> bytes:
    """Return the bytes of *request* as approvers sign them."""
    return msgspec.json.format(msgspec.json.encode(request), indent=2) + b"\n"


def decode_request(data: bytes) -> AccessRequest:
    """Return the request in *data*, approved or not.

    Raises:
        MalformedError: Not an access request, not as `encode_request` writes it, or with a text
            that would steer the terminal of who is to approve it.

    """
    try:
        request = msgspec.json.decode(data, type=AccessRequest)
    except UNREADABLE as exc:
        raise MalformedError(f"the access request cannot be read: {exc}") from exc
    # A field that stands there twice would show an approver's own tool another value.
    if encode_request(request) != data:
        raise MalformedError("the access request is not in the form in which requests are written")
    texts = (part for part in msgspec.structs.astuple(request) if isinstance(part, str))
    if not all(map(is_plain, texts)):
        raise MalformedError("the access request has a text with characters that cannot be shown")
    if not (is_day(request.first_day) and is_day(request.last_day)):
        raise MalformedError("the access request has a day that is not written as in 2027-03-31")
    return request


def approve(request: bytes, approver: str, key: Ed25519PrivateKey) -> Approval:
    """Return *approver*'s approval of these request bytes."""
    return Approval(approver=approver, signature=key.sign(ACCESS_LABEL + request))


def access_digest(grant: AccessGrant) -> bytes:
    """Return the SHA-256 by which log leaves name this grant's request."""
    return hashlib.sha256(grant.request).digest()


def party_of(name: str) -> str:
    """Return what tells parties apart: another case or another blank is not another party."""
    return " ".join(name.split()).casefold()


def longest_grant(now: WallInstant) -> WallInstant:
    """Return when a grant ends that is looked at *now* and lasts as long as one may."""
    return WallInstant(now + LONGEST_GRANT_DAYS * _DAY_NANOSECONDS)


def verify_access(grant: AccessGrant, policy: Policy, now: WallInstant) -> AccessRequest:
    """Return the request, approved by enough parties of the policy's approvers, and in force.

    People of one party are one approval, however many sign; one key is of one party.

    Raises:
        MalformedError: The request cannot be read, or the policy's key of an approver is none.
        ForgedError: An approval is not by whom it says.
        NotCoveredError: Too few parties approve, expired or too far from it, another programme
            or purpose, a prohibited purpose, or a recipient whom the policy does not name.

    """
    request = decode_request(grant.request)
    names = [approval.approver for approval in grant.approvals]
    if len(set(names)) < len(names):  # before any signature is looked at: each costs time
        raise NotCoveredError("an approver is named twice in the grant; each approves once")
    keys: dict[str, bytes] = {}
    parties: dict[bytes, str] = {}  # a key that stands under two parties is of the first
    for approver in policy.approvers:
        keys[approver.name] = _approver_key(approver)
        parties.setdefault(keys[approver.name], party_of(approver.party))
    approved: set[str] = set()
    for approval in grant.approvals:
        if approval.approver not in keys:
            raise ForgedError(f"{approval.approver} is not an approver of this policy")
        key = keys[approval.approver]
        try:
            public_key(key).verify(approval.signature, ACCESS_LABEL + grant.request)
        except InvalidSignature:
            raise ForgedError(f"the approval of {approval.approver} does not verify") from None
        approved.add(parties[key])
    needed = max(policy.approval_threshold, LEAST_APPROVALS)
    if len(approved) < needed:
        raise NotCoveredError(
            f"{len(approved)} of {needed} approvals, one a party; ask the other parties' approvers"
        )
    check_life(request, now)
    if request.programme != policy.programme:
        raise NotCoveredError(f"the grant is for programme {request.programme}")
    if request.purpose in policy.prohibited_purposes or request.purpose != policy.purpose:
        raise NotCoveredError(f"the policy does not allow the purpose {request.purpose}")
    check_opens(policy.recipients, request.recipient)
    return request


def check_life(request: AccessRequest, now: WallInstant) -> None:
    """Check that a grant of *request* is in force, and not for longer than a grant may be.

    Raises:
        NotCoveredError: It has expired, or ends more than `LONGEST_GRANT_DAYS` from now.

    """
    if now >= request.expires_at:
        raise NotCoveredError("the access grant has expired; request a new one")
    if request.expires_at > longest_grant(now):
        raise NotCoveredError(
            f"the access grant lasts too long: it ends more than {LONGEST_GRANT_DAYS} days from"
            " now; request one for less"
        )


def _approver_key(approver: Approver) -> bytes:
    """Return the raw key: two texts can be one key, and one key is one approval."""
    try:
        key = base64.b64decode(approver.key, validate=True)
    except ValueError:
        key = b""
    try:
        public_key(key)
    except MalformedError as exc:
        raise MalformedError(f"the policy's key of {approver.name}, in base64: {exc}") from exc
    return key
