"""The programme that this device takes part in: its policy, its guard, and what they allow.

What follows from the policy alone is here: which window is of a listed program, which
permit a grant leads to, what a batch is sealed to.
"""

from pathlib import Path
from typing import Final

from agent.consent.policy import IN_FORCE, PolicyInForce, load
from agent.consent.standing import Grant
from agent.enroll import Device
from agent.guard_keys import GuardKeys
from agent.handover import Permit, Rolled, SealedBatch
from agent.seal import Sealer, UnsealableError
from base.clock import NANOSECONDS, Now
from wire.category import Category
from wire.ids import BootInstant, PolicyDigest
from wire.policy import Application, Policy

READ_NANOSECONDS: Final = 60 * NANOSECONDS  # how late an expired policy may be noticed


class Programme:
    """The policy in force, read again each minute, and the guard's keys."""

    def __init__(self, folder: Path, device: Device, now: Now) -> None:
        """Read the policy and the keys that are kept in *folder*."""
        self._folder = folder
        self._device = device
        self._known: dict[PolicyDigest, Policy] = {}
        self.keys = GuardKeys(folder, device.subject)
        self.in_force = PolicyInForce(policy=None, digest=None)
        self._read(now)

    def keep_up(self, now: Now) -> None:
        """Read the policy again if it is another, its lease has ended, or that was long ago."""
        lapsed = self.in_force.policy is not None and not self.in_force.holds(now)
        another = _stamp(self._folder) != self._stamp
        if lapsed or another or now.boot - self._read_at >= READ_NANOSECONDS:
            self._read(now)

    @property
    def asked_for(self) -> frozenset[Category]:
        """The categories that a valid policy asks for and could get anything of."""
        policy = self.in_force.policy
        if policy is None or not policy.applications:
            return frozenset()
        return frozenset(rule.category for rule in policy.categories)

    def lists(self, process: str, window_class: str) -> bool:
        """Whether a window of this program may be recorded."""
        policy = self.in_force.policy
        application = Application(process=process, window_class=window_class)
        return policy is not None and application in policy.applications

    def permit(self, grant: Grant, now: Now) -> Permit | None:
        """Return what *grant* permits from now on under the policy in force."""
        policy, digest = self.in_force.policy, self.in_force.digest
        category = grant.record.category
        rule = None if policy is None else policy.rule(category)
        if rule is None or digest is None or grant.record.policy_digest != digest:
            return None
        return Permit(
            category=category,
            grant=grant.hash,
            policy=digest,
            level=rule.level,
            rate_hz=rule.rate_hz,
            since=BootInstant(now.boot),
        )

    def seal(self, rolled: Rolled) -> SealedBatch:
        """Seal under the policy that allowed the capture, though it may have expired since.

        Raises:
            UnsealableError: See `seal.Sealer.seal`.

        """
        policy = self._known.get(rolled.permit.policy)
        if policy is None:
            raise UnsealableError("its policy is not known any more")
        sealer = Sealer(
            policy=policy,
            origin=self._device.enrolment.origin,
            device=self._device.id,
            subject=self._device.subject,
            subject_key=self._device.enrolment.subject_key,
            guard_keys=self.keys.keys,
        )
        return sealer.seal(rolled)

    def _read(self, now: Now) -> None:
        self._read_at = now.boot
        self._stamp = _stamp(self._folder)
        self.in_force = load(self._folder, now)
        policy, digest = self.in_force.policy, self.in_force.digest
        if policy is not None and digest is not None:
            self._known[digest] = policy
            self.keys.use_guard(policy.guard.signing_key)


def _stamp(folder: Path) -> tuple[int, int]:
    """Return what changes when the policy's file is replaced."""
    try:
        found = (folder / IN_FORCE).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns
