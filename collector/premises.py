"""What lies where in a collector's folders.

    config/  config.toml
             ca.key ca.pem          authority of its clients, and of its own server
             ca.trusted.pem old/    both, and the one before, while a rotation is under way
             tls.key tls.pem        server certificate; agents pin the key
             tls.next.key tls.next.pem      the one to come, once it was announced
             log.key                signs checkpoints
             lease.key              its half of the lease
             guard/                 how to reach the guard: ca.pem client.key client.csr client.pem
             witnesses/             authorities of further witnesses' servers
             store.credentials      of an S3 store, if the batches lie in one
    state/   index.sqlite           who and what, never what is inside; or in PostgreSQL
             objects/               the sealed batches, unless they lie in a bucket
             collector-id           by which it knows its own marks in a bucket
             lock                   held by the one server

None of these opens a batch: that takes a reader's identity and a guard's key, and neither
is ever here.
"""

import base64
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base import durable
from base.door import host_and_port
from base.errors import SetupError
from base.paths import Paths, paths_for
from base.pki import (
    Authority,
    certificate_spki_sha256_of_pem,
    load_ed25519,
)
from collector.config import Config, read_config
from wire.tlog import ALGORITHM_ED25519, verifier_key

ENDING_SECONDS: Final = 3.0  # for what dies with a server that was killed
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Premises:
    """The files of one collector."""

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
        """The server's key, which agents pin."""
        return self.paths.config / "tls.key"

    @property
    def client_authority(self) -> Path:
        """What clients are certified by: the authority, and during a rotation the one before."""
        return self.both_authorities if self.is_rotating else self.paths.config / "ca.pem"

    @property
    def both_authorities(self) -> Path:
        """The certificates of two authorities, while one follows the other."""
        return self.paths.config / "ca.trusted.pem"

    @property
    def old_authority(self) -> Path:
        """The folder of the authority before, while a rotation is under way."""
        return self.paths.config / "old"

    @property
    def is_rotating(self) -> bool:
        """Whether two authorities are trusted."""
        return self.both_authorities.exists()

    def trusted_pem(self) -> str:
        """Return the certificates of the authorities that clients are to trust.

        Raises:
            SetupError: They cannot be read.

        """
        try:
            return self.client_authority.read_text("ascii")
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(f"{self.client_authority} is unreadable; restore it") from exc

    @property
    def guard_folder(self) -> Path:
        """How to reach the guard."""
        return self.paths.config / "guard"

    def witness_authority(self, origin: str) -> Path:
        """Return the file of the authority of one more witness's server."""
        host, port = host_and_port(origin)
        return self.paths.config / "witnesses" / f"{host.replace(':', '-')}-{port}.pem"

    @property
    def index_file(self) -> Path:
        """The index."""
        return self.paths.state / "index.sqlite"

    @property
    def objects(self) -> Path:
        """The sealed batches."""
        return self.paths.state / "objects"

    def collector_id(self) -> str:
        """Return what tells this collector from others on the same bucket; made at first use."""
        path = self.paths.state / "collector-id"
        if not path.exists():
            durable.replace(path, secrets.token_hex(8).encode("ascii"))
        found = path.read_text("ascii").strip()
        if not re.fullmatch(r"[0-9a-f]{16}", found):
            raise SetupError(f"{path} is damaged; remove it, and a new one is made")
        return found

    def config(self) -> Config:
        """Return the configuration.

        Raises:
            SetupError: There is none yet, or it has a mistake.

        """
        return read_config(self.config_file)

    def authority(self) -> Authority:
        """Return the authority that certifies clients."""
        return Authority.load(self.paths.config)

    def log_key(self) -> Ed25519PrivateKey:
        """Return the key that signs checkpoints."""
        return load_ed25519(self.paths.config / "log.key")

    def log_verifier_key(self) -> str:
        """Return the C2SP verifier key of the log, as policies name it."""
        public = self.log_key().public_key().public_bytes_raw()
        return verifier_key(self.config().log_name, ALGORITHM_ED25519, public)

    @property
    def next_tls_certificate(self) -> Path:
        """The certificate of the key to come."""
        return self.paths.config / "tls.next.pem"

    @property
    def next_tls_key(self) -> Path:
        """The key to come."""
        return self.paths.config / "tls.next.key"

    def lease_key(self) -> Ed25519PrivateKey:
        """Return the key that is this collector's half of the lease."""
        return load_ed25519(self.paths.config / "lease.key")

    def lease_public_key(self) -> str:
        """Return the public half of the lease key, as policies name it."""
        raw = self.lease_key().public_key().public_bytes_raw()
        return base64.b64encode(raw).decode("ascii")

    def tls_pin(self) -> str:
        """Return the pin of the server's key, hexadecimal."""
        return _pin(self.tls_certificate)

    def tls_pins(self) -> tuple[str, ...]:
        """Return the pin of the key in use, and that of the next one if there is one."""
        coming = self.next_tls_certificate
        return (self.tls_pin(), _pin(coming)) if coming.exists() else (self.tls_pin(),)

    @contextmanager
    def alone(self) -> Iterator[int]:
        """Be the one server on these files; yield the descriptor by which a child stays it, too.

        Raises:
            SetupError: Another server runs on them.

        """
        fd = os.open(self.paths.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(fd):
                raise SetupError("another assent-collector serves from this folder; stop it first")
            yield fd
        finally:
            os.close(fd)


def our_premises() -> Premises:
    """Return the premises of this machine."""
    return Premises(paths_for("collector"))


def _locked(descriptor: int) -> bool:
    """Take the lock; who was killed just now can have workers that still end."""
    until = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True


def _pin(certificate: Path) -> str:
    try:
        return certificate_spki_sha256_of_pem(certificate.read_bytes()).hex()
    except OSError as exc:
        raise SetupError(f"{certificate}: {exc.strerror}; restore it") from exc
