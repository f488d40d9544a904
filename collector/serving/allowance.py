"""How much one party may ask and send; what is more gets 429 and the time to wait.

Each device has buckets that fill evenly: as many requests of a kind as in one minute, as many
bytes as in one day.  A no (a deletion, a withdrawal) has a bucket of its own, so that nothing
else holds it up.  A reader has one, by its name, and so has an address from which somebody comes
without a certificate.  The buckets are in memory alone, so there is no list of who sends how much;
a collector that is started again begins with full ones, and each of several has its own.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Final, TypeAlias

from base.clock import NANOSECONDS
from collector.config import Limits
from collector.refusal import RefusedError, Why
from wire.ids import DeviceId

DAY_SECONDS: Final = 24 * 3600
LONGEST_WAIT_SECONDS: Final = 900  # no agent stays away for longer, whatever it is told
FORGET_AFTER: Final = 1_000  # new buckets; then those that are full again go


class Asks(StrEnum):
    """What a request is counted as."""

    UPLOADS = "uploads"
    NOES = "noes"
    QUESTIONS = "questions"
    OF_READERS = "questions of readers"
    OF_STRANGERS = "requests without a certificate"
    DEMANDS = "demands without a certificate"  # apart: nothing else holds up a no


_BYTES: Final = "bytes"
_DEVICE: Final = " from one device"
_ADDRESS: Final = " from one address"
_FROM: Final = {Asks.OF_READERS: "", Asks.OF_STRANGERS: _ADDRESS, Asks.DEMANDS: _ADDRESS}
Kind: TypeAlias = Asks | str


@dataclass(frozen=True, slots=True)
class Rate:
    """What fits into a bucket, and in how many seconds it is filled."""

    most: int
    seconds: int

    def waits(self, lacking: float) -> int:
        """Return the whole seconds until *lacking* more is in, or to ask again after."""
        seconds = math.ceil(lacking * self.seconds / self.most)
        return min(max(1, seconds), LONGEST_WAIT_SECONDS)


@dataclass(slots=True)
class _Bucket:
    left: float
    at: int  # boot instant

    def fill(self, rate: Rate, now: int) -> None:
        gained = (now - self.at) / NANOSECONDS * rate.most / rate.seconds
        self.left, self.at = min(rate.most, self.left + max(0.0, gained)), now


@dataclass(kw_only=True)
class Allowances:
    """The buckets of all parties.  May be used by several threads."""

    limits: Limits
    now: Callable[[], int]
    _buckets: dict[tuple[bytes, Kind], _Bucket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _forget_at: int = FORGET_AFTER

    def spend(self, party: bytes, asks: Asks) -> None:
        """Take one request of *party* out: a device, a reader, an address.

        Raises:
            RefusedError: There is none left; or it is an upload, and no bytes are.

        """
        with self._lock:
            if asks is Asks.UPLOADS:
                self._check_bytes(party)
            rate = self._rate(asks)
            if rate is None:
                return
            bucket = self._bucket(party, asks, rate)
            if bucket.left < 1:
                raise RefusedError(
                    Why.TOO_MANY,
                    f"at most {rate.most} {asks} in {rate.seconds} s{_FROM.get(asks, _DEVICE)}",
                    retry_after_seconds=rate.waits(1 - bucket.left),
                )
            bucket.left -= 1

    def are_ample(self, device: DeviceId) -> bool:
        """Whether *device* is far from any limit, so that its next upload will not be refused."""
        with self._lock:
            for kind in (Asks.UPLOADS, _BYTES):
                rate = self._rate(kind)
                if rate is not None and self._bucket(device, kind, rate).left < rate.most / 2:
                    return False
        return True

    def count(self, device: DeviceId, size_bytes: int) -> None:
        """Take the bytes of an upload out, more than are left, too: the next one waits for it."""
        with self._lock:
            rate = self._rate(_BYTES)
            if rate is not None:
                self._bucket(device, _BYTES, rate).left -= size_bytes

    def _check_bytes(self, device: bytes) -> None:
        rate = self._rate(_BYTES)
        if rate is None:
            return
        bucket = self._bucket(device, _BYTES, rate)
        if bucket.left <= 0:
            raise RefusedError(
                Why.OVER_QUOTA,
                f"at most {rate.most} bytes a day from one device; nothing is lost",
                retry_after_seconds=rate.waits(1 - bucket.left),
            )

    def _rate(self, kind: Kind) -> Rate | None:
        """Return what the configuration allows; None is everything."""
        limits = self.limits
        if kind == _BYTES:
            rate = Rate(limits.device_bytes_per_day, DAY_SECONDS)
        elif kind == Asks.OF_READERS:
            rate = Rate(limits.reader_requests_per_minute, 60)
        elif kind in (Asks.OF_STRANGERS, Asks.DEMANDS):
            rate = Rate(limits.stranger_requests_per_minute, 60)
        elif kind == Asks.UPLOADS:
            rate = Rate(limits.device_uploads_per_minute, 60)
        else:
            rate = Rate(limits.device_requests_per_minute, 60)
        return rate if rate.most else None

    def _bucket(self, party: bytes, kind: Kind, rate: Rate) -> _Bucket:
        now = self.now()
        if len(self._buckets) >= self._forget_at:
            self._forget_full(now)
        bucket = self._buckets.setdefault((party, kind), _Bucket(left=rate.most, at=now))
        bucket.fill(rate, now)
        return bucket

    def _forget_full(self, now: int) -> None:
        """Forget what is full again: a device that is not there has as much."""
        for key, bucket in list(self._buckets.items()):
            rate = self._rate(key[1])
            if rate is not None:
                bucket.fill(rate, now)
            if rate is None or bucket.left >= rate.most:
                del self._buckets[key]
        self._forget_at = len(self._buckets) + FORGET_AFTER


def address_of(host: str) -> bytes:
    """Return what counts as one address: of IPv6 the network, which one customer has whole."""
    try:
        found = ip_address(host)
    except ValueError:
        return host.encode()
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return found.packed[:8]
    return (getattr(found, "ipv4_mapped", None) or found).packed
