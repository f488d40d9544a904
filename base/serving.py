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
from typing import Any, Final, Protocol

import uvicorn

from base.api import Door
from base.door import listen_address
from base.durable import replace
from base.errors import SetupError
from base.protocols import KEEP_ALIVE_SECONDS, FastProtocol, PlainProtocol

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

    def __init__(self, host: str, port: int, abreast: int = 1) -> None:
        """Bind; port 0 lets the system choose one, see `port`.

        With more than one *abreast* there are so many sockets at the address, each for a
        process of its own (`descriptors`); the system shares the connections out among them.

        Raises:
            SetupError: The address is in use, not ours, or forbidden to us.

        """
        self._sockets: list[socket.socket] = []
        self._server: uvicorn.Server | None = None
        self._stopped = False
        try:
            if abreast > 1:  # who is there already may share, too: only this one would be told
                with _bound(host, port, shared=False) as alone:
                    alone.listen(1)
                    port = int(alone.getsockname()[1])
            for _ in range(abreast):
                self._sockets.append(_bound(host, port, shared=abreast > 1))
                # From here on clients wait in the backlog instead of being turned away, so the
                # port may be announced before `run`.
                self._sockets[-1].listen(BACKLOG)
        except OSError as exc:
            self.close()
            raise SetupError(f"cannot listen on {host} port {port}: {exc.strerror}") from exc

    @classmethod
    def inherited(cls, descriptor: int) -> "Listener":
        """Return the listener on a listening socket that another process has bound."""
        listener = cls.__new__(cls)
        listener._sockets = [socket.socket(fileno=descriptor)]  # noqa: SLF001 - our own
        listener._server, listener._stopped = None, False  # noqa: SLF001
        return listener

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The listening sockets, for processes that inherit one."""
        return tuple(each.fileno() for each in self._sockets)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def host(self) -> str:
        """The address in use."""
        return str(self._sockets[0].getsockname()[0])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self._sockets[0].getsockname()[0]).is_loopback

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
        config = _config(app, context, PlainProtocol)
        self._server = uvicorn.Server(config)
        self._server.should_exit = self._stopped
        with _signals_obeyed_once():
            self._server.run(sockets=self._sockets)

    async def serve(self, app: Any, credentials: Credentials) -> None:  # noqa: ANN401 - any ASGI application
        """Serve *app* until `stop` is called, in a loop that others use, too; signals are theirs.

        Raises:
            SetupError: Certificate or key cannot be used.

        """
        self._server = _Deaf(_config(app, _context(credentials), FastProtocol))
        self._server.should_exit = self._stopped
        await self._server.serve(sockets=self._sockets)

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
        for each in self._sockets:
            each.close()


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: only then does asyncio turn off Nagle on what it accepts, which
    # would cost 40 ms for each answer.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


class Listeners:
    """Several, each at an address of its own: bound together, or none is."""

    def __init__(self, addresses: Mapping[Door, str], abreast: int = 1) -> None:
        """Bind `host:port` for each door that has one; the first one is the main one.

        That one gets as many sockets as are to be *abreast*.

        Raises:
            SetupError: An address is none, in use, not ours, or forbidden to us.

        """
        self.bound: dict[Door, Listener] = {}
        with contextlib.ExitStack() as undo:
            for door, listen in addresses.items():
                if listen:
                    many = 1 if self.bound else abreast
                    self.bound[door] = Listener(*listen_address(listen), abreast=many)
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


class Runs(Protocol):
    """Serves an application: a `Listener`, or whoever does that for one."""

    def run(self, app: Any, credentials: Credentials | None) -> None:  # noqa: ANN401 - any ASGI application
        """Serve *app* until SIGTERM or SIGINT, or until `stop` is called."""
        ...

    def stop(self) -> None:
        """Let `run` end, from another thread, also one that has not begun."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One listener of several: where, what, and by whose certificate (None: in the clear)."""

    listener: Runs
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


def _config(
    app: Any,  # noqa: ANN401 - any ASGI application
    context: ssl.SSLContext | None,
    protocol: type[asyncio.Protocol],
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
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


class _Deaf(uvicorn.Server):
    """Takes no signals: who runs it does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
