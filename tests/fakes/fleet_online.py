"""A device of a fleet that talks to the collector by itself: the real delivery, polls and all.

`agent.delivery` with its poll and its upkeep, `agent.calls` and the gate are the real ones, and
so are spool, requests and keys on the disk.  The door answers as the collector's own code does;
only TLS between the two is left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.calls import Calls
from agent.consent.entries import Entry, Line
from agent.consent.policy import PolicyInForce, load
from agent.consent.refresh import trust
from agent.consent.standing import Standing, after
from agent.delivery import Delivery
from agent.enroll import CERTIFICATE, Device, Enrolment
from agent.erasures import Erasures
from agent.guard_keys import GuardKeys
from agent.numbers import Numbers
from agent.spool import Spool
from base import durable
from base.clock import Clock, Now
from base.pki import Authority, Role, client_uri, signing_request, spki_sha256
from collector import halt
from tests.fakes.fleet import FleetDevice, granted
from tests.fakes.organisation import WITNESS_NAME
from tests.fakes.site import Site
from tests.fakes.workstation import ALWAYS_FRESH, FakeCollector
from wire.category import Category
from wire.collector_http import State
from wire.control import Reason
from wire.guard_http import KeyAnswer
from wire.rights import SignedRequest
from wire.sealing import recipient_of
from wire.tlog import cosign


class SiteDoor(FakeCollector):
    """What the collector of a site says about policy, lease, stops and halts."""

    def __init__(self, site: Site) -> None:
        org = site.org
        super().__init__(org, org.device, org.subject, policy_file_of=site.policy_file)
        self._site = site
        self._witnessed: dict[str, str] = {}
        self._keys: dict[str, KeyAnswer] = {}  # each takes a while to make

    def state(self) -> State:
        with self._site.collector.index.reading() as connection:
            return halt.state(connection)

    def witnessed(self) -> str | None:
        note = self._site.collector.log.checkpoint()
        if note not in self._witnessed:  # one for all devices: a signature takes a while, too
            key = self._site.org.witness
            self._witnessed = {note: note + cosign(note, WITNESS_NAME, key, ALWAYS_FRESH)}
        return self._witnessed[note]

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return self._site.collector.log.consistency(old, new)

    def guard_key(self, category: Category, month: str) -> KeyAnswer:
        name = f"{category} {month}"
        if name not in self._keys:
            self._keys[name] = super().guard_key(category, month)
        return self._keys[name]


@dataclass(frozen=True, kw_only=True)
class Programme:
    """What all devices of the fleet have in common: one data subject's, to spare key making."""

    site: Site
    door: SiteDoor
    certificate: bytes
    standing: Standing

    @classmethod
    def of(cls, site: Site) -> "Programme":
        org, door = site.org, SiteDoor(site)
        device = spki_sha256(org.device.public_key()).hex()
        certificate = Authority.create("test").certify(
            signing_request(org.device), client_uri("acme", Role.DEVICE, device)
        )
        standing = granted(org, site.digest)
        known = frozenset(grant.hash for grant in standing.grants.values())
        door.consents.extend(known)
        standing = dataclasses.replace(standing, registered=known)
        return cls(site=site, door=door, certificate=certificate, standing=standing)

    def device(self, folder: Path) -> Device:
        """Return a device that was enrolled in *folder*, and has not asked for anything yet."""
        org, policy = self.site.org, self.site.policy
        folder.mkdir(parents=True)
        trust(folder, (self.site.policy_folder / "root.json").read_bytes())
        durable.replace(folder / CERTIFICATE, self.certificate)
        enrolment = Enrolment(
            origin=policy.collector.origin,
            tls_pins=policy.collector.tls_pins,
            ca_pem="",
            subject=org.subject,
            subject_key=recipient_of(org.subject_identity),
            rights_key=org.speaker().rights_key,
            appointment=org.speaker().appointment,
            enrolled_at=0,
        )
        return Device(enrolment=enrolment, key=org.device, folder=folder)


class OnlineDevice:
    """One agent as far as policy, lease and halt go; it says when its gate opened and closed."""

    def __init__(self, programme: Programme, folder: Path, clock: Clock) -> None:
        device, now = programme.device(folder), clock.now()
        self.clock = clock
        self.opened_at: int | None = None  # boot clock
        self.closed_at: int | None = None
        self._key = device.key.public_key()
        self._fleet = FleetDevice(folder, programme.site.policy_file, programme.standing)
        self._lines = 0
        self.calls = Calls(self)
        self.delivery = Delivery(
            self,
            device,
            Spool(folder / "spool", device.key, Numbers(folder), now),
            Erasures(folder, device.asker),
            GuardKeys(folder, device.subject),
            clock,
            self._opens(programme.door),
        )

    @staticmethod
    def _opens(door: SiteDoor) -> Callable[[tuple[str, ...]], SiteDoor]:
        return lambda _pins: door

    def reason(self) -> Reason:
        """Return what the gate says now."""
        return self._fleet.reason(self.clock.now(), anew=False)

    # --- whose delivery and calls these are ---------------------------------------------

    @property
    def standing(self) -> Standing:
        return self._fleet.standing

    @property
    def policy(self) -> PolicyInForce:
        return self._fleet.policy

    def write_down(self, entry: Entry) -> None:
        now: Now = self.clock.now()
        line = Line(
            n=self._lines, prev="", wall=now.wall, boot=now.boot, boot_id=now.boot_id, entry=entry
        )
        self._lines += 1
        self._fleet.standing = after(self._fleet.standing, line, self._key)

    def poke(self) -> None:
        active = self.reason() is Reason.ACTIVE
        if active and self.opened_at is None:
            self.opened_at = self.clock.now().boot
        if not active and self.opened_at is not None and self.closed_at is None:
            self.closed_at = self.clock.now().boot

    def on_state(self, state: State) -> None:
        self.calls.hear(state)

    def on_log(self, why: str) -> None:
        self.calls.doubt_log(why)

    async def on_demands(self, demands: tuple[SignedRequest, ...]) -> None:
        assert demands == ()

    def on_news(self) -> None:
        if self._fleet.policy.policy is None:
            self._fleet.policy = load(self._fleet.state, self.clock.now())
        self.poke()
