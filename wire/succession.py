"""What only the holder of a reader's identity can say: which key follows it.

The public half is `wire.recipients`.  An age identity cannot sign; an Ed25519 key that follows
from its secret can, and needs no file of its own to keep, lose or steal.
"""

import base64
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.age import decode_identity, encode_recipient
from wire.ed25519 import KEY_BYTES
from wire.policy import Recipient
from wire.recipients import id_of, word_message
from wire.xwing import public_key_of

KEY_INFO: Final = b"assent/reader-word-key/v1"


def word_key_of(identity: str) -> Ed25519PrivateKey:
    """Return the key by which the holder of *identity* says what follows it (HKDF-SHA256).

    Raises:
        MalformedError: *identity* is none.

    """
    derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=KEY_INFO)
    return Ed25519PrivateKey.from_private_bytes(derive.derive(decode_identity(identity)))


def entry_of(name: str, identity: str, before: str = "") -> Recipient:
    """Return what a policy says of *identity*; *before* is the identity that it follows, if any.

    The same each time: nothing in it is left to chance.

    Raises:
        MalformedError: One of them is no identity.

    """
    entry = Recipient(
        name=name,
        key=_recipient(identity),
        signs=_text(word_key_of(identity).public_key().public_bytes_raw()),
    )
    if not before:
        return entry
    followed = id_of(_recipient(before))
    word = word_key_of(before).sign(word_message(name, followed, entry))
    return msgspec.structs.replace(entry, follows=followed, word=_text(word))


def _recipient(identity: str) -> str:
    return encode_recipient(public_key_of(decode_identity(identity)))


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
