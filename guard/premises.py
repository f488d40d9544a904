"""What lies where in a guard's folders, and how `init` puts it there.

config/  config.toml
ca.key ca.pem    authority of its callers, and of its own server
tls.key tls.pem  server certificate; callers pin the key
tls.next.key tls.next.pem  the pair that was announced to follow it
signing.key      signs the keys that it hands out
witness.key      cosigns the collector's log
lease.key        its half of the lease
*.next.key *.former.key keys.switched.json  what follows and what was followed (`guard.rings`)
state/   keys.sqlite      the second lock itself; copies of it age out (`guard.backup`)
keys.erased      what was erased, so that no copy brings it back
witness.sqlite   what the log looked like last
policy-set.json  the signed policy that it acts on
halt.json        the halt that was called here, and for which policy
lease.json       the last lease that it signed
lock             held by the one server
"""

import base64
import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import Clock
from base.door import host_and_port
from base.durable import replace
from base.errors import SetupError
from base.paths import Paths, paths_for
from base.pki import (
    Authority,
    certificate_spki_sha256_of_pem,
    new_server_key,
    private_pem,
)
from base.stored import require_kept
from guard.assembly import Guard, Watching
from guard.config import Config, first_config, read_config
from guard.halt import Halts
from guard.keys import Keys
from guard.lease import Leases
from guard.rings import Chest, Held, Kind
from guard.trust import OwnKeys, OwnWitness, load
from guard.witness import Witness
from wire.guard_follows import raw_keys
from wire.ids import WallInstant
from wire.policy import decode_policy
from wire.tlog import ALGORITHM_COSIGNATURE, parse_verifier_key, verifier_key

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME: Final = re.compile(r"[^\s+]+")  # signed-note: a key's name has no space and no plus


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy, the collector and the readers have to know of a guard."""

    origin: str
    signing_key: str  # base64; the policy's guard.signing_key
    witness: str  # C2SP verifier key; the policy's guard.witness
    lease_key: str  # base64; the policy's guard.lease_key
    tls_pin: str
    ca_pem: str


@dataclass(frozen=True, slots=True)
class Premises:
    """The files of one guard."""

    paths: Paths

    @property
    def config_file(self) -> Path:
        """What the operator decides."""
        return self.paths.config / "config.toml"

    @property
    def tls_certificate(self) -> Path:
        """The server's certificate."""
        return self.paths.config / "tls.pem"

    @property
    def tls_key(self) -> Path:
        """The server's key, which callers pin."""
        return self.paths.config / "tls.key"

    @property
    def next_tls_certificate(self) -> Path:
        """The certificate of the key that was announced, if one was."""
        return self.paths.config / "tls.next.pem"

    @property
    def next_tls_key(self) -> Path:
        """That key."""
        return self.paths.config / "tls.next.key"

    @property
    def authority_file(self) -> Path:
        """The certificate of the authority of callers and server."""
        return self.paths.config / "ca.pem"

    @property
    def keys_file(self) -> Path:
        """The second lock itself."""
        return self.paths.state / "keys.sqlite"

    @property
    def witness_file(self) -> Path:
        """What the log looked like last."""
        return self.paths.state / "witness.sqlite"

    @property
    def halt_file(self) -> Path:
        """The halt that was called here, if any."""
        return self.paths.state / "halt.json"

    @property
    def policy_file(self) -> Path:
        """The signed policy."""
        return self.paths.state / "policy-set.json"

    def config(self) -> Config:
        """Return the configuration.

        Raises:
            SetupError: There is none yet, or it has a mistake.

        """
        return read_config(self.config_file)

    def authority(self) -> Authority:
        """Return the authority that certifies collector and readers."""
        return Authority.load(self.paths.config)

    def chest(self) -> Chest:
        """Return where the keys lie by which a policy names this guard."""
        return chest_of(self.paths.config, self.config())

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the key that signs handed-out keys."""
        return self.chest().now(Kind.SIGNING)

    def witness_key(self) -> Ed25519PrivateKey:
        """Return the key that cosigns the log."""
        return self.chest().now(Kind.WITNESS)

    def lease_key(self) -> Ed25519PrivateKey:
        """Return the key that is this guard's half of the lease."""
        return self.chest().now(Kind.LEASE)

    def held(self, kind: Kind, clock: Clock) -> Held:
        """Return what gives these keys as they are at each time.

        Raises:
            SetupError: The present one is missing.

        """
        chest = self.chest()
        chest.now(kind)
        return chest.held(kind, clock)

    def keys(self) -> Keys:
        """Return the second lock.

        Raises:
            SetupError: It is missing or damaged, or of a later version of this program.

        """
        self.check_lock()
        require_kept(self.keys_file)
        return Keys(self.keys_file)

    def check_lock(self) -> None:
        """Check that this is the second lock, and not a witness alone.

        Raises:
            SetupError: It is one.

        """
        if self.config().witness_only:
            raise SetupError("this is a witness alone: it holds no keys, and halts nobody")

    def witness(self, clock: Clock) -> Witness:
        """Return the witness.

        Raises:
            SetupError: Its memory is missing or damaged, or of a later version of this program.

        """
        name = self.config().name  # says what to do where nothing is set up yet
        require_kept(self.witness_file)
        return Witness(self.witness_file, name, self.held(Kind.WITNESS, clock))

    def own_keys(self) -> OwnKeys | OwnWitness:
        """Return the public keys by which a policy has to name this guard, or this witness."""
        chest = self.chest()
        return self._public({kind: chest.now(kind) for kind in chest.kinds})

    def next_keys(self) -> OwnKeys | OwnWitness | None:
        """Return those that were announced; None if none were."""
        chest = self.chest()
        coming = {kind: key for kind in chest.kinds if (key := chest.announced(kind))}
        return self._public(coming) if coming else None

    def _public(self, keys: Mapping[Kind, Ed25519PrivateKey]) -> OwnKeys | OwnWitness:
        raw = {kind: key.public_key().public_bytes_raw() for kind, key in keys.items()}
        name = self.config().name
        witness = verifier_key(name, ALGORITHM_COSIGNATURE, raw[Kind.WITNESS])
        if Kind.SIGNING not in raw:
            return OwnWitness(witness=witness)
        return OwnKeys(signing_key=raw[Kind.SIGNING], witness=witness, lease_key=raw[Kind.LEASE])

    def settle(self, now: WallInstant) -> bool:
        """Give the keys the names that the installed policy asks for; see `Chest.settle`."""
        installed, chest = load(self.policy_file), self.chest()
        if installed is None:
            return False
        policy = decode_policy(installed.policy)
        if self.config().witness_only:
            named = self.next_keys()
            theirs = {each.key for each in policy.witnesses}
            if named is None or named.witness not in theirs:
                return False
            return chest.settle((parse_verifier_key(named.witness)[2],), now)
        return chest.settle(raw_keys(policy.guard), now)

    def card(self) -> Card:
        """Return what others have to know of this guard."""
        own = self.own_keys()
        try:
            pin = certificate_spki_sha256_of_pem(self.tls_certificate.read_bytes()).hex()
        except OSError as exc:
            raise SetupError(f"{self.tls_certificate}: {exc.strerror}; restore it") from exc
        signing, lease = (
            (own.signing_key, own.lease_key) if isinstance(own, OwnKeys) else (b"", b"")
        )
        return Card(
            origin=self.config().origin,
            signing_key=base64.b64encode(signing).decode("ascii"),
            witness=own.witness,
            lease_key=base64.b64encode(lease).decode("ascii"),
            tls_pin=pin,
            ca_pem=self.authority().pem.decode("ascii"),
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one guard on these files.

        Raises:
            SetupError: A guard serves from them.

        """
        self.paths.make()
        fd = os.open(self.paths.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as exc:
            raise SetupError("another assent-guard serves from this folder; stop it first") from exc
        finally:
            os.close(fd)

    def opened(self, clock: Clock) -> Watching:
        """Return the guard, or the witness alone that was set up here, ready to serve."""
        if not self.config().witness_only:
            return self.open(clock)
        self.paths.make()
        return Watching(
            tenant=self.config().tenant,
            witness=self.witness(clock),
            policy_set=lambda: load(self.policy_file),
            clock=clock,
        )

    def open(self, clock: Clock) -> Guard:
        """Return the guard, ready to serve."""
        config = self.config()
        self.paths.make()
        return Guard(
            tenant=config.tenant,
            signing_key=self.held(Kind.SIGNING, clock),
            keys=self.keys(),
            witness=self.witness(clock),
            leases=Leases.open(self.paths.state / "lease.json", self.held(Kind.LEASE, clock)),
            policy_set=lambda: load(self.policy_file),
            halts=Halts(self.halt_file),
            clock=clock,
        )


def chest_of(folder: Path, config: Config) -> Chest:
    """Return where the keys of such a guard lie."""
    return Chest(folder, (Kind.WITNESS,) if config.witness_only else tuple(Kind))


def our_premises() -> Premises:
    """Return the premises of this machine."""
    return Premises(paths_for("guard"))


def move_in(premises: Premises, config: Config, hosts: Sequence[str] = ()) -> None:
    """Make keys, authority, certificate and configuration: what `init` does.

    Raises:
        SetupError: There is a guard already, or origin, tenant or name are not usable.

    """
    host, _port = host_and_port(config.origin)
    config.check_addresses()
    if not _TENANT.fullmatch(config.tenant):
        raise SetupError(f"the tenant {config.tenant!r} must be of a-z, 0-9 and '-'")
    if not _NAME.fullmatch(config.name):
        raise SetupError(f"the name {config.name!r} must have no space and no '+'")
    if premises.config_file.exists():
        raise SetupError(
            f"{premises.config_file} exists; this guard is set up already (or another program "
            "has this folder)"
        )
    premises.paths.make()
    folder = premises.paths.config
    authority, server = Authority.create(f"Assent guard of {config.tenant}"), new_server_key()
    authority.save(folder)
    replace(premises.tls_key, private_pem(server))
    replace(premises.tls_certificate, authority.server_certificate(server, (host, *hosts)))
    chest = chest_of(folder, config)
    chest.make_first()
    if not config.witness_only:
        Keys(premises.keys_file).close()
    Witness(premises.witness_file, config.name, chest.now(Kind.WITNESS)).close()
    # Last, because its presence says that all the rest is there: init may be run again
    # after a crash, and then makes everything anew.
    replace(premises.config_file, first_config(config))
