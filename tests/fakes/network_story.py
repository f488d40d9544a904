"""The story of an agent whose network breaks; collector and guard are the real ones."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.config import Config
from agent.enroll import CERTIFICATE, Device
from agent.service import Service
from collector.index.tables import batches
from tests.fakes.network import Break, Network
from tests.fakes.organisation import Organisation
from tests.fakes.site import Site, collector_site
from tests.fakes.still import StillWorkstation
from tests.fakes.story import Story
from wire.collector_http import Enrolment as EnrolmentFile
from wire.ids import BatchHash, WallInstant
from wire.policy import Policy

MOST_RENEWALS = 3


class HastyOrganisation(Organisation):
    """Holds what was recorded for a second only."""

    def policy(self, **changes: object) -> Policy:
        return super().policy(**{"hold_seconds": 1, **changes})


class RealCollector:
    """What the real collector has of one device, as the books want to know it."""

    def __init__(self, site: Site) -> None:
        self.network: Network | None = None
        self.gone: set[str] = set()
        self._site = site
        self._device: Device | None = None

    @property
    def loses_answers(self) -> bool:
        assert self.network is not None
        return self.network.loses_answers

    @loses_answers.setter
    def loses_answers(self, value: bool) -> None:
        assert self.network is not None
        self.network.loses_answers = value

    @property
    def frames(self) -> Mapping[str, bytes]:
        """What it has of this device."""
        if self._device is None:
            return {}
        collector = self._site.collector
        with collector.index.reading() as connection:
            mine = select(batches.c.batch).where(batches.c.device == self._device.id)
            names = [BatchHash(row) for row in connection.execute(mine).scalars()]
        return {name.hex(): collector.store.get(name) or b"" for name in names}

    @property
    def accepted(self) -> list[bytes]:
        """All that was ever handed to it."""
        assert self.network is not None
        return self.network.put

    @property
    def renewals(self) -> int:
        assert self.network is not None
        return self.network.renewals

    def meet(self, device: Device) -> None:
        self._device = device

    def halts(self, why: str) -> None:
        self._site.halts(why)


class NetworkStory(Story[RealCollector]):
    """Makes every request that the agent knows."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, site: Site) -> None:
        self._site = site
        station = StillWorkstation(folder=folder, organisation=site.org, policy=site.policy)
        site.clock.follows = station.clock
        root = (site.premises.paths.config.parent / "policy" / "root.json").read_bytes()
        file = EnrolmentFile(
            origin=site.origin,
            tls_pins=(site.premises.tls_pin(),),
            ca_pem=site.premises.authority().pem.decode(),
            token=site.token(),
            root_sha256=hashlib.sha256(root).hexdigest(),
            expires_at=WallInstant(station.clock.now().wall + 10**15),
        )
        super().__init__(folder, patch, station, RealCollector(site), file)
        self.network = self.collector.network = Network(self.disk)
        self.network.install(patch)

    def tell(self) -> None:
        """Tell all of it."""
        self.enrol()
        self.life(self.agree, self.deliver, self.forget_what_may_be_sent, self.erase)
        (self.station.paths.state / CERTIFICATE).unlink()
        for _attempt in range(MOST_RENEWALS):
            self.life(self.wait_for_renewal)
        assert self.collector.renewals
        self.life(self.deliver, self.halt)
        self._site.publishes()
        self.check_the_end()

    async def wait_for_renewal(self) -> None:
        """Wait for as long as a first attempt takes; the next comes with the next start."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: self.collector.renewals > 0, seconds=5)

    def make_service(self, config: Config) -> Service:
        """Return the agent with its real door."""
        station = self.station
        return Service(
            station.paths,
            config,
            station.device,
            clock=station.clock,
            start=station._start,  # noqa: SLF001 - as the station itself would
            watch=station.watches,
            opt_outs=lambda _config: station.outside,
        )


@contextlib.contextmanager
def hasty_site(folder: Path) -> Iterator[Site]:
    """Run a real collector and guard whose policy has a short hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fakes.site.Organisation", HastyOrganisation)
        with collector_site(folder) as site:
            yield site


@contextlib.contextmanager
def network_story_on(
    folder: Path, site: Site, at: int = -1, how: Break = Break.REFUSED
) -> Iterator[NetworkStory]:
    """Yield a story on a network that breaks at request *at*."""
    home = folder / "home"
    home.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        story = NetworkStory(home, patch, site)
        story.network.break_at(at, how)
        yield story
