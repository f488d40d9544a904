"""Frame to plaintext: what a reader does after a release, and the data subject on the device.

Every check of the format happens here before a byte of plaintext is believed: the header's
MAC, its binding to the core, each chunk's tag and the mark of the last chunk.
"""

import hmac

from cryptography.exceptions import InvalidTag

from wire.age import CHUNK_BYTES, Header, Stanza, decode_base64, decode_header, decode_identity
from wire.errors import ForgedError, MalformedError, NotForUsError
from wire.ids import CoreHash
from wire.released import open_released
from wire.sealing import (
    BIND_STANZA,
    FILE_KEY_BYTES,
    NONCE_BYTES,
    STANZA,
    STANZA_INFO,
    TAG_BYTES,
    chunk_nonce,
    header_mac,
    payload_cipher,
)
from wire.xwing import ENCAPSULATION_BYTES, hpke_open

__all__ = ["open_body", "open_released"]


def open_body(age_header: bytes, body: bytes, identity: str, digest: CoreHash) -> bytes:
    """Return the plaintext of *body*.

    Raises:
        MalformedError: Header or body are not age v1.
        NotForUsError: No stanza is for this identity.
        ForgedError: Header, binding or body were changed, cut, or belong to another core.

    """
    header = decode_header(age_header)
    file_key = _unwrap(header, decode_identity(identity))
    if not hmac.compare_digest(header_mac(file_key, header.covered), header.mac):
        raise ForgedError("the age header was changed")
    bound = [stanza for stanza in header.stanzas if stanza.words[0] == BIND_STANZA]
    if bound != [Stanza(words=(BIND_STANZA,), body=digest)]:
        raise ForgedError("the age header belongs to another core")
    return _decrypt(file_key, body)


def _unwrap(header: Header, seed: bytes) -> bytes:
    for stanza in header.stanzas:
        if stanza.words[0] != STANZA:
            continue
        if len(stanza.words) != 2 or len(stanza.body) != FILE_KEY_BYTES + TAG_BYTES:
            raise MalformedError(f"a {STANZA} stanza has a wrong shape")
        encapsulation = decode_base64(stanza.words[1].encode("ascii"))
        if len(encapsulation) != ENCAPSULATION_BYTES:
            raise MalformedError(f"a {STANZA} stanza has a wrong encapsulation")
        try:
            return hpke_open(seed, encapsulation + stanza.body, STANZA_INFO)
        except NotForUsError:
            continue
    raise NotForUsError("no stanza of this batch is for this identity")


def _decrypt(file_key: bytes, body: bytes) -> bytes:
    if len(body) < NONCE_BYTES + TAG_BYTES:
        raise MalformedError("the body is cut short")
    cipher = payload_cipher(file_key, bytes(body[:NONCE_BYTES]))
    sealed = memoryview(body)[NONCE_BYTES:]
    step = CHUNK_BYTES + TAG_BYTES
    chunks = -(-len(sealed) // step)
    if len(sealed) - (chunks - 1) * step < TAG_BYTES + (chunks > 1):
        raise MalformedError("the body ends with an empty or cut chunk")
    plaintext = bytearray(len(sealed) - TAG_BYTES * chunks)
    target = memoryview(plaintext)
    for number in range(chunks):
        chunk = sealed[number * step : (number + 1) * step]
        start = number * CHUNK_BYTES
        out = target[start : start + len(chunk) - TAG_BYTES]
        try:
            cipher.decrypt_into(chunk_nonce(number, last=number == chunks - 1), chunk, None, out)
        except InvalidTag:
            raise ForgedError("the body was changed or cut") from None
    return bytes(plaintext)
