"""One door out: HTTPS to exactly one origin, whose key we know beforehand.

`OneDoor.request` is all that a program uses.  What it holds to, in this order:

1. TLS 1.3, a certificate of the one authority given, for the one host given;
2. the server's key is one of the pins, checked before the first byte of a request;
3. a body waits for `100 Continue` (RFC 9110 section 10.1.1): a server that answers with
   a redirect, a refusal or not at all gets the headers and no byte of the body;
4. no redirect is followed, nothing is tried twice, no variable of the environment is looked
   at; an answer that is too large, or does not end, is not read.

A proxy, where one is given, only carries the connection (`base.proxy`): all of this happens
inside its tunnel, between us and the server.

Whatever goes wrong is a `DoorError`: it says in one line what stands at the door, and in
`body_sent` whether a part of the body may have left.  This is the only module that knows
urllib3 and, for clients, ssl.
"""

import contextlib
import functools
import http.client
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError, NameResolutionError

from base.bounded import BoundedAnswer, is_whole, read_head
from base.door import (
    ClientRefusedError,
    DoorError,
    GarbledAnswerError,
    NotContinuedError,
    NotTlsError,
    RedirectedError,
    Response,
    UnreachableError,
    UntrustedServerError,
    WrongHostError,
    WrongPinError,
    decode_pins,
    host_and_port,
)
from base.errors import SetupError
from base.pki import CertificateError, certificate_spki_sha256
from base.proxy import Proxy, tunnel

__all__ = ["DoorError", "OneDoor", "Response"]
LARGEST_ANSWER_BYTES: Final = 32 << 20  # a bulk release of the guard is some 10 MB
LARGEST_INTERIM_BYTES: Final = 16 << 10
MOST_INTERIM_ANSWERS: Final = 8
LONGEST_ANSWER_SECONDS: Final = 120.0  # however slowly it drips, or begins anew
IDLE_SECONDS: Final = 10.0  # our servers keep a connection for 30; a stale one is not tried
DOORS_OPEN: Final = 4  # connections kept for reuse; more threads than that open their own


class OneDoor:
    """Speaks to one origin and to nobody else.  May be used by several threads.

    *pins* are hexadecimal SHA-256 of the server's SubjectPublicKeyInfo, any of which will
    do.  Certificates are read here once: after a renewal, make a new door.
    """

    def __init__(
        self,
        origin: str,
        pins: Iterable[str],
        ca_pem: str,
        client_cert_path: Path | None = None,
        client_key_path: Path | None = None,
        timeout: float = 30.0,
        *,
        proxy: Proxy | None = None,
        largest_answer_bytes: int = LARGEST_ANSWER_BYTES,
    ) -> None:
        """Prepare; nothing is connected yet.  The way leads through *proxy*, if there is one.

        Raises:
            SetupError: The origin is none, a pin is missing or malformed, or a file cannot
                be used.

        """
        host, port = host_and_port(origin)
        self.origin = origin
        self._largest_answer_bytes = largest_answer_bytes
        self._new_pool = functools.partial(
            _PinnedPool,
            host,
            port,
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
            maxsize=DOORS_OPEN,
            retries=False,
            ssl_context=_context(ca_pem, client_cert_path, client_key_path),
            pins=decode_pins(pins),
            through=proxy,
        )
        self._pool = self._new_pool()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the server's answer, whatever its status, unless it is a redirect.

        *path* begins with a slash.  An empty body counts as none.

        Raises:
            DoorError: No answer that may be trusted; its class and its line say why.

        """
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError("a path on the one origin begins with one slash")
        try:
            answer = self._pool.urlopen(
                method,
                path,
                body=body or None,
                headers={"User-Agent": "assent", **(headers or {})},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as exc:  # what the connection below has no cause for
            raise GarbledAnswerError(
                f"{self.origin} did not answer as HTTP asks for; later it may work",
                body_sent=body is not None,
            ) from exc
        sent: bool = getattr(answer.connection, "body_sent", False)
        try:
            self._refuse_redirect(answer.status, body_sent=sent)
            data = self._bounded(answer, body_sent=sent)
        except BaseException:
            answer.close()  # what else comes on this connection is not to be believed
            raise
        answer.release_conn()
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Response(status=answer.status, headers=names, body=data)

    def close(self) -> None:
        """Close what is open; a later request opens it again."""
        closing, self._pool = self._pool, self._new_pool()
        closing.close()

    def _refuse_redirect(self, status: int, *, body_sent: bool) -> None:
        if 300 <= status < 400:
            raise RedirectedError(
                f"{self.origin} answered with a redirect ({status}), which is refused; "
                "ask who runs it",
                body_sent=body_sent,
            )

    def _bounded(self, answer: urllib3.BaseHTTPResponse, *, body_sent: bool) -> bytes:
        data = bytearray()
        try:
            if "content-length" not in answer.headers and not getattr(answer, "chunked", False):
                raise http.client.IncompleteRead(b"")  # cut in its head it would pass as whole
            while chunk := answer.read(64 << 10):
                data += chunk
                if len(data) > self._largest_answer_bytes:
                    raise GarbledAnswerError(
                        f"{self.origin} answered with more than {self._largest_answer_bytes} "
                        "bytes, which were not read; ask who runs it",
                        body_sent=body_sent,
                    )
        except (HTTPError, http.client.HTTPException, OSError) as exc:
            raise GarbledAnswerError(
                f"the answer of {self.origin} was cut short; later it may work",
                body_sent=body_sent,
            ) from exc
        return bytes(data)


# --- the connection ---------------------------------------------------------------------


class _PinnedConnection(HTTPSConnection):
    """Checks the server's key after the handshake, and asks before it sends a body."""

    def __init__(
        self,
        host: str,
        *,
        pins: frozenset[bytes],
        through: Proxy | None = None,
        **options: Any,  # noqa: ANN401 - urllib3's own, passed on
    ) -> None:
        super().__init__(host, **options)
        self._pins = pins
        self._through = through
        self._used_at = 0.0
        self._answers = 0
        self._early: bytes | None = None
        self._answer_until = 0.0
        self.body_sent = False

    @property
    def _at(self) -> str:
        through = f" (through the proxy {self._through})" if self._through else ""
        return f"https://{self.host}:{self.port}{through}"

    @property
    def is_connected(self) -> bool:
        """False also for a connection that was idle for too long to be trusted to work."""
        return time.monotonic() - self._used_at < IDLE_SECONDS and super().is_connected

    def _new_conn(self) -> socket.socket:
        """Return a connection to the server: straight, or as the proxy made it."""
        if self._through is None:
            return super()._new_conn()
        address = (self._through.host, self._through.port)
        patience = self.timeout if isinstance(self.timeout, float | int) else None
        try:
            sock = socket.create_connection(address, patience)
        except OSError as exc:
            raise UnreachableError(
                f"the proxy {self._through} cannot be reached; later it may work"
            ) from exc
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tunnel(sock, self._through, self.host, self.port or 443)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self) -> None:
        """Connect, shake hands, compare the pin: steps 1 and 2 of the module's list."""
        self._answers = 0
        self.body_sent = False
        try:
            super().connect()
            shown = certificate_spki_sha256(_shown(self.sock))
        except DoorError:
            self.close()
            raise
        except (OSError, HTTPError, CertificateError) as exc:
            self.close()
            raise self._hinting(_cause_of_failed_handshake(self._at, exc)) from exc
        if shown not in self._pins:
            self.close()
            raise self._hinting(
                WrongPinError(
                    f"the key of {self._at} is not the pinned one; nothing was sent; somebody may "
                    "stand in between: ask who runs it"
                )
            )

    def _hinting(self, error: DoorError) -> DoorError:
        """Return *error*, with what is most likely where a proxy stands in between."""
        if self._through is None or isinstance(error, UnreachableError):
            return error
        return type(error)(f"{error}; a proxy that inspects TLS must exempt this host")

    def request(  # type: ignore[override]  # as urllib3's own: wider than http.client's
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - urllib3's own, passed on
    ) -> None:
        """Send a request; its body only after the server said that it takes it (step 3)."""
        self._early = None
        self.body_sent = False
        self._answer_until = time.monotonic() + LONGEST_ANSWER_SECONDS
        if body is None:
            with self._translated():
                super().request(method, url, headers=headers, **options)
            return
        asking = {"Content-Length": str(len(body)), "Expect": "100-continue", **(headers or {})}
        with self._translated():
            super().request(method, url, headers=asking, **options)
            self._early = self._await_continue()
        if self._early is None:
            self.body_sent = True
            try:
                self.send(body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                pass  # it may have answered before it closed: getresponse() tells
            except OSError as exc:
                raise self._broken(exc) from exc
            self._answer_until = time.monotonic() + LONGEST_ANSWER_SECONDS

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        """Return the final answer; one that came instead of `100 Continue` ends the connection."""
        with self._translated():
            answer = super().getresponse()
        self._answers += 1
        self._used_at = time.monotonic() if self._early is None else 0.0
        return answer

    def response_class(self, sock: Any, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]  # noqa: ANN401 - http.client wants a callable here
        """Begin to parse an answer, within its time; `_await_continue` may have read its head."""
        source: Any = BoundedAnswer(self._early or b"", sock, self._answer_until)
        return http.client.HTTPResponse(source, **options)

    def _await_continue(self) -> bytes | None:
        """Return None on `100 Continue`, else the head of the answer that came instead."""
        for _ in range(MOST_INTERIM_ANSWERS):
            head = self._head()
            status = head.split(b" ", 2)[1:2]
            if status == [b"100"]:
                return None
            if not status or not status[0].startswith(b"1"):
                return head
        raise GarbledAnswerError(f"{self._at} sends interim answers without end")

    def _head(self) -> bytes:
        try:
            head = read_head(self.sock, self.timeout, self._answer_until, LARGEST_INTERIM_BYTES)
        except TimeoutError:
            raise NotContinuedError(
                f"{self._at} did not say within {self.timeout:g} s that it takes the upload; "
                "nothing of it was sent; later it may work"
            ) from None
        if is_whole(head):
            return head
        if len(head) >= LARGEST_INTERIM_BYTES:
            raise GarbledAnswerError(f"{self._at} answers with something that is no HTTP")
        raise http.client.IncompleteRead(head) if head else ConnectionResetError

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DoorError:
            self.close()
            raise
        except (OSError, HTTPError, http.client.HTTPException) as exc:
            error = self._broken(exc)
            self.close()
            raise error from exc

    def _broken(self, exc: BaseException) -> DoorError:
        """Return what a failure between handshake and answer means."""
        if isinstance(exc, TimeoutError | urllib3.exceptions.TimeoutError):
            return UnreachableError(
                f"{self._at} did not answer in time; later it may work", body_sent=self.body_sent
            )
        if isinstance(exc, http.client.HTTPException) and not isinstance(exc, ConnectionError):
            return GarbledAnswerError(
                f"{self._at} answers with something that is no HTTP", body_sent=self.body_sent
            )
        alerted = isinstance(exc, ssl.SSLError) and "ALERT" in (exc.reason or "")
        # Under TLS 1.3 a client knows of its own refusal only by the first read: the
        # handshake is over for it before the server has looked at its certificate.
        if alerted or (self._answers == 0 and not self.body_sent):
            return ClientRefusedError(
                f"{self._at} closed the connection without an answer: most likely it does not "
                "accept this program's certificate (missing, expired, or of another authority); "
                "renew it or enroll again"
            )
        return UnreachableError(
            f"{self._at} ended the connection; later it may work", body_sent=self.body_sent
        )


class _PinnedPool(urllib3.HTTPSConnectionPool):
    """Connections to one host, each checked as above."""

    ConnectionCls = _PinnedConnection  # type: ignore[assignment]  # its body is narrower


# --- what was given, and what failures mean ---------------------------------------------


def _context(ca_pem: str, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError) as exc:  # TypeError: it is not ASCII
        raise SetupError("the certificate authority of the server is no PEM certificate") from exc
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as exc:  # SSLError is one
            raise SetupError(f"{certificate} and {key} cannot be used: {exc}") from exc
    return context


def _shown(sock: object) -> bytes:
    certificate = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
    return certificate or b""


_HOST_CODES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_DATE_CODES: Final = {9: "is not valid yet", 10: "has expired"}


def _cause_of_failed_handshake(at: str, exc: BaseException) -> DoorError:
    match exc:
        case ssl.SSLCertVerificationError():
            error = _cause_of_refused_certificate(at, exc)
        case CertificateError():
            error = UntrustedServerError(f"{at} shows a certificate that cannot be read")
        case NameResolutionError():
            error = UnreachableError(f"the host name of {at} is not known; is the network up?")
        case ssl.SSLEOFError() | ConnectionResetError() | BrokenPipeError():
            error = NotTlsError(f"{at} ended the connection where TLS 1.3 begins; nothing was sent")
        case ssl.SSLError():
            error = NotTlsError(f"{at} does not speak TLS 1.3; nothing was sent; right port?")
        case _:
            error = UnreachableError(f"{at} cannot be reached; later it may work")
    return error


def _cause_of_refused_certificate(at: str, exc: ssl.SSLCertVerificationError) -> DoorError:
    if exc.verify_code in _HOST_CODES:
        return WrongHostError(
            f"the certificate of {at} is for another host; nothing was sent; ask who runs it"
        )
    if exc.verify_code in _DATE_CODES:
        return UntrustedServerError(
            f"the certificate of {at} {_DATE_CODES[exc.verify_code]}; nothing was sent; "
            "check the clock, then ask who runs it"
        )
    return UntrustedServerError(
        f"the certificate of {at} is not of the authority that we trust "
        f"({exc.verify_message}); nothing was sent; ask who runs it"
    )
