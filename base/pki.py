"""The small certificate authority that a collector and a guard each have of their own.

An `Authority` issues two kinds of certificate: for its own server (host names), and for
clients, whose one subject alternative name says who they are:
`urn:assent:<tenant>:<role>:<name>`.  From a client's signing request it takes the key and
nothing else; what the certificate says is decided by who issues it.  Start with
`Authority.create`, `Authority.certify` and `client_of`.

Certificates of clients live for days, not years, so a lost one ends by itself; who is
revoked before that stands in the issuer's own index, which is asked at every request.
"""

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from base import durable
from base.clock import NANOSECONDS
from base.errors import RejectedError, SetupError

CLIENT_DAYS: Final = 7  # short, because nobody fetches revocation lists
SERVER_DAYS: Final = 825  # clients pin the key; renewal with the same key changes no pin
AUTHORITY_DAYS: Final = 3650
BACKDATED: Final = timedelta(minutes=5)  # clocks of workstations differ
# All that the library raises for what is no certificate, or an odd one; most of it is no
# ValueError (mutated certificates have raised each of them).
UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Role(StrEnum):
    """What a client is to the server that certified it."""

    DEVICE = "device"
    READER = "reader"
    COLLECTOR = "collector"
    OPERATOR = "operator"


_URI: Final = re.compile(
    rf"urn:assent:(?P<tenant>{_WORD.pattern}):(?P<role>{'|'.join(Role)}):(?P<name>{_WORD.pattern})"
)


class CertificateError(RejectedError):
    """A certificate or signing request from outside is not what it has to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who a client certificate says its holder is; the issuer's signature is not checked here."""

    tenant: str
    role: Role
    name: str
    spki_sha256: bytes
    expires_at: datetime

    def has_ended(self, wall: int) -> bool:
        """Whether the certificate has expired by *wall* (ns since the epoch).

        TLS asks at the beginning of a connection only, which may be kept open for long.
        """
        return wall >= self.expires_at.timestamp() * NANOSECONDS


def client_uri(tenant: str, role: Role, name: str) -> str:
    """Return the name of a client, as it stands in its certificate.

    Raises:
        CertificateError: Tenant or name has a character that would make it ambiguous.

    """
    for word in (tenant, name):
        if not _WORD.fullmatch(word):
            raise CertificateError(
                f"{word!r} cannot be named in a certificate; use letters, digits, '.', '_', '-'"
            )
    return f"urn:assent:{tenant}:{role}:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A P-256 key and the certificate that says: what this key signed, we issued."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str) -> "Authority":
        """Return a new authority of this (purely descriptive) name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _dated(AUTHORITY_DAYS)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(issues=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        return cls(key=key, certificate=certificate)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Return the authority that `save` wrote into *folder*.

        Raises:
            SetupError: It is not there, or cannot be read.

        """
        try:
            key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        except (OSError, *UNREADABLE) as exc:
            raise SetupError(f"the certificate authority in {folder} is unreadable: {exc}") from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError(f"{folder / 'ca.key'} is no P-256 key; restore it from a backup")
        if certificate.public_key() != key.public_key():
            raise SetupError(
                f"ca.key and ca.pem in {folder} do not belong together; run the command again that "
                "was interrupted, or restore both from a backup"
            )
        return cls(key=key, certificate=certificate)

    def save(self, folder: Path) -> None:
        """Write `ca.key` and `ca.pem` into *folder*, readable by the owner alone."""
        durable.replace(folder / "ca.key", private_pem(self.key))
        durable.replace(folder / "ca.pem", self.pem)

    @property
    def pem(self) -> bytes:
        """The authority's certificate, which its clients trust and nothing else."""
        return self.certificate.public_bytes(Encoding.PEM)

    def server_certificate(self, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> bytes:
        """Return a server certificate (PEM) for *hosts*: DNS names and IP addresses."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        return self._issue(
            key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH, days=SERVER_DAYS
        )

    def certify(self, request_pem: bytes, uri: str, days: float = CLIENT_DAYS) -> bytes:
        """Return a client certificate (PEM) for the key of this signing request.

        Nothing else is taken from the request: no name, no extension, no lifetime.

        Raises:
            CertificateError: Not a signing request, not signed by its own key, or not for
                an Ed25519 key.

        """
        key = requested_key(request_pem)
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        return self._issue(key, name, ExtendedKeyUsageOID.CLIENT_AUTH, days=days)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        *,
        days: float,
    ) -> bytes:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _dated(days)
            .subject_name(x509.Name([]))  # the alternative name says all, so it is critical
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(issues=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=True)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def signing_request(key: Ed25519PrivateKey) -> bytes:
    """Return a signing request (PEM) that proves possession of *key* and says no more."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    return request.public_bytes(Encoding.PEM)


def requested_key(request_pem: bytes) -> Ed25519PublicKey:
    """Return the key of a signing request, whose possession the request proves.

    Raises:
        CertificateError: Not a signing request, not signed by its own key, or not for an
            Ed25519 key.

    """
    try:
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except UNREADABLE as exc:
        raise CertificateError("this is no certificate signing request in PEM") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise CertificateError("the signing request must be for an Ed25519 key")
    if not signed:
        raise CertificateError("the signing request is not signed by its own key")
    return key


def client_of(certificate_der: bytes) -> Client:
    """Return who this client certificate names.

    Raises:
        CertificateError: Not a certificate, or not one of ours for a client.

    """
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        digest = spki_sha256(certificate.public_key())
        expires_at = certificate.not_valid_after_utc
    except UNREADABLE as exc:
        raise CertificateError("the client certificate does not say who its holder is") from exc
    named = _URI.fullmatch(uri)
    if named is None:
        raise CertificateError("the client certificate names a holder that is none of ours")
    return Client(
        tenant=named["tenant"],
        role=Role(named["role"]),
        name=named["name"],
        spki_sha256=digest,
        expires_at=expires_at,
    )


def spki_sha256(key: object) -> bytes:
    """Return the SHA-256 of a public key's SubjectPublicKeyInfo: device id, pin.

    Raises:
        TypeError: *key* is no public key.

    """
    if not isinstance(key, ec.EllipticCurvePublicKey | Ed25519PublicKey):
        raise TypeError("neither a P-256 nor an Ed25519 public key")
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


def certificate_spki_sha256(certificate_der: bytes) -> bytes:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo, whatever its algorithm.

    Raises:
        CertificateError: Not a certificate.

    """
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        info = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    except UNREADABLE as exc:
        raise CertificateError("the other side showed something that is no certificate") from exc
    return hashlib.sha256(info).digest()


def certificate_spki_sha256_of_pem(certificate_pem: bytes) -> bytes:
    """Return the same of a certificate in PEM.

    Raises:
        CertificateError: Not a certificate.

    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except UNREADABLE as exc:
        raise CertificateError("this is no certificate in PEM") from exc
    return certificate_spki_sha256(certificate.public_bytes(Encoding.DER))


def check_issued(certificate_pem: bytes, authority_pem: bytes, key: Ed25519PublicKey) -> None:
    """Check that this certificate is of that authority, and for *key*.

    Files with certificates look alike, and go from hand to hand. While an authority is changed,
    its file holds the new one and the one before.

    Raises:
        SetupError: One is no certificate, or they do not belong together.

    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        authorities = x509.load_pem_x509_certificates(authority_pem)
        certified = certificate.public_key()
    except UNREADABLE as exc:
        raise SetupError("the certificate or its authority's is no certificate in PEM") from exc
    if certified != key:
        raise SetupError("the certificate is for another key; have the right csr certified")
    if not any(_issued(certificate, authority) for authority in authorities):
        raise SetupError(
            "the certificate is of another authority; give both files of the same party"
        )


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def certificate_expires_at(certificate_pem: bytes) -> datetime:
    """Return until when a certificate (PEM) is valid.

    Raises:
        CertificateError: Not a certificate.

    """
    try:
        return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc
    except UNREADABLE as exc:
        raise CertificateError("this is no certificate in PEM") from exc


def certificate_hosts(certificate_pem: bytes) -> tuple[str, ...]:
    """Return the hosts that a server certificate (PEM) is for: DNS names and IP addresses.

    Raises:
        CertificateError: Not a certificate of a server.

    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.IPAddress)
        return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))
    except UNREADABLE as exc:
        raise CertificateError("this is no certificate of a server in PEM") from exc


def load_p256(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in a PEM file.

    Raises:
        SetupError: It is not there, or no such key.

    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise SetupError(f"the key {path} cannot be read: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SetupError(f"{path} is no P-256 key; restore it from a backup")
    return key


def new_server_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key for a server."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """Return *key* as unencrypted PKCS #8, for a file that only its owner can read."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 key in a PEM file.

    Raises:
        SetupError: It is not there, or no such key.

    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise SetupError(f"the key {path} cannot be read: {exc}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"{path} is no Ed25519 key; restore it from a backup")
    return key


def _dated(days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)
