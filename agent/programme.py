"""The programme that this device takes part in: its policy, its guard, and what they allow.

What follows from the policy alone is here: which window is of a listed program, which
permit a grant leads to, what a batch is sealed to.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.consent import texts
from agent.consent.policy import IN_FORCE, PolicyInForce, load
from agent.consent.standing import Grant
from agent.enroll import Device
from agent.guard_keys import GuardKeys
from agent.handover import Permit, Rolled, SealedBatch
from agent.seal import Sealer, UnsealableError
from base.clock import NANOSECONDS, Now, local_time
from wire.category import Category
from wire.hours import Zone, closes_at, is_inside
from wire.ids import BootInstant, PolicyDigest, WallInstant
from wire.narrowing import forbids, widened
from wire.policy import Application, Policy

_LOG: Final = logging.getLogger(__name__)

READ_NANOSECONDS: Final = 60 * NANOSECONDS  # how late an expired policy may be noticed


class Programme:
    """The policy in force, read again each minute, and the guard's keys."""

    def __init__(self, folder: Path, device: Device, now: Now, zone: Zone = local_time) -> None:
        """Read the policy and the keys that are kept in *folder*."""
        self._zone = zone
        self._folder = folder
        self._device = device
        self._known: dict[PolicyDigest, Policy] = {}
        self._ends: tuple[Policy, Now, WallInstant | None] | None = None
        self.keys = GuardKeys(folder, device.subject)
        self.in_force = PolicyInForce(policy=None, digest=None)
        self._read(now)

    def keep_up(self, now: Now) -> None:
        """Read the policy again if it is another, its lease has ended, or that was long ago."""
        lapsed = self.in_force.policy is not None and not self.in_force.holds(now)
        another = _stamp(self._folder) != self._stamp
        if lapsed or another or now.boot - self._read_at >= READ_NANOSECONDS:
            self._read(now)

    def asked_for(self, now: Now) -> frozenset[Category]:
        """Return the categories that a valid policy asks for and could get anything of at *now*."""
        policy = self.in_force.policy
        if policy is None or not policy.applications or not self.within_hours(now):
            return frozenset()
        return frozenset(rule.category for rule in policy.categories)

    def within_hours(self, now: Now) -> bool | None:
        """Whether a valid policy lets anything be recorded at this time of the week."""
        policy = self.in_force.policy
        return None if policy is None else is_inside(policy.hours, self._zone(_wall(now)))

    def forbids(self, category: Category, recorded: PolicyDigest) -> bool:
        """Whether the policy in force forbids what was recorded of *category* under another.

        One that is not valid forbids nothing that was recorded before: it may come back.  What
        was recorded under a policy that is not known any more nobody can prove to be covered.
        """
        policy = self.in_force.policy
        if policy is None or recorded == self.in_force.digest:
            return False
        under = self._known.get(recorded)
        return under is None or bool(forbids(policy, under, category))

    def forbidden(self, under: Mapping[Category, PolicyDigest]) -> frozenset[Category]:
        """Return those of which it forbids what was recorded *under* another policy."""
        return frozenset(c for c, policy in under.items() if self.forbids(c, policy))

    def lists(self, process: str, window_class: str) -> bool:
        """Whether a window of this program may be recorded."""
        policy = self.in_force.policy
        application = Application(process=process, window_class=window_class)
        return policy is not None and application in policy.applications

    def permit(self, grant: Grant, now: Now) -> Permit | None:
        """Return what *grant* permits from now on, if the policy in force is no wider."""
        policy, digest = self.in_force.policy, self.in_force.digest
        category = grant.record.category
        agreed = self._known.get(PolicyDigest(grant.record.policy_digest))
        if policy is None or digest is None or agreed is None:
            return None
        rule = policy.rule(category)
        if rule is None or (agreed != policy and widened(agreed, policy)[category]):
            return None
        ends = self._closes_at(policy, now)
        return Permit(
            category=category,
            grant=grant.hash,
            policy=digest,
            level=rule.level,
            rate_hz=rule.rate_hz,
            since=BootInstant(now.boot),
            until=None if ends is None else BootInstant(now.boot + ends - now.wall),
        )

    def _closes_at(self, policy: Policy, now: Now) -> WallInstant | None:
        """Return when the policy's hours end; looked for once for all that opens at *now*."""
        if self._ends is None or self._ends[:2] != (policy, now):
            self._ends = policy, now, closes_at(policy.hours, _wall(now), self._zone)
        return self._ends[2]

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
            guard_keys=self.keys.of(policy.guard.signing_key),
        )
        return sealer.seal(rolled)

    def _read(self, now: Now) -> None:
        self._read_at = now.boot
        self._stamp = _stamp(self._folder)
        found = load(self._folder, now)
        # What the disk did not keep is known for as long as this process runs.
        self.in_force = replace(found, earlier={**self._known, **found.earlier})
        policy, digest = self.in_force.policy, self.in_force.digest
        if policy is not None and digest is not None:
            if digest not in found.earlier:
                self._keep(found.text)
            self._known.update({**self.in_force.earlier, digest: policy})
            self.keys.use_guard(policy.guard.signing_key)

    def _keep(self, text: bytes) -> None:
        try:
            texts.keep(self._folder, text)
        except OSError as exc:
            # What is agreed to now will be stale under the next policy; nothing is recorded
            # that should not be.  It is tried again when the policy is read again.
            _LOG.warning("the policy's text could not be kept: %s", exc.strerror)


def _wall(now: Now) -> WallInstant:
    return WallInstant(now.wall)


def _stamp(folder: Path) -> tuple[int, int]:
    """Return what changes when the policy's file is replaced."""
    try:
        found = (folder / IN_FORCE).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns
