"""The policy in force on this device, and what of it a grant covers.

Three files lie in the state folder as they were fetched: `root.json`, `targets.json` and
`policy.json`.  They are verified whenever they are loaded, with the time of that moment, so
a policy that expires ends capture by itself.  `install` puts three others in their place;
whatever interrupts it, `load` finds one whole set.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from base import durable
from base.clock import NANOSECONDS, Now
from wire.errors import WireError
from wire.ids import PolicyDigest
from wire.parties import check_parties
from wire.policy import Policy, policy_digest, verify

FILES: Final = ("root.json", "targets.json", "policy.json")
_NEXT: Final = ".next"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFiles:
    """The three files as bytes, unverified."""

    root: bytes
    targets: bytes
    text: bytes

    @property
    def digest(self) -> PolicyDigest:
        """The digest by which grants and batches name this policy."""
        return policy_digest(self.text)

    def verified(self, now: Now) -> Policy:
        """Return the policy, if every party signed it and nothing has expired.

        Raises:
            WireError: Which rule is broken.

        """
        at = datetime.fromtimestamp(now.wall // NANOSECONDS, UTC)
        policy = verify(root=self.root, targets=self.targets, policy=self.text, now=at)
        check_parties(self.root, policy)
        return policy


def read(folder: Path, ending: str = "") -> PolicyFiles:
    """Return the files in *folder*; raises OSError."""
    root, targets, text = ((folder / (name + ending)).read_bytes() for name in FILES)
    return PolicyFiles(root=root, targets=targets, text=text)


def install(folder: Path, files: PolicyFiles) -> None:
    """Put *files* in the place of those in *folder*, all three or none.

    Raises:
        OSError: The disk failed; the old ones hold, or the new ones do.

    """
    named = dict(zip(FILES, (files.root, files.targets, files.text), strict=True))
    for name, data in named.items():
        durable.replace(folder / (name + _NEXT), data)
    # A crash before this leaves the old set whole.  From here on the set is a mixture, which
    # no signature covers, and beside it lies the new one, whole: `load` takes that.
    for name, data in named.items():
        durable.replace(folder / name, data)
    _tidy(folder)


def put_right(folder: Path, now: Now) -> None:
    """Finish an `install` that was interrupted, or remove what it has left.

    Raises:
        OSError: The disk failed; `load` goes on finding what it found.

    """
    if _load(folder, now).policy is not None:
        _tidy(folder)  # it had not begun to replace, or it was done
    elif _load(folder, now, _NEXT).policy is not None:
        install(folder, read(folder, _NEXT))


def _tidy(folder: Path) -> None:
    for name in FILES:
        if (folder / (name + _NEXT)).exists():
            durable.remove(folder / (name + _NEXT))


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
    found = _load(folder, now)
    if found.policy is not None:
        return found
    interrupted = _load(folder, now, _NEXT)
    return found if interrupted.policy is None else interrupted


def _load(folder: Path, now: Now, ending: str = "") -> PolicyInForce:
    try:
        files = read(folder, ending)
    except FileNotFoundError:
        problem = "there is no policy here; it comes when this device is enrolled"
        return PolicyInForce(policy=None, digest=None, problem=problem)
    except OSError as exc:
        problem = f"the policy cannot be read ({exc.strerror}); enrol this device again"
        return PolicyInForce(policy=None, digest=None, problem=problem)
    try:
        return PolicyInForce(policy=files.verified(now), digest=files.digest)
    except WireError as exc:
        return PolicyInForce(policy=None, digest=files.digest, problem=str(exc))
