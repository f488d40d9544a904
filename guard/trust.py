"""The signed policy that the guard acts on: installed by a person, never fetched.

The first root is trusted because a person compared its digest; after that only a policy
signed under the same root replaces it, or under one that follows from it, and never an older
one.  All files are kept as one, so that no crash can mix them.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from base.durable import replace
from base.errors import RejectedError, SetupError
from base.stored import Versioned, refuse_newer
from wire.errors import UNREADABLE
from wire.guard_follows import Three
from wire.metadata import (
    Root,
    Snapshot,
    Targets,
    check_line,
    follow_roots,
    sha256,
    version_of,
)
from wire.parties import check_parties
from wire.policy import Policy, decode_policy, verify


class PolicySet(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root, snapshot, targets and policy, in the bytes that were signed."""

    root: bytes
    snapshot: bytes
    targets: bytes
    policy: bytes
    earlier_roots: tuple[bytes, ...] = ()  # that lead to this one, the oldest first

    def verified(self, now: datetime) -> Policy:
        """Return the policy, if it is signed by enough parties and has not expired.

        Raises:
            WireError: It is not.

        """
        policy = verify(
            root=self.root,
            snapshot=self.snapshot,
            targets=self.targets,
            policy=self.policy,
            now=now,
        )
        check_parties(self.root, policy)
        return policy

    @property
    def root_sha256(self) -> str:
        """The digest of the root, to compare with what the parties say it is."""
        return sha256(self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKeys:
    """How a policy has to name this guard."""

    signing_key: bytes  # raw Ed25519
    witness: str  # C2SP verifier key
    lease_key: bytes  # raw Ed25519

    @property
    def three(self) -> Three:
        """The same as a policy writes them."""
        signing, lease = (
            base64.b64encode(raw).decode("ascii") for raw in (self.signing_key, self.lease_key)
        )
        return (signing, self.witness, lease)

    def check_named(self, policy: Policy) -> None:
        """Check that *policy* names this guard.

        Raises:
            RejectedError: It names another.

        """
        if base64.b64encode(self.signing_key).decode("ascii") != policy.guard.signing_key:
            raise RejectedError("this policy names another guard: its signing_key is not ours")
        if policy.guard.witness != self.witness:
            raise RejectedError("this policy names another guard: its witness is not ours")
        if base64.b64encode(self.lease_key).decode("ascii") != policy.guard.lease_key:
            raise RejectedError("this policy names another guard: its lease_key is not ours")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnWitness:
    """How a policy has to name a witness that is nothing else."""

    witness: str  # C2SP verifier key

    def check_named(self, policy: Policy) -> None:
        """Check that *policy* names this witness.

        Raises:
            RejectedError: It does not.

        """
        if self.witness not in {each.key for each in policy.witnesses}:
            raise RejectedError("this policy does not name this witness; it is not for us")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOrNext:
    """How a policy has to name this guard while it has announced other keys: all by the one set.

    A policy that names a former key, or mixes the two, is for no guard that there is.
    """

    now: OwnKeys | OwnWitness
    announced: OwnKeys | OwnWitness | None

    def names_next(self, policy: Policy) -> bool:
        """Whether *policy* names the keys that were announced."""
        if self.announced is None:
            return False
        try:
            self.announced.check_named(policy)
        except RejectedError:
            return False
        return True

    def check_named(self, policy: Policy) -> None:
        """Check that *policy* names this guard.

        Raises:
            RejectedError: It names another.

        """
        if not self.names_next(policy):
            self.now.check_named(policy)


def read_policy_set(folder: Path) -> PolicySet:
    """Return the files that `assent-govern sign` leaves in *folder*.

    Raises:
        SetupError: One of them is not there.

    """
    try:
        return PolicySet(
            root=(folder / "root.json").read_bytes(),
            snapshot=(folder / "snapshot.json").read_bytes(),
            targets=(folder / "targets.json").read_bytes(),
            policy=(folder / "policy.json").read_bytes(),
            earlier_roots=earlier_roots(folder),
        )
    except OSError as exc:
        raise SetupError(f"{exc.filename}: {exc.strerror}; give the signed folder") from exc


def earlier_roots(folder: Path) -> tuple[bytes, ...]:
    """Return the roots that lead to the newest, the oldest first."""
    named = ((path.name.partition(".")[0], path) for path in folder.glob("*.root.json"))
    numbered = sorted((int(number), path) for number, path in named if number.isdecimal())
    return tuple(path.read_bytes() for _number, path in numbered)


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
    offered: PolicySet,
    installed: PolicySet | None,
    own: OwnKeys | OwnWitness | OwnOrNext,
    now: datetime,
) -> Policy:
    """Return the offered policy, if it may take the place of the installed one.

    Raises:
        WireError: It is not signed as it must be, or has expired.
        RejectedError: Older than the installed one, under another root, or another guard's.

    """
    policy = offered.verified(now)
    check_line((*offered.earlier_roots, offered.root))
    own.check_named(policy)
    if installed is None:
        return policy
    follow_roots(installed.root, [*offered.earlier_roots, offered.root])
    if version_of(offered.root, Root) < version_of(installed.root, Root):
        raise RejectedError("this policy has an older root than the one that is installed")
    before = decode_policy(installed.policy)
    if policy.version < before.version or (
        policy.version == before.version and offered.policy != installed.policy
    ):
        raise RejectedError(
            f"policy version {before.version} is installed; a newer one needs a higher version"
        )
    roles: tuple[tuple[type[Any], bytes, bytes], ...] = (
        (Snapshot, offered.snapshot, installed.snapshot),
        (Targets, offered.targets, installed.targets),
    )
    for role, theirs, ours in roles:
        if version_of(theirs, role) < version_of(ours, role):
            raise RejectedError(f"this policy has an older {role.type} than the one installed")
    return policy


def install(path: Path, offered: PolicySet) -> None:
    """Make *offered* the policy that the guard acts on: whole or not at all."""
    replace(path, msgspec.json.encode(offered))
