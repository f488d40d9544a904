"""How clients come to be known: tokens, enrolment, renewal, readers, revocation.

A token is 32 random bytes in an enrolment file; the index keeps its SHA-256, until when
it is good, and which device used it.  A signing request proves its key, so the answer to
somebody else's request is of no use to whoever replays it.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, or_, select, update

from base.clock import NANOSECONDS
from base.errors import SetupError
from base.pki import (
    Authority,
    CertificateError,
    Role,
    certificate_expires_at,
    client_uri,
    requested_key,
    spki_sha256,
)
from collector.drill.identities import NAME
from collector.index.tables import devices, readers, tokens
from collector.jurisdiction import check_served, place, served_now
from collector.refusal import RefusedError, Why
from wire.collector_http import Certified, EnrolRequest, RenewRequest
from wire.ed25519 import public_key
from wire.errors import WireError
from wire.ids import DeviceId, WallInstant

TOKEN_BYTES: Final = 32
HOUR: Final = 3600 * NANOSECONDS
LEAST_DIGITS: Final = 6  # of a device's id, where somebody types its beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What certifies: the authority, for one tenant, for so many days."""

    authority: Authority
    tenant: str
    days: float
    absence_days: float = 180.0  # how long after its certificate's end a device may come back
    jurisdictions: tuple[str, ...] = ()  # that config.toml names; none: those of the policy
    ca_pem: str = ""  # the server's authority as clients are to trust it; two in a rotation

    def certify(self, csr: bytes, role: Role, name: str) -> Certified:
        """Return a client certificate for the key of *csr*."""
        pem = self.authority.certify(csr, client_uri(self.tenant, role, name), self.days)
        until = int(certificate_expires_at(pem).timestamp()) * NANOSECONDS
        return Certified(
            certificate=pem.decode("ascii"), expires_at=WallInstant(until), ca_pem=self.ca_pem
        )


# --- devices ----------------------------------------------------------------------------


def new_token(
    connection: Connection,
    now: WallInstant,
    expires_at: WallInstant,
    *,
    jurisdiction: str,
    label: str = "",
) -> str:
    """Return a new enrolment token, good for one device of *jurisdiction* until *expires_at*.

    *label* says to whom notices about the device's consents go; empty: to nobody.
    """
    token = secrets.token_bytes(TOKEN_BYTES)
    connection.execute(
        tokens.insert().values(
            sha256=hashlib.sha256(token).digest(),
            made_at=now,
            expires_at=expires_at,
            label=label,
            jurisdiction=jurisdiction,
        )
    )
    return base64.urlsafe_b64encode(token).decode("ascii").rstrip("=")


def enrol(
    connection: Connection, registry: Registry, request: EnrolRequest, now: WallInstant
) -> tuple[Certified, bool]:
    """Enrol a device; return its certificate and whether it is new here.

    In this order: the signing request proves its key; the token is known, unexpired and
    unused (or used by this very key, whose answer was lost); the device is not revoked; the
    jurisdiction is served; token and device are written together.

    Raises:
        RefusedError: One of these does not hold.

    """
    key = _requested(request.csr)
    device = DeviceId(spki_sha256(key))
    digest = _token_sha256(request.token)
    row = connection.execute(
        select(tokens.c.used_by, tokens.c.label, tokens.c.jurisdiction).where(
            tokens.c.sha256 == digest,
            or_(tokens.c.expires_at > now, tokens.c.used_by == device),
        )
    ).one_or_none()
    if row is None or row.used_by not in (None, device):
        raise RefusedError(
            Why.TOKEN_REFUSED, "the token is unknown, used or expired; ask for a new one"
        )
    known = _known(connection, device)
    # A token that was used before does not bring a device back to where, and whose, it was then.
    again = known and row.used_by == device
    jurisdiction = _jurisdiction(connection, device) if again else row.jurisdiction
    check_served(jurisdiction, served_now(connection, registry.jurisdictions))
    certified = registry.certify(request.csr.encode(), Role.DEVICE, device.hex())
    connection.execute(update(tokens).where(tokens.c.sha256 == digest).values(used_by=device))
    if known:
        _certified_until(connection, device, certified.expires_at)
        place(connection, device, jurisdiction)
        if row.label and not again:  # one that names nobody takes nobody's notices away
            _labelled(connection, device, row.label)
    else:
        connection.execute(
            devices.insert().values(
                device=device,
                public_key=key.public_bytes_raw(),
                enrolled_at=now,
                certified_until=certified.expires_at,
                label=row.label,
                jurisdiction=jurisdiction,
            )
        )
    return certified, not known


def renew(
    connection: Connection, registry: Registry, request: RenewRequest, now: WallInstant
) -> Certified:
    """Return a new certificate for a device that was enrolled with this key.

    Its last certificate may have expired, but not longer ago than the registry allows.

    Raises:
        RefusedError: It was not, it was revoked, or it was away for too long.

    """
    device = DeviceId(spki_sha256(_requested(request.csr)))
    if not _known(connection, device):
        raise RefusedError(Why.UNKNOWN_CLIENT, "this device is not enrolled here; enroll it")
    _check_absence(connection, device, registry, now)
    certified = registry.certify(request.csr.encode(), Role.DEVICE, device.hex())
    _certified_until(connection, device, certified.expires_at)
    return certified


def revoke_device(connection: Connection, prefix: str, now: WallInstant) -> DeviceId:
    """Revoke the one device whose hexadecimal id begins with *prefix*; return its id.

    Raises:
        SetupError: None or several begin so.

    """
    device = named(connection, prefix)
    connection.execute(
        update(devices)
        .where(devices.c.device == device, devices.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return device


def named(connection: Connection, prefix: str) -> DeviceId:
    """Return the one device whose hexadecimal id begins with *prefix*, of at least six digits.

    Raises:
        SetupError: None or several begin so, or it is shorter: that may be a slip, and a device
            that was revoked by one never comes back.

    """
    if len(prefix) < LEAST_DIGITS:
        raise SetupError(
            f"{prefix!r} is too short to mean one device: give {LEAST_DIGITS} digits of its id or "
            "more, as in assent-collector devices"
        )
    known = connection.execute(select(devices.c.device)).scalars()
    found = [d for d in known if d.hex().startswith(prefix.lower())]
    if len(found) != 1:
        raise SetupError(
            f"{len(found)} devices begin with {prefix!r}; see assent-collector devices"
        )
    return DeviceId(found[0])


def certified_before(
    connection: Connection, since: WallInstant, life: timedelta, now: WallInstant
) -> tuple[int, int]:
    """Return how many clients were last certified before *since*: still good, and run out.

    *life* is that of a device's certificate; who was revoked does not count.
    """
    life_ns = int(life.total_seconds()) * NANOSECONDS
    devices_until = select(devices.c.certified_until).where(
        devices.c.revoked_at.is_(None), devices.c.certified_until - life_ns < since
    )
    readers_until = select(readers.c.certified_until).where(
        readers.c.revoked_at.is_(None), readers.c.certified_at < since
    )
    until = [*connection.execute(devices_until).scalars()]
    until += connection.execute(readers_until).scalars()
    good = sum(1 for each in until if each > now)
    return good, len(until) - good


# --- readers ----------------------------------------------------------------------------


def certify_reader(
    connection: Connection, registry: Registry, csr: bytes, name: str, now: WallInstant
) -> Certified:
    """Certify a reader; a name belongs to one key until it is revoked.

    Raises:
        SetupError: The name is taken by another key, or by drills.
        CertificateError: Not a signing request of an Ed25519 key.

    """
    if name == NAME:
        raise SetupError(f"{NAME!r} is how drills come in; give the reader another name")
    digest = spki_sha256(requested_key(csr))
    row = connection.execute(select(readers).where(readers.c.name == name)).one_or_none()
    if row is not None and row.spki_sha256 != digest and row.revoked_at is None:
        raise SetupError(f"reader {name} has another key; revoke it first (revoke --reader {name})")
    certified = registry.certify(csr, Role.READER, name)
    values = {
        "spki_sha256": digest,
        "certified_at": now,
        "certified_until": certified.expires_at,
        "revoked_at": None,
    }
    if row is None:
        connection.execute(readers.insert().values(name=name, **values))
    else:
        connection.execute(update(readers).where(readers.c.name == name).values(**values))
    return certified


def revoke_reader(connection: Connection, name: str, now: WallInstant) -> None:
    """Revoke a reader's certificate.

    Raises:
        SetupError: There is no such reader.

    """
    done = connection.execute(update(readers).where(readers.c.name == name).values(revoked_at=now))
    if done.rowcount != 1:
        raise SetupError(f"there is no reader {name}")


def _requested(csr: str) -> Ed25519PublicKey:
    try:
        return public_key(requested_key(csr.encode()).public_bytes_raw())
    except (CertificateError, WireError) as exc:
        raise RefusedError(Why.BAD_REQUEST, str(exc)) from exc


def _token_sha256(token: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        decoded = b""
    return hashlib.sha256(decoded).digest()


def _known(connection: Connection, device: DeviceId) -> bool:
    row = connection.execute(
        select(devices.c.revoked_at).where(devices.c.device == device)
    ).one_or_none()
    if row is not None and row.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this device was revoked; ask who runs the collector")
    return row is not None


def _jurisdiction(connection: Connection, device: DeviceId) -> str:
    query = select(devices.c.jurisdiction).where(devices.c.device == device)
    return str(connection.execute(query).scalar_one())


def _check_absence(
    connection: Connection, device: DeviceId, registry: Registry, now: WallInstant
) -> None:
    ended = connection.execute(
        select(devices.c.certified_until).where(devices.c.device == device)
    ).scalar_one()
    if now - ended > registry.absence_days * 24 * HOUR:
        raise RefusedError(
            Why.ABSENT_TOO_LONG,
            f"this device was away for more than {registry.absence_days:g} days; ask for a new "
            "enrolment file and run assent-agent enroll FILE; nothing on it is lost",
        )


def _certified_until(connection: Connection, device: DeviceId, until: WallInstant) -> None:
    connection.execute(
        update(devices).where(devices.c.device == device).values(certified_until=until)
    )


def _labelled(connection: Connection, device: DeviceId, label: str) -> None:
    connection.execute(update(devices).where(devices.c.device == device).values(label=label))
