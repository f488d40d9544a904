"""The policies that were published here; the newest is in force, older ones stay known.

A batch that was sealed under an older policy may still arrive, if its day is one of those on which
that was in force (`when`).  Whether it may be sealed under it at all is decided on the device,
where narrowing applies at once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select, update

from base.clock import NANOSECONDS
from base.errors import RejectedError, SetupError, line_of
from collector.index.prepared import Asking
from collector.index.tables import checkpoints, policies, policy_files
from collector.log import append
from collector.refusal import RefusedError, Why
from wire.days import InForce
from wire.ids import PolicyDigest, WallInstant
from wire.leaf import Kind, policy_payload
from wire.metadata import (
    Root,
    Snapshot,
    Targets,
    check_line,
    follow_roots,
    sha256,
    signed_until,
    version_of,
)
from wire.parties import check_parties
from wire.policy import Guard, Policy, decode_policy, policy_digest, verify

FILES: Final = ("root.json", "snapshot.json", "targets.json", "policy.json")
TIMESTAMP_NAME: Final = "timestamp.json"  # is made here, not published: `collector.guard.lease`
LARGEST_BYTES: Final = 1 << 20
_FILE: Final = select(policy_files.c.content).where(policy_files.c.name == bindparam("file"))
_KNOWN: Final = Asking(select(policies.c.policy).where(policies.c.digest == bindparam("digest")))
# What stands in the log and is witnessed there, as an audit sees it later.
_later: Final = policies.alias()
_next: Final = (
    select(func.min(_later.c.leaf)).where(_later.c.leaf > policies.c.leaf).correlate(policies)
)
_since: Final = (
    select(checkpoints.c.witnessed_at)
    .where(checkpoints.c.size <= policies.c.leaf, checkpoints.c.witnessed_at.is_not(None))
    .order_by(checkpoints.c.size.desc())
)
_until: Final = (
    select(checkpoints.c.witnessed_at)
    .where(checkpoints.c.size > _next.scalar_subquery(), checkpoints.c.witnessed_at.is_not(None))
    .order_by(checkpoints.c.size)
)
_IN_FORCE: Final = Asking(
    select(
        policies.c.policy,
        policies.c.expires,
        _since.correlate(policies).limit(1).scalar_subquery().label("since"),
        _until.correlate(policies).limit(1).scalar_subquery().label("until"),
    ).where(policies.c.digest == bindparam("digest"))
)
_NEWEST: Final = Asking(select(policies.c.policy).order_by(policies.c.number.desc()).limit(1))
_NEWEST_DIGEST: Final = Asking(
    select(policies.c.digest).order_by(policies.c.number.desc()).limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One policy with the metadata that signs it, as bytes and decoded."""

    digest: PolicyDigest
    root: bytes
    snapshot: bytes
    targets: bytes
    text: bytes
    policy: Policy
    earlier_roots: tuple[bytes, ...] = ()  # that lead to this one; known when it is published

    def files(self) -> dict[str, bytes]:
        """Return the newest of each file by its plain name."""
        return dict(zip(FILES, (self.root, self.snapshot, self.targets, self.text), strict=True))

    def lasting_files(self) -> dict[str, bytes]:
        """Return the files by the names that never mean another content.

        TUF's consistent snapshots (the specification, 6.2), and each root by its digest, which
        is what an enrolment file trusts.
        """
        named = {
            f"{version_of(self.snapshot, Snapshot)}.snapshot.json": self.snapshot,
            f"{version_of(self.targets, Targets)}.targets.json": self.targets,
            f"{self.digest.hex()}.policy.json": self.text,
        }
        for root in (*self.earlier_roots, self.root):
            named[f"{version_of(root, Root)}.root.json"] = root
            named[f"{sha256(root)}.root.json"] = root
        return named


def read_folder(folder: Path, now: WallInstant) -> Published:
    """Return the policy that *folder* holds, all its signatures checked.

    Raises:
        SetupError: A file is missing, cannot be read or is too large.
        WireError: The policy is not signed as it must be, or one party could have done it.

    """
    try:
        root, snapshot, targets, text = ((folder / name).read_bytes() for name in FILES)
        earlier = tuple(path.read_bytes() for path in _earlier_roots(folder))
    except OSError as exc:
        raise SetupError(f"{line_of(exc)}; give the folder as it was signed") from exc
    if max(map(len, (root, snapshot, targets, text, *earlier))) > LARGEST_BYTES:
        raise SetupError(f"{folder}: a policy of more than {LARGEST_BYTES} bytes is none")
    moment = datetime.fromtimestamp(now / NANOSECONDS, UTC)
    policy = verify(root=root, snapshot=snapshot, targets=targets, policy=text, now=moment)
    check_parties(root, policy)
    check_line((*earlier, root))
    return Published(
        digest=policy_digest(text),
        root=root,
        snapshot=snapshot,
        targets=targets,
        text=text,
        policy=policy,
        earlier_roots=earlier,
    )


def _earlier_roots(folder: Path) -> list[Path]:
    """Return the roots that lead to the newest, the oldest first."""
    named = ((path.name.partition(".")[0], path) for path in folder.glob("*.root.json"))
    return [path for _, path in sorted((int(n), path) for n, path in named if n.isdecimal())]


def check_is_about(
    published: Published, *, origin: str, tenant: str, pin: str, log: str, lease_key: str
) -> None:
    """Check that the policy sends devices to this very collector.

    Raises:
        RejectedError: It names another origin, tenant, TLS key, log or lease key.

    """
    named = published.policy.collector
    for what, theirs, ours in (
        ("origin", named.origin, origin),
        ("tenant", named.tenant, tenant),
        ("log", named.log, log),
        ("lease_key", named.lease_key, lease_key),
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
        if current.files() == published.files():
            return False
        _check_newer(current, published)
    _keep(connection, published)
    if current is not None and current.digest == published.digest:
        connection.execute(
            update(policies)
            .where(policies.c.digest == published.digest)
            .values(
                root=published.root,
                snapshot=published.snapshot,
                targets=published.targets,
                published_at=now,
                expires=signed_until(published.snapshot, published.targets),
            )
        )
        return True
    leaf = append(connection, Kind.POLICY, policy_payload(published.digest), now)
    connection.execute(
        policies.insert().values(
            digest=published.digest,
            root=published.root,
            snapshot=published.snapshot,
            targets=published.targets,
            policy=published.text,
            published_at=now,
            expires=signed_until(published.snapshot, published.targets),
            leaf=leaf,
        )
    )
    return True


def _keep(connection: Connection, published: Published) -> None:
    """Keep each file under the names by which devices ask for it, for as long as this runs."""
    for name, content in published.lasting_files().items():
        known = connection.execute(_FILE, {"file": name}).scalar_one_or_none()
        if known is None:
            connection.execute(policy_files.insert().values(name=name, content=content))
        elif known != content:
            raise RejectedError(f"{name} was published already with another content")


def file(connection: Connection, name: str) -> bytes:
    """Return a file of the policy: the newest by its plain name, any by its lasting one.

    Raises:
        RefusedError: There is none of that name, or none was published yet.

    """
    newest = in_force(connection).files()
    if name in newest:
        return newest[name]
    found: bytes | None = connection.execute(_FILE, {"file": name}).scalar_one_or_none()
    if found is None:
        known = ", ".join((TIMESTAMP_NAME, *FILES))
        raise RefusedError(Why.NOT_FOUND, f"there are {known}, and versions of them")
    return found


def latest(connection: Connection) -> Published | None:
    """Return the policy in force."""
    newest = select(func.max(policies.c.number)).scalar_subquery()
    row = connection.execute(select(policies).where(policies.c.number == newest)).one_or_none()
    return None if row is None else _published(row)


def newest(connection: Connection) -> Policy | None:
    """Return the policy in force, without what signs it; None if none was published yet."""
    row = _NEWEST.first(connection)
    return None if row is None else _decoded(row.policy)


def latest_digest(connection: Connection) -> PolicyDigest:
    """Return the digest of the policy in force; empty if none was published yet."""
    row = _NEWEST_DIGEST.first(connection)
    return PolicyDigest(b"" if row is None else row.digest)


def guard_named(connection: Connection) -> Guard | None:
    """Return how the policy in force names the guard, where its keys follow others; else None.

    For who has no policy but the guard's keys of before on paper.

    Raises:
        RefusedError: None was published yet.

    """
    guard = in_force(connection).policy.guard
    return guard if guard.follows else None


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
    return sha256(published.root)


def known(connection: Connection, digest: PolicyDigest) -> Policy:
    """Return the policy of this digest.

    Raises:
        RefusedError: It was never published here.

    """
    row = _KNOWN.first(connection, digest=digest)
    if row is None:
        raise _unknown()
    return _decoded(row.policy)


def when(connection: Connection, digest: PolicyDigest) -> tuple[Policy, InForce]:
    """Return the policy of this digest, and when it was in force.

    Raises:
        RefusedError: It was never published here.

    """
    row = _IN_FORCE.first(connection, digest=digest)
    if row is None:
        raise _unknown()
    in_force = InForce(since=row.since or 0, until=row.until, expires=row.expires)
    return _decoded(row.policy), in_force


def _unknown() -> RefusedError:
    return RefusedError(Why.POLICY_UNKNOWN, "this policy was not published here")


def text(connection: Connection, digest: PolicyDigest) -> bytes:
    """Return the bytes of the policy of this digest, for a reader to compare.

    Raises:
        RefusedError: It was never published here.

    """
    row = _KNOWN.first(connection, digest=digest)
    if row is None:
        raise RefusedError(Why.NOT_FOUND, "no policy of that digest was published here")
    return bytes(row.policy)


@lru_cache(maxsize=8)
def _decoded(text: bytes) -> Policy:
    return decode_policy(text)


def _published(row: Row[tuple[object, ...]]) -> Published:
    return Published(
        digest=PolicyDigest(row.digest),
        root=row.root,
        snapshot=row.snapshot,
        targets=row.targets,
        text=row.policy,
        policy=_decoded(row.policy),
    )


def _check_newer(current: Published, offered: Published) -> None:
    follow_roots(current.root, [*offered.earlier_roots, offered.root])
    if version_of(offered.root, Root) < version_of(current.root, Root):
        raise RejectedError("the policy has an older root than the one in force")
    newer = offered.policy.version > current.policy.version
    if not newer and offered.digest != current.digest:
        raise RejectedError(
            f"policy version {offered.policy.version} is not newer than {current.policy.version}"
        )
    roles: tuple[tuple[type[Any], bytes, bytes], ...] = (
        (Targets, current.targets, offered.targets),
        (Snapshot, current.snapshot, offered.snapshot),
    )
    for role, before, now in roles:
        if version_of(now, role) <= version_of(before, role):
            raise RejectedError(f"the policy's {role.type} metadata are not newer than in force")
