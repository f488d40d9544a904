"""A running collector: its parts, opened in the right order, and what a start puts right.

`Collector.open` is what `serve` begins with; tests open one on folders of their own.
"""

import logging
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

from sqlalchemy import select

from base.clock import Clock, SystemClock, why_implausible
from base.errors import RetryableError
from collector.config import Config
from collector.drill.gate import Gate
from collector.enrol import Registry
from collector.guard.client import GuardClient
from collector.guard.lease import Leases
from collector.guard.witnessed import Witnessed
from collector.guard.witnesses import WitnessDoor
from collector.index import Index
from collector.index.opening import open_index
from collector.index.tables import batches
from collector.ingest.receive import Receiver
from collector.log import Log
from collector.premises import Premises
from collector.release.access import Entry
from collector.release.releases import Releaser
from collector.rights.forget import sweep_left
from collector.store import BodyStore, PutsTogether, Unsettled
from collector.store.opening import open_store
from wire.ids import BatchHash, WallInstant

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Everything that an endpoint may need."""

    config: Config
    clock: Clock
    index: Index
    store: BodyStore
    log: Log
    guard: GuardClient | None
    registry: Registry
    receiver: Receiver
    releaser: Releaser
    entry: Entry
    witnessed: Witnessed
    leases: Leases
    gate: Gate
    closing: ExitStack = field(default_factory=ExitStack)  # what ends before the index is closed

    @classmethod
    def open(
        cls,
        premises: Premises,
        clock: Clock | None = None,
        config: Config | None = None,
        gate: Gate | None = None,
    ) -> "Collector":
        """Open the collector of *premises* and put right what a crash left.

        *config* is used in place of what config.toml says.  A server gives a *gate* that is
        shut; without one it is open, for whoever drills by other means.

        Raises:
            SetupError: Something is missing or damaged.

        """
        collector = cls.beside(premises, clock, config, gate)
        collector.put_right()
        return collector

    @classmethod
    def beside(
        cls,
        premises: Premises,
        clock: Clock | None = None,
        config: Config | None = None,
        gate: Gate | None = None,
    ) -> "Collector":
        """Open the same while a server runs on it: what looks unfinished may be under way there.

        Raises:
            SetupError: Something is missing or damaged.
            RetryableError: The index or the store cannot be used now.

        """
        config = config or premises.config()
        index = open_index(premises)
        store = open_store(premises, config)
        log = Log(index, premises.log_key(), config.log_name)
        guard = GuardClient(premises, config.guard) if config.guard is not None else None
        others = tuple(WitnessDoor(premises, each) for each in config.witnesses)
        witnessed = Witnessed(index=index, log=log, guard=guard, others=others)
        authority = premises.authority()
        clock, gate = clock or SystemClock(), gate or Gate(is_open=True)
        entry = Entry(gate=gate, with_today=config.readers.today)
        return cls(
            config=config,
            clock=clock,
            index=index,
            store=store,
            log=log,
            guard=guard,
            registry=Registry(
                authority=authority,
                tenant=config.tenant,
                days=config.client_days,
                absence_days=config.absence_days,
                jurisdictions=config.jurisdictions,
                ca_pem=premises.trusted_pem(),
            ),
            receiver=Receiver(
                origin=config.origin,
                tenant=config.tenant,
                index=index,
                store=store,
                log=log,
                jurisdictions=config.jurisdictions,
                spare_bytes=config.limits.spare_bytes,
                clock=clock,
            ),
            releaser=Releaser(index=index, log=log, witnessed=witnessed, entry=entry),
            entry=entry,
            witnessed=witnessed,
            leases=Leases(
                index=index,
                guard=guard,
                key=premises.lease_key(),
                now=lambda: _plausible(clock),
            ),
            gate=gate,
        )

    def now(self) -> WallInstant:
        """Return the wall clock.

        Raises:
            RetryableError: It is wrong for sure; what it judged would be refused for good.

        """
        return _plausible(self.clock)

    def put_right(self) -> None:
        """Finish what a crash interrupted: frames without a row go, deletions are completed.

        Beside other collectors a mark can be of an upload that goes on: `watch` looks at those.
        """
        if not self.index.is_shared:
            self.settle(self.store.unsettled())
        while sweep_left(self.index, self.store, self.now()):
            pass
        # The last of a sweep, and nothing says whether a crash left it out.
        self.index.forget_deleted()

    def settle(self, marks: Iterable[Unsettled]) -> None:
        """Settle *marks* that a crash left: the index says which frames stay."""
        for mark in marks:
            if mark.resolve(self._has_row):
                _log.info("a frame that was never acknowledged is removed")

    def let_go(self, mark: str) -> None:
        """Settle the mark of that name, of an upload that was refused and has ended."""
        if isinstance(self.store, PutsTogether):
            self.settle([self.store.marked(mark)])

    def _has_row(self, batch: BatchHash) -> bool:
        with self.index.reading() as connection:
            query = select(batches.c.leaf).where(batches.c.batch == batch)
            return connection.execute(query).first() is not None

    def close(self) -> None:
        """Wait for what is still being written, then close the index."""
        self.closing.close()
        self.index.close()


def _plausible(clock: Clock) -> WallInstant:
    wall = clock.now().wall
    if why := why_implausible(wall):
        raise RetryableError(why)
    return WallInstant(wall)
