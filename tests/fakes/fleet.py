"""A device as far as the policy goes: the real refresh, the real load, the real facts and gate.

Sensors, tray and spool are left out; consent is given, the icon is shown, there is room.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from agent.consent.entries import Halted
from agent.consent.facts import Situation, facts_of
from agent.consent.gate import decide
from agent.consent.policy import PolicyInForce, load
from agent.consent.refresh import refresh
from agent.consent.standing import Grant, Standing
from agent.consent.states import Consent
from base.clock import NANOSECONDS, Now
from tests.fakes.organisation import NOW, Organisation, PolicyFolder, wall
from tests.fakes.repository import enrol
from wire.category import Category
from wire.control import Reason
from wire.grant import grant_hash, verify_consent
from wire.ids import PolicyDigest

Fetch = Callable[[str], bytes | None]


def moment(at: datetime = NOW, *, seconds: float = 0) -> Now:
    """Return the reading of both clocks so long after *at*."""
    passed = int(seconds * NANOSECONDS)
    return Now(boot=1_000 * NANOSECONDS + passed, wall=wall(at) + passed, boot_id="one")


def granted(organisation: Organisation, digest: PolicyDigest) -> Standing:
    """Return the standing of somebody who agreed to keys under the policy of this digest."""
    signed = organisation.consent(digest)
    record = verify_consent(signed, organisation.device.public_key())
    grant = Grant(signed=signed, record=record, hash=grant_hash(signed), first_at=record.given_at)
    return Standing(
        consents={**Standing().consents, Category.KEYS: Consent.GIVEN},
        grants={Category.KEYS: grant},
        stands_under={Category.KEYS: digest},
    )


@dataclass
class FleetDevice:
    """One enrolled device."""

    state: Path
    fetch: Fetch
    standing: Standing
    policy: PolicyInForce = field(default_factory=lambda: PolicyInForce(policy=None, digest=None))

    @classmethod
    def enrolled(
        cls, state: Path, published: PolicyFolder, fetch: Fetch, standing: Standing, now: Now
    ) -> "FleetDevice":
        """Return a device that was enrolled just now."""
        state.mkdir(parents=True, exist_ok=True)
        enrol(state, published, fetch, now)
        device = cls(state, fetch, standing)
        device.policy = load(state, now)
        return device

    def refresh(self, now: Now) -> None:
        """Ask the collector for the policy, as `agent.delivery` does."""
        refresh(self.state, self.fetch, now)
        self.policy = load(self.state, now)

    def halt(self, why: str) -> None:
        """Note that the collector said halt, as the service does."""
        halted = Halted(policy=self.policy.digest or b"", why=why)
        self.standing = dataclasses.replace(self.standing, halted=halted)

    def reason(self, now: Now, *, anew: bool = True) -> Reason:
        """Return what the gate says; *anew* reads the policy from the disk first."""
        if anew:
            self.policy = load(self.state, now)
        situation = Situation(
            now=now,
            standing=self.standing,
            policy=self.policy,
            session_ours=True,
            secret=False,
            indicator_shown=True,
            inside_scope=True,
            within_hours=True,
            redacting=True,
            storable=dict.fromkeys(Category, True),
        )
        verdict = decide(facts_of(situation))
        assert (verdict.reason is Reason.ACTIVE) == bool(verdict.categories)
        return verdict.reason
