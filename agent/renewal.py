"""The device's certificate: 7 days, renewed when a third of its life remains, and after an absence.

A device that was away for longer than its certificate lives proves itself by its key alone:
a signing request needs neither certificate nor token.  How long an absence may be is the
collector's to say; who was away for longer enrols again (`enroll.enroll_again`), and keeps
key, pseudonym, ledger and spool.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from agent.enroll import CERTIFICATE, ENROLMENT, Device, check_usable, for_us
from agent.transport import Door
from base import durable
from base.clock import NANOSECONDS, Now
from base.errors import AssentError
from base.pki import UNREADABLE, signing_request
from wire.errors import WireError

_LOG: Final = logging.getLogger(__name__)


def renew(device: Device, now: Now, pins: tuple[str, ...]) -> Device | None:
    """Renew the device's certificate when it is time; return the device as it is then.

    Raises:
        RetryableError: No answer that may be believed.
        RejectedError: The device was revoked, or was away for too long.
        OSError: The disk failed; it is still time.

    """
    path = device.folder / CERTIFICATE
    if not _needs_renewal(path, now):
        return None
    # Without the old certificate: it may have expired, and the signing request proves the
    # key by itself.
    answer = _door(device, pins, device.enrolment.ca_pem).renew(signing_request(device.key))
    certificate = for_us(answer.certificate, device.key)
    origin, ca_pem = device.enrolment.origin, device.enrolment.ca_pem
    check_usable(certificate, device.folder, lambda *pair: Door(origin, pins, ca_pem, *pair))
    # The authority first: what fails after this, or a crash, leaves a certificate that is still
    # due, and both come again.  The other way round it would be the next renewal, days later.
    renewed = _trusting(device, answer.ca_pem, pins)
    durable.replace(path, certificate)
    return renewed


def _trusting(device: Device, ca_pem: str, pins: tuple[str, ...]) -> Device:
    """Return *device* with another authority of the server, once that has proved to work.

    The pin stays what it is: an authority that the collector names opens no way to another
    server, and one that does not work replaces none that does.
    """
    if ca_pem in ("", device.enrolment.ca_pem):
        return device
    try:
        _door(device, pins, ca_pem).state()
    except (AssentError, WireError) as exc:
        _LOG.warning("the collector's new authority is not kept, the old one is: %s", exc)
        return device
    enrolment = msgspec.structs.replace(device.enrolment, ca_pem=ca_pem)
    durable.replace(device.folder / ENROLMENT, msgspec.json.encode(enrolment))
    return replace(device, enrolment=enrolment)


def _door(device: Device, pins: tuple[str, ...], ca_pem: str) -> Door:
    return Door(device.enrolment.origin, pins, ca_pem, proxy=device.proxy)


def certificate_ends_at(path: Path) -> datetime:
    """Return until when the device's certificate is valid; the epoch if it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, *UNREADABLE):
        return datetime.fromtimestamp(0, UTC)


def _needs_renewal(path: Path, now: Now) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (OSError, *UNREADABLE):
        return True
    at = datetime.fromtimestamp(now.wall // NANOSECONDS, UTC)
    return end - at < (end - begin) / 3
