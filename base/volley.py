"""Many small requests to a server of our own, and of each answer only what it came to.

For drills, which ask tens of thousands of things and have to be refused each.  Requests are
sent ahead of their answers (HTTP/1.1 pipelining, RFC 9112 section 9.3.2), and nothing of a
body is kept but the first bytes of a refusal.  Trust is the pinned key: the address is one of
this machine's own listeners, whatever name its certificate is for.
"""

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from base.errors import RetryableError
from base.lines import one_line
from base.pki import CertificateError, certificate_spki_sha256

AHEAD: Final = 32  # requests sent before the first answer is read
TIMEOUT_SECONDS: Final = 10.0
LARGEST_HEAD_BYTES: Final = 16 << 10
SAID_BYTES: Final = 200  # of a refusal: its name stands first


class VolleyError(RetryableError):
    """There was no answer; the line says why."""


class ShutError(VolleyError):
    """The server ended the connection before its first answer: it does not want this client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request came to; `said` is the beginning of a refusal."""

    status: int
    headers: dict[str, str]
    size: int
    said: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A listener: where, by which keys it is known, and whose certificates it shows."""

    host: str
    port: int
    pins: frozenset[bytes]
    ca_pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A client's certificate and key, both PEM."""

    certificate: bytes
    key: bytes


class Wire:
    """One connection, opened when it is needed.  For one thread."""

    def __init__(self, target: Target, shown: Shown | None, folder: Path) -> None:
        """Prepare; *folder* is private to us, and has the key for a moment."""
        self._target = target
        self._context = _context(target.ca_pem, shown, folder)
        self._socket: ssl.SSLSocket | None = None
        self._buffer = b""
        self._answers = 0

    def ask(self, requests: Sequence[bytes]) -> list[Answer]:
        """Return the answers to *requests*, in order; fewer, if the connection ended.

        Raises:
            ShutError: There was none, and the connection was ended.
            VolleyError: Nobody listens there, or something else answers.

        """
        answers: list[Answer] = []
        try:
            sock = self._connected()
            for start in range(0, len(requests), AHEAD):
                ahead = requests[start : start + AHEAD]
                sock.sendall(b"".join(ahead))
                for _ in ahead:
                    answer = self._read(sock)
                    answers.append(answer)
                    if answer.headers.get("connection") == "close":
                        self.close()
                        return answers
        except (OSError, EOFError) as exc:
            shut = self._answers == 0 and not isinstance(exc, TimeoutError)
            self.close()
            if answers:
                return answers
            raise (ShutError if shut else VolleyError)(_line(exc)) from exc
        return answers

    def close(self) -> None:
        """End the connection; the next request begins another."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None
        self._buffer = b""

    def _connected(self) -> ssl.SSLSocket:
        if self._socket is not None:
            return self._socket
        self._answers = 0
        target = self._target
        try:
            plain = socket.create_connection((target.host, target.port), TIMEOUT_SECONDS)
        except OSError as exc:
            raise VolleyError(f"nobody listens there ({_line(exc)})") from exc
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._context.wrap_socket(plain)
            shown = certificate_spki_sha256(sock.getpeercert(binary_form=True) or b"")
        except (ssl.SSLCertVerificationError, CertificateError) as exc:
            plain.close()
            raise VolleyError("somebody else answers there: another authority") from exc
        except OSError:
            plain.close()
            raise
        if shown not in target.pins:
            sock.close()
            raise VolleyError("somebody else answers there: another key")
        self._socket = sock
        return sock

    def _read(self, sock: ssl.SSLSocket) -> Answer:
        head = self._until_blank(sock)
        lines = head.decode("latin-1").split("\r\n")
        status = lines[0].split(" ")[1:2]
        if not status or not status[0].isdecimal():
            raise VolleyError("something answers that is no HTTP")
        named = (line.partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in named}
        length = headers.get("content-length", "")
        if not length.isdecimal():  # streamed: it is enough to know that it came
            self.close()
            headers["connection"] = "close"
            length = "0"
        said = self._skip(sock, int(length)) if self._socket is not None else b""
        self._answers += 1
        return Answer(status=int(status[0]), headers=headers, size=int(length), said=said)

    def _until_blank(self, sock: ssl.SSLSocket) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > LARGEST_HEAD_BYTES:
                raise VolleyError("something answers that is no HTTP")
            self._more(sock)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def _skip(self, sock: ssl.SSLSocket, length: int) -> bytes:
        """Read a body of *length*; return its first bytes."""
        said = self._buffer[: min(length, SAID_BYTES)]
        while len(self._buffer) < length:
            length -= len(self._buffer)
            self._buffer = b""
            self._more(sock)
            said += self._buffer[: min(length, SAID_BYTES - len(said))]
        self._buffer = self._buffer[length:]
        return said

    def _more(self, sock: ssl.SSLSocket) -> None:
        data = sock.recv(64 << 10)
        if not data:
            raise EOFError("the connection was ended")
        self._buffer += data


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return a whole request, ready to be sent ahead."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", "user-agent: assent-drill"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method in ("POST", "PUT"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _context(ca_pem: str, shown: Shown | None, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.check_hostname = False  # the pin says more
    context.load_verify_locations(cadata=ca_pem)
    if shown is not None:
        # OpenSSL takes both from files only; they are gone before the first connection.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".drill-") as file:
            file.write(shown.certificate + shown.key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _line(exc: BaseException) -> str:
    return one_line(str(exc)) or type(exc).__name__
