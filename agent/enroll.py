"""How a device becomes one of a programme, and what it keeps of that.

    device.key       its Ed25519 key; signs frames and consents, and speaks TLS
    device.pem       its certificate, 7 days; `renewal` sees to it
    tuf/             the policy, signed by all who have to agree (`consent.refresh`)
    enrolment.json   collector, pseudonym and public key of the data subject; written last

A crash before the last file leaves a device that is not enrolled; the same command goes on
where it stopped.  The device tells the collector a key and nothing else: no host name, no
user name, no hardware address.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.consent.policy import PolicyInForce
from agent.consent.refresh import refresh, trust
from agent.erasures import Asker
from agent.transport import Door, same_origin
from base import durable
from base.clock import Now, why_implausible
from base.errors import RejectedError, SetupError
from base.pki import (
    CertificateError,
    certificate_spki_sha256_of_pem,
    load_ed25519,
    private_pem,
    signing_request,
    spki_sha256,
)
from base.proxy import Proxy
from base.stored import Versioned, refuse_newer
from wire.collector_http import Enrolment as EnrolmentFile
from wire.collector_http import decode
from wire.errors import UNREADABLE, MalformedError
from wire.ids import DeviceId, SubjectId
from wire.rights import appoint, rights_key_of, subject_of
from wire.sealing import new_identity, recipient_of

KEY: Final = "device.key"
CERTIFICATE: Final = "device.pem"
ENROLMENT: Final = "enrolment.json"
IDENTITY: Final = "subject.identity"  # in the runtime folder, so that it dies with the session


class Enrolment(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device keeps of its enrolment; `subject_key` is an age1pq... recipient."""

    origin: str
    tls_pins: tuple[str, ...]
    ca_pem: str
    subject: bytes  # SubjectId: follows from the rights key
    subject_key: str
    rights_key: bytes  # public, raw Ed25519
    appointment: bytes  # by it, so that this device may ask for erasures
    enrolled_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled device: what it knows of its programme, and its key."""

    enrolment: Enrolment
    key: Ed25519PrivateKey
    folder: Path
    proxy: Proxy | None = None  # the way to the collector, where there is no straight one

    @property
    def id(self) -> DeviceId:
        """The device id: SHA-256 of its key's SubjectPublicKeyInfo."""
        return DeviceId(spki_sha256(self.key.public_key()))

    @property
    def subject(self) -> SubjectId:
        """The data subject's pseudonym."""
        return SubjectId(self.enrolment.subject)

    @property
    def asker(self) -> Asker:
        """In whose name this device asks for erasures, and where."""
        enrolment = self.enrolment
        return Asker(
            key=self.key,
            subject=self.subject,
            rights_key=enrolment.rights_key,
            appointment=enrolment.appointment,
            origin=enrolment.origin,
        )

    def door(self, pins: tuple[str, ...]) -> Door:
        """Return the way to the collector, with this device's certificate."""
        enrolment = self.enrolment
        certificate, key = self.folder / CERTIFICATE, self.folder / KEY
        return Door(enrolment.origin, pins, enrolment.ca_pem, certificate, key, proxy=self.proxy)


def load_device(folder: Path, proxy: Proxy | None = None) -> Device:
    """Return the device enrolled in *folder*, which reaches its collector through *proxy*.

    Raises:
        SetupError: It is not enrolled, or its files cannot be read.

    """
    try:
        data = (folder / ENROLMENT).read_bytes()
        refuse_newer(data, folder / ENROLMENT)
        enrolment = msgspec.json.decode(data, type=Enrolment)
    except FileNotFoundError:
        raise SetupError(
            "this device is not enrolled; run `assent-agent enroll FILE` with the file that "
            "you were given"
        ) from None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(
            f"{folder / ENROLMENT} cannot be read ({exc}); restore it from a backup, or move "
            f"{folder} away and enrol again"
        ) from exc
    return Device(enrolment=enrolment, key=load_ed25519(folder / KEY), folder=folder, proxy=proxy)


def read_file(path: Path, now: Now) -> EnrolmentFile:
    """Return the enrolment file at *path*.

    Raises:
        SetupError: It cannot be read, is no enrolment file, or its token has expired.

    """
    try:
        data = path.read_bytes()
        refuse_newer(data, path)
        file = decode(data, EnrolmentFile)
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; check the path") from exc
    except MalformedError as exc:
        raise SetupError(
            f"{path} is no enrolment file of this version ({exc}); ask who gave it to you, or "
            "install a newer assent"
        ) from exc
    if why := why_implausible(now.wall):
        raise SetupError(why)
    if now.wall >= file.expires_at:
        raise SetupError(f"the token in {path} has expired; ask for a new enrolment file")
    return file


def enroll(
    file: EnrolmentFile,
    folder: Path,
    now: Now,
    open_door: Callable[..., Door],
    keep: Callable[[str], None],
) -> None:
    """Enrol this device in *folder*, and let *keep* have the data subject's identity.

    1. make the device key; 2. have it certified with the token; 3. fetch the
    policy and its lease, and verify them from the root in the enrolment file on; 4. make the data
    subject's pseudonym and identity; 5. hand the identity over, which is kept nowhere here;
    6. note it all.  The order of the last two matters: a device whose data subject never got
    the identity would record what its subject can never get back.

    Raises:
        SetupError: Enrolled already, or the policy is for another collector.
        OSError: *keep* could not keep it, or the disk fails; the device is not enrolled.
        RetryableError: No answer that may be believed.
        RejectedError: The token or the policy will not do.

    """
    if (folder / ENROLMENT).exists():
        raise SetupError(
            f"this device is enrolled already; to begin anew, stop the agent and remove {folder}"
        )
    key = _device_key(folder)
    certificate = folder / CERTIFICATE
    if not certificate.exists():  # a token works once: a retry must not need it again
        _certify(file, folder, key, open_door)
    door = open_door(file.origin, file.tls_pins, file.ca_pem, certificate, folder / KEY)
    _fetch_policy(door, file, folder, now)
    identity = new_identity()
    rights = rights_key_of(identity)
    rights_key = rights.public_key().public_bytes_raw()
    enrolment = Enrolment(
        origin=file.origin,
        tls_pins=file.tls_pins,
        ca_pem=file.ca_pem,
        subject=subject_of(rights_key),
        subject_key=recipient_of(identity),
        rights_key=rights_key,
        appointment=appoint(rights, key.public_key().public_bytes_raw()),
        enrolled_at=now.wall,
    )
    keep(identity)
    durable.replace(folder / ENROLMENT, msgspec.json.encode(enrolment))


def enroll_again(
    file: EnrolmentFile, folder: Path, now: Now, open_door: Callable[..., Door]
) -> None:
    """Enrol the device in *folder* once more, with a new token, as the device that it is.

    For one that was away for too long, or knows none of the collector's keys any more.  Key,
    pseudonym, rights key, ledger and spool stay.  Whatever interrupts it leaves an enrolled
    device; the same command goes on.

    Raises:
        SetupError: It is enrolled at another collector.
        RetryableError: No answer that may be believed.
        RejectedError: The token or the policy will not do.

    """
    device = load_device(folder)
    if file.origin != device.enrolment.origin:
        raise SetupError(
            f"this device is enrolled at {device.enrolment.origin}, the file is of {file.origin}; "
            f"to begin anew there, stop the agent and remove {folder}"
        )
    _certify(file, folder, device.key, open_door)
    door = open_door(file.origin, file.tls_pins, file.ca_pem, folder / CERTIFICATE, folder / KEY)
    _fetch_policy(door, file, folder, now)
    enrolment = msgspec.structs.replace(
        device.enrolment, tls_pins=file.tls_pins, ca_pem=file.ca_pem
    )
    durable.replace(folder / ENROLMENT, msgspec.json.encode(enrolment))


def _certify(
    file: EnrolmentFile, folder: Path, key: Ed25519PrivateKey, open_door: Callable[..., Door]
) -> None:
    """Have *key* certified with the token, and keep the certificate if it is of use."""
    door = open_door(file.origin, file.tls_pins, file.ca_pem)
    certificate = for_us(door.enroll(file.token, signing_request(key)), key)
    check_usable(
        certificate,
        folder,
        lambda *pair: open_door(file.origin, file.tls_pins, file.ca_pem, *pair),
    )
    durable.replace(folder / CERTIFICATE, certificate)


def check_usable(certificate: bytes, folder: Path, open_door: Callable[[Path, Path], Door]) -> None:
    """Check that TLS can show it: with one that it cannot, nobody could ask for a better one.

    Raises:
        RejectedError: It does not.

    """
    tried = folder / f"{CERTIFICATE}.tried"  # of a crash: written anew by the next one
    try:
        durable.replace(tried, certificate)
        open_door(tried, folder / KEY).close()
    except SetupError as exc:
        raise RejectedError("the collector's certificate cannot be used; ask who runs it") from exc
    finally:
        tried.unlink(missing_ok=True)


def for_us(certificate: str, key: Ed25519PrivateKey) -> bytes:
    """Return the PEM of a certificate for this key; nothing else may replace what works.

    Raises:
        RejectedError: It is none, or for another key.

    """
    pem = certificate.encode("ascii", "replace")
    try:
        certified = certificate_spki_sha256_of_pem(pem)
    except CertificateError:
        certified = b""
    if certified != spki_sha256(key.public_key()):
        raise RejectedError("the collector's certificate is not for this device; ask who runs it")
    return pem


def _device_key(folder: Path) -> Ed25519PrivateKey:
    path = folder / KEY
    if path.exists():
        return load_ed25519(path)
    key = Ed25519PrivateKey.generate()
    durable.replace(path, private_pem(key))
    return key


def _fetch_policy(door: Door, file: EnrolmentFile, folder: Path, now: Now) -> None:
    root = door.policy_file(f"{file.root_sha256}.root.json")
    if root is None or hashlib.sha256(root).hexdigest() != file.root_sha256:
        raise RejectedError(
            "the collector's root is not the one in the enrolment file; nothing was "
            "recorded or sent; ask who gave you the file"
        )
    trust(folder, root)
    try:
        refresh(folder, door.policy_file, now, from_origin(file.origin))
    except RejectedError as exc:
        raise RejectedError(f"{exc}; ask who gave you the enrolment file") from exc


def from_origin(origin: str) -> Callable[[PolicyInForce], None]:
    """Return what refuses a policy that names another collector than that of the enrolment."""

    def accept(offered: PolicyInForce) -> None:
        if offered.policy is not None:
            same_origin(offered.policy.collector.origin, origin)

    return accept


def is_in_memory(folder: Path) -> bool:
    """Whether what is written in *folder* stays off the disk (tmpfs or ramfs).

    The longest mount point that contains the folder decides (proc(5), mountinfo).
    """
    kind, longest = "", -1
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        mounted = Path(before.split()[4].encode().decode("unicode_escape"))
        if folder.resolve().is_relative_to(mounted) and len(mounted.parts) >= longest:
            kind, longest = after.split()[0], len(mounted.parts)
    return kind in ("tmpfs", "ramfs")
