"""What stands in the log: a kind, and a salted commitment to the rest.

A log entry is public and stays for ever, so it must say nothing about a person: it is
`kind LF commitment`, with commitment = SHA-256(label || salt || payload).  Whoever is
handed salt and payload can check the entry; when the salt is erased nobody can any more.
"""

import hashlib
from enum import StrEnum
from typing import Final

from wire.ids import BatchHash, CoreHash, GrantHash, PolicyDigest, WallInstant

SALT_BYTES: Final = 16
_LABEL: Final = b"assent/leaf/v1\0"


class Kind(StrEnum):
    """What a log entry records."""

    BATCH = "batch"
    GRANT = "grant"
    CONSENT_EVENT = "consent-event"
    RELEASE = "release"
    DELETION = "deletion"
    TOMBSTONE = "tombstone"
    EXPIRY = "expiry"
    POLICY = "policy"
    HALT = "halt"
    DRILL = "drill"


def entry(kind: Kind, payload: bytes, salt: bytes) -> bytes:
    """Return the log entry that commits to *payload* under *salt* (16 random bytes)."""
    commitment = hashlib.sha256(_LABEL + kind.encode() + b"\0" + salt + payload).hexdigest()
    return f"{kind}\n{commitment}\n".encode("ascii")


def batch_payload(batch: BatchHash, core: CoreHash) -> bytes:
    """Return the payload of a received batch: both hashes, 64 bytes."""
    return batch + core


def grant_payload(grant: GrantHash) -> bytes:
    """Return the payload of a consent record: its hash, 32 bytes."""
    return grant


def event_payload(event: bytes) -> bytes:
    """Return the payload of what became of a consent: the hash of the signed bytes."""
    return hashlib.sha256(event).digest()


def release_payload(batch: BatchHash, core: CoreHash, access: bytes, recipient: str) -> bytes:
    """Return the payload of one release: batch, core, access request (32 bytes each), reader."""
    return batch + core + access + hashlib.sha256(recipient.encode("ascii")).digest()


def deletion_payload(batch: BatchHash) -> bytes:
    """Return the payload of a deletion or a tombstone: the batch's hash."""
    return batch


def expiry_payload(batch: BatchHash, expires: str) -> bytes:
    """Return the payload of the end of a batch: its hash, and the day (ISO) that was its last."""
    return batch + expires.encode("ascii")


def request_payload(digest: bytes) -> bytes:
    """Return the payload of what a data subject demanded: the request's SHA-256."""
    return digest


def order_payload(digest: bytes) -> bytes:
    """Return the payload of what the guard erased by its own hand: the order's SHA-256."""
    return digest


def policy_payload(policy: PolicyDigest) -> bytes:
    """Return the payload of a published policy: its digest."""
    return policy


def drill_payload(began_at: WallInstant, *, passed: bool, probes: int, hole: str) -> bytes:
    """Return the payload of a drill: whether it passed, when, of how many probes, the hole."""
    said = "passed" if passed else "failed"
    return f"{said}\n{began_at}\n{probes}\n{hole}\n".encode()
