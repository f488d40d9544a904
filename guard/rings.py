"""The guard's own keys, each beside the one that is to follow it and the one that it followed.

A policy names a guard by three keys: it signs with one, cosigns the log with one, and with one
gives its half of the lease.  To change them, the next ones are made and announced; the guard
goes on with the present ones until it acts on a policy that names the next.  That policy is
installed in one write, and which key does what follows from it: so there is no moment between.
Only then, and as often as it takes, the files change their names (`Chest.settle`).

What everybody may have in a list it gives by all of them: a month's key is signed, and the log
cosigned, also by the key that was announced and, for as long as a device may still act on the
policy before, by the former one.  What counts once (a lease, an erasure) the key of the policy
signs alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import NANOSECONDS, Clock
from base.durable import remove, replace
from base.errors import SetupError
from base.pki import load_ed25519, private_pem
from base.stored import Versioned, refuse_newer
from wire.errors import UNREADABLE
from wire.ids import WallInstant
from wire.lease import LATE_SECONDS, LONGEST_LEASE_SECONDS

FORMER_SECONDS: Final = LONGEST_LEASE_SECONDS + LATE_SECONDS
"""How long a device may act on the policy before: the longest lease that was signed under it."""


class Kind(StrEnum):
    """What a key is for; its file is called so."""

    SIGNING = "signing"
    WITNESS = "witness"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Ring:
    """All keys of one kind by which the guard is known somewhere, the present one first."""

    now: Ed25519PrivateKey
    others: tuple[Ed25519PrivateKey, ...] = ()

    @property
    def every(self) -> tuple[Ed25519PrivateKey, ...]:
        """Return each of them."""
        return (self.now, *self.others)

    def led_by(self, public: bytes) -> "Ring":
        """Return the same with that one first whose raw public key the policy names.

        Raises:
            SetupError: It is not here.

        """
        first = [key for key in self.every if _raw(key) == public]
        if not first:
            raise SetupError(
                "the installed policy names a key of this guard that is not here; "
                "restore its config folder"
            )
        return Ring(first[0], tuple(key for key in self.every if _raw(key) != public))


Held: TypeAlias = Callable[[], Ring]
"""Gives the keys of one kind as they are now."""


def held(key: Ed25519PrivateKey | Held) -> Held:
    """Return what gives *key*; a key alone is a ring of one."""
    return (lambda: Ring(key)) if isinstance(key, Ed25519PrivateKey) else key


class _Switched(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at: WallInstant


@dataclass(frozen=True, slots=True)
class Chest:
    """The files of these keys: `signing.key`, `signing.next.key`, `signing.former.key`..."""

    folder: Path
    kinds: tuple[Kind, ...]  # a witness alone has one

    @property
    def switched_file(self) -> Path:
        """When the former keys were followed."""
        return self.folder / "keys.switched.json"

    def make_first(self) -> None:
        """Make the keys of a new guard."""
        for kind in self.kinds:
            replace(self._path(kind), private_pem(Ed25519PrivateKey.generate()))

    def now(self, kind: Kind) -> Ed25519PrivateKey:
        """Return the present key of its kind.

        Raises:
            SetupError: It is missing, or none.

        """
        return load_ed25519(self._path(kind))

    def announced(self, kind: Kind) -> Ed25519PrivateKey | None:
        """Return the key that is to follow; None if none is announced yet, or not all are."""
        if not all(self._path(each, "next").exists() for each in self.kinds):
            return None
        return load_ed25519(self._path(kind, "next"))

    def ring(self, kind: Kind, now: WallInstant) -> Ring:
        """Return all keys of one kind that are good at *now*.

        In an order in which none is missed while `settle` gives them other names.

        Raises:
            SetupError: The present one is missing, or one of them none.

        """
        coming = _loaded(self._path(kind, "next"))
        present = self.now(kind)
        former = _loaded(self._path(kind, "former")) if self._is_former_good(now) else None
        others = {_raw(key): key for key in (coming, former) if key is not None}
        others.pop(_raw(present), None)
        return Ring(present, tuple(others.values()))

    def held(self, kind: Kind, clock: Clock) -> Held:
        """Return what gives the keys of one kind as they are at each time.

        The former ones are destroyed when somebody asks after their time.
        """

        def now() -> Ring:
            wall = WallInstant(clock.now().wall)
            self.retire(wall)
            return self.ring(kind, wall)

        return now

    def announce(self) -> None:
        """Make the keys that are to follow, once.

        A crash leaves some of them, of which nobody was told: the next call makes the others.
        """
        for kind in self.kinds:
            if not self._path(kind, "next").exists():
                replace(self._path(kind, "next"), private_pem(Ed25519PrivateKey.generate()))

    def take_back(self) -> bool:
        """Forget the keys that were announced; return whether there were any."""
        there = [path for kind in self.kinds if (path := self._path(kind, "next")).exists()]
        for path in there:
            remove(path)
        return bool(there)

    def settle(self, named: Sequence[bytes], now: WallInstant) -> bool:
        """Give the files their names after a policy that names *named* was installed.

        *named* are raw public keys, one of each kind.  Returns whether a key was followed just
        now.  What an earlier call began is brought to its end; without effect where the policy
        names the present keys.
        """
        coming = [
            kind
            for kind, public in zip(self.kinds, named, strict=True)
            if (key := _loaded(self._path(kind, "next"))) is not None and _raw(key) == public
        ]
        present = {kind: self._path(kind).read_bytes() for kind in coming}
        following = {kind: self._path(kind, "next").read_bytes() for kind in coming}
        left = [kind for kind in coming if present[kind] != following[kind]]
        # A crash after any of these leaves each key under one name at least, and the policy says
        # which of them it is; the same call goes on.  Former keys of an earlier change go first,
        # or the new date would make them good again.
        for kind in left:
            remove(self._path(kind, "former"))
        if left:
            replace(self.switched_file, msgspec.json.encode(_Switched(at=now)))
        for kind in left:
            replace(self._path(kind, "former"), present[kind])
            replace(self._path(kind), following[kind])
        for kind in coming:
            remove(self._path(kind, "next"))
        return bool(left)

    def retire(self, now: WallInstant) -> bool:
        """Destroy the former keys when no device acts on the policy before any more.

        Returns whether there were any.  A thief of the disk finds none from then on.
        """
        there = [path for kind in self.kinds if (path := self._path(kind, "former")).exists()]
        if not there or self._is_former_good(now):
            return False
        for path in there:
            remove(path)
        return True

    def former_until(self) -> WallInstant | None:
        """Return until when the former keys are good; None if there are none."""
        if not any(self._path(kind, "former").exists() for kind in self.kinds):
            return None
        try:
            data = self.switched_file.read_bytes()
            refuse_newer(data, self.switched_file)
            at = msgspec.json.decode(data, type=_Switched).at
        except (OSError, *UNREADABLE):
            return WallInstant(0)  # nobody knows since when: then they are good no more
        return WallInstant(at + FORMER_SECONDS * NANOSECONDS)

    def _is_former_good(self, now: WallInstant) -> bool:
        until = self.former_until()
        return until is not None and now < until

    def _path(self, kind: Kind, which: str = "") -> Path:
        return self.folder / ".".join(filter(None, (kind.value, which, "key")))


def _loaded(path: Path) -> Ed25519PrivateKey | None:
    try:
        return load_ed25519(path)
    except SetupError:
        if path.exists():
            raise
        return None


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()
