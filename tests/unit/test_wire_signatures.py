"""Two libraries, one answer: what OpenSSL says of a signature, libsodium only says sooner."""

import hashlib
import secrets
from typing import Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from wire.signatures import QuickKey, Signer

ORDER: Final = 2**252 + 27742317777372353535851937790883648493  # of the base point (RFC 8032)
IDENTITY: Final = b"\x01" + bytes(31)


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def openssl(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def scalar(key: Ed25519PrivateKey) -> int:
    """Return the number behind the key (RFC 8032, 5.1.5)."""
    raw = bytearray(hashlib.sha512(key.private_bytes_raw()).digest()[:32])
    raw[0] &= 0b11111000
    raw[31] = raw[31] & 0b00111111 | 0b01000000
    return int.from_bytes(raw, "little")


def with_the_identity(key: Ed25519PrivateKey, message: bytes) -> bytes:
    """Sign with R of order one, which only who has the key can, and no honest device does."""
    public = key.public_key().public_bytes_raw()
    digest = hashlib.sha512(IDENTITY + public + message).digest()
    s = int.from_bytes(digest, "little") * scalar(key) % ORDER
    return IDENTITY + s.to_bytes(32, "little")


def test_what_a_device_signed_is_signed_and_nothing_else(key: Ed25519PrivateKey) -> None:
    message, signer = secrets.token_bytes(168), Signer(key.public_key())
    signature = key.sign(message)
    assert signer.signed(message, signature)
    assert not signer.signed(message + b"x", signature)
    assert not signer.signed(message, Ed25519PrivateKey.generate().sign(message))
    for bit in range(0, 512, 7):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not signer.signed(message, bytes(changed)), bit


@pytest.mark.parametrize("length", [0, 1, 63, 65])
def test_a_signature_of_another_length_is_none(key: Ed25519PrivateKey, length: int) -> None:
    signer = Signer(key.public_key())
    assert not signer.signed(b"message", bytes(length))
    assert not signer.signed(b"sage", key.sign(b"message") + b"mes")


def test_where_the_libraries_differ_the_collector_s_one_decides(key: Ed25519PrivateKey) -> None:
    """Otherwise a device could have an honest collector convicted."""
    message = b"what the collector took"
    signature = with_the_identity(key, message)
    with pytest.raises(BadSignatureError):
        crypto_sign_open(signature + message, key.public_key().public_bytes_raw())
    assert openssl(key.public_key(), message, signature)
    assert Signer(key.public_key()).signed(message, signature)


@pytest.mark.parametrize("length", [0, 1, 150, 4_000])
def test_it_signs_what_openssl_would_sign(key: Ed25519PrivateKey, length: int) -> None:
    """Otherwise a receipt of today would not be that of tomorrow."""
    message, quick = secrets.token_bytes(length), QuickKey(key)
    assert quick.sign(message) == key.sign(message)
    assert quick.public_key() == key.public_key()
