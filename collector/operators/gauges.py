"""The numbers that a collector looks up when an operator asks for them.

Each tells of the server, or of people in tens; what is counted of requests is `base.metrics`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, Select, func, select

from base.clock import NANOSECONDS
from base.crowd import in_tens
from base.metrics import Described, Gauge, Values
from base.pki import certificate_expires_at
from collector import halt, policies
from collector.assembly import Collector
from collector.drill.records import last_passed
from collector.guard.watch import Watch
from collector.index.tables import devices, drills, readers, requests, stops, tombstones
from collector.premises import Premises
from wire.rights import Demand

_LAST_DRILL: Final = select(drills).order_by(drills.c.number.desc()).limit(1)
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

    def retention(self) -> Values:
        """Ask the watch; nothing before it has been through once."""
        seconds = self.watch.tidied_seconds()
        return {} if seconds is None else {(): seconds}

    def unswept(self) -> Values:
        """Count, in tens, tombstones of which the bytes are still here."""
        query = select(func.count()).where(tombstones.c.swept_at.is_(None), tombstones.c.stored)
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

    def drill(self) -> Values:
        """Ask the index; nothing before one has passed."""
        with self.collector.index.reading() as connection:
            passed = last_passed(connection)
        now = self.collector.clock.now().wall
        return {} if passed is None else {(): (now - passed.ended_at) / NANOSECONDS}

    def drill_took(self) -> Values:
        """Ask the index; nothing before one was held."""
        row = self._last_drill()
        return {} if row is None else {(): (row.ended_at - row.began_at) / NANOSECONDS}

    def drill_probes(self) -> Values:
        """Ask the index; nothing before one was held."""
        row = self._last_drill()
        return {} if row is None else {(): row.probes}

    def drill_holes(self) -> Values:
        """Ask the index; nothing before one was held."""
        row = self._last_drill()
        return {} if row is None else {(): row.holes}

    def _last_drill(self) -> Row[Any] | None:
        with self.collector.index.reading() as connection:
            return connection.execute(_LAST_DRILL).one_or_none()

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
    (
        Described("assent_retention_kept_seconds", "since all that is over its last day was gone"),
        Numbers.retention,
    ),
    (
        Described("assent_deletions_unfinished", "deleted, and not gone from the store, in tens"),
        Numbers.unswept,
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
        Described("assent_drill_passed_seconds", "since the last drill that passed"),
        Numbers.drill,
    ),
    (
        Described("assent_drill_duration_seconds", "how long the last drill took"),
        Numbers.drill_took,
    ),
    (
        Described("assent_drill_probes", "what the last drill tried"),
        Numbers.drill_probes,
    ),
    (
        Described("assent_drill_holes", "what was not refused in it, or could not be tried"),
        Numbers.drill_holes,
    ),
    (
        Described("assent_certificate_left_seconds", "until the TLS certificate runs out"),
        Numbers.certificate,
    ),
)


def gauges(numbers: Numbers) -> tuple[Gauge, ...]:
    """Return what an exposition looks up."""
    return tuple(Gauge(described, functools.partial(read, numbers)) for described, read in GAUGES)
