"""Servers that stand where the collector should, and count what they are given.

Each speaks as much as an attacker in that place could: plain HTTP, TLS with a certificate of
its own, TLS with one of another authority of the same name, or (with the collector's stolen
key) a redirect to somewhere else.
"""

import contextlib
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HEAD_END: Final = b"\r\n\r\n"
FRAME_MAGIC: Final = b"\x89ASB1\r\n\x1a"
REDIRECT: Final = (
    b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://127.0.0.1:1/elsewhere\r\n"
    b"Content-Length: 0\r\n\r\n"
)
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(slots=True)
class Given:
    """What callers gave: connections, bytes of requests, and bytes after their heads."""

    connections: int = 0
    request_bytes: int = 0
    body_bytes: int = 0
    heard: bytearray = field(default_factory=bytearray)

    @property
    def has_frame(self) -> bool:
        """Whether the first bytes of a batch are in what was given."""
        return FRAME_MAGIC in self.heard


class Impostor:
    """A server on a loopback *port*; without *context* it speaks no TLS."""

    def __init__(self, port: int, context: ssl.SSLContext | None, answer: bytes) -> None:
        self.given = Given()
        self._context = context
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                caller, _address = self._listener.accept()
            except TimeoutError:
                continue
            self.given.connections += 1
            # What a caller does wrong, or leaves, is its own affair: the next one comes.
            with caller, contextlib.suppress(OSError):
                caller.settimeout(1.0)
                if self._context is None:
                    self._talk(caller)
                else:
                    with self._context.wrap_socket(caller, server_side=True) as secured:
                        self._talk(secured)

    def _talk(self, caller: socket.socket) -> None:
        heard = bytearray()
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                heard += data
                self.given.heard += data
                if HEAD_END in heard and len(heard) - heard.index(HEAD_END) == len(HEAD_END):
                    caller.sendall(self._answer)
        self.given.request_bytes += len(heard)
        _head, _end, body = bytes(heard).partition(HEAD_END)
        self.given.body_bytes += len(body)


def stolen_context(tls_folder: Path) -> ssl.SSLContext:
    """Return TLS with the collector's own key: the pin holds."""
    context = _context()
    context.load_cert_chain(tls_folder / "tls.pem", tls_folder / "tls.key")
    return context


def own_context(folder: Path) -> ssl.SSLContext:
    """Return TLS with a self-signed certificate for the right address."""
    key, certificate = _certificate("collector", None)
    return _load(folder, key, certificate)


def namesake_context(folder: Path, authority_pem: Path) -> ssl.SSLContext:
    """Return TLS with a certificate of another authority that has the same name."""
    real = x509.load_pem_x509_certificate(authority_pem.read_bytes())
    authority = ec.generate_private_key(ec.SECP256R1())
    key, certificate = _certificate("collector", (real.subject, authority))
    return _load(folder, key, certificate)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _certificate(
    name: str, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = issuer or (subject, key)
    today = datetime.now(UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return key, certificate


def _load(
    folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> ssl.SSLContext:
    folder.mkdir(parents=True, exist_ok=True)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    context = _context()
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
