"""A fleet in virtual time: whatever each device was doing, a halt and the end of a lease close all.

Each device has its own state folder, its own beginning and its own luck; refresh, load, facts and
gate are the real ones, the metadata are real TUF, signed by real keys, and the guard that cosigns
each lease is the real one.  Online the agents' own polls and upkeep run too, against a real
collector and guard.  Only time is made: nothing here waits.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from agent.delivery import POLL_SECONDS
from base.clock import NANOSECONDS
from collector.guard.watch import LOOK_SECONDS, Watch
from collector.policies import TIMESTAMP_NAME
from guard.halt import Halts
from guard.lease import Leases
from tests.conftest import Size
from tests.fakes.fleet import FleetDevice, granted, moment
from tests.fakes.fleet_online import OnlineDevice, Programme
from tests.fakes.organisation import NOW, Organisation, PolicyFolder, wall
from tests.fakes.repository import Repository
from tests.fakes.site import Site, collector_site
from tests.fakes.virtual_time import VirtualClock, VirtualLoop
from wire.control import Reason
from wire.lease import offer
from wire.policy import LEASE_SECONDS

QUARTER: Final = LEASE_SECONDS // 4  # when the collector makes a new lease
BEGINS_WITHIN: Final = 3_600  # seconds in which the fleet is enrolled
GONE_BY: Final = BEGINS_WITHIN + 2 * 3_600
ONLINE_HALT_AT: Final = 8 * LOOK_SECONDS + 0.001  # after all have begun, and just after a look
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

    def fetch(self, name: str) -> bytes | None:
        if name == TIMESTAMP_NAME:
            self._renew()
        return self.repository.fetch(name)

    def _renew(self) -> None:
        if self._made is not None and self.seconds - self._made < QUARTER:
            return
        at: datetime = NOW + timedelta(seconds=int(self.seconds))
        offered = offer(
            snapshot=self.published.snapshot,
            version=int(at.timestamp()),
            expires=at + timedelta(seconds=LEASE_SECONDS),
            key=self.organisation.collector_lease,
        )
        signed = self._guard.renew(offered, self._installed, wall(at))
        self.repository.files[TIMESTAMP_NAME] = signed
        self._made = int(self.seconds)


class Member:
    """One device of the fleet: when it was enrolled, when it polls, when it goes offline."""

    def __init__(
        self, folder: Path, authority: Authority, dice: random.Random, begins: float
    ) -> None:
        self.authority = authority
        self.begins = begins
        self.goes_offline = dice.uniform(begins, GONE_BY)
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


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(7_200)  # at full size it takes half an hour
def test_online_every_agent_is_closed_within_ten_seconds_of_a_halt(
    tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Called at the guard at the worst moment: just after the collector has looked there.

    Collector and guard are the real ones, with TLS between them.  Each agent was started at a
    moment of its own, and polls by itself from then on.
    """
    count, dice = size(share=60, full=10_000), random.Random(1)  # noqa: S311 - a story, no secret
    loop = VirtualLoop()
    clock = VirtualClock(loop)
    with (
        collector_site(tmp_path / "site") as site,
        asyncio.Runner(loop_factory=lambda: loop) as run,
    ):
        site.clock.follows = clock
        programme = Programme.of(site)
        fleet = [OnlineDevice(programme, tmp_path / f"{n}", clock) for n in range(count)]
        starts = [dice.uniform(0, 2 * POLL_SECONDS) for _ in fleet]
        halted_at = run.run(a_halt(site, fleet, starts))
    assert all(each.closed_at is not None and each.closed_at > halted_at for each in fleet)
    assert all(each.reason() is Reason.HALTED_BY_ORG for each in fleet)
    slowest = max(each.closed_at or 0 for each in fleet) - halted_at
    assert slowest <= CLOSED_WITHIN * NANOSECONDS
    figure(
        f"{len(fleet)} of {count} agents online closed, the last {slowest / 1e9:.2f} s after the"
        f" halt, the first {(min(each.closed_at or 0 for each in fleet) - halted_at) / 1e9:.2f} s"
    )


async def a_halt(site: Site, fleet: list[OnlineDevice], starts: list[float]) -> int:
    """Start the fleet, halt, and wait as long as it may take; return when the halt was."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(looks(site))]
        for device, at in zip(fleet, starts, strict=True):
            running.append(tasks.create_task(begun(device, at)))
        await asyncio.sleep(ONLINE_HALT_AT)
        assert all(device.reason() is Reason.ACTIVE for device in fleet)
        assert all(device.opened_at is not None for device in fleet)
        halted_at = fleet[0].clock.now().boot
        halts = Halts(site.guard.folder / "halt.json")
        assert halts.call(site.guard.policy, "the council", "the guard", site.collector.now())
        await asyncio.sleep(CLOSED_WITHIN)
        for task in running:
            task.cancel()
    return halted_at


async def begun(device: OnlineDevice, at: float) -> None:
    await asyncio.sleep(at)
    await device.delivery.run()


async def looks(site: Site) -> None:
    """Look at the guard as the collector's own thread does."""
    watch = Watch(site.collector)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        watch.look()


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
