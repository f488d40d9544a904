"""Who is asking: a role from the client certificate, looked up in the index every time.

TLS has checked that our own authority issued the certificate and that its holder has the
key.  Here: is it for this tenant, still valid now (a connection can outlive it), enrolled
with this very key, and not revoked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, bindparam, select

from base.pki import CertificateError, Client, Role, client_of
from collector.drill.identities import known_key
from collector.index import Index
from collector.index.prepared import Asking, Found
from collector.index.tables import devices, readers
from collector.refusal import RefusedError, Why
from wire.ids import DeviceId, WallInstant

_DEVICES: Final = Asking(
    select(devices.c.device, devices.c.public_key, devices.c.revoked_at).where(
        devices.c.device.in_(bindparam("devices", expanding=True))
    )
)
_READER: Final = select(readers).where(readers.c.name == bindparam("name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled workstation."""

    id: DeviceId
    key: Ed25519PublicKey
    drill: bool = False  # a drill's: nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A certified reader, by the name in its certificate."""

    name: str
    drill: bool = False  # a drill's: nobody's


Caller: TypeAlias = Device | Reader


def claimed(certificate: bytes | None, tenant: str, now: WallInstant) -> Client:
    """Return whom this client certificate (DER) names: what can be told without the index.

    Raises:
        RefusedError: Nobody who may ask anything here; the name says why.

    """
    client = _client(certificate, tenant, now)
    if isinstance(client, RefusedError):
        raise client
    return client


def caller(index: Index, client: Client, now: WallInstant) -> Caller:
    """Return who *client* is, whom a certificate named.

    Raises:
        RefusedError: Nobody whom the index knows, or no longer; the name says why.

    """
    with index.reading() as connection:
        (found,) = _known(connection, [(client, now)])
    if isinstance(found, RefusedError):
        raise found
    return found


def callers(
    connection: Connection, shown: Sequence[tuple[bytes | None, WallInstant]], tenant: str
) -> list[Caller | RefusedError]:
    """Return who holds each of these certificates (DER), shown at that time."""
    return _known(connection, [(_client(each, tenant, now), now) for each, now in shown])


def _client(certificate: bytes | None, tenant: str, now: WallInstant) -> Client | RefusedError:
    """Return whom a certificate names, if it still does."""
    if certificate is None:
        return RefusedError(Why.NO_CERTIFICATE, "show a client certificate; enroll to get one")
    try:
        client = _named(certificate)
    except CertificateError as exc:
        return RefusedError(Why.UNKNOWN_CLIENT, str(exc))
    if client.tenant != tenant:
        return RefusedError(Why.OTHER_TENANT, "the certificate is for another tenant")
    if client.has_ended(now):
        return RefusedError(Why.CERTIFICATE_EXPIRED, "renew the client certificate")
    if client.role not in (Role.DEVICE, Role.READER):
        line = f"nothing here is for the role {client.role}"
        return RefusedError(Why.UNKNOWN_CLIENT, line)
    return client


@lru_cache(maxsize=4096)
def _named(certificate: bytes) -> Client:
    """Return whom a certificate names; to read one costs more than to look its holder up."""
    return client_of(certificate)


def _known(
    connection: Connection, shown: Sequence[tuple[Client | RefusedError, WallInstant]]
) -> list[Caller | RefusedError]:
    """Return who is known here; the devices are asked for in one statement."""
    ids = {c.spki_sha256 for c, _ in shown if isinstance(c, Client) and c.role is Role.DEVICE}
    found = _DEVICES.all(connection, devices=sorted(ids)) if ids else ()
    rows = {row.device: row for row in found}
    return [_one(connection, client, rows, now) for client, now in shown]


def _one(
    connection: Connection,
    client: Client | RefusedError,
    devices: Mapping[bytes, Found],
    now: WallInstant,
) -> Caller | RefusedError:
    if isinstance(client, RefusedError):
        return client
    try:
        if client.role is Role.DEVICE:
            return _device(connection, devices.get(client.spki_sha256), client, now)
        return _reader(connection, client, now)
    except RefusedError as exc:
        return exc


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


def _device(connection: Connection, row: Found | None, client: Client, now: WallInstant) -> Device:
    if row is None:
        drill = known_key(connection, client.spki_sha256, Role.DEVICE, now)
        if drill is not None:
            key = Ed25519PublicKey.from_public_bytes(drill)
            return Device(id=DeviceId(client.spki_sha256), key=key, drill=True)
    if row is None or client.name != client.spki_sha256.hex():
        raise RefusedError(Why.UNKNOWN_CLIENT, "this device is not enrolled here; enroll it")
    if row.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this device was revoked; ask who runs the collector")
    key = Ed25519PublicKey.from_public_bytes(row.public_key)
    return Device(id=DeviceId(row.device), key=key)


def _reader(connection: Connection, client: Client, now: WallInstant) -> Reader:
    row = connection.execute(_READER, {"name": client.name}).one_or_none()
    if row is None and known_key(connection, client.spki_sha256, Role.READER, now) is not None:
        return Reader(name=client.name, drill=True)
    if row is None or row.spki_sha256 != client.spki_sha256:
        raise RefusedError(Why.UNKNOWN_CLIENT, "this reader's certificate is not known here")
    if row.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this reader was revoked; ask who runs the collector")
    return Reader(name=client.name)
