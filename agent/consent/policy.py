"""The policy in force on this device, and for how long it holds without hearing more.

`tuf/in-force.json` has all that the last complete refresh brought (`refresh`), in one file, so
that no crash can mix two of them: root, timestamp, snapshot, targets and policy, and the reading
of the clocks when its timestamp came.  All of it is verified whenever it is loaded, with the time
of that moment, so what expires ends capture by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from agent.consent import texts
from agent.consent.clocks import Deadline, passed_on_any
from base.clock import NANOSECONDS, Now
from base.stored import Versioned
from wire.errors import UNREADABLE, ExpiredError, WireError
from wire.ids import PolicyDigest
from wire.lease import Lease, lease_seconds, verify_lease
from wire.parties import check_parties
from wire.policy import Policy, check_dates, policy_digest, verify_signatures

FOLDER: Final = "tuf"
IN_FORCE: Final = f"{FOLDER}/in-force.json"


class Fetched(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one complete refresh brought, and when; `first_boot` is when its timestamp first came.

    Whoever hands out the same timestamp again and again does not make it last by that.
    """

    root: bytes
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    policy: bytes
    boot: int
    wall: int
    boot_id: str
    first_boot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHeld:
    """From when until when the organisation's lease holds, on both clocks."""

    began: Now
    until: Deadline

    def is_over(self, now: Now) -> bool:
        """Whether it is over on any clock that can tell.

        A wall clock that went back tells nothing: in the same boot the boot clock does, and
        after another nobody.
        """
        went_back = now.wall < self.began.wall - _BACKWARDS
        return passed_on_any(self.until, now) or (went_back and now.boot_id != self.until.boot_id)

    def half_seconds(self, now: Now) -> float:
        """Return how long it is until half of it is over; then it is time to renew it."""
        half = (self.until.boot - self.began.boot) // 2
        left = self.until.wall - half - now.wall
        if now.boot_id == self.until.boot_id:
            left = min(left, self.until.boot - half - now.boot)
        return left / NANOSECONDS


_BACKWARDS: Final = 5 * NANOSECONDS  # what a clock that is kept right may be set back by


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """What lies on the disk: a verified policy, or why there is none.

    `digest` is known even when the signatures are not valid any more, so that an expired
    policy is told apart from one that nobody has agreed to.  `lapsed` is a policy that was
    signed as it must be and whose time is over: it permits nothing, and says only where the
    collector is, so that it can be asked again.
    """

    policy: Policy | None
    digest: PolicyDigest | None
    problem: str = ""  # one line for a person; empty with a valid policy
    lease: LeaseHeld | None = None
    lapsed: Policy | None = None
    text: bytes = b""  # as it was signed; empty without a valid policy
    earlier: Mapping[PolicyDigest, Policy] = field(default_factory=dict)
    """The policies under which something was agreed to or recorded here, as far as known."""

    def holds(self, now: Now) -> bool:
        """Whether there is a valid policy whose lease is known and not over at *now*."""
        return self.policy is not None and self.lease is not None and not self.lease.is_over(now)

    @property
    def reachable(self) -> Policy | None:
        """The policy that says how to reach the collector, valid or lapsed."""
        return self.policy or self.lapsed


def read_fetched(folder: Path) -> Fetched | None:
    """Return what the last complete refresh in the state *folder* brought; None when damaged.

    Raises:
        OSError: There is none, or it cannot be read.

    """
    try:
        return msgspec.json.decode((folder / IN_FORCE).read_bytes(), type=Fetched)
    except UNREADABLE:
        return None


def load(folder: Path, now: Now) -> PolicyInForce:
    """Return the policy in *folder*, verified at *now* and signed by every party; never raises."""
    return replace(_load(folder, now), earlier=texts.read(folder))


def _load(folder: Path, now: Now) -> PolicyInForce:
    try:
        fetched = read_fetched(folder)
    except FileNotFoundError:
        return _none("there is no policy here; it comes when this device is enrolled")
    except OSError as exc:
        return _none(f"the policy cannot be read ({exc.strerror}); enrol this device again")
    if fetched is None:
        return _none("the policy is damaged; it is fetched again from the collector")
    return judge(fetched, now)


def judge(fetched: Fetched, now: Now) -> PolicyInForce:
    """Return the policy that *fetched* holds, verified at *now*.  Pure; never raises."""
    digest = policy_digest(fetched.policy)
    at = datetime.fromtimestamp(now.wall // NANOSECONDS, UTC)
    try:
        policy = verify_signatures(
            root=fetched.root,
            snapshot=fetched.snapshot,
            targets=fetched.targets,
            policy=fetched.policy,
        )
        check_parties(fetched.root, policy)
        lease = verify_lease(
            root=fetched.root, snapshot=fetched.snapshot, timestamp=fetched.timestamp
        )
    except WireError as exc:
        return PolicyInForce(policy=None, digest=digest, problem=str(exc))
    held = _held(lease, policy, fetched)
    try:
        check_dates(root=fetched.root, snapshot=fetched.snapshot, targets=fetched.targets, now=at)
    except ExpiredError as exc:
        return PolicyInForce(policy=None, digest=digest, problem=str(exc), lapsed=policy)
    if held.is_over(now):
        return PolicyInForce(
            policy=None, digest=digest, problem=lease_over(held), lease=held, lapsed=policy
        )
    return PolicyInForce(policy=policy, digest=digest, lease=held, text=fetched.policy)


def lease_over(held: LeaseHeld) -> str:
    """Return what the data subject is told when the lease is over."""
    until = datetime.fromtimestamp(held.until.wall // NANOSECONDS, UTC)
    return (
        f"the organisation's lease ran out ({until:%Y-%m-%d %H:%M} UTC at the latest); it is"
        " renewed when the collector can be reached"
    )


def _held(lease: Lease, policy: Policy, fetched: Fetched) -> LeaseHeld:
    """Return the lease from the fetch on: at most the policy's, and never beyond its expiry."""
    expires = int(lease.expires.timestamp()) * NANOSECONDS
    longest = lease_seconds(policy.lease_seconds) * NANOSECONDS
    left = max(0, expires - fetched.wall)
    return LeaseHeld(
        began=Now(boot=fetched.first_boot, wall=fetched.wall, boot_id=fetched.boot_id),
        until=Deadline(
            wall=fetched.wall + min(longest, left),
            boot=min(fetched.first_boot + longest, fetched.boot + left),
            boot_id=fetched.boot_id,
        ),
    )


def _none(problem: str) -> PolicyInForce:
    return PolicyInForce(policy=None, digest=None, problem=problem)
