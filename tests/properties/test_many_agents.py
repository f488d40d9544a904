"""A fleet in virtual time: whatever each device was doing, a halt and the end of a lease close all.

Each device has its own state folder, its own beginning and its own luck; refresh, load, facts and
gate are the real ones, the metadata are real TUF, signed by real keys, and the guard that cosigns
each lease is the real one.  Only time is made: nothing here sleeps or reads a clock.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from agent.delivery import POLL_SECONDS
from agent.upkeep import UPKEEP_SECONDS
from collector.policies import TIMESTAMP_NAME
from collector.watch import LOOK_SECONDS
from guard.lease import Leases
from tests.conftest import Size
from tests.fakes.fleet import FleetDevice, granted, moment
from tests.fakes.organisation import NOW, Organisation, PolicyFolder, wall
from tests.fakes.repository import Repository
from wire.control import Reason
from wire.lease import offer
from wire.policy import LEASE_SECONDS

QUARTER: Final = LEASE_SECONDS // 4  # when the collector makes a new lease
BEGINS_WITHIN: Final = 3_600  # seconds in which the fleet is enrolled
HALTED_AT: Final = BEGINS_WITHIN + 2 * 3_600
CLOSED_WITHIN: Final = 10  # seconds after a halt, for every agent that is online


class Authority:
    """The collector's and the guard's halves of the lease, in virtual time."""

    def __init__(self, folder: Path) -> None:
        self.organisation = Organisation()
        self.published: PolicyFolder = self.organisation.publish(folder / "policy")
        self.repository = Repository(self.organisation)
        self.repository.publish(self.published)
        self._guard = Leases.open(folder / "lease.json", self.organisation.guard_lease)
        self._installed = self.published.policy_set()
        self._made: int | None = None
        self.seconds = 0.0
        self.why_halted = ""

    def fetch(self, name: str) -> bytes | None:
        if name == TIMESTAMP_NAME:
            self._renew()
        return self.repository.fetch(name)

    def _renew(self) -> None:
        if self._made is not None and self.seconds - self._made < QUARTER:
            return
        if self.why_halted:
            return
        at: datetime = NOW + timedelta(seconds=int(self.seconds))
        offered = offer(
            snapshot=self.published.snapshot,
            version=int(at.timestamp()),
            expires=at + timedelta(seconds=LEASE_SECONDS),
            key=self.organisation.collector_lease,
        )
        signed = self._guard.renew(offered, self._installed, wall(at), self.why_halted)
        self.repository.files[TIMESTAMP_NAME] = signed
        self._made = int(self.seconds)


class Member:
    """One device of the fleet: when it was enrolled, when it polls, when it goes offline."""

    def __init__(
        self, folder: Path, authority: Authority, dice: random.Random, begins: float
    ) -> None:
        self.authority = authority
        self.begins = begins
        self.poll_phase = dice.uniform(0, POLL_SECONDS)
        self.goes_offline = dice.uniform(begins, HALTED_AT)
        authority.seconds = begins
        digest = authority.published.digest
        standing = granted(authority.organisation, digest)
        now = moment(seconds=begins)
        self.device = FleetDevice.enrolled(
            folder, authority.published, authority.fetch, standing, now
        )
        assert self.device.reason(now) is Reason.ACTIVE

    def refreshes_at(self, seconds: float) -> None:
        self.authority.seconds = seconds
        self.device.refresh(moment(seconds=seconds))

    def next_poll(self, seconds: float) -> float:
        """Return when this device asks for the state next, at or after *seconds*."""
        return seconds + (self.poll_phase - seconds) % POLL_SECONDS


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(7_200)  # at full size it takes half an hour
def test_online_every_agent_is_closed_within_ten_seconds_of_a_halt(
    tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Called at the guard: the collector looks, then each agent, wherever in its poll it is."""
    count = size(share=60, full=10_000)
    authority, dice = Authority(tmp_path), random.Random(1)  # noqa: S311 - a story, no secret
    begins = sorted(dice.uniform(0, BEGINS_WITHIN) for _ in range(count))
    fleet = [Member(tmp_path / f"{n}", authority, dice, at) for n, at in enumerate(begins)]
    last = sorted(HALTED_AT - dice.uniform(0, UPKEEP_SECONDS) for _ in fleet)
    for member, at in zip(fleet, last, strict=True):  # each somewhere in its five minutes
        member.refreshes_at(at)
    authority.why_halted = "the council"
    slowest, closed = 0.0, 0
    for member in fleet:
        before = moment(seconds=HALTED_AT)
        assert member.device.reason(before) is Reason.ACTIVE
        heard_at = member.next_poll(HALTED_AT + LOOK_SECONDS)
        member.device.halt(authority.why_halted)
        assert member.device.reason(moment(seconds=heard_at)) is Reason.HALTED_BY_ORG
        slowest = max(slowest, heard_at - HALTED_AT)
        closed += 1
    assert closed == count
    assert slowest <= LOOK_SECONDS + POLL_SECONDS <= CLOSED_WITHIN
    figure(f"{closed} of {count} agents online closed, the last {slowest:.1f} s after the halt")


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(7_200)  # at full size it takes half an hour
def test_offline_every_agent_is_closed_when_its_lease_ends(
    tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Each went away at a moment of its own, and some were switched off and on in between."""
    count = size(share=60, full=10_000)
    authority, dice = Authority(tmp_path), random.Random(2)  # noqa: S311 - a story, no secret
    begins = sorted(dice.uniform(0, BEGINS_WITHIN) for _ in range(count))
    fleet = [Member(tmp_path / f"{n}", authority, dice, at) for n, at in enumerate(begins)]
    for member in sorted(fleet, key=lambda each: each.goes_offline):
        member.refreshes_at(member.goes_offline)
    longest, closed = 0.0, 0
    for number, member in enumerate(fleet):
        lease = member.device.policy.lease
        assert lease is not None
        left = (lease.until.boot - moment(seconds=member.goes_offline).boot) / 1e9
        assert 0 < left <= LEASE_SECONDS
        ends = member.goes_offline + left
        open_still = moment(seconds=ends - 1)
        shut = moment(seconds=ends + 0.001)
        if number % 3 == 0:  # it was switched off and on: only the wall clock can tell
            open_still, shut = (
                type(at)(boot=at.wall % 1_000, wall=at.wall, boot_id="next")
                for at in (open_still, shut)
            )
        assert member.device.reason(open_still) is Reason.ACTIVE
        assert member.device.reason(shut, anew=False) is Reason.POLICY_INVALID
        assert member.device.reason(shut) is Reason.POLICY_INVALID
        longest = max(longest, left)
        closed += 1
    assert closed == count
    figure(
        f"{closed} of {count} agents offline closed, the last {longest / 3600:.2f} h after it"
        f" heard from the collector (a lease has {LEASE_SECONDS / 3600:.0f} h)"
    )
