"""The frame: what leaves a workstation, and all that a collector can check of it.

    magic | u32be core | u16be shelf | u64be body | trailer          (docs/spec/frame-v1.md)

The core says where the frame belongs and which consent allowed it, in the clear.  Shelf
and body are sealed (`sealing`), the trailer signs everything.  `verify` needs the device's
public key and nothing that could open the frame.
"""

import hashlib
import secrets
import struct
from datetime import date
from functools import lru_cache
from typing import Any, Final, Protocol

import cbor2
import msgspec
from cryptography.exceptions import InvalidSignature

from wire.category import Category
from wire.errors import ForgedError, MalformedError, UnknownVersionError
from wire.ids import BatchHash, CoreHash, DeviceId, GrantHash, KeyId, PolicyDigest, SubjectId

MAGIC: Final = b"\x89ASB1\r\n\x1a"
LABEL: Final = b"assent/frame/v1\0"
SUITE: Final = 1  # age v1 with mlkem768x25519, HPKE shelf of the same KEM, Ed25519 trailer
ALGORITHM: Final = b"\x01"  # Ed25519
SCHEMA: Final = "assent/batch-v1+zstd"
NONCE_BYTES: Final = 16
KEY_ID_BYTES: Final = 16

LARGEST_CORE_BYTES: Final = 4 << 10
LARGEST_SHELF_BYTES: Final = 48 << 10
LARGEST_BYTES: Final = 8 << 20  # of a whole frame: what a collector takes at most

_CORE_LENGTH: Final = struct.Struct(">I")
_SHELF_LENGTH: Final = struct.Struct(">H")
_BODY_LENGTH: Final = struct.Struct(">Q")
_SEQUENCE: Final = struct.Struct(">Q")
_SIGNATURE_BYTES: Final = 64
TRAILER_BYTES: Final = _SEQUENCE.size + len(ALGORITHM) + _SIGNATURE_BYTES


class Core(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a frame says of itself in the clear.  `day` and `expires` are ISO dates, UTC."""

    suite: int = SUITE
    origin: str
    tenant: str
    programme: str
    device: DeviceId
    subject: SubjectId
    policy: PolicyDigest
    grant: GrantHash
    category: Category
    day: str
    recipients: tuple[KeyId, ...]
    guard_key: KeyId
    purpose: str
    schema: str = SCHEMA
    expires: str
    # Random, so that no two batches share a core: what is bound to the core (shelf, age
    # header, release leaf) is bound to one batch.
    nonce: bytes = msgspec.field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES))


class Verifies(Protocol):
    """A device's public key."""

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raise InvalidSignature unless *signature* is of *data* by this key."""
        ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a frame, cut but not verified."""

    core: bytes
    shelf: bytes
    body: bytes
    sequence: int
    signature: bytes


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A frame whose signature holds, whole and canonical."""

    core: Core
    core_hash: CoreHash
    parts: Parts
    sequence: int
    batch_hash: BatchHash
    sealed_sha256: bytes  # of the shelf, then of the body: with the core, what was signed


# --- the core ---------------------------------------------------------------------------

_FIELDS: Final = msgspec.structs.fields(Core)
_NUMBER: Final = {field.name: number for number, field in enumerate(_FIELDS, 1)}
_NAME: Final = {number: name for name, number in _NUMBER.items()}
_FIXED_BYTES: Final = {
    "device": 32,
    "subject": 16,
    "policy": 32,
    "grant": 32,
    "guard_key": KEY_ID_BYTES,
    "nonce": NONCE_BYTES,
}


def encode_core(core: Core) -> bytes:
    """Return deterministic CBOR (RFC 8949 section 4.2.1) with the field's number as key."""
    plain = msgspec.to_builtins(core, builtin_types=(bytes,))
    return cbor2.dumps({_NUMBER[name]: value for name, value in plain.items()}, canonical=True)


def decode_core(data: bytes) -> Core:
    """Return the core in *data*.

    Raises:
        MalformedError: Not a core, or not in the one deterministic encoding.
        UnknownVersionError: A later version wrote it.

    """
    if len(data) > LARGEST_CORE_BYTES:
        raise MalformedError(f"the core is longer than {LARGEST_CORE_BYTES} bytes")
    try:
        core = _decoded(data[:-NONCE_BYTES])
    except MalformedError:
        _numbered(data)  # one of a later version need not end with a nonce
        raise
    return msgspec.structs.replace(core, nonce=data[-NONCE_BYTES:])


@lru_cache(maxsize=1024)  # batches of a day differ in nothing else
def _decoded(but_nonce: bytes) -> Core:
    """Return the core that these bytes and a nonce are, with a nonce of zeros.

    The nonce is what the encoding ends with; of any bytes of its length, it is the same one.
    """
    data = but_nonce + bytes(NONCE_BYTES)
    numbered = _numbered(data)
    try:
        core = msgspec.convert({_NAME[key]: value for key, value in numbered.items()}, Core)
    except LookupError as exc:
        raise MalformedError("the core has fields that this version does not know") from exc
    except (TypeError, ValueError) as exc:  # msgspec's ValidationError is a ValueError
        raise MalformedError(f"the core has a wrong field: {exc}") from exc
    if encode_core(core) != data:
        raise MalformedError("the core is not in its deterministic encoding")
    _check_fields(core)
    return core


def _numbered(data: bytes) -> dict[Any, Any]:
    """Return the fields of a core by their numbers.

    Raises:
        MalformedError: It is no map in CBOR.
        UnknownVersionError: A later version wrote it.

    """
    try:
        numbered = cbor2.loads(data)
    # cbor2 raises what its decoders of odd tags raise; all of it means the same to us.
    except (cbor2.CBORError, ArithmeticError, LookupError, RecursionError) as exc:
        raise MalformedError("the core is not CBOR with the fields of this version") from exc
    except (TypeError, ValueError) as exc:
        raise MalformedError("the core is not CBOR with the fields of this version") from exc
    if not isinstance(numbered, dict):
        raise MalformedError("the core is no map")
    _check_version(numbered)
    return numbered


def _check_version(numbered: dict[object, object]) -> None:
    """Refuse by name what a later version wrote, whatever else has changed in it."""
    suite, schema = numbered.get(_NUMBER["suite"]), numbered.get(_NUMBER["schema"])
    if isinstance(suite, int) and suite != SUITE:
        raise UnknownVersionError(f"suite {suite} is not known to this version")
    if isinstance(schema, str) and schema != SCHEMA:
        raise UnknownVersionError(f"the schema {schema[:64]!r} is not known to this version")


def _check_fields(core: Core) -> None:
    for name, length in _FIXED_BYTES.items():
        if len(getattr(core, name)) != length:
            raise MalformedError(f"the core's {name} has a wrong length")
    named = set(core.recipients)
    if not named or len(named) < len(core.recipients) or {*map(len, named)} != {KEY_ID_BYTES}:
        raise MalformedError("the core's recipients are none, not key ids, or named twice")
    if not (is_day(core.day) and is_day(core.expires)):
        raise MalformedError("the core has a day that is no ISO date")


def is_day(text: str) -> bool:
    """Whether *text* is a day of the calendar, in the one form that also sorts as text."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def core_hash(core: bytes) -> CoreHash:
    """Return the hash that binds shelf, body and trailer to these core bytes."""
    return CoreHash(hashlib.sha256(core).digest())


# --- the frame --------------------------------------------------------------------------


def join_unsigned(core: bytes, shelf: bytes, body: bytes) -> bytes:
    """Return the frame up to its trailer."""
    return b"".join(
        (
            MAGIC,
            _CORE_LENGTH.pack(len(core)),
            core,
            _SHELF_LENGTH.pack(len(shelf)),
            shelf,
            _BODY_LENGTH.pack(len(body)),
            body,
        )
    )


def trailer(sequence: int, signature: bytes) -> bytes:
    """Return the last 73 bytes of a frame."""
    return _SEQUENCE.pack(sequence) + ALGORITHM + signature


def signed_message(core: bytes, shelf: bytes, body: bytes, sequence: int) -> bytes:
    """Return the bytes that a device signs: everything, by its hashes, under our label."""
    return b"".join(
        (
            LABEL,
            ALGORITHM,
            _SEQUENCE.pack(sequence),
            hashlib.sha256(core).digest(),
            hashlib.sha256(shelf).digest(),
            hashlib.sha256(body).digest(),
        )
    )


def split_unsigned(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return core, shelf and body of a frame without its trailer.

    Raises:
        MalformedError: Not exactly such a frame.

    """
    core, shelf, body, end = _cut(memoryview(data))
    if end != len(data):
        raise MalformedError("bytes follow the body where none may")
    return core, shelf, body


def split(frame: bytes) -> Parts:
    """Return the parts of *frame*; nothing is verified but the lengths.

    Raises:
        MalformedError: Not a frame of this version, cut short, or with bytes behind it.

    """
    if len(frame) > LARGEST_BYTES:
        raise MalformedError(f"a frame has at most {LARGEST_BYTES} bytes, not {len(frame)}")
    core, shelf, body, end = _cut(memoryview(frame))
    if len(frame) != end + TRAILER_BYTES:
        raise MalformedError("the frame does not end with its trailer")
    if frame[end + _SEQUENCE.size : end + _SEQUENCE.size + 1] != ALGORITHM:
        raise MalformedError("the trailer names an unknown signature algorithm")
    (sequence,) = _SEQUENCE.unpack_from(frame, end)
    return Parts(
        core=core,
        shelf=shelf,
        body=body,
        sequence=sequence,
        signature=frame[-_SIGNATURE_BYTES:],
    )


def _cut(view: memoryview) -> tuple[bytes, bytes, bytes, int]:
    magic = bytes(view[: len(MAGIC)])
    if magic != MAGIC and magic[:4] + magic[5:] == MAGIC[:4] + MAGIC[5:]:
        raise UnknownVersionError("a frame of this version of the format is not known here")
    if magic != MAGIC:
        raise MalformedError("this is no Assent frame: its first bytes are others")
    at = len(MAGIC)
    parts = []
    for length, largest in (
        (_CORE_LENGTH, LARGEST_CORE_BYTES),
        (_SHELF_LENGTH, LARGEST_SHELF_BYTES),
        (_BODY_LENGTH, LARGEST_BYTES),
    ):
        if len(view) < at + length.size:
            raise MalformedError("the frame is cut short")
        (size,) = length.unpack_from(view, at)
        at += length.size
        if size > largest or len(view) < at + size:
            raise MalformedError("the frame is cut short, or a length in it is wrong")
        parts.append(bytes(view[at : at + size]))
        at += size
    return parts[0], parts[1], parts[2], at


def batch_hash(frame: bytes) -> BatchHash:
    """Return the hash that names this frame: SHA-256 of all its bytes."""
    return BatchHash(hashlib.sha256(frame).digest())


def verify(frame: bytes, device: Verifies, named: BatchHash | None = None) -> Verified:
    """Return what *frame* says, having checked all that can be checked without opening it.

    *named* is its hash, where the caller has computed that already.

    Raises:
        MalformedError: Not a frame, or not in its one encoding.
        ForgedError: Not signed by this device, or changed since.

    """
    parts = split(frame)
    core = decode_core(parts.core)
    message = signed_message(parts.core, parts.shelf, parts.body, parts.sequence)
    try:
        device.verify(parts.signature, message)
    except InvalidSignature:
        raise ForgedError("the frame is not signed by this device, or was changed") from None
    return Verified(
        core=core,
        core_hash=core_hash(parts.core),
        parts=parts,
        sequence=parts.sequence,
        batch_hash=batch_hash(frame) if named is None else named,
        sealed_sha256=message[-2 * hashlib.sha256().digest_size :],
    )
