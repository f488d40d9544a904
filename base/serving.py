"""Serving an ASGI application over TLS 1.3 with client certificates.

`Listener` binds first (so that the port is known before anything is said about it), then
`run` serves until SIGTERM or SIGINT, finishing the requests that are under way; `run_together`
serves several, each in a thread of its own, so that who is busy keeps nobody else waiting.
The application finds the certificate of its client, as DER, in
`scope["state"]["client_cert"]`: None where `Clients.OPTIONAL` let one in without, and where a
listener on a loopback address has no credentials: that one speaks HTTP without TLS.

What is off, and why: the access log (it would say who did what when), the server header,
headers of proxies (nobody stands before us whom we would believe), websockets, session
tickets (a resumed session would not look at the certificate again).
"""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from base.api import Door
from base.door import listen_address
from base.durable import replace
from base.errors import SetupError

KEEP_ALIVE_SECONDS: Final = 30
FIRST_REQUEST_SECONDS: Final = 20.0  # whoever connects has to say what for
GRACE_SECONDS: Final = 20  # for requests under way when we are told to stop
CONNECTIONS: Final = 1_000  # beyond that the answer is 503
BACKLOG: Final = 512

_log = logging.getLogger(__name__)


class Clients(Enum):
    """Whether a client has to show a certificate at all; one of ours in any case."""

    REQUIRED = ssl.CERT_REQUIRED
    OPTIONAL = ssl.CERT_OPTIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Files of a server: its certificate and key, and the authority of its clients."""

    certificate: Path
    key: Path
    client_authority: Path
    clients: Clients

    def check(self) -> None:
        """Read them, so that nobody is told of a server that then does not start.

        Raises:
            SetupError: One of them cannot be used.

        """
        _context(self)


class Listener:
    """A bound address, and the server on it."""

    def __init__(self, host: str, port: int) -> None:
        """Bind; port 0 lets the system choose one, see `port`.

        Raises:
            SetupError: The address is in use, not ours, or forbidden to us.

        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol by name: only then does asyncio turn off Nagle on what it accepts, which
        # would cost 40 ms for each answer.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            # From here on clients wait in the backlog instead of being turned away, so the
            # port may be announced before `run`.
            self._socket.listen(BACKLOG)
        except OSError as exc:
            self._socket.close()
            raise SetupError(f"cannot listen on {host} port {port}: {exc.strerror}") from exc
        self._server: uvicorn.Server | None = None
        self._stopped = False

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._socket.getsockname()[1])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self._socket.getsockname()[0]).is_loopback

    def announce(self, port_file: Path) -> None:
        """Write the port, in decimal, into *port_file*."""
        replace(port_file, f"{self.port}\n".encode("ascii"))

    def run(self, app: Any, credentials: Credentials | None) -> None:  # noqa: ANN401 - any ASGI application
        """Serve *app* until SIGTERM or SIGINT, or until `stop` is called.

        Without *credentials*, in the clear.

        Raises:
            SetupError: Certificate or key cannot be used, or there are none where others than
                this machine listen.

        """
        try:
            self._check_clear(credentials)
            context = None if credentials is None else _context(credentials)
        except SetupError:
            self.close()
            raise
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="asyncio",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_context_factory=None if context is None else (lambda _config, _default: context),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            limit_concurrency=CONNECTIONS,
            backlog=BACKLOG,
        )
        self._server = uvicorn.Server(config)
        self._server.should_exit = self._stopped
        with _signals_obeyed_once():
            self._server.run(sockets=[self._socket])

    def _check_clear(self, credentials: Credentials | None) -> None:
        if credentials is None and not self.is_loopback:
            raise SetupError("what others than this machine reach is served over TLS only")

    def stop(self) -> None:
        """Let `run` end, from another thread, also one that has not begun."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Give the address back without having served."""
        self._socket.close()


class Listeners:
    """Several, each at an address of its own: bound together, or none is."""

    def __init__(self, addresses: Mapping[Door, str]) -> None:
        """Bind `host:port` for each door that has one; the first one is the main one.

        Raises:
            SetupError: An address is none, in use, not ours, or forbidden to us.

        """
        self.bound: dict[Door, Listener] = {}
        with contextlib.ExitStack() as undo:
            for door, listen in addresses.items():
                if listen:
                    self.bound[door] = Listener(*listen_address(listen))
                    undo.callback(self.bound[door].close)
            undo.pop_all()

    @property
    def ports(self) -> dict[Door, int]:
        """The ports in use."""
        return {door: listener.port for door, listener in self.bound.items()}

    def announce(self, port_file: Path) -> None:
        """Write the main one's port into *port_file*, the others' beside it."""
        main, *others = self.bound.items()
        for door, listener in others:
            listener.announce(port_file.with_name(f"{port_file.name}.{door}"))
        main[1].announce(port_file)  # last: who sees it finds the others


@dataclass(frozen=True, slots=True)
class Served:
    """One listener of several: where, what, and by whose certificate (None: in the clear)."""

    listener: Listener
    app: Any
    credentials: Credentials | None


def run_together(first: Served, *others: Served) -> None:
    """Serve all until SIGTERM or SIGINT; when one ends, whatever the reason, all do.

    Raises:
        SetupError: One could not begin.

    """
    everyone = (first, *others)
    failed: list[BaseException] = []

    def serve(one: Served) -> None:
        try:
            one.listener.run(one.app, one.credentials)
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the main thread
            failed.append(exc)
        finally:
            for each in everyone:
                each.listener.stop()

    threads = [
        threading.Thread(target=serve, args=(one,), name=f"listener {number}")
        for number, one in enumerate(others, start=1)
    ]
    for thread in threads:
        thread.start()
    serve(first)
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class _Protocol(H11Protocol):
    """Uvicorn's own protocol, which shows the client's certificate and drops the silent.

    h11 rather than httptools: it bounds the size of a request's head.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # it is a Transport
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self.app_state = {**self.app_state, "client_cert": certificate}
        self._patience = self.loop.call_later(FIRST_REQUEST_SECONDS, self._drop_if_silent)

    def on_response_complete(self) -> None:
        # Uvicorn waits for the next request only until its first byte; a head that never
        # ends would keep its place for ever, and a thousand of them all places.
        self._patience.cancel()
        patience = KEEP_ALIVE_SECONDS + FIRST_REQUEST_SECONDS
        self._patience = self.loop.call_later(patience, self._drop_if_silent)
        super().on_response_complete()

    def shutdown(self) -> None:
        """Let go of an idle client at once, of a busy one after its answer."""
        begun: object = self.cycle
        if begun is None or self.cycle.response_complete:
            # Closing politely would wait for the client to say goodbye, up to half a minute.
            self.transport.abort()
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def _drop_if_silent(self) -> None:
        begun: object = self.cycle
        if begun is None or self.cycle.response_complete:
            # Closing politely would wait for a goodbye that does not come.
            self.transport.abort()


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = credentials.clients.value
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    try:
        context.load_cert_chain(credentials.certificate, credentials.key)
        context.load_verify_locations(credentials.client_authority)
    except OSError as exc:  # SSLError is one
        raise SetupError(
            f"{credentials.certificate}, its key or {credentials.client_authority} "
            f"cannot be used: {exc}"
        ) from exc
    return context


@contextlib.contextmanager
def _signals_obeyed_once() -> Iterator[None]:
    """Let SIGTERM end in exit code 0.

    Uvicorn obeys a signal, then raises it once more for whoever was there before.
    """
    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, _obeyed)
    except ValueError:  # not in the main thread: then uvicorn takes no signals either
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _obeyed(number: int, _frame: FrameType | None) -> None:
    _log.info("stopped by signal %d", number)
