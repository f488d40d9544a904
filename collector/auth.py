"""Who is asking: a role from the client certificate, looked up in the index every time.

TLS has checked that our own authority issued the certificate and that its holder has the
key.  Here: is it for this tenant, still valid now (a connection can outlive it), enrolled
with this very key, and not revoked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Row, bindparam, select

from base.clock import NANOSECONDS
from base.pki import CertificateError, Client, Role, client_of
from collector.index.tables import devices, readers
from collector.refusal import RefusedError, Why
from wire.ids import DeviceId, WallInstant

_DEVICES: Final = select(devices).where(devices.c.device.in_(bindparam("devices", expanding=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled workstation."""

    id: DeviceId
    key: Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A certified reader, by the name in its certificate."""

    name: str


Caller: TypeAlias = Device | Reader


def caller(
    connection: Connection, certificate: bytes | None, tenant: str, now: WallInstant
) -> Caller:
    """Return who holds this client certificate (DER).

    Raises:
        RefusedError: Nobody who may ask anything here; the name says why.

    """
    (found,) = callers(connection, [(certificate, now)], tenant)
    if isinstance(found, RefusedError):
        raise found
    return found


def callers(
    connection: Connection, shown: Sequence[tuple[bytes | None, WallInstant]], tenant: str
) -> list[Caller | RefusedError]:
    """Return who holds each of these certificates (DER), shown at that time."""
    clients = [_client(certificate, tenant, now) for certificate, now in shown]
    ids = {c.spki_sha256 for c in clients if isinstance(c, Client) and c.role is Role.DEVICE}
    rows = {row.device: row for row in connection.execute(_DEVICES, {"devices": sorted(ids)})}
    return [_found(connection, client, rows) for client in clients]


def _found(
    connection: Connection, client: Client | RefusedError, devices: Mapping[bytes, Row[Any]]
) -> Caller | RefusedError:
    if isinstance(client, RefusedError):
        return client
    try:
        match client.role:
            case Role.DEVICE:
                return _device(devices.get(client.spki_sha256), client)
            case Role.READER:
                return _reader(connection, client)
            case Role.COLLECTOR | Role.OPERATOR:
                line = f"nothing here is for the role {client.role}"
                return RefusedError(Why.UNKNOWN_CLIENT, line)
    except RefusedError as exc:
        return exc


def _client(certificate: bytes | None, tenant: str, now: WallInstant) -> Client | RefusedError:
    """Return whom a certificate names, if it still does."""
    if certificate is None:
        return RefusedError(Why.NO_CERTIFICATE, "show a client certificate; enroll to get one")
    try:
        client = _read(certificate)
    except CertificateError as exc:
        return RefusedError(Why.UNKNOWN_CLIENT, str(exc))
    if client.tenant != tenant:
        return RefusedError(Why.OTHER_TENANT, "the certificate is for another tenant")
    if now >= client.expires_at.timestamp() * NANOSECONDS:
        return RefusedError(Why.CERTIFICATE_EXPIRED, "renew the client certificate")
    return client


@lru_cache(maxsize=4096)
def _read(certificate: bytes) -> Client:
    """Return what a certificate says, which is the same each time that it is shown."""
    return client_of(certificate)


def device(caller: Caller) -> Device:
    """Return *caller* as a device.

    Raises:
        RefusedError: It is none.

    """
    if not isinstance(caller, Device):
        raise RefusedError(Why.WRONG_ROLE, "only a device may do this")
    return caller


def reader(caller: Caller) -> Reader:
    """Return *caller* as a reader.

    Raises:
        RefusedError: It is none: devices hand in, they neither read nor list.

    """
    if not isinstance(caller, Reader):
        raise RefusedError(Why.WRONG_ROLE, "only a reader may do this")
    return caller


def _device(row: Row[Any] | None, client: Client) -> Device:
    if row is None or client.name != client.spki_sha256.hex():
        raise RefusedError(Why.UNKNOWN_CLIENT, "this device is not enrolled here; enroll it")
    if row.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this device was revoked; ask who runs the collector")
    key = Ed25519PublicKey.from_public_bytes(row.public_key)
    return Device(id=DeviceId(row.device), key=key)


def _reader(connection: Connection, client: Client) -> Reader:
    row = connection.execute(select(readers).where(readers.c.name == client.name)).one_or_none()
    if row is None or row.spki_sha256 != client.spki_sha256:
        raise RefusedError(Why.UNKNOWN_CLIENT, "this reader's certificate is not known here")
    if row.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this reader was revoked; ask who runs the collector")
    return Reader(name=client.name)
