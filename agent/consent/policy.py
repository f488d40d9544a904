"""The policy in force on this device, and what of it a grant covers.

Three files lie in the state folder as they were fetched: `root.json`, `targets.json` and
`policy.json`.  They are verified whenever they are loaded, with the time of that moment, so
a policy that expires ends capture by itself.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from base.clock import NANOSECONDS, Now
from wire.errors import WireError
from wire.ids import PolicyDigest
from wire.parties import check_parties
from wire.policy import Policy, policy_digest, verify

FILES: Final = ("root.json", "targets.json", "policy.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """What lies on the disk: a verified policy, or why there is none.

    `digest` is known even when the signatures are not valid any more, so that an expired
    policy is told apart from one that nobody has agreed to.
    """

    policy: Policy | None
    digest: PolicyDigest | None
    problem: str = ""  # one line for a person; empty with a valid policy


def load(folder: Path, now: Now) -> PolicyInForce:
    """Return the policy in *folder*, verified at *now* and signed by every party; never raises."""
    try:
        root, targets, policy = ((folder / name).read_bytes() for name in FILES)
    except FileNotFoundError:
        problem = "there is no policy here; it comes when this device is enrolled"
        return PolicyInForce(policy=None, digest=None, problem=problem)
    except OSError as exc:
        problem = f"the policy cannot be read ({exc.strerror}); enrol this device again"
        return PolicyInForce(policy=None, digest=None, problem=problem)
    digest = policy_digest(policy)
    at = datetime.fromtimestamp(now.wall // NANOSECONDS, UTC)
    try:
        verified = verify(root=root, targets=targets, policy=policy, now=at)
        check_parties(root, verified)
    except WireError as exc:
        return PolicyInForce(policy=None, digest=digest, problem=str(exc))
    return PolicyInForce(policy=verified, digest=digest)
