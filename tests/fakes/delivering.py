"""A real agent's delivery against a real collector, over TLS on loopback, without a desktop.

Ledger, spool, certificate, policy and network door are the real ones; what is missing is
capture: `seal` puts a finished batch into the spool.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.calls import Calls
from agent.consent.entries import Entry, Granted
from agent.consent.ledger import Ledger
from agent.consent.policy import PolicyInForce, load
from agent.consent.standing import Standing
from agent.delivery import Delivery
from agent.enroll import CERTIFICATE, ENROLMENT, KEY, Device, Enrolment, load_device
from agent.erasures import Erasures
from agent.guard_keys import GuardKeys
from agent.handover import SealedBatch, Span
from agent.numbers import Numbers
from agent.spool import Spool
from base.clock import SystemClock
from base.proxy import Proxy
from tests.fakes.organisation import PolicyFolder
from tests.fakes.repository import enrol
from tests.fakes.site import Site, Workstation
from tests.fakes.workstation import ShiftedClock, eventually
from wire.category import Category
from wire.collector_http import State
from wire.frame import TRAILER_BYTES
from wire.grant import SignedConsent, grant_hash
from wire.rights import SignedRequest
from wire.sealing import recipient_of


@dataclass(kw_only=True)
class Delivering:
    """An enrolled device with something to send."""

    site: Site
    station: Workstation
    folder: Path
    signed: SignedConsent
    proxy: Proxy | None = None
    clock: ShiftedClock = field(default_factory=ShiftedClock)
    halts: list[str] = field(default_factory=list)
    log_doubts: list[str] = field(default_factory=list)  # empty ones: it fits

    @classmethod
    def enrolled(cls, site: Site, folder: Path) -> "Delivering":
        """Enrol a new device at *site*, and let its data subject agree to keys."""
        station = site.workstation()
        folder.mkdir()
        certificate, key = station.files
        (folder / KEY).write_bytes(key.read_bytes())
        (folder / CERTIFICATE).write_bytes(certificate.read_bytes())
        published = PolicyFolder(site.policy_folder)
        enrol(folder, published, site.policy_file, SystemClock().now())
        enrolment = Enrolment(
            origin=site.origin,
            tls_pins=site.premises.tls_pins(),
            ca_pem=site.premises.trusted_pem(),
            subject=station.org.subject,
            subject_key=recipient_of(station.org.subject_identity),
            rights_key=station.org.speaker().rights_key,
            appointment=station.org.speaker().appointment,
            enrolled_at=0,
        )
        (folder / ENROLMENT).write_bytes(msgspec.json.encode(enrolment))
        return cls(site=site, station=station, folder=folder, signed=station.consents())

    def __post_init__(self) -> None:
        """Open ledger and spool."""
        self.calls = Calls(self)
        now, key = self.clock.now(), self.station.org.device
        self.ledger = Ledger.open(self.folder, key.public_key(), now)
        self.ledger.append(Granted(signed=self.signed, words="w", notice="n"), now)
        self.reopen()

    def reopen(self) -> None:
        """Open the spool anew, as the next start of the agent does."""
        now, key = self.clock.now(), self.station.org.device
        self.spool = Spool(self.folder / "spool", key, Numbers(self.folder), now)

    @property
    def device(self) -> Device:
        return load_device(self.folder, self.proxy)

    # --- what the delivery asks of its host ---------------------------------------------

    @property
    def standing(self) -> Standing:
        return self.ledger.standing

    @property
    def policy(self) -> PolicyInForce:
        return load(self.folder, self.clock.now())

    def write_down(self, entry: Entry) -> None:
        self.ledger.append(entry, self.clock.now())

    def on_state(self, state: State) -> None:
        if state.halted:
            self.halts.append(state.why)

    async def on_demands(self, demands: tuple[SignedRequest, ...]) -> None:
        pass

    def poke(self) -> None:
        pass

    def on_log(self, why: str) -> None:
        self.log_doubts.append(why)

    def on_news(self) -> None:
        pass

    # --- what a test does ---------------------------------------------------------------

    def seal(self, **changes: object) -> bytes:
        """Put a batch into the spool, ready to be sent; return its signed frame."""
        self.station.door = self.site.door(self.folder / CERTIFICATE, self.folder / KEY)
        unsigned = self.station.seals(self.signed, **changes)[:-TRAILER_BYTES]
        digest = self.policy.digest
        assert digest is not None
        sealed = SealedBatch(
            name=hashlib.sha256(unsigned).hexdigest(),
            category=Category.KEYS,
            grant=grant_hash(self.signed),
            policy=digest,
            span=Span(first_wall=0, last_wall=0, first_boot=0, last_boot=0, boot_id="b"),
            events=1,
            expires="2099-01-01",
            unsigned=unsigned,
            age_header=b"",
        )
        before = {spooled.name for spooled in self.spool.ready()}
        self.spool.put(sealed, self.clock.now())
        self.spool.leave_hold(dataclasses.replace(self.clock.now(), boot_id="later"), 0)
        (name,) = {spooled.name for spooled in self.spool.ready()} - before
        return self.spool.read(name)

    def deliver(self, until: Callable[[Delivery], bool]) -> None:
        """Let the delivery run until *until* holds."""

        async def story() -> None:
            async with self.running() as delivery:
                await eventually(lambda: until(delivery))

        asyncio.run(story())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Delivery]:
        """Let the delivery run until the block ends."""
        erasures = Erasures(self.folder, self.device.asker)
        keys = GuardKeys(self.folder, self.device.subject)
        delivery = Delivery(self, self.device, self.spool, erasures, keys, self.clock)
        task = asyncio.create_task(delivery.run())
        try:
            yield delivery
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
