"""The policies that were published here; the newest is in force, older ones stay known.

A batch that was sealed under an older policy may still arrive.  Whether it may be sealed
under it at all is decided on the device, where narrowing applies at once.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, select, update

from base.clock import NANOSECONDS
from base.errors import RejectedError, SetupError
from collector.index.tables import policies
from collector.log import append
from collector.refusal import RefusedError, Why
from wire.ids import PolicyDigest, WallInstant
from wire.leaf import Kind, policy_payload
from wire.parties import check_parties
from wire.policy import Policy, decode_policy, policy_digest, verify

FILES: Final = ("root.json", "targets.json", "policy.json")
LARGEST_BYTES: Final = 1 << 20
_KNOWN: Final = select(policies.c.policy).where(policies.c.digest == bindparam("digest"))
_NEWEST_DIGEST: Final = select(policies.c.digest).order_by(policies.c.number.desc()).limit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One policy with the metadata that signs it, as bytes and decoded."""

    digest: PolicyDigest
    root: bytes
    targets: bytes
    text: bytes
    policy: Policy

    def file(self, name: str) -> bytes:
        """Return one of `FILES`."""
        return dict(zip(FILES, (self.root, self.targets, self.text), strict=True))[name]


def read_folder(folder: Path, now: WallInstant) -> Published:
    """Return the policy that *folder* holds, all its signatures checked.

    Raises:
        SetupError: A file is missing or too large.
        WireError: The policy is not signed as it must be, or one party could have done it.

    """
    try:
        root, targets, text = ((folder / name).read_bytes() for name in FILES)
    except OSError as exc:
        raise SetupError(f"{folder}: {exc.filename} is missing; sign the policy first") from exc
    if max(map(len, (root, targets, text))) > LARGEST_BYTES:
        raise SetupError(f"{folder}: a policy of more than {LARGEST_BYTES} bytes is none")
    moment = datetime.fromtimestamp(now / NANOSECONDS, UTC)
    policy = verify(root=root, targets=targets, policy=text, now=moment)
    check_parties(root, policy)
    return Published(
        digest=policy_digest(text), root=root, targets=targets, text=text, policy=policy
    )


def check_is_about(published: Published, *, origin: str, tenant: str, pin: str, log: str) -> None:
    """Check that the policy sends devices to this very collector.

    Raises:
        RejectedError: It names another origin, tenant, TLS key or log.

    """
    named = published.policy.collector
    for what, theirs, ours in (
        ("origin", named.origin, origin),
        ("tenant", named.tenant, tenant),
        ("log", named.log, log),
    ):
        if theirs != ours:
            raise RejectedError(f"the policy names the {what} {theirs}, but this one has {ours}")
    if pin not in named.tls_pins:
        raise RejectedError(f"the policy does not pin this collector's TLS key {pin}")


def publish(connection: Connection, published: Published, now: WallInstant) -> bool:
    """Put a policy in force; return False when it is already.

    The same policy under newer metadata (signed again before they expired) replaces those.

    Raises:
        RejectedError: It is no newer than the one in force, or of another root.

    """
    current = latest(connection)
    if current is not None:
        if current.targets == published.targets and current.digest == published.digest:
            return False
        _check_newer(current, published)
        if current.digest == published.digest:
            connection.execute(
                update(policies)
                .where(policies.c.digest == published.digest)
                .values(targets=published.targets, published_at=now)
            )
            return True
    append(connection, Kind.POLICY, policy_payload(published.digest), now)
    connection.execute(
        policies.insert().values(
            digest=published.digest,
            root=published.root,
            targets=published.targets,
            policy=published.text,
            published_at=now,
        )
    )
    return True


def latest(connection: Connection) -> Published | None:
    """Return the policy in force."""
    newest = select(func.max(policies.c.number)).scalar_subquery()
    row = connection.execute(select(policies).where(policies.c.number == newest)).one_or_none()
    return None if row is None else _published(row)


def latest_digest(connection: Connection) -> PolicyDigest:
    """Return the digest of the policy in force; empty if none was published yet."""
    return PolicyDigest(connection.execute(_NEWEST_DIGEST).scalar() or b"")


def in_force(connection: Connection) -> Published:
    """Return the policy in force.

    Raises:
        RefusedError: None was published yet.

    """
    found = latest(connection)
    if found is None:
        raise RefusedError(Why.NOT_READY, "no policy was published here yet; try again later")
    return found


def root_sha256(published: Published) -> str:
    """Return the digest of the root, hexadecimal: what a device trusts from its enrolment on."""
    return hashlib.sha256(published.root).hexdigest()


def known(connection: Connection, digest: PolicyDigest) -> Policy:
    """Return the policy of this digest.

    Raises:
        RefusedError: It was never published here.

    """
    row = connection.execute(_KNOWN, {"digest": digest}).one_or_none()
    if row is None:
        raise RefusedError(Why.POLICY_UNKNOWN, "this policy was not published here")
    return _decoded(row.policy)


@lru_cache(maxsize=8)
def _decoded(text: bytes) -> Policy:
    return decode_policy(text)


def _published(row: Row[tuple[object, ...]]) -> Published:
    return Published(
        digest=PolicyDigest(row.digest),
        root=row.root,
        targets=row.targets,
        text=row.policy,
        policy=_decoded(row.policy),
    )


def _check_newer(current: Published, offered: Published) -> None:
    if current.root != offered.root:
        raise RejectedError("the policy has another root; devices trust the first one only")
    newer = offered.policy.version > current.policy.version
    if not newer and offered.digest != current.digest:
        raise RejectedError(
            f"policy version {offered.policy.version} is not newer than {current.policy.version}"
        )
    if _version(offered.targets) <= _version(current.targets):
        raise RejectedError("the policy's targets metadata are not newer than those in force")


class _Signed(msgspec.Struct):
    version: int


class _Metadata(msgspec.Struct):
    signed: _Signed


def _version(metadata: bytes) -> int:
    return msgspec.json.decode(metadata, type=_Metadata).signed.version
