"""A running collector: its parts, opened in the right order, and what a start puts right.

`Collector.open` is what `serve` begins with; tests open one on folders of their own.
"""

import logging
from dataclasses import dataclass

from sqlalchemy import select

from base.clock import Clock, SystemClock, why_implausible
from base.errors import RetryableError
from collector.config import Config
from collector.enrol import Registry
from collector.forget import sweep_left
from collector.guard_client import GuardClient
from collector.index import Index
from collector.index.tables import batches
from collector.lease import Leases
from collector.log import Log
from collector.premises import Premises
from collector.receive import Receiver
from collector.releases import Releaser
from collector.store import BodyStore
from collector.store.files import FileStore
from collector.witnessed import Witnessed
from wire.ids import WallInstant

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
    witnessed: Witnessed
    leases: Leases

    @classmethod
    def open(
        cls, premises: Premises, clock: Clock | None = None, config: Config | None = None
    ) -> "Collector":
        """Open the collector of *premises* and put right what a crash left.

        *config* is used in place of what config.toml says.

        Raises:
            SetupError: Something is missing or damaged.

        """
        config = config or premises.config()
        index = premises.index()
        store = FileStore(premises.objects)
        log = Log(index, premises.log_key(), config.log_name)
        guard = GuardClient(premises, config.guard) if config.guard is not None else None
        witnessed = Witnessed(index=index, log=log, guard=guard)
        authority = premises.authority()
        clock = clock or SystemClock()
        collector = cls(
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
                ca_pem=premises.trusted_pem(),
            ),
            receiver=Receiver(
                origin=config.origin,
                tenant=config.tenant,
                index=index,
                store=store,
                log=log,
                spare_bytes=config.limits.spare_bytes,
            ),
            releaser=Releaser(index=index, log=log, witnessed=witnessed),
            witnessed=witnessed,
            leases=Leases(
                index=index,
                guard=guard,
                key=premises.lease_key(),
                path=premises.lease_file,
                now=lambda: _plausible(clock),
            ),
        )
        collector.put_right()
        return collector

    def now(self) -> WallInstant:
        """Return the wall clock.

        Raises:
            RetryableError: It is wrong for sure; what it judged would be refused for good.

        """
        return _plausible(self.clock)

    def put_right(self) -> None:
        """Finish what a crash interrupted: frames without a row go, deletions are completed."""
        for mark in self.store.unsettled():
            with self.index.reading() as connection:
                query = select(batches.c.leaf).where(batches.c.batch == mark.batch)
                known = connection.execute(query).first() is not None
            if not known:
                self.store.remove(mark.batch)
                _log.info("a frame that was never acknowledged is removed")
            mark.settle()
        while sweep_left(self.index, self.store, self.now()):
            pass
        # The last of a sweep, and nothing says whether a crash left it out.
        self.index.forget_deleted()

    def close(self) -> None:
        """Close the index."""
        self.index.close()


def _plausible(clock: Clock) -> WallInstant:
    wall = clock.now().wall
    if why := why_implausible(wall):
        raise RetryableError(why)
    return WallInstant(wall)
