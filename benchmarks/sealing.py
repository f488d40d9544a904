"""Seal, verify blind, open: a batch of 1 MiB against the bare primitives on the same bytes.

The floor of sealing is one SHA-256 and one ChaCha20-Poly1305 encryption, that of opening
the same backwards; a blind verification cannot do without one SHA-256.
"""

import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from benchmarks.result import Row, alternated
from wire.age import encode_identity
from wire.category import Category
from wire.frame import Core, core_hash, encode_core, verify
from wire.ids import DeviceId, GrantHash, PolicyDigest, SubjectId, key_id
from wire.opening import open_body
from wire.sealing import seal, sign
from wire.shelf import unshelve
from wire.xwing import public_key_of

BYTES: Final = 1 << 20
REPEATS: Final = 20
NONCE: Final = bytes(12)


def run() -> list[Row]:
    """Return MB/s of all three."""
    plaintext = secrets.token_bytes(BYTES)
    device = Ed25519PrivateKey.generate()
    guard, reader, subject = (secrets.token_bytes(32) for _ in range(3))
    identity, recipients = encode_identity(reader), (public_key_of(reader), public_key_of(subject))
    core, guard_key = _core(recipients, public_key_of(guard)), public_key_of(guard)
    whole = sign(seal(core, plaintext, recipients, guard_key).unsigned, 1, device)
    digest = core_hash(encode_core(core))
    cipher = ChaCha20Poly1305(ChaCha20Poly1305.generate_key())
    ciphertext = cipher.encrypt(NONCE, plaintext, None)

    def sealed() -> object:
        return sign(seal(core, plaintext, recipients, guard_key).unsigned, 1, device)

    def opened() -> object:
        parts = verify(whole, device.public_key()).parts
        return open_body(unshelve(parts.shelf, guard, digest), parts.body, identity, digest)

    def bare_seal() -> object:
        return hashlib.sha256(plaintext).digest(), cipher.encrypt(NONCE, plaintext, None)

    def bare_open() -> object:
        return hashlib.sha256(ciphertext).digest(), cipher.decrypt(NONCE, ciphertext, None)

    rows = []
    for what, ours, floor, best_known in (
        ("seal and sign 1 MiB", sealed, bare_seal, "951 MB/s"),
        (
            "verify it blind",
            lambda: verify(whole, device.public_key()),
            lambda: hashlib.sha256(plaintext).digest(),
            "1,639 MB/s",
        ),
        ("verify, unshelve and open it", opened, bare_open, "890 MB/s"),
    ):
        mine, bare = alternated(ours, floor, REPEATS)
        rows.append(
            Row(
                bench="sealing",
                what=what,
                ours=BYTES / mine / 1e6,
                floor=BYTES / bare / 1e6,
                unit="MB/s",
                more_is_better=True,
                best_known=best_known,
            )
        )
    return rows


def _core(recipients: tuple[bytes, ...], guard_key: bytes) -> Core:
    return Core(
        origin="https://collector.example:8443",
        tenant="acme",
        programme="pilot",
        device=DeviceId(bytes(32)),
        subject=SubjectId(bytes(16)),
        policy=PolicyDigest(bytes(32)),
        grant=GrantHash(bytes(32)),
        category=Category.SCREEN,
        day="2027-03-15",
        recipients=tuple(map(key_id, recipients)),
        guard_key=key_id(guard_key),
        purpose="train-computer-use",
        expires="2027-06-13",
    )
