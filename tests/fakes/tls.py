"""Servers of all the kinds that a door must tell apart, each counting what it is sent.

`Peer` speaks raw sockets, so that what it counts is what really came over the wire.
"""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.pki import (
    Authority,
    Role,
    client_uri,
    new_server_key,
    private_pem,
    signing_request,
    spki_sha256,
)

WAIT_SECONDS = 20.0  # only ever waited for in full when something is broken
SECRET = b"sealed batch " * 100


@dataclass(frozen=True, kw_only=True)
class House:
    """An authority, a server's certificate and a client's, as files."""

    authority: Authority
    folder: Path
    pin: str

    @property
    def ca_pem(self) -> str:
        return self.authority.pem.decode()


def found(folder: Path, *, hosts: tuple[str, ...] = ("127.0.0.1",), name: str = "House") -> House:
    """Make an authority with one server and one client certificate in *folder*."""
    folder.mkdir()
    authority = Authority.create(name)
    authority.save(folder)
    key = new_server_key()
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(authority.server_certificate(key, hosts))
    device = Ed25519PrivateKey.generate()
    (folder / "device.key").write_bytes(private_pem(device))
    uri = client_uri("acme", Role.DEVICE, spki_sha256(device.public_key()).hex())
    (folder / "device.pem").write_bytes(authority.certify(signing_request(device), uri))
    return House(authority=authority, folder=folder, pin=spki_sha256(key.public_key()).hex())


def der_to_pem(der: bytes, what: str = "CERTIFICATE") -> bytes:
    """Return DER as PEM, whatever it is."""
    begin, end = (f"-----{word} {what}-----\n".encode("ascii") for word in ("BEGIN", "END"))
    return begin + base64.encodebytes(der) + end


def of_version_five(pem: bytes) -> bytes:
    """Return a certificate as it is, of a version that X.509 does not have."""
    der, field = pem_to_der(pem), bytes.fromhex("a003020102")
    return der_to_pem(der.replace(field, field[:-1] + b"\x05", 1))


def with_an_extension_twice(pem: bytes) -> bytes:
    """Return a certificate that names one extension twice: OpenSSL shows none of these."""
    return der_to_pem(pem_to_der(pem).replace(b"\x55\x1d\x13", b"\x55\x1d\x0e", 1))


def pem_to_der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


@dataclass(kw_only=True)
class Heard:
    """What a peer was sent over all its connections."""

    heads: list[bytes] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    raw: bytearray = field(default_factory=bytearray)
    failures: list[BaseException] = field(default_factory=list)


Script = Callable[["socket.socket", Heard], None]


@contextlib.contextmanager
def peer(
    script: Script, house: House | None, *, tls12: bool = False
) -> Iterator[tuple[str, Heard]]:
    """Run *script* for each connection; yield the origin and what was heard.

    Without a house the peer speaks plain TCP.
    """
    heard = Heard()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT_SECONDS)
    context = None
    if house is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(house.folder / "tls.pem", house.folder / "tls.key")
        context.num_tickets = 0

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(WAIT_SECONDS)
            try:
                sock = context.wrap_socket(plain, server_side=True) if context else plain
                with sock:
                    script(sock, heard)
            except OSError as exc:  # the client went away, which is what most tests want
                heard.failures.append(exc)
            finally:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(WAIT_SECONDS)


def head(sock: socket.socket, heard: Heard) -> None:
    """Read one request's head; what follows it in the same record counts as body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    before, _, after = data.partition(b"\r\n\r\n")
    heard.heads.append(before)
    heard.body += after


def drain(sock: socket.socket, heard: Heard) -> None:
    """Count everything that still comes, until the client ends the connection."""
    with contextlib.suppress(OSError):
        while more := sock.recv(65536):
            heard.body += more


def answers(*lines: bytes, body: bytes = b"") -> Script:
    """Answer each request's head with these bytes and count what comes after."""

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        drain(sock, heard)

    return script
