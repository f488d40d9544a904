"""The collector's half of the lease: made when a device asks, signed by the guard, too.

Nothing runs in the background: whoever fetches `timestamp.json` gets the one in force, and when
a quarter of its life is over, or another policy was published, a new one is made first.  Agents
ask when half of theirs is over, so they always get more than they have.  While the programme is
halted none is made; while the guard is away the old one is handed out until it ends.  It is kept
in the index, so that of several collectors none hands out one that is older than another's.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, select

from base.clock import NANOSECONDS
from collector import halt, policies
from collector.guard.client import RETRY_SECONDS, GuardClient, waits
from collector.index import Index
from collector.index.tables import lease as leases
from collector.policies import Published
from collector.refusal import RefusedError, Why
from wire.errors import WireError
from wire.ids import WallInstant
from wire.lease import Lease, lease_seconds, offer, verify_lease
from wire.metadata import Timestamp, version_of

_log = logging.getLogger(__name__)
MARGIN_SECONDS: Final = 60  # the guard's clock may be behind ours by so much
_SIGNED: Final = select(leases.c.version, leases.c.signed)


class _Kept(NamedTuple):
    data: bytes
    lease: Lease | None  # if it is about the policy in force
    version: int


@dataclass(kw_only=True)
class Leases:
    """Hands out the lease in force, and renews it.  May be used by several threads."""

    index: Index
    guard: GuardClient | None
    key: Ed25519PrivateKey
    now: Callable[[], WallInstant]
    _renewing: threading.Lock = field(default_factory=threading.Lock)
    _again_at: int = 0  # after the guard refused or was away

    def timestamp(self) -> bytes:
        """Return the lease in force, renewed if it is time.

        Raises:
            RefusedError: There is none, and the guard gives none now.

        """
        with self.index.reading() as connection:
            published, halted = policies.in_force(connection), halt.state(connection).halted
        now = self.now()
        data, lease, _version = self._kept(published)
        due = lease is None or now >= _renew_at(lease, published)
        if not due or halted or waits(now, self._again_at):
            return _usable(data)
        if not self._renewing.acquire(blocking=lease is None):
            return _usable(data)  # another thread asks the guard already
        try:
            data, lease, last = self._kept(published)
            if lease is not None and now < _renew_at(lease, published):
                return data
            return self._renew(published, last, now)
        except RefusedError as exc:
            _log.warning("the lease was not renewed: %s", exc)
            self._again_at = now + RETRY_SECONDS * NANOSECONDS
            return _usable(self._kept(published).data)  # another collector may have asked
        finally:
            self._renewing.release()

    def left_seconds(self) -> float | None:
        """Return how long the lease that is kept is still good; None if there is none in force.

        Raises:
            RefusedError: No policy was published yet.

        """
        with self.index.reading() as connection:
            published = policies.in_force(connection)
        lease = self._kept(published).lease
        return None if lease is None else lease.expires.timestamp() - self.now() / NANOSECONDS

    def _renew(self, published: Published, last: int, now: WallInstant) -> bytes:
        if self.guard is None:
            raise RefusedError(Why.NOT_READY, "no guard is connected; run connect-guard")
        at = datetime.fromtimestamp(now // NANOSECONDS, UTC)
        length = lease_seconds(published.policy.lease_seconds)
        length -= min(MARGIN_SECONDS, length // 10)
        offered = offer(
            snapshot=published.snapshot,
            version=max(int(at.timestamp()), last + 1),
            expires=at + timedelta(seconds=length),
            key=self.key,
        )
        signed = self.guard.lease(offered, published.root, published.snapshot)
        # A crash before this loses a lease that nobody has seen; a newer one is made then.
        with self.index.writing() as connection:
            return _keep(connection, signed)

    def _kept(self, published: Published) -> _Kept:
        """Return what is kept, and what it says if it is about the policy in force."""
        with self.index.reading() as connection:
            row = connection.execute(_SIGNED).one_or_none()
        if row is None:
            return _Kept(b"", None, 0)
        data = bytes(row.signed)
        try:
            lease = verify_lease(root=published.root, snapshot=published.snapshot, timestamp=data)
        except WireError:  # of another policy than the newest; devices may have it still
            lease = None
        return _Kept(data, lease, row.version)


def _keep(connection: Connection, signed: bytes) -> bytes:
    """Keep a lease, unless there is a newer one; return the one that is kept."""
    version = version_of(signed, Timestamp)
    row = connection.execute(_SIGNED).one_or_none()
    values = {"version": version, "signed": signed}
    if row is None:
        connection.execute(leases.insert().values(number=1, **values))
    elif row.version < version:
        connection.execute(leases.update().values(**values))
    else:
        return bytes(row.signed)
    return signed


def _usable(data: bytes) -> bytes:
    """Return the lease that there is; a device judges by itself whether it is over."""
    if not data:
        raise RefusedError(Why.NOT_READY, "there is no lease yet; ask who runs collector and guard")
    return data


def _renew_at(lease: Lease, published: Published) -> int:
    """Return when a new lease is to be made: after a quarter of this one's life."""
    length = lease_seconds(published.policy.lease_seconds)
    return int((lease.expires.timestamp() - length * 3 / 4) * NANOSECONDS)
