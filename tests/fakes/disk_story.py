"""The story of an agent whose disk breaks; the collector is a fake that never does."""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.handover import Answered
from tests.fakes.books import Collector
from tests.fakes.organisation import Organisation
from tests.fakes.still import StillWorkstation
from tests.fakes.story import KEYS, Story
from tests.fakes.syscalls import Fault
from wire.collector_http import Enrolment as EnrolmentFile
from wire.control import Pause, Resume
from wire.ids import WallInstant


class DiskStory(Story[Collector]):
    """Makes every write that the source of the agent has."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        organisation = Organisation()
        policy = msgspec.structs.replace(organisation.policy(), hold_seconds=1)
        station = StillWorkstation(folder=folder, organisation=organisation, policy=policy)
        published = organisation.publish(folder.with_name("policy"), policy, at=datetime.now(UTC))
        collector = Collector(
            organisation, organisation.device, organisation.subject, published=published.folder
        )
        station.collector = collector
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
        self.life(self.mend_an_append, self.leave_something_held, killed=True)
        self.leave_litter()
        self.life(self.deliver)
        self.opt_out_without_an_agent()
        self.suspend(days=5)
        self.life(self.renewed, self.opt_in, self.deliver)
        self.spoil_the_ledger()
        self.life(self.agree, self.deliver, self.halt)
        self.check_the_end()

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
