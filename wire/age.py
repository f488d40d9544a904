"""The syntax of age v1 files and keys; no cryptography (that is `sealing` and `opening`).

Source: the C2SP specification "age" (https://c2sp.org/age).  Strict on reading: one
encoding for each value, no optional white space, so that two different byte strings never
mean the same header.
"""

import base64
import binascii
import re
from typing import Final

import msgspec

from wire.errors import MalformedError

INTRO: Final = b"age-encryption.org/v1\n"
LINE_BYTES: Final = 64  # body lines are this long, the last one shorter
MAC_BYTES: Final = 32
CHUNK_BYTES: Final = 64 << 10  # payload chunk before its 16-byte tag
LARGEST_HEADER_BYTES: Final = 32 << 10

RECIPIENT_PREFIX: Final = "age1pq"
IDENTITY_PREFIX: Final = "age-secret-key-pq-"
SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 1216  # ML-KEM-768 encapsulation key, then X25519 public key

_ARGUMENT: Final = re.compile(rb"[\x21-\x7e]+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*")


class Stanza(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient stanza: its words (the first is the type) and its body."""

    words: tuple[str, ...]
    body: bytes


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed header: `covered` are the bytes that its MAC covers."""

    stanzas: tuple[Stanza, ...]
    covered: bytes
    mac: bytes


def encode_stanzas(stanzas: tuple[Stanza, ...]) -> bytes:
    """Return a header up to and including the three dashes: what the MAC covers."""
    lines = [INTRO]
    for stanza in stanzas:
        lines.append(("-> " + " ".join(stanza.words) + "\n").encode("ascii"))
        body = encode_base64(stanza.body)
        # A body that fills its last line is followed by an empty one, so that a reader
        # knows the end without looking ahead.
        cut = [body[i : i + LINE_BYTES] for i in range(0, len(body), LINE_BYTES)]
        if not cut or len(cut[-1]) == LINE_BYTES:
            cut.append(b"")
        lines.extend(line + b"\n" for line in cut)
    return b"".join(lines) + b"---"


def encode_header(covered: bytes, mac: bytes) -> bytes:
    """Return the whole header from what the MAC covers and the MAC."""
    return covered + b" " + encode_base64(mac) + b"\n"


def decode_header(data: bytes) -> Header:
    """Return the header that *data* consists of, to the last byte.

    Raises:
        MalformedError: Not the one encoding of an age v1 header.

    """
    if len(data) > LARGEST_HEADER_BYTES:
        raise MalformedError(f"the age header is longer than {LARGEST_HEADER_BYTES} bytes")
    if not data.startswith(INTRO):
        raise MalformedError("the age header does not begin as age v1")
    if not data.endswith(b"\n"):
        raise MalformedError("the age header does not end with a line feed")
    lines = data[len(INTRO) : -1].split(b"\n")
    stanzas: list[Stanza] = []
    at = 0
    while at < len(lines) and lines[at].startswith(b"-> "):
        stanza, at = _stanza(lines, at)
        stanzas.append(stanza)
    if not stanzas:
        raise MalformedError("the age header has no stanza")
    if at != len(lines) - 1 or not lines[at].startswith(b"--- "):
        raise MalformedError("the age header does not end with its MAC")
    mac = decode_base64(lines[at][4:])
    if len(mac) != MAC_BYTES:
        raise MalformedError("the MAC of the age header has a wrong length")
    covered = data[: len(data) - len(lines[at]) - 1] + b"---"
    return Header(stanzas=tuple(stanzas), covered=covered, mac=mac)


def _stanza(lines: list[bytes], at: int) -> tuple[Stanza, int]:
    words = lines[at][3:].split(b" ")
    if not all(_ARGUMENT.fullmatch(word) for word in words):
        raise MalformedError("a stanza has an empty or unprintable word")
    body = []
    for index in range(at + 1, len(lines)):
        line = lines[index]
        if len(line) > LINE_BYTES:
            raise MalformedError("a stanza's body has a line that is too long")
        body.append(line)
        if len(line) < LINE_BYTES:
            texts = tuple(word.decode("ascii") for word in words)
            return Stanza(words=texts, body=decode_base64(b"".join(body))), index + 1
    raise MalformedError("a stanza's body does not end")


def encode_base64(data: bytes) -> bytes:
    """Return standard base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def decode_base64(text: bytes) -> bytes:
    """Return the bytes of canonical unpadded base64.

    Raises:
        MalformedError: Padding, foreign characters, or stray bits at the end.

    """
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as exc:
        raise MalformedError(f"not base64: {exc}") from exc
    if not _BASE64.fullmatch(text) or encode_base64(data) != text:
        raise MalformedError("base64 in another than its canonical form")
    return data


def encode_recipient(public_key: bytes) -> str:
    """Return the `age1pq1...` text of a 1216-byte public key."""
    return _bech32(RECIPIENT_PREFIX, public_key)


def decode_recipient(text: str) -> bytes:
    """Return the public key of an `age1pq1...` recipient.

    Raises:
        MalformedError: Not such a recipient.

    """
    return _unbech32(text, RECIPIENT_PREFIX, PUBLIC_KEY_BYTES)


def encode_identity(seed: bytes) -> str:
    """Return the `AGE-SECRET-KEY-PQ-1...` text of a 32-byte seed."""
    return _bech32(IDENTITY_PREFIX, seed).upper()


def decode_identity(text: str) -> bytes:
    """Return the seed of an `AGE-SECRET-KEY-PQ-1...` identity.

    Raises:
        MalformedError: Not such an identity.

    """
    return _unbech32(text.strip(), IDENTITY_PREFIX, SEED_BYTES)


# --- Bech32 (BIP 173), without its length limit, as age uses it -------------------------

_ALPHABET: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LETTERS: Final = 6


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                check ^= term
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _bech32(prefix: str, data: bytes) -> str:
    values = _regroup(data, 8, 5)
    check = _polymod(_expand(prefix) + values + [0] * _CHECKSUM_LETTERS) ^ 1
    values += [check >> 5 * (5 - i) & 31 for i in range(_CHECKSUM_LETTERS)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)


def _unbech32(text: str, prefix: str, length_bytes: int) -> bytes:
    # Not ASCII first: the Kelvin sign is an upper case letter whose lower case is k.
    if not text.isascii() or (text != text.lower() and text != text.upper()):
        raise MalformedError("a key is written in mixed case, or with foreign letters")
    found, _, letters = text.lower().rpartition("1")
    if found != prefix:
        raise MalformedError(f"this is no {prefix}1... key")
    try:
        values = [_VALUES[letter] for letter in letters]
    except KeyError as exc:
        raise MalformedError(f"a key has the foreign character {exc}") from exc
    if len(values) < _CHECKSUM_LETTERS or _polymod(_expand(prefix) + values) != 1:
        raise MalformedError("a key's checksum does not match; was it copied whole?")
    data = bytes(_regroup(bytes(values[:-_CHECKSUM_LETTERS]), 5, 8, pad=False))
    if len(data) != length_bytes or _regroup(data, 8, 5) != values[:-_CHECKSUM_LETTERS]:
        raise MalformedError(f"a {prefix}1... key has a wrong length")
    return data


def _regroup(data: bytes, width: int, to: int, *, pad: bool = True) -> list[int]:
    pending = bits = 0
    out = []
    for value in data:
        pending = (pending << width | value) & 0xFFFF
        bits += width
        while bits >= to:
            bits -= to
            out.append(pending >> bits & (1 << to) - 1)
    if pad and bits:
        out.append(pending << to - bits & (1 << to) - 1)
    return out
