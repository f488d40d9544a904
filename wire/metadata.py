"""TUF metadata as bytes: read, checked against a root, and roots that follow one another.

What the roles mean stands in `policy` (targets and snapshot) and `lease` (timestamp).  The
library's exceptions are mapped here and nowhere else.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeVar

from securesystemslib.exceptions import VerificationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # re-exported
    Key,
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from wire.errors import ExpiredError, ForgedError, MalformedError

__all__ = ["Key", "Metadata", "Root", "Snapshot", "Targets", "Timestamp"]
T = TypeVar("T", Root, Snapshot, Targets, Timestamp)
UNUSABLE: Final = (DeserializationError, RepositoryError, VerificationError, ValueError)


def metadata_of(data: bytes, kind: type[T]) -> Metadata[T]:
    """Return the metadata in *data*, unverified.

    Raises:
        MalformedError: Not TUF metadata, or of another role than *kind*.

    """
    try:
        found: Metadata[T] = Metadata.from_bytes(data)
        _ = found.signed_bytes  # what has no canonical form cannot have been signed
    except UNUSABLE as exc:
        why = str(exc) or "it has no canonical form"
        raise MalformedError(f"the policy's {kind.type} cannot be read: {why}") from exc
    if not isinstance(found.signed, kind):
        raise MalformedError(f"the policy's {kind.type} is metadata of another role")
    return found


def check_signed(root: Root, signed: Metadata[T]) -> None:
    """Check that *signed* has as many valid signatures as *root* asks for in its role.

    Raises:
        ForgedError: It has not.

    """
    try:
        root.verify_delegate(signed.signed.type, signed.signed_bytes, signed.signatures)
    except UNUSABLE as exc:
        raise ForgedError(f"the policy is not signed as it must be: {exc}") from exc


def keys_that_signed(root: Root, signed: Metadata[T]) -> tuple[dict[str, Key], dict[str, Key]]:
    """Return the keys of the role that signed, and those that did not, by their ids.

    Raises:
        MalformedError: The signatures cannot be read.

    """
    try:
        result = root.get_verification_result(
            signed.signed.type, signed.signed_bytes, signed.signatures
        )
    except UNUSABLE as exc:
        raise MalformedError(f"the policy's signatures cannot be read: {exc}") from exc
    return result.signed, result.unsigned


def check_in_time(now: datetime, *documents: Metadata[T]) -> None:
    """Check that none of *documents* has expired at *now*, an aware UTC datetime.

    Raises:
        ExpiredError: One has.

    """
    for one in documents:
        if one.signed.is_expired(now):
            raise ExpiredError(
                f"the policy's {one.signed.type} metadata expired on {one.signed.expires:%Y-%m-%d}"
            )


def root_of(data: bytes) -> Root:
    """Return the root in *data*, which is signed by its own threshold.

    Raises:
        MalformedError: Not TUF metadata, or of another role.
        ForgedError: Too few signatures.

    """
    root = metadata_of(data, Root)
    check_signed(root.signed, root)
    return root.signed


def follow_roots(trusted: bytes, later: Sequence[bytes]) -> None:
    """Check that *later* lead from *trusted* on, one version after the other.

    Each next root is signed by the threshold of the one before it and by its own (the TUF
    specification, 5.3.4).  Of the same version only the same content will do.

    Raises:
        MalformedError: One is no root.
        ForgedError: One is missing, or is not signed by old and new keys.

    """
    before = metadata_of(trusted, Root)
    for data in later:
        root = metadata_of(data, Root)
        if root.signed.version < before.signed.version:
            continue  # from before the one that is trusted
        if root.signed.version == before.signed.version:
            if root.signed_bytes != before.signed_bytes:
                raise ForgedError("this policy has another root than the one that is trusted")
            continue
        if root.signed.version != before.signed.version + 1:
            raise ForgedError(f"root version {before.signed.version + 1} is missing")
        check_signed(before.signed, root)
        check_signed(root.signed, root)
        before = root


def check_line(roots: Sequence[bytes]) -> None:
    """Check that *roots*, the oldest first, lead to the last of them.

    Whoever still trusts one of the first follows them from there.

    Raises:
        MalformedError: One is no root.
        ForgedError: One is missing, or is not signed by old and new keys.

    """
    follow_roots(roots[0], roots[1:])


def version_of(data: bytes, kind: type[T]) -> int:
    """Return the version of metadata, unverified.

    Raises:
        MalformedError: Not TUF metadata, or of another role.

    """
    return metadata_of(data, kind).signed.version


def signed_until(snapshot: bytes, targets: bytes) -> int:
    """Return when the first of what signs a policy expires; seconds since the epoch.

    Raises:
        MalformedError: One of them is no such metadata.

    """
    first, second = metadata_of(snapshot, Snapshot), metadata_of(targets, Targets)
    return int(min(first.signed.expires, second.signed.expires).timestamp())


def sha256(data: bytes) -> str:
    """Return the digest by which metadata name each other, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
