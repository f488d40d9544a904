"""What lies where in a collector's folders, and how `init` puts it there.

    config/  config.toml
             ca.key ca.pem          authority of its clients, and of its own server
             ca.trusted.pem old/    both, and the one before, while a rotation is under way
             tls.key tls.pem        server certificate; agents pin the key
             tls.next.key tls.next.pem      the one to come, once it was announced
             log.key                signs checkpoints
             lease.key              its half of the lease
             guard/                 how to reach the guard: ca.pem client.key client.csr client.pem
    state/   index.sqlite           who and what, never what is inside
             timestamp.json         the lease in force, signed by the guard, too
             objects/               the sealed batches
             lock                   held by the one server

None of these opens a batch: that takes a reader's identity and a guard's key, and neither
is ever here.
"""

import base64
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base import durable
from base.door import decode_pins, host_and_port
from base.errors import SetupError
from base.paths import Paths
from base.pki import (
    Authority,
    certificate_spki_sha256_of_pem,
    check_issued,
    load_ed25519,
    new_server_key,
    private_pem,
    signing_request,
)
from base.stored import require_kept
from collector.config import Config, first_config, read_config, with_guard
from collector.index import Index
from wire.tlog import ALGORITHM_ED25519, verifier_key

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

    @property
    def index_file(self) -> Path:
        """The index."""
        return self.paths.state / "index.sqlite"

    def index(self) -> Index:
        """Return the index, open.

        Raises:
            SetupError: It is missing or damaged, or of a later version of this program.
            RetryableError: It cannot be used now.

        """
        require_kept(self.index_file)
        return Index(self.index_file)

    @property
    def objects(self) -> Path:
        """The sealed batches."""
        return self.paths.state / "objects"

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

    @property
    def lease_file(self) -> Path:
        """The lease in force."""
        return self.paths.state / "timestamp.json"

    def tls_pin(self) -> str:
        """Return the pin of the server's key, hexadecimal."""
        return _pin(self.tls_certificate)

    def tls_pins(self) -> tuple[str, ...]:
        """Return the pin of the key in use, and that of the next one if there is one."""
        coming = self.next_tls_certificate
        return (self.tls_pin(), _pin(coming)) if coming.exists() else (self.tls_pin(),)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the one server on these files.

        Raises:
            SetupError: Another server runs on them.

        """
        fd = os.open(self.paths.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetupError("another assent-collector serves from this folder") from None
            yield
        finally:
            os.close(fd)


def move_in(
    premises: Premises,
    *,
    origin: str,
    tenant: str,
    listen: str | None,
    readers: str = "",
    hosts: Sequence[str] = (),
) -> None:
    """Make keys, authority, certificate and configuration: what `init` does.

    *readers* is the origin that readers call, if they have a listener of their own.

    Raises:
        SetupError: There is a collector already, or origin or tenant are not usable.

    """
    host, _port = host_and_port(origin)
    if not _TENANT.fullmatch(tenant):
        raise SetupError(f"the tenant {tenant!r} must be of a-z, 0-9 and '-'")
    if premises.config_file.exists():
        raise SetupError(f"{premises.config_file} exists; this collector is set up already")
    named = {host, *hosts, *([host_and_port(readers)[0]] if readers else [])}
    premises.paths.make()
    authority = Authority.create(f"Assent collector of {tenant}")
    authority.save(premises.paths.config)
    certify_server(premises, authority, new_server_key(), sorted(named))
    config = premises.paths.config
    for path in (config / "log.key", config / "lease.key", _guard_key_file(premises)):
        durable.private_folder(path.parent)
        durable.replace(path, private_pem(Ed25519PrivateKey.generate()))
    request = signing_request(load_ed25519(_guard_key_file(premises)))
    durable.replace(premises.guard_folder / "client.csr", request)
    Index(premises.index_file).close()
    # Last, because its presence says that all the rest is there: init may be run again
    # after a crash, and then makes everything anew.
    text = first_config(
        origin=origin.rstrip("/"),
        tenant=tenant,
        listen=listen or _listens(origin),
        readers_listen=_listens(readers) if readers else "",
    )
    durable.replace(premises.config_file, text)


def certify_server(
    premises: Premises,
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
) -> None:
    """Write the server's key and a certificate for *hosts*."""
    durable.replace(premises.tls_key, private_pem(key))
    durable.replace(premises.tls_certificate, authority.server_certificate(key, hosts))


def connect_guard(
    premises: Premises, *, origin: str, pins: tuple[str, ...], authority: bytes, certificate: bytes
) -> None:
    """Keep how to reach the guard; again with the same origin and pins to renew the certificate.

    Raises:
        SetupError: The origin or a pin is none, the files do not belong together, or
            config.toml names another guard already.

    """
    host_and_port(origin)
    decode_pins(pins)
    key = load_ed25519(_guard_key_file(premises)).public_key()
    check_issued(certificate, authority, key)
    config = with_guard(premises.config_file.read_bytes(), origin.rstrip("/"), pins)
    durable.replace(premises.guard_folder / "ca.pem", authority)
    durable.replace(premises.guard_folder / "client.pem", certificate)
    durable.replace(premises.config_file, config)


def _pin(certificate: Path) -> str:
    try:
        return certificate_spki_sha256_of_pem(certificate.read_bytes()).hex()
    except OSError as exc:
        raise SetupError(f"{certificate}: {exc.strerror}; restore it") from exc


def _guard_key_file(premises: Premises) -> Path:
    return premises.guard_folder / "client.key"


def _listens(origin: str) -> str:
    host, port = host_and_port(origin)
    return f"{_address(host)}:{port}"


def _address(host: str) -> str:
    """Return what to listen on for an origin of this host: itself if it is an address."""
    if re.fullmatch(r"[0-9.]+", host):
        return host
    return f"[{host}]" if ":" in host else "0.0.0.0"  # noqa: S104 - a name says nothing of interfaces
