"""Names for the plain values that travel between the programs.

Each is a `NewType`, so that mypy refuses a batch hash where a policy digest belongs.
"""

import hashlib
from typing import Annotated, Final, NewType, TypeAlias

import msgspec

DeviceId = NewType("DeviceId", bytes)  # 32 bytes: SHA-256 of the device's SubjectPublicKeyInfo
SubjectId = NewType("SubjectId", bytes)  # 16 random bytes made on the device at first enrolment
BatchHash = NewType("BatchHash", bytes)  # 32 bytes: SHA-256 of a whole signed frame
CoreHash = NewType("CoreHash", bytes)  # 32 bytes: SHA-256 of a frame's core
PolicyDigest = NewType("PolicyDigest", bytes)  # 32 bytes: SHA-256 of the policy's bytes
GrantHash = NewType("GrantHash", bytes)  # 32 bytes: SHA-256 of a consent record's bytes
KeyId = NewType("KeyId", bytes)  # 16 bytes: see key_id()

BootInstant = NewType("BootInstant", int)  # ns on the clock that counts suspend, since boot
WallInstant = NewType("WallInstant", int)  # ns since the epoch, UTC

LEAST_INSTANT: Final = -(1 << 63)  # of the year 1677: what a database's integer holds
LAST_INSTANT: Final = (1 << 63) - 1  # of the year 2262
KeptInstant: TypeAlias = Annotated[
    WallInstant, msgspec.Meta(ge=LEAST_INSTANT, le=LAST_INSTANT)
]  # one that others say and that is kept


def can_be_kept(*instants: WallInstant) -> bool:
    """Whether each is a `KeptInstant`, where what is stored must open whatever was let in."""
    return all(LEAST_INSTANT <= at <= LAST_INSTANT for at in instants)


def key_id(public_key: bytes) -> KeyId:
    """Return the 16-byte name of a public key (frame-v1, section "Key ids")."""
    return KeyId(hashlib.sha256(b"assent/key-id/v1\0" + public_key).digest()[:16])
