"""How a connection is read: uvicorn's protocols, with what they leave unbounded bounded.

Whoever connects need not have shown a certificate, so a connection gets so much time, so large a
head, and so many requests ahead of their answers.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS: Final = 30
FIRST_REQUEST_SECONDS: Final = 20.0  # whoever connects has to say what for
BODY_AHEAD_BYTES: Final = 128 << 10  # read before anybody asks for it: a usual batch
LARGEST_HEAD_BYTES: Final = 64 << 10
REQUESTS_AHEAD: Final = 64  # of answers; a drill of ours sends half as many


class _Patient(asyncio.Protocol):
    """What both protocols do besides: show the client's certificate, and drop the silent.

    To be mixed in before a protocol of uvicorn's, whose parts it uses.
    """

    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
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
        super().on_response_complete()  # type: ignore[misc]  # of the protocol behind

    def shutdown(self) -> None:
        """Let go of an idle client at once, of a busy one after its answer."""
        if self.cycle is None or self.cycle.response_complete:
            # Closing politely would wait for the client to say goodbye, up to half a minute.
            self.transport.abort()
        else:
            super().shutdown()  # type: ignore[misc]  # of the protocol behind

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def _drop_if_silent(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            # Closing politely would wait for a goodbye that does not come.
            self.transport.abort()


class PlainProtocol(_Patient, H11Protocol):
    """HTTP read by h11, in Python: for whatever is not asked a thousand times a second."""


class FastProtocol(_Patient, HttpToolsProtocol):
    """HTTP read by httptools, in C: strictly, and heads are bounded here, by as much as h11's."""

    _turned, _head_bytes, _body_bytes = False, 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a strict parser."""
        # Uvicorn's own is lenient with what follows a request that was to be the last.
        self.parser = httptools.HttpRequestParser(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Read what came, unless a head or what frames a body is too large."""
        self._turned, self._body_bytes = False, 0
        super().data_received(data)
        if not self._turned:  # what frames a body, and trailers, count as well
            self._head_bytes += len(data) - self._body_bytes
        if self._head_bytes > LARGEST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """Have the request answered, after those before it."""
        if len(self.pipeline) >= REQUESTS_AHEAD:  # uvicorn takes as many as fit into a read
            raise httptools.HttpParserError("too many requests before their answers")
        self._turned, self._head_bytes = True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body until somebody asks for it; not much of it."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > BODY_AHEAD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._turned = True
        super().on_message_complete()
