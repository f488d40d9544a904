"""The lease: for how long a device may act on its policy without hearing that it still stands.

It is the timestamp role of the policy's TUF repository with two keys and threshold 2: one of
the collector, one of the guard.  Neither can renew it alone, so either can end the programme
by doing nothing.  The version is the second at which it was made: a key that was stolen cannot
raise it beyond the guard's clock, and what comes later is always newer.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import MetaFile  # type: ignore[attr-defined]  # re-exported
from tuf.api.serialization.json import JSONSerializer

from wire.ed25519 import public_key
from wire.errors import ForgedError, MalformedError, NotCoveredError
from wire.metadata import (
    Metadata,
    Snapshot,
    Timestamp,
    check_signed,
    keys_that_signed,
    metadata_of,
    root_of,
    sha256,
    version_of,
)

LONGEST_LEASE_SECONDS: Final = 24 * 3600
LARGEST_BYTES: Final = 16 << 10  # what python-tuf takes of a timestamp
LATE_SECONDS: Final = 300  # how long an offer may have been under way; clocks differ, too
_SERIALIZER: Final = JSONSerializer(compact=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a timestamp says: until when, and which snapshot stands."""

    version: int
    expires: datetime
    snapshot_version: int


def tuf_key(key: str) -> Key:
    """Return *key*, base64 of raw Ed25519, as TUF metadata name it.

    Raises:
        MalformedError: It is none.

    """
    try:
        return SSlibKey.from_crypto(public_key(base64.b64decode(key, validate=True)))
    except (binascii.Error, ValueError) as exc:
        raise MalformedError("a lease key is not an Ed25519 key in base64") from exc


def lease_seconds(asked: int) -> int:
    """Return the length of a lease for which a policy asks; what is too long is cut."""
    return max(0, min(asked, LONGEST_LEASE_SECONDS))


def offer(*, snapshot: bytes, version: int, expires: datetime, key: Ed25519PrivateKey) -> bytes:
    """Return a timestamp over *snapshot* with the collector's signature alone."""
    named = MetaFile(
        version=version_of(snapshot, Snapshot),
        length=len(snapshot),
        hashes={"sha256": sha256(snapshot)},
    )
    timestamp = Metadata(Timestamp(version=version, expires=expires, snapshot_meta=named))
    return _signed_with(timestamp, key)


def cosign(timestamp: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return *timestamp* with one more signature; what it says was judged before.

    Raises:
        MalformedError: It is none.

    """
    return _signed_with(metadata_of(timestamp, Timestamp), key)


def _signed_with(timestamp: Metadata[Any], key: Ed25519PrivateKey) -> bytes:
    timestamp.sign(CryptoSigner(key), append=True)
    return timestamp.to_bytes(_SERIALIZER)


def check_offer(
    timestamp: bytes, *, root: bytes, snapshot: bytes, key: str, longest: int, now: datetime
) -> Lease:
    """Return what the collector offers, if the guard may sign it.

    1. signed by the collector's lease *key*, and by nobody who could not have;
    2. about the very *snapshot* that the guard has installed;
    3. of no longer than the policy's lease, counted from *now* by the guard's clock;
    4. made now: its version is a second that is neither past nor to come.

    Raises:
        MalformedError: No timestamp.
        ForgedError: Not signed by the collector.
        NotCoveredError: About another snapshot, too long, or of another time.

    """
    offered = metadata_of(timestamp, Timestamp)
    signed, _missing = keys_that_signed(root_of(root), offered)
    if tuf_key(key).keyid not in signed:
        raise ForgedError("the lease is not signed by the collector that the policy names")
    _check_names(offered, snapshot)
    if offered.signed.expires > now + timedelta(seconds=lease_seconds(longest)):
        raise NotCoveredError(f"the lease would be longer than the policy's {longest} s")
    if abs(offered.signed.version - now.timestamp()) > LATE_SECONDS:
        raise NotCoveredError("the lease is of another time; check the clocks of both machines")
    return _lease(offered)


def verify_lease(*, root: bytes, snapshot: bytes, timestamp: bytes) -> Lease:
    """Return the lease, signed by collector and guard; whether it is over is not judged here.

    Raises:
        MalformedError: No timestamp.
        ForgedError: A signature is missing, or it is about another snapshot.

    """
    signed = metadata_of(timestamp, Timestamp)
    check_signed(root_of(root), signed)
    try:
        _check_names(signed, snapshot)
    except NotCoveredError as exc:
        raise ForgedError(str(exc)) from exc
    return _lease(signed)


def _check_names(timestamp: Metadata[Timestamp], snapshot: bytes) -> None:
    named = timestamp.signed.snapshot_meta
    said = (named.version, (named.hashes or {}).get("sha256"))
    if said != (version_of(snapshot, Snapshot), sha256(snapshot)):
        raise NotCoveredError("the lease is about another snapshot of the policy than this one")


def _lease(timestamp: Metadata[Timestamp]) -> Lease:
    return Lease(
        version=timestamp.signed.version,
        expires=timestamp.signed.expires.replace(tzinfo=UTC),
        snapshot_version=timestamp.signed.snapshot_meta.version,
    )
