"""Servers that stand where the collector should, and count what they are given.

Each speaks as much as an attacker in that place could: plain HTTP, TLS with a certificate of
its own, with one of another authority of the same name, with one of the right authority for
another key, or (with the collector's stolen key) a redirect, or a yes to everything.
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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from base.pki import Authority, new_server_key, private_pem

HEAD_END: Final = b"\r\n\r\n"
FRAME_MAGIC: Final = b"\x89ASB1\r\n\x1a"
# One request a connection: then all that follows a head is a body.
OK: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"


def redirect(origin: str) -> bytes:
    """Return the answer that sends a caller, method and body and all, to *origin*."""
    lines = ("HTTP/1.1 307 Temporary Redirect", f"Location: {origin}/elsewhere")
    return "\r\n".join((*lines, "Connection: close", "Content-Length: 0", "", "")).encode("ascii")


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

    def heads(self, method: str) -> list[str]:
        """Return the heads of all requests of this method, each as one text."""
        texts = bytes(self.heard).decode("latin-1").split("\r\n\r\n")
        return [text for text in texts if text.startswith(f"{method} ")]


class Impostor:
    """A server on a loopback *port*; without *context* it speaks no TLS."""

    def __init__(self, port: int, context: ssl.SSLContext | None, answer: bytes) -> None:
        self.given = Given()
        self.port = port
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
        """Answer one request by its head alone, and count what comes after the head."""
        heard = bytearray()
        with contextlib.suppress(OSError):
            while data := caller.recv(65536):
                answered = HEAD_END in heard
                heard += data
                self.given.heard += data
                if HEAD_END in heard and not answered:
                    caller.sendall(self._answer)
        self.given.request_bytes += len(heard)
        _head, _end, body = bytes(heard).partition(HEAD_END)
        self.given.body_bytes += len(body)


def stolen_context(tls_folder: Path) -> ssl.SSLContext:
    """Return TLS with the collector's own key: the pin holds."""
    return _context(tls_folder / "tls.pem", tls_folder / "tls.key")


def own_context(folder: Path) -> ssl.SSLContext:
    """Return TLS with a self-signed certificate for the right address."""
    key = new_server_key()
    said = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return _load(folder, key, _certificate(key, _NAME, key, said))


def namesake_context(folder: Path, authority_pem: Path) -> ssl.SSLContext:
    """Return TLS with a certificate of another authority of the same name and key identifier.

    All is as the real authority would have written it; only the signature is not its own.
    """
    real = x509.load_pem_x509_certificate(authority_pem.read_bytes())
    identifier = real.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    said = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    key = new_server_key()
    forged = _certificate(key, real.subject, new_server_key(), said)
    return _load(folder, key, forged)


def sibling_context(folder: Path, authority_folder: Path) -> ssl.SSLContext:
    """Return TLS with a certificate of the real authority for another key: the pin fails."""
    key = new_server_key()
    pem = Authority.load(authority_folder).server_certificate(key, ["127.0.0.1"])
    return _load(folder, key, pem)


_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer_said: x509.AuthorityKeyIdentifier,
) -> bytes:
    """Return a server certificate without a fault of form: strict checks find none but *who*."""
    today = datetime.now(UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_said, critical=False)
        .add_extension(own, critical=False)
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def _load(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: bytes) -> ssl.SSLContext:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(certificate)
    return _context(folder / "tls.pem", folder / "tls.key")


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context
