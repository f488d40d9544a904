"""How a request reaches its endpoint, and what becomes of one that does not.

`answering` is the way of all requests but uploads: the caller is looked up, what it may still
ask is counted, the bounded body is read, then the endpoint runs in a thread.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.errors import RetryableError, SetupError
from collector import auth
from collector.allowance import Allowances, Asks
from collector.asked import Asked, asked_of
from collector.assembly import Collector
from collector.auth import Caller, Device
from collector.grouped import Grouped
from collector.index import FullError
from collector.receive import Knock, Knocked, Receiver, Stored, Upload
from collector.refusal import RefusedError, Why
from wire.collector_http import PROTOCOL, PROTOCOL_HEADER, ErrorAnswer
from wire.receipt import Receipt

_log = logging.getLogger(__name__)

_LENGTH_DIGITS: Final = 18  # Python refuses to read numbers of very many digits, with an error
SMALL_BYTES: Final = 64 << 10  # what somebody without a certificate may send
CALLER: Final = "assent.caller"  # in the scope, once it is known who asks

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Running:
    """What the endpoints of one listener work with."""

    collector: Collector
    allowances: Allowances
    uploads: asyncio.Semaphore
    groups: "Groups"


@dataclass(frozen=True, slots=True)
class Groups:
    """What is asked of the index for several uploads at a time."""

    knocked: Grouped[Knock, Knocked]
    in_scope: Grouped[Upload, Upload]
    kept: Grouped[Stored, tuple[Receipt, bool]]

    @classmethod
    def of(cls, receiver: Receiver) -> "Groups":
        """Return the groups of one listener."""
        return cls(
            knocked=Grouped(act=receiver.knocked),
            in_scope=Grouped(act=receiver.in_scope),
            kept=Grouped(act=receiver.keep),
        )


def running(request: Request) -> Running:
    """Return what the application was built on."""
    found: Running = request.app.state.running
    return found


def open_to_all(act: Callable[[Collector, Asked], Response]) -> Endpoint:
    """Return the endpoint of *act*, which asks for no certificate."""

    async def endpoint(request: Request) -> Response:
        asked = asked_of(request, await bounded(request, SMALL_BYTES))
        return await run_in_threadpool(act, running(request).collector, asked)

    return endpoint


def answering(
    act: Callable[[Collector, Caller, Asked], Response], asks: Asks = Asks.QUESTIONS
) -> Endpoint:
    """Return the endpoint of *act*; who calls is known before the body is asked for."""

    async def endpoint(request: Request) -> Response:
        collector = running(request).collector
        caller = await run_in_threadpool(admitted, request, asks)
        asked = asked_of(request, await bounded(request, collector.config.limits.json_bytes))
        return await run_in_threadpool(act, collector, caller, asked)

    return endpoint


def admitted(request: Request, asks: Asks) -> Caller:
    """Return who asks, if they may ask one more.

    Raises:
        RefusedError: Nobody who may ask anything, or a device that asks too much.

    """
    collector = running(request).collector
    tenant, now = collector.config.tenant, collector.now()
    with collector.index.reading() as connection:
        caller = auth.caller(connection, certificate_of(request), tenant, now)
    admit(request, caller, asks)
    return caller


def certificate_of(request: Request) -> bytes | None:
    """Return the client certificate that was shown, as DER."""
    shown: bytes | None = request.scope.get("state", {}).get("client_cert")
    return shown


def admit(request: Request, caller: Caller, asks: Asks) -> None:
    """Note who asks, and count it.

    Raises:
        RefusedError: It is a device that asks too much.

    """
    request.scope[CALLER] = caller
    if isinstance(caller, Device):
        running(request).allowances.spend(caller.id, asks)


async def bounded(request: Request, largest: int) -> bytes:
    """Return the body, which the first read here asks for (100 Continue)."""
    too_large = RefusedError(Why.TOO_LARGE, f"at most {largest} bytes are taken here")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > _LENGTH_DIGITS or int(announced) > largest:
        raise too_large
    body = bytearray()
    async with asyncio.timeout(running(request).collector.config.limits.body_seconds):
        async for chunk in request.stream():
            body += chunk
            if len(body) > largest:
                raise too_large
    return bytes(body)


def as_json(answer: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    """Return *answer* as it is sent."""
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


class Versioned:
    """Says in each answer which protocol it is of."""

    _HEADER: Final = (PROTOCOL_HEADER.encode(), "{}.{}".format(*PROTOCOL).encode())

    def __init__(self, app: ASGIApp) -> None:
        """Stand before *app*."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let *app* answer, and add the header."""

        async def versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._HEADER]
            await send(message)

        await self._app(scope, receive, versioned)


# --- what goes wrong --------------------------------------------------------------------


def _error(status: int, line: str, retry_after_seconds: float | None = None) -> Response:
    answer = as_json(ErrorAnswer(error=" ".join(line.split())), status)
    if retry_after_seconds is not None:
        answer.headers["Retry-After"] = str(int(retry_after_seconds))
    return answer


async def _refused(_request: Request, exc: Exception) -> Response:
    if not isinstance(exc, RefusedError):
        raise exc
    _log.info("refused with %d %s", exc.why.status, exc.why.label)
    return _error(exc.why.status, str(exc), exc.retry_after_seconds)


async def _later(_request: Request, exc: Exception) -> Response:
    _log.error("not possible now: %s", exc)
    return _error(HTTPStatus.SERVICE_UNAVAILABLE, f"{Why.NOT_READY.label}: try again later", 60)


async def _full(_request: Request, exc: Exception) -> Response:
    _log.error("%s", exc)
    why = Why.STORAGE_FULL
    return _error(why.status, f"{why.label}: nothing can be stored now; nothing is lost", 60)


async def _too_slow(_request: Request, _exc: Exception) -> Response:
    return _error(HTTPStatus.SERVICE_UNAVAILABLE, f"{Why.NOT_READY.label}: it took too long", 60)


async def _gone(_request: Request, _exc: Exception) -> Response:
    return _error(HTTPStatus.BAD_REQUEST, f"{Why.BAD_REQUEST.label}: the body was cut short")


async def _no_such(_request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else HTTPStatus.NOT_FOUND
    name = Why.NOT_FOUND if status == HTTPStatus.NOT_FOUND else Why.BAD_REQUEST
    answer = _error(status, f"{name.label}: {HTTPStatus(status).phrase}")
    if isinstance(exc, HTTPException) and exc.headers:
        answer.headers.update(exc.headers)  # RFC 9110: a 405 says what is allowed
    return answer


async def _defect(_request: Request, _exc: Exception) -> Response:
    # Starlette raises it again after this answer, so the log has the trace.
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "defect: this is our mistake; see the log")


REFUSING: Final[Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = (
    MappingProxyType(
        {
            RefusedError: _refused,
            FullError: _full,
            RetryableError: _later,
            SetupError: _later,
            TimeoutError: _too_slow,
            ClientDisconnect: _gone,
            HTTPException: _no_such,
            Exception: _defect,
        }
    )
)
