"""The guard's half of the lease: what it signs, and what it never signs again.

`renew` is the whole rule; `Leases` remembers what was signed last, so that no lease ever goes
back behind another, whatever the collector offers.
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.durable import replace
from base.errors import SetupError
from base.stored import Versioned, refuse_newer
from guard.rings import Held, held
from guard.trust import PolicySet
from wire.errors import UNREADABLE, NotCoveredError
from wire.guard_follows import raw_key
from wire.ids import WallInstant
from wire.lease import Lease, check_offer, cosign


class _Given(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    timestamp: int = 0  # the version signed last
    snapshot: int = 0


@dataclass(frozen=True, slots=True)
class Leases:
    """Signs leases; `path` remembers the last one."""

    path: Path
    held: Held
    lock: threading.Lock

    @classmethod
    def open(cls, path: Path, key: Ed25519PrivateKey | Held) -> "Leases":
        """Return what signs with *key*."""
        return cls(path, held(key), threading.Lock())

    def renew(
        self, timestamp: bytes, policy_set: PolicySet, now: WallInstant, why_still: str = ""
    ) -> bytes:
        """Return *timestamp* with the guard's signature.

        1. nothing stands still; 2. the installed policy has its signatures and has not
        expired; 3. the collector offers what `wire.lease.check_offer` asks for; 4. it is newer
        than the last one signed; 5. that is remembered, on the disk, before it is signed.

        Raises:
            WireError: One of them does not hold.
            SetupError: The memory cannot be read; without it a lease might go back.  Or the
                key is not here that the policy names.

        """
        if why_still:  # 1
            raise NotCoveredError(why_still)
        at = datetime.fromtimestamp(now / 1e9, UTC)
        policy = policy_set.verified(at)  # 2
        lease = check_offer(  # 3
            timestamp,
            root=policy_set.root,
            snapshot=policy_set.snapshot,
            key=policy.collector.lease_key,
            longest=policy.lease_seconds,
            now=at,
        )
        key = self.held().led_by(raw_key(policy.guard.lease_key)).now
        with self.lock:
            self._remember(lease)  # 4, 5
            return cosign(timestamp, key)

    def _remember(self, lease: Lease) -> None:
        last = self._read()
        if lease.version <= last.timestamp or lease.snapshot_version < last.snapshot:
            raise NotCoveredError("a newer lease was signed already")
        given = _Given(timestamp=lease.version, snapshot=lease.snapshot_version)
        # A crash after this costs one lease, which the collector asks for again a second later.
        replace(self.path, msgspec.json.encode(given))

    def _read(self) -> _Given:
        try:
            data = self.path.read_bytes()
            refuse_newer(data, self.path)
            return msgspec.json.decode(data, type=_Given)
        except FileNotFoundError:
            return _Given()
        except (OSError, *UNREADABLE) as exc:
            raise SetupError(f"{self.path} cannot be used: {exc}; restore it") from exc
