"""The story of an agent whose disk breaks; the collector is a fake that never does."""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent.guard_orders import FILE_NAME as ORDERS
from agent.handover import Answered
from tests.fakes.books import Collector
from tests.fakes.organisation import Organisation
from tests.fakes.repository import Repository
from tests.fakes.still import StillWorkstation
from tests.fakes.story import KEYS, Story
from tests.fakes.syscalls import Fault
from wire.collector_http import Enrolment as EnrolmentFile
from wire.control import Pause, Resume
from wire.guard_order import Order, sign_order
from wire.ids import WallInstant

ANOTHER_AUTHORITY: Final = "another authority"


class DiskStory(Story[Collector]):
    """Makes every write that the source of the agent has."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        organisation = Organisation()
        policy = msgspec.structs.replace(organisation.policy(), hold_seconds=1)
        station = StillWorkstation(folder=folder, organisation=organisation, policy=policy)
        published = organisation.publish(folder.with_name("policy"), policy, at=datetime.now(UTC))
        collector = Collector(organisation, organisation.device, organisation.subject)
        station.collector = collector
        self.repository = Repository.of(organisation, published, datetime.now(UTC))
        collector.policy_file_of = self.repository.renewing(published, station.clock)
        file = EnrolmentFile(
            origin=policy.collector.origin,
            tls_pins=policy.collector.tls_pins,
            ca_pem="",
            token="token",
            root_sha256=hashlib.sha256(published.root).hexdigest(),
            expires_at=WallInstant(station.clock.now().wall + 10**15),
        )
        super().__init__(folder, patch, station, collector, file)
        collector.disk = self.disk
        self.books.opens = organisation.guard_seed
        for module in ("agent.__main__", "agent.enroll", "agent.renewal"):
            patch.setattr(f"{module}.Door", lambda *_arguments, **_options: collector)

    def tell(self) -> None:
        """Tell all of it."""
        self.enrol()
        self.life(self.agree, self.deliver, self.forget_what_may_be_sent, self.erase)
        self.life(self.set_aside, self.gone, self.doubt_the_clock, self.opt_out_elsewhere)
        self.life(self.fill_the_disk)
        self.enrol_again()
        self.life(self.mend_an_append, self.leave_something_held, killed=True)
        self.leave_litter()
        self.life(self.deliver)
        self.opt_out_without_an_agent()
        self.lose_the_last_byte()
        self.suspend(days=5)
        self.collector.ca_pem = ANOTHER_AUTHORITY
        self.publish_a_newer_policy()
        self.life(
            self.renewed,
            self.newly_governed,
            self.erased_by_the_guard,
            self.opt_in,
            self.agree,
            self.deliver,
        )
        self.spoil_the_ledger()
        self.life(self.agree, self.deliver, self.halt)
        self.check_the_end()
        assert self.station.device.enrolment.ca_pem == ANOTHER_AUTHORITY

    def publish_a_newer_policy(self) -> None:
        """Let the parties sign another policy, for which everybody is asked anew."""
        old, folder = self.station.policy, self.folder.with_name("policy")
        longer = f"{old.notice}\n\nOne more paragraph."
        newer = msgspec.structs.replace(old, version=old.version + 1, notice=longer)
        self.station.policy = newer
        published = self.station.organisation.publish(folder, newer, at=datetime.now(UTC))
        self.repository.publish(published, datetime.now(UTC))

    async def newly_governed(self) -> None:
        """Have the newer policy in force."""
        await self.until(lambda: self.service.policy.policy == self.station.policy)
        assert not self.service.pipeline.permits()

    async def erased_by_the_guard(self) -> None:
        """Hear what the guard erased by its own hand: a month of which nothing was recorded."""
        order = Order(
            origin=self.station.policy.collector.origin,
            subject=self.station.device.subject,
            category=KEYS,
            month="2026-01",
            at=WallInstant(self.station.clock.now().wall),
        )
        self.collector.orders = (sign_order(order, self.station.organisation.guard),)
        kept = self.station.paths.state / ORDERS
        await self.until(kept.exists)

    async def fill_the_disk(self) -> None:
        """Have no block left: what waits is receipted, for which the spare room is given up."""
        await self.work(KEYS)
        self.collector.loses_answers = True
        await self.say(Pause())
        await self.until(lambda: any(b.local.maybe_sent for b in self.service.spool.ready()))
        self.collector.loses_answers = False
        with self.disk.full():
            await self.until(self._is_delivered)
        await self.say(Resume())

    async def set_aside(self) -> None:
        """Meet a collector that will never take a batch."""
        await self.work(KEYS)
        self.collector.answers["send"] = Answered(status=422, says="malformed: cut short")
        await self.say(Pause())
        await self.until(lambda: self.service.spool.number_quarantined() > 0)
        self.collector.answers.clear()
        await self.say(Resume())

    async def gone(self) -> None:
        """Meet a collector that was told by others to forget a batch."""
        await self.work(KEYS)
        self.collector.erased = True
        await self.say(Pause())
        await self.until(self._is_delivered)
        self.collector.erased = False
        await self.say(Resume())


@contextlib.contextmanager
def story_on(folder: Path, at: int = -1, fault: Fault = Fault.FAILS) -> Iterator[DiskStory]:
    """Yield a story on a disk that breaks at call *at*; it is told by whoever asked for it."""
    home = folder / "home"
    home.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        story = DiskStory(home, patch)
        story.disk.break_at(at, fault)
        yield story
