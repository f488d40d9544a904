"""What became of a consent after the yes: withdrawn, expired; one signed event each.

An event names the consent record by its hash, so it can travel alone (the collector keeps
it beside the record) and stands whole in the receipt.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from wire.errors import ForgedError
from wire.ids import GrantHash, WallInstant
from wire.linked import (
    ConsentState,
    Part,
    decode_linked,
    encode_linked,
    instant,
    parse_hex,
    parse_instant,
)

EVENT_LABEL: Final = b"assent/consent-event/v1\0"
_CONSENT: Final = "urn:assent:consent:"


class ConsentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the consent with this hash, and when."""

    grant: bytes  # GrantHash
    state: ConsentState
    at: WallInstant


class EventBody(
    Part,
    frozen=True,
    rename={"state": "@type", "consent": "dct:isPartOf", "at": "dpv:isIndicatedAtTime"},
):
    """An event as it is written and signed, without its context."""

    state: ConsentState
    consent: str
    at: str


class SignedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the bytes that were signed, and the device's signature."""

    event: bytes
    signature: bytes


def sign_event(event: ConsentEvent, device: Ed25519PrivateKey) -> SignedEvent:
    """Return *event* signed by the device key; the same event gives the same bytes."""
    data = encode_linked(event_body(event))
    return SignedEvent(event=data, signature=device.sign(EVENT_LABEL + data))


def verify_event(signed: SignedEvent, device: Ed25519PublicKey) -> ConsentEvent:
    """Return the event.

    Raises:
        ForgedError: The signature is not the device's.
        MalformedError: The signed bytes are no event.

    """
    try:
        device.verify(signed.signature, EVENT_LABEL + signed.event)
    except InvalidSignature:
        raise ForgedError("what became of the consent is not signed by this device") from None
    return event_in(decode_linked(signed.event, EventBody, "the consent's event"))


def event_body(event: ConsentEvent) -> EventBody:
    """Return *event* as it is written."""
    return EventBody(state=event.state, consent=_CONSENT + event.grant.hex(), at=instant(event.at))


def event_in(body: EventBody) -> ConsentEvent:
    """Return what *body* says.

    Raises:
        MalformedError: The consent or the time is not written as it must be.

    """
    grant = parse_hex(body.consent.removeprefix(_CONSENT), "the consent")
    return ConsentEvent(grant=GrantHash(grant), state=body.state, at=parse_instant(body.at))
