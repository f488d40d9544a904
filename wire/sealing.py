"""Batch to frame: seal a plaintext so that two parties are needed to open it.

The order, as in docs/spec/frame-v1.md, section "Sealing":

1. draw a file key; wrap it to every recipient (one age stanza each);
2. add the stanza that binds this age header to the core, and the header's MAC;
3. encrypt the plaintext with the file key (age STREAM): the body;
4. seal the age header to the guard's key under the core's hash: the shelf.

Later, on leaving the hold, `sign` adds the trailer.  Whoever lacks the guard's key never
sees the age header, so the recipients' keys alone open nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.age import (
    CHUNK_BYTES,
    SEED_BYTES,
    Stanza,
    decode_identity,
    encode_base64,
    encode_header,
    encode_identity,
    encode_recipient,
    encode_stanzas,
)
from wire.errors import MalformedError
from wire.frame import (
    Core,
    core_hash,
    encode_core,
    join_unsigned,
    signed_message,
    split_unsigned,
    trailer,
)
from wire.ids import CoreHash, key_id
from wire.shelf import shelve
from wire.xwing import ENCAPSULATION_BYTES, hpke_seal, public_key_of

STANZA: Final = "mlkem768x25519"
STANZA_INFO: Final = b"age-encryption.org/mlkem768x25519"
BIND_STANZA: Final = "assent/bind-v1"
FILE_KEY_BYTES: Final = 16
NONCE_BYTES: Final = 16
TAG_BYTES: Final = 16


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that still lacks its trailer, and the age header that lies on its shelf.

    The age header stays on the device, beside the frame, for as long as the frame does.
    """

    unsigned: bytes
    age_header: bytes


def new_identity() -> str:
    """Return a new identity (AGE-SECRET-KEY-PQ-1...)."""
    return encode_identity(secrets.token_bytes(SEED_BYTES))


def recipient_of(identity: str) -> str:
    """Return the recipient (age1pq1...) of an identity."""
    return encode_recipient(public_key_of(decode_identity(identity)))


def seal(core: Core, plaintext: bytes, recipients: Sequence[bytes], guard_key: bytes) -> Sealed:
    """Seal *plaintext* to all *recipients* behind the guard's lock.

    *recipients* and *guard_key* are 1216-byte public keys, in the order of the core's ids.

    Raises:
        MalformedError: A key is none, or the core names other keys than these.

    """
    if tuple(key_id(key) for key in recipients) != core.recipients or not recipients:
        raise MalformedError("the core does not name the recipients it is sealed to")
    if key_id(guard_key) != core.guard_key:
        raise MalformedError("the core does not name the guard key it is sealed to")
    core_bytes = encode_core(core)
    digest = core_hash(core_bytes)
    file_key = secrets.token_bytes(FILE_KEY_BYTES)
    age_header = _wrap(file_key, recipients, digest)
    body = _encrypt(file_key, plaintext)
    shelf = shelve(age_header, guard_key, digest)
    return Sealed(unsigned=join_unsigned(core_bytes, shelf, body), age_header=age_header)


def sign(unsigned: bytes, sequence: int, device: Ed25519PrivateKey) -> bytes:
    """Return the whole frame: *unsigned* with its trailer.

    Raises:
        MalformedError: *unsigned* is not a frame without its trailer.

    """
    core, shelf, body = split_unsigned(unsigned)
    signature = device.sign(signed_message(core, shelf, body, sequence))
    return unsigned + trailer(sequence, signature)


def header_mac(file_key: bytes, covered: bytes) -> bytes:
    """Return the MAC of an age header (age specification, "Header MAC")."""
    return hmac.digest(_derive(file_key, b"", b"header"), covered, hashlib.sha256)


def payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    """Return the cipher of an age payload (age specification, "Payload")."""
    return ChaCha20Poly1305(_derive(file_key, nonce, b"payload"))


def chunk_nonce(number: int, *, last: bool) -> bytes:
    """Return the nonce of one payload chunk: its number, and whether it is the last.

    A counter is safe here: the key belongs to this payload alone, because it is derived
    from a fresh file key and a fresh 16-byte nonce.
    """
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _wrap(file_key: bytes, recipients: Sequence[bytes], digest: CoreHash) -> bytes:
    stanzas = []
    for recipient in recipients:
        wrapped = hpke_seal(recipient, file_key, STANZA_INFO)
        encapsulation = encode_base64(wrapped[:ENCAPSULATION_BYTES]).decode("ascii")
        body = wrapped[ENCAPSULATION_BYTES:]
        stanzas.append(Stanza(words=(STANZA, encapsulation), body=body))
    # Ignored by stock age tools but covered by the MAC: this header fits this core alone.
    stanzas.append(Stanza(words=(BIND_STANZA,), body=digest))
    covered = encode_stanzas(tuple(stanzas))
    return encode_header(covered, header_mac(file_key, covered))


def _encrypt(file_key: bytes, plaintext: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    cipher = payload_cipher(file_key, nonce)
    chunks = max(1, -(-len(plaintext) // CHUNK_BYTES))  # an empty payload has one empty chunk
    body = bytearray(NONCE_BYTES + len(plaintext) + TAG_BYTES * chunks)
    body[:NONCE_BYTES] = nonce
    source, target, at = memoryview(plaintext), memoryview(body), NONCE_BYTES
    for number in range(chunks):
        chunk = source[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
        end = at + len(chunk) + TAG_BYTES
        nonce_now = chunk_nonce(number, last=number == chunks - 1)
        cipher.encrypt_into(nonce_now, chunk, None, target[at:end])
        at = end
    return bytes(body)


def _derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), length=32, salt=salt or None, info=info).derive(secret)
