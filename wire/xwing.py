"""The one kind of encryption key: MLKEM768-X25519 (X-Wing), and HPKE with it.

Sources: RFC 9180 (HPKE), draft-connolly-cfrg-xwing-kem (seed expansion), and the C2SP age
specification, which names the combination.  `cryptography` has the suite but no loader
for a 32-byte X-Wing seed, so the expansion stands here.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from wire.age import PUBLIC_KEY_BYTES, SEED_BYTES
from wire.errors import MalformedError, NotForUsError

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_MLKEM_SEED_BYTES: Final = 64
_MLKEM_PUBLIC_BYTES: Final = 1184
ENCAPSULATION_BYTES: Final = 1120


def public_key_of(seed: bytes) -> bytes:
    """Return the 1216-byte public key of a 32-byte seed."""
    mlkem, x25519 = _halves(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def hpke_seal(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Return encapsulation (1120 bytes) and ciphertext of *plaintext*, single-shot HPKE.

    Raises:
        MalformedError: *public_key* is none.

    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise MalformedError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")
    try:
        key = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:]),
        )
        return _SUITE.encrypt(plaintext, key, info=info)
    except ValueError as exc:
        raise MalformedError(f"not a public key: {exc}") from exc


def hpke_open(seed: bytes, sealed: bytes, info: bytes) -> bytes:
    """Return the plaintext that `hpke_seal` sealed to this seed's key under the same *info*.

    Raises:
        NotForUsError: Sealed to another key, under another info, or changed.

    """
    mlkem, x25519 = _halves(seed)
    try:
        return _SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(mlkem, x25519), info=info)
    except (InvalidTag, ValueError) as exc:
        raise NotForUsError("not sealed to this key, or changed on the way") from exc


def _halves(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(seed) != SEED_BYTES:
        raise MalformedError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + 32)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:]),
    )
