"""Ed25519 public keys that come from outside.

Any 32 bytes load as a key, and for a few of them a signature can be made without a private
key: the points of small order (RFC 8032 section 5.1 leaves them in; OpenSSL verifies them).
A key like that under somebody's name would let anybody sign in it.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.errors import MalformedError

KEY_BYTES: Final = 32
_SIGN_BIT: Final = 0x80
# The y of all points of small order, in every encoding of it; the sign of x says nothing here.
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def public_key(raw: bytes) -> Ed25519PublicKey:
    """Return the key of these 32 bytes.

    Raises:
        MalformedError: Not 32 bytes, or a key in whose name anybody can sign.

    """
    if len(raw) != KEY_BYTES:
        raise MalformedError(f"an Ed25519 key has {KEY_BYTES} bytes, not {len(raw)}")
    if raw[:-1] + bytes([raw[-1] & ~_SIGN_BIT]) in _SMALL_ORDER:
        raise MalformedError("this Ed25519 key has no private half: anybody could sign in its name")
    return Ed25519PublicKey.from_public_bytes(raw)
