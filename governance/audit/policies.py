"""Which policies there were, signed by whom, and when each was in force.

The auditor brings the root that both parties trust; everything else has to follow from it.  A
policy is in force from its leaf on until the leaf of the next one.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from governance.audit.findings import Rule
from governance.audit.reading import FoundError
from wire import audit
from wire.errors import UNREADABLE, ForgedError, MalformedError, WireError
from wire.ids import PolicyDigest
from wire.metadata import (
    Root,
    Snapshot,
    Targets,
    check_line,
    keys_that_signed,
    metadata_of,
    signed_until,
)
from wire.parties import check_parties
from wire.policy import Policy, policy_digest, verify_signatures

_HEX: Final = frozenset("0123456789abcdef")


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One policy, the number of its leaf, and until when its signatures are good (seconds)."""

    leaf: int
    digest: PolicyDigest
    policy: Policy
    expires: int


@dataclass(frozen=True, slots=True)
class Policies:
    """All that were published, in order."""

    known: tuple[Published, ...]

    def before(self, leaf: int) -> Published | None:
        """Return the policy that was in force when *leaf* was written."""
        number = bisect_left([each.leaf for each in self.known], leaf)
        return self.known[number - 1] if number else None

    def find(self, digest: bytes) -> Published | None:
        """Return the policy of that digest."""
        return next((each for each in self.known if each.digest == digest), None)

    def next(self, published: Published) -> Published | None:
        """Return the policy that took its place."""
        return next((each for each in self.known if each.leaf > published.leaf), None)


def check_roots(roots: Iterable[bytes], trusted: bytes) -> frozenset[bytes]:
    """Return the roots that policies may be signed under: they lead to and from *trusted*.

    Raises:
        FoundError: They do not.

    """
    line = tuple(roots)
    try:
        if trusted not in line:
            raise ForgedError("the root that you trust is not among those of the bundle")
        check_line(line)
        for root in line:
            _check_written(root)
    except WireError as exc:
        raise FoundError(Rule.POLICY_UNTRUSTED, None, str(exc)) from exc
    return frozenset(line)


def published(line: audit.PolicyLine, roots: frozenset[bytes]) -> Published:
    """Return the policy in *line*, signed by controller and representatives.

    Raises:
        FoundError: It is not.

    """
    try:
        if line.root not in roots:
            raise ForgedError("signed under a root that does not follow from the trusted one")
        policy = verify_signatures(
            root=line.root, snapshot=line.snapshot, targets=line.targets, policy=line.policy
        )
        check_parties(line.root, policy)
        _check_all_sign(line.root, line.snapshot, Snapshot)
        _check_all_sign(line.root, line.targets, Targets)
        expires = signed_until(line.snapshot, line.targets)
    except WireError as exc:
        raise FoundError(Rule.POLICY_UNTRUSTED, line.leaf, str(exc)) from exc
    return Published(
        leaf=line.leaf, digest=policy_digest(line.policy), policy=policy, expires=expires
    )


def _check_all_sign(root: bytes, data: bytes, kind: type[Any]) -> None:
    """Check that no signature stands there that does not hold."""
    _check_written(data)
    document = metadata_of(data, kind)
    signed, _missing = keys_that_signed(metadata_of(root, Root).signed, document)
    if set(document.signatures) != set(signed):
        raise ForgedError("a signature stands there that does not hold")


def _check_written(data: bytes) -> None:
    """Check that signatures are written in the one way: hexadecimal digits in lower case."""
    try:
        found = msgspec.json.decode(data, type=_Signatures)
    except UNREADABLE as exc:
        raise MalformedError(f"metadata cannot be read: {exc}") from exc
    if not all(_HEX.issuperset(each.sig) for each in found.signatures):
        raise MalformedError("a signature is not in lower-case hexadecimal digits")


class _Signature(msgspec.Struct, frozen=True):
    sig: str


class _Signatures(msgspec.Struct, frozen=True):
    signatures: tuple[_Signature, ...]


def check_rising(before: Published | None, now: Published) -> None:
    """Check that a policy follows the one before it.

    Raises:
        FoundError: It is of an older version, or stands before it in the log.

    """
    if before is None:
        return
    if now.leaf <= before.leaf or now.policy.version <= before.policy.version:
        what = f"policy version {now.policy.version} after version {before.policy.version}"
        raise FoundError(Rule.POLICY_UNTRUSTED, now.leaf, what)
