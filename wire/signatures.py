"""Ed25519 by the quicker library, where there are many signatures.

libsodium verifies a signature in half of OpenSSL's time, and refuses more: points of small
order, which OpenSSL takes (RFC 8032 leaves them in).  What it accepts OpenSSL accepts, too; what
it refuses OpenSSL judges.  So the answer is OpenSSL's, wherever it is asked.  What libsodium
signs is what OpenSSL would sign, byte for byte: Ed25519 leaves nothing to choose.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError


class Signer:
    """The public key of whoever signs, for many signatures."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        """Keep *key* in both libraries' forms."""
        self._key = key
        self._raw = key.public_bytes_raw()

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raise InvalidSignature unless *signature* is of *data* by this key."""
        try:
            if len(signature) == crypto_sign_BYTES:
                crypto_sign_open(signature + data, self._raw)
                return
        except (BadSignatureError, ValueError):
            pass
        self._key.verify(signature, data)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Return whether *signature*, 64 bytes, is of *message* by this key."""
        try:
            self.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class QuickKey:
    """A private key, for many signatures."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Keep *key* in libsodium's form: the seed, then the public key."""
        self._public = key.public_key()
        self._secret = key.private_bytes_raw() + self._public.public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return crypto_sign(data, self._secret)[:crypto_sign_BYTES]

    def public_key(self) -> Ed25519PublicKey:
        """Return its other half."""
        return self._public
