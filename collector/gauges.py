"""The numbers that a collector looks up when an operator asks for them.

Each tells of the server, or of people in tens; what is counted of requests is `base.metrics`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, func, select

from base.clock import NANOSECONDS
from base.crowd import in_tens
from base.metrics import Described, Gauge, Values
from base.pki import certificate_expires_at
from collector import halt, policies
from collector.assembly import Collector
from collector.index.tables import devices, readers, requests, stops
from collector.premises import Premises
from collector.watch import Watch
from wire.rights import Demand

GIBIBYTE: Final = 1 << 30  # free space is told in these: what one person sends does not show


@dataclass(frozen=True, slots=True)
class Numbers:
    """Looks them up, each anew."""

    collector: Collector
    premises: Premises
    watch: Watch

    def devices(self) -> Values:
        """Count, in tens."""
        query = select(func.count()).select_from(devices).where(devices.c.revoked_at.is_(None))
        return {(): in_tens(self._count(query))}

    def readers(self) -> Values:
        """Count."""
        query = select(func.count()).select_from(readers).where(readers.c.revoked_at.is_(None))
        return {(): self._count(query)}

    def erasures(self) -> Values:
        """Count, in tens, those without the guard's receipt."""
        query = select(func.count()).where(
            requests.c.guard.is_(None), requests.c.demand == Demand.ERASE
        )
        return {(): in_tens(self._count(query))}

    def halted(self) -> Values:
        """Ask the index."""
        with self.collector.index.reading() as connection:
            return {(): halt.state(connection).halted}

    def stopped(self) -> Values:
        """Ask the index, for each cause."""
        with self.collector.index.reading() as connection:
            causes = set(connection.execute(select(stops.c.cause)).scalars())
        return {(cause.value,): cause in causes for cause in halt.Cause}

    def policy(self) -> Values:
        """Ask the index."""
        with self.collector.index.reading() as connection:
            current = policies.latest(connection)
        return {(): current.policy.version if current else 0}

    def room(self) -> Values:
        """Ask the store; nothing where it cannot tell."""
        left = self.collector.store.free_bytes()
        return {} if left is None else {(): left // GIBIBYTE * GIBIBYTE}

    def silence(self) -> Values:
        """Ask the watch; nothing without a guard."""
        return {(): self.watch.silent_seconds()} if self.collector.guard else {}

    def lease(self) -> Values:
        """Ask the lease; nothing without one."""
        left = self.collector.leases.left_seconds()
        return {} if left is None else {(): left}

    def certificate(self) -> Values:
        """Look at the file that a start would take."""
        until = certificate_expires_at(self.premises.tls_certificate.read_bytes()).timestamp()
        return {(): until - self.collector.clock.now().wall / NANOSECONDS}

    def _count(self, query: Select[int]) -> int:
        with self.collector.index.reading() as connection:
            return int(connection.execute(query).scalar_one())


GAUGES: Final[tuple[tuple[Described, Callable[[Numbers], Values]], ...]] = (
    (
        Described("assent_devices_enrolled", "devices that were not revoked, in tens"),
        Numbers.devices,
    ),
    (Described("assent_readers_certified", "readers that were not revoked"), Numbers.readers),
    (
        Described("assent_erasures_unconfirmed", "erasures that the guard is to sign, in tens"),
        Numbers.erasures,
    ),
    (Described("assent_halted", "1 while a halt holds"), Numbers.halted),
    (
        Described("assent_stopped", "1 while there is a stop of this cause", ("cause",)),
        Numbers.stopped,
    ),
    (
        Described("assent_policy_version", "of the policy in force; 0 if there is none"),
        Numbers.policy,
    ),
    (
        Described("assent_store_free_bytes", "room for batches, in whole gibibytes"),
        Numbers.room,
    ),
    (
        Described("assent_guard_silent_seconds", "since the guard's last answer"),
        Numbers.silence,
    ),
    (
        Described("assent_lease_left_seconds", "until devices stop, unless it is renewed"),
        Numbers.lease,
    ),
    (
        Described("assent_certificate_left_seconds", "until the TLS certificate runs out"),
        Numbers.certificate,
    ),
)


def gauges(numbers: Numbers) -> tuple[Gauge, ...]:
    """Return what an exposition looks up."""
    return tuple(Gauge(described, functools.partial(read, numbers)) for described, read in GAUGES)
