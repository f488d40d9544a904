"""What consent records and receipts share as JSON-LD: one context, instants, one encoding.

Names are those of the W3C Data Privacy Vocabulary (DPV), Dublin Core and schema.org; what
they have no name for is `assent:`.  The context travels in each document, so that a
JSON-LD processor needs no network.  There is one way to write each document: a decoder
writes it again and compares, so a field that is unknown, doubled or moved is refused.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from wire.errors import UNREADABLE, MalformedError
from wire.ids import LAST_INSTANT, LEAST_INSTANT, WallInstant

T = TypeVar("T")

_IRI: Final = {"@type": "@id"}
_IRIS: Final = {"@type": "@id", "@container": "@set"}
_SET: Final = {"@container": "@set"}
_TIME: Final = {"@type": "xsd:dateTime"}

CONTEXT: Final[dict[str, object]] = {
    "@version": 1.1,
    "assent": "urn:assent:term:",
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "loc": "https://w3id.org/dpv/loc#",
    "schema": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dct:conformsTo": _IRI,
    "dct:created": _TIME,
    "dct:isPartOf": _IRI,
    "skos:broader": _IRI,
    "dpv:hasApplicableLaw": _IRI,
    "dpv:hasConsentStatus": _SET,
    "dpv:hasDataSource": _IRI,
    "dpv:hasJurisdiction": _IRIS,
    "dpv:hasLegalBasis": _IRI,
    "dpv:hasProcessing": _IRIS,
    "dpv:hasProhibition": _SET,
    "dpv:hasRecipient": _SET,
    "dpv:hasRight": _SET,
    "dpv:hasStorageCondition": _SET,
    "dpv:isIndicatedAtTime": _TIME,
    "dpv:isIndicatedBy": _IRI,
    "assent:leaf": _SET,
    "assent:proof": {"@container": "@list"},
}
"""All terms that are not plain text; `@set` keeps a list of one a list."""

_HEAD: Final = b'{"@context":' + msgspec.json.encode(CONTEXT) + b","
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z")
_NANOSECONDS: Final = 1_000_000_000


class ConsentState(StrEnum):
    """What became of a consent, in the words of DPV (dpv:ConsentStatus)."""

    GIVEN = "dpv:ConsentGiven"
    RENEWED = "dpv:RenewedConsentGiven"
    REFUSED = "dpv:ConsentRefused"
    WITHDRAWN = "dpv:ConsentWithdrawn"  # by the data subject
    EXPIRED = "dpv:ConsentExpired"  # the policy asks for something else now, or time is up

    @property
    def permits(self) -> bool:
        """Whether somebody may be recorded under a consent in this state."""
        return self in (ConsentState.GIVEN, ConsentState.RENEWED)


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common shape of the parts of a document: frozen; an unknown field is an error."""


def encode_linked(body: Part) -> bytes:
    """Return the one encoding of *body*: the context first, then its fields in order."""
    return _HEAD + msgspec.json.encode(body)[1:]


def decode_linked(data: bytes, expect: type[T], what: str) -> T:
    """Return the *expect* in *data*; *what* is what to call it in an error.

    Raises:
        MalformedError: A field is missing (it is named), unknown, or written in another way.

    """
    if not data.startswith(_HEAD):
        raise MalformedError(f"{what} does not begin with the context that this version knows")
    try:
        body = msgspec.json.decode(b"{" + data[len(_HEAD) :], type=expect)
    except UNREADABLE as exc:
        raise MalformedError(f"{what} cannot be read: {exc}") from exc
    if _HEAD + msgspec.json.encode(body)[1:] != data:
        raise MalformedError(f"{what} is not in the one form in which it is written")
    return body


def compact(data: bytes) -> bytes:
    """Return JSON without its white space.

    Raises:
        MalformedError: It is no JSON.

    """
    try:
        return msgspec.json.format(data, indent=-1)
    except UNREADABLE as exc:
        raise MalformedError(f"this is no JSON: {exc}") from exc


def instant(at: WallInstant) -> str:
    """Return *at* as an xsd:dateTime with nine decimals, UTC.

    Raises:
        MalformedError: It lies in no year that can be written.

    """
    seconds, rest = divmod(at, _NANOSECONDS)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as exc:
        raise MalformedError("a time lies in no year that can be written") from exc
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09d}Z"


def parse_instant(text: str) -> WallInstant:
    """Return the instant that `instant` wrote.

    Raises:
        MalformedError: It did not write that, or it lies in no year that can be kept.

    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise MalformedError(f"{text[:40]!r} is no time of this format")
    try:
        moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError as exc:
        raise MalformedError(f"{text[:40]!r} is no time: {exc}") from exc
    at = int(moment.timestamp()) * _NANOSECONDS + int(found[2])
    if not LEAST_INSTANT <= at <= LAST_INSTANT:
        raise MalformedError("a time lies in no year that can be kept: 1678 to 2261 can")
    return WallInstant(at)


def parse_hex(text: str, what: str) -> bytes:
    """Return the bytes of lower-case hexadecimal digits.

    Raises:
        MalformedError: It is something else.

    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if value.hex() != text:
        raise MalformedError(f"{what} is not in lower-case hexadecimal digits")
    return value
