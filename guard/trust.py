"""The signed policy that the guard acts on: installed by a person, never fetched.

The first root is trusted because a person compared its digest; after that only a policy
signed under the same root replaces it, and never an older one.  All three files are kept
as one, so that no crash can mix them.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from base.durable import replace
from base.errors import RejectedError, SetupError
from base.stored import Versioned, refuse_newer
from wire.errors import UNREADABLE, MalformedError
from wire.parties import check_parties
from wire.policy import Policy, decode_policy, verify


class PolicySet(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root, targets and policy, in the bytes that were signed."""

    root: bytes
    targets: bytes
    policy: bytes

    def verified(self, now: datetime) -> Policy:
        """Return the policy, if it is signed by enough parties and has not expired.

        Raises:
            WireError: It is not.

        """
        policy = verify(root=self.root, targets=self.targets, policy=self.policy, now=now)
        check_parties(self.root, policy)
        return policy

    @property
    def root_sha256(self) -> str:
        """The digest of the root, to compare with what the parties say it is."""
        return hashlib.sha256(self.root).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKeys:
    """How a policy has to name this guard."""

    signing_key: bytes  # raw Ed25519
    witness: str  # C2SP verifier key


def read_policy_set(folder: Path) -> PolicySet:
    """Return the three files that `assent-govern sign` leaves in *folder*.

    Raises:
        SetupError: One of them is not there.

    """
    try:
        return PolicySet(
            root=(folder / "root.json").read_bytes(),
            targets=(folder / "targets.json").read_bytes(),
            policy=(folder / "policy.json").read_bytes(),
        )
    except OSError as exc:
        raise SetupError(f"{exc.filename}: {exc.strerror}; give the signed folder") from exc


def load(path: Path) -> PolicySet | None:
    """Return what is installed, or None.

    Raises:
        SetupError: Something is there that cannot be read.

    """
    try:
        data = path.read_bytes()
        refuse_newer(data, path)
        return msgspec.json.decode(data, type=PolicySet)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(f"{path} cannot be used: {exc}; install the policy again") from exc


def check_successor(
    offered: PolicySet, installed: PolicySet | None, own: OwnKeys, now: datetime
) -> Policy:
    """Return the offered policy, if it may take the place of the installed one.

    Raises:
        WireError: It is not signed as it must be, or has expired.
        RejectedError: Older than the installed one, under another root, or another guard's.

    """
    policy = offered.verified(now)
    if base64.b64encode(own.signing_key).decode("ascii") != policy.guard.signing_key:
        raise RejectedError("this policy names another guard: its signing_key is not ours")
    if policy.guard.witness != own.witness:
        raise RejectedError("this policy names another guard: its witness is not ours")
    if installed is None:
        return policy
    if _signed_part(offered.root) != _signed_part(installed.root):
        raise RejectedError(
            "this policy has another root; keys cannot be changed yet without a new guard"
        )
    before = decode_policy(installed.policy)
    if policy.version < before.version or (
        policy.version == before.version and offered.policy != installed.policy
    ):
        raise RejectedError(
            f"policy version {before.version} is installed; a newer one needs a higher version"
        )
    return policy


def install(path: Path, offered: PolicySet) -> None:
    """Make *offered* the policy that the guard acts on: whole or not at all."""
    replace(path, msgspec.json.encode(offered))


def _signed_part(metadata: bytes) -> bytes:
    """Return the bytes that the signatures cover; the signatures' order is of no account."""
    try:
        return Metadata.from_bytes(metadata).signed_bytes
    except (DeserializationError, RepositoryError, ValueError) as exc:
        raise MalformedError(f"the policy's root cannot be read: {exc}") from exc
