"""The consent receipt: the data subject's own copy, which anybody can check offline.

It holds the signed record, the words and the notice that were shown, what became of the
consent since, the leaf of the log, how to withdraw and to whom to complain; the device key
signs the whole.  `verify_consent_receipt` needs the file and the device's public key and
nothing else.  The fields are those of DPV-27560 (docs/spec/consent-record-v1.md).
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from wire.collector_http import Logged
from wire.consent_event import (
    ConsentEvent,
    EventBody,
    SignedEvent,
    event_body,
    sign_event,
    verify_event,
)
from wire.consent_fields import RecordBody
from wire.consent_record import ConsentRecord, body_of, decode_record
from wire.errors import ForgedError, MalformedError
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.ids import GrantHash
from wire.leaf import Kind, entry, grant_payload
from wire.linked import ConsentState, Part, compact, decode_linked, encode_linked, instant
from wire.tlog import leaf_hash, unsigned_checkpoint, verify_checkpoint, verify_inclusion

RECEIPT_LABEL: Final = b"assent/consent-receipt/v1\0"
SCHEMA: Final = "https://w3id.org/dpv/schema/dpv-27560#receipt"
_RECEIPT: Final = "urn:assent:receipt:"


class _Event(
    Part,
    frozen=True,
    rename={
        "state": "@type",
        "consent": "dct:isPartOf",
        "at": "dpv:isIndicatedAtTime",
        "signature": "assent:signature",
    },
):
    state: ConsentState
    consent: str
    at: str
    signature: str


class _Leaf(
    Part,
    frozen=True,
    rename={
        "index": "assent:index",
        "salt": "assent:salt",
        "proof": "assent:proof",
        "checkpoint": "assent:checkpoint",
    },
):
    index: int
    salt: str
    proof: tuple[str, ...]
    checkpoint: str


class _Body(
    Part,
    frozen=True,
    rename={
        "id": "@id",
        "kind": "@type",
        "identifier": "dct:identifier",
        "schema": "dct:conformsTo",
        "created": "dct:created",
        "record": "dpv:hasRecordOfActivity",
        "record_signature": "assent:signature",
        "words": "assent:words",
        "notice": "assent:notice",
        "events": "dpv:hasConsentStatus",
        "leaf": "assent:leaf",
        "withdraw": "assent:howToWithdraw",
        "complain": "assent:whereToComplain",
        "signature": "assent:receiptSignature",
    },
):
    id: str
    kind: Literal["dpv:ConsentReceipt"]
    identifier: str
    schema: Literal["https://w3id.org/dpv/schema/dpv-27560#receipt"]
    created: str
    record: RecordBody
    record_signature: str
    words: str
    notice: str
    events: tuple[_Event, ...]
    leaf: tuple[_Leaf, ...]  # none until the collector's log has it
    withdraw: str
    complain: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a receipt shows: the yes, what was shown, what became of it, the log's proof."""

    signed: SignedConsent
    words: str
    notice: str
    events: tuple[ConsentEvent, ...] = ()
    logged: Logged | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentReceipt:
    """A receipt that was verified."""

    record: ConsentRecord
    grant: GrantHash
    evidence: Evidence

    @property
    def state(self) -> ConsentState:
        """Where the consent stands by this receipt."""
        events = self.evidence.events
        return events[-1].state if events else self.record.state


def write_consent_receipt(evidence: Evidence, device: Ed25519PrivateKey) -> bytes:
    """Return the file: indented JSON-LD; the same evidence gives the same bytes."""
    return _formatted(encode_linked(_signed(evidence, device)))


def verify_consent_receipt(
    data: bytes, device: Ed25519PublicKey, log_key: str = ""
) -> ConsentReceipt:
    """Return the receipt in *data*; *log_key*, if given, is the log's verifier key.

    1. every mandatory field is there, in the one form in which receipts are written; 2. the
    record, 3. each event and 4. the whole are signed by this device; 5. the words are those
    that the record names; 6. the leaf, if there is one, is this record's, and in the tree
    of its checkpoint (signed by *log_key*, if that is given).

    Raises:
        MalformedError: A field is missing (it is named), or the form is another.
        ForgedError: A signature, a hash or the log's proof does not hold.

    """
    body = decode_linked(compact(data), _Body, "the consent receipt")  # 1
    if _formatted(encode_linked(body)) != data:
        raise MalformedError("the consent receipt is not in the one form in which it is written")
    record_bytes = encode_linked(body.record)
    decode_record(record_bytes)
    signed = SignedConsent(record=record_bytes, signature=_base64(body.record_signature))
    record = verify_consent(signed, device)  # 2
    events = tuple(_event(event, device) for event in body.events)  # 3
    _check_signature(body, device)  # 4
    _check_said(body, record, grant_hash(signed), events)  # 5
    logged = _logged(body, grant_hash(signed), log_key)  # 6
    return ConsentReceipt(
        record=record,
        grant=grant_hash(signed),
        evidence=Evidence(
            signed=signed, words=body.words, notice=body.notice, events=events, logged=logged
        ),
    )


# --- writing ----------------------------------------------------------------------------


def _signed(evidence: Evidence, device: Ed25519PrivateKey) -> _Body:
    record = decode_record(evidence.signed.record)
    last = evidence.events[-1].at if evidence.events else record.given_at
    body = _Body(
        id=_RECEIPT + record.record_id,
        kind="dpv:ConsentReceipt",
        identifier=record.record_id,
        schema=SCHEMA,
        created=instant(last),
        record=body_of(record),
        record_signature=_text(evidence.signed.signature),
        words=evidence.words,
        notice=evidence.notice,
        events=tuple(_written(sign_event(e, device), e) for e in evidence.events),
        leaf=() if evidence.logged is None else (_leaf(evidence.logged),),
        withdraw=how_to_withdraw(record),
        complain=where_to_complain(record),
        signature="",
    )
    signature = device.sign(RECEIPT_LABEL + encode_linked(body))
    return msgspec.structs.replace(body, signature=_text(signature))


def how_to_withdraw(record: ConsentRecord) -> str:
    """Return what the data subject does to take the consent back."""
    return (
        "In the menu of the icon on your panel: Withdraw. Or in a terminal: assent-agent withdraw "
        f"{record.category}. No reason is asked, and it costs nothing. You can ask for the erasure "
        "of what was sent in the same step."
    )


def where_to_complain(record: ConsentRecord) -> str:
    """Return to whom the data subject can turn."""
    where = " or ".join(record.jurisdictions) or "the place where you live or work"
    return (
        f"{record.representatives.name}: {record.representatives.contact}. "
        f"{record.controller.name}, who answers for it: {record.controller.contact}. "
        f"The data protection authority of {where}, at any time (GDPR, article 77)."
    )


def _written(signed: SignedEvent, event: ConsentEvent) -> _Event:
    body = event_body(event)
    return _Event(
        state=body.state, consent=body.consent, at=body.at, signature=_text(signed.signature)
    )


def _leaf(logged: Logged) -> _Leaf:
    return _Leaf(
        index=logged.index,
        salt=_text(logged.salt),
        proof=tuple(map(_text, logged.proof)),
        checkpoint=logged.checkpoint,
    )


def _formatted(data: bytes) -> bytes:
    return msgspec.json.format(data, indent=2) + b"\n"


# --- verifying --------------------------------------------------------------------------


def _event(event: _Event, device: Ed25519PublicKey) -> ConsentEvent:
    plain = EventBody(state=event.state, consent=event.consent, at=event.at)
    signed = SignedEvent(event=encode_linked(plain), signature=_base64(event.signature))
    return verify_event(signed, device)


def _check_signature(body: _Body, device: Ed25519PublicKey) -> None:
    message = RECEIPT_LABEL + encode_linked(msgspec.structs.replace(body, signature=""))
    try:
        device.verify(_base64(body.signature), message)
    except InvalidSignature:
        raise ForgedError("the consent receipt is not signed by this device") from None


def _check_said(
    body: _Body, record: ConsentRecord, grant: GrantHash, events: tuple[ConsentEvent, ...]
) -> None:
    if hashlib.sha256(body.words.encode()).digest() != record.words_sha256:
        raise ForgedError("the words in the receipt are not those that the record names")
    if any(event.grant != grant for event in events):
        raise ForgedError("the receipt tells what became of another consent")
    if any(event.state.permits for event in events):
        raise ForgedError("the receipt tells of a yes that is no record")
    last = events[-1].at if events else record.given_at
    if (body.withdraw, body.complain) != (how_to_withdraw(record), where_to_complain(record)):
        raise ForgedError("the receipt sends you elsewhere than the record does")
    expected = (_RECEIPT + record.record_id, record.record_id, instant(last))
    if (body.id, body.identifier, body.created) != expected:
        raise ForgedError("the receipt is of another record, or of another time")


def _logged(body: _Body, grant: GrantHash, log_key: str) -> Logged | None:
    if not body.leaf:
        return None
    if len(body.leaf) > 1:
        raise MalformedError("the consent receipt has several leaves of one record")
    [leaf] = body.leaf
    logged = Logged(
        salt=_base64(leaf.salt),
        index=leaf.index,
        proof=tuple(map(_base64, leaf.proof)),
        checkpoint=leaf.checkpoint,
    )
    checkpoint = (
        verify_checkpoint(logged.checkpoint, log_key)
        if log_key
        else unsigned_checkpoint(logged.checkpoint)
    )
    verify_inclusion(
        leaf=leaf_hash(entry(Kind.GRANT, grant_payload(grant), logged.salt)),
        index=logged.index,
        size=checkpoint.size,
        proof=logged.proof,
        root=checkpoint.root,
    )
    return logged


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if _text(data) != text:  # the last digit has bits that say nothing: one way to write them
        raise MalformedError(f"{text[:20]!r} is not in base64")
    return data
