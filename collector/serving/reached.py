"""How a request reaches its endpoint, and what becomes of one that does not.

`answering` is the way of all requests but uploads: the caller is looked up, what it may still
ask is counted, the bounded body is read, then the endpoint runs in a thread.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.errors import RetryableError, SetupError
from base.metrics import PATH
from base.pki import Role
from base.places import Places
from collector import auth
from collector.assembly import Collector
from collector.auth import Caller, Device
from collector.drill.muted import DRILL
from collector.index import FullError
from collector.ingest.grouped import Grouped
from collector.ingest.intake import EXTENSION, Bounds, Here, Intake, bounded
from collector.ingest.receive import Knock, Knocked, Receiver, Stored, Upload
from collector.refusal import RefusedError, Why
from collector.serving.allowance import Allowances, Asks, address_of
from collector.serving.asked import Asked, asked_of
from wire.collector_http import PROTOCOL, PROTOCOL_HEADER, ErrorAnswer
from wire.receipt import Receipt

_log = logging.getLogger(__name__)

SMALL_BYTES: Final = 64 << 10  # what somebody without a certificate may send
_DIGITS: Final = 9
BODIES: Final = 32  # larger ones, in memory at a time: a megabyte each
CALLER: Final = "assent.caller"  # in the scope, once it is known who asks
CALLERS: Final = "assent.callers"  # in the scope: the roles of the row that answers

# Where more than the role decides, and a drill tries that: it is refused further in.
OWN_CHECKS: Final = frozenset(
    {
        ("PUT", "/v1/batches/{batch}"),
        ("POST", "/v1/frames"),
        ("POST", "/v1/frames/{batch}"),
        ("POST", "/v1/frames/{batch}/terms"),
        ("POST", "/v1/releases"),
    }
)

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Running:
    """What the endpoints of one listener work with."""

    collector: Collector
    allowances: Allowances
    uploads: Places
    bodies: Places  # of other requests
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

    def close(self) -> None:
        """Wait for what is under way."""
        for each in (self.knocked, self.in_scope, self.kept):
            each.close()


def running(request: Request) -> Running:
    """Return what the application was built on."""
    found: Running = request.app.state.running
    return found


def open_to_all(
    act: Callable[[Collector, Asked], Response], asks: Asks | None = Asks.OF_STRANGERS
) -> Endpoint:
    """Return the endpoint of *act*, which asks for no certificate.

    Whoever asks is counted by the address that they come from, before their body is read.
    """

    async def endpoint(request: Request) -> Response:
        if asks is not None and not request.scope.get(DRILL):
            address = address_of(request.client.host if request.client else "")
            running(request).allowances.spend(address, asks)
        asked = asked_of(request, await body(request, SMALL_BYTES))
        return await run_in_threadpool(act, running(request).collector, asked)

    return endpoint


def answering(
    act: Callable[[Collector, Caller, Asked], Response], asks: Asks = Asks.QUESTIONS
) -> Endpoint:
    """Return the endpoint of *act*; who calls is known before the body is asked for."""

    async def endpoint(request: Request) -> Response:
        collector = running(request).collector
        now = collector.now()
        client = auth.claimed(certificate_of(request), collector.config.tenant, now)
        caller = await run_in_threadpool(auth.caller, collector.index, client, now)
        admit(request, caller, asks)
        async with _room_for(request, caller) as largest:
            asked = asked_of(request, await body(request, largest))
            return await run_in_threadpool(act, collector, caller, asked)

    return endpoint


@asynccontextmanager
async def _room_for(request: Request, caller: Caller) -> AsyncIterator[int]:
    """Yield how much the body may be, once there is a place for it; a small one needs none."""
    found = running(request)
    largest = found.collector.config.limits.json_bytes
    if _is_small(request.headers):
        yield min(SMALL_BYTES, largest)
        return
    party = caller.id if isinstance(caller, Device) else caller.name.encode()
    async with found.bodies.one(party):
        yield largest


def _is_small(headers: Headers) -> bool:
    """Whether a body is announced to be small, or none is."""
    announced = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (announced.isascii() and announced.isdigit()):
        return False
    return len(announced) < _DIGITS and int(announced) <= SMALL_BYTES


def certificate_of(request: Request) -> bytes | None:
    """Return the client certificate that was shown, as DER."""
    shown: bytes | None = request.scope.get("state", {}).get("client_cert")
    return shown


def admit(request: Request, caller: Caller, asks: Asks) -> None:
    """Note who asks, and count it.

    Raises:
        RefusedError: It is somebody who asks too much, or a drill that may ask this.

    """
    if caller.drill:
        request.scope[DRILL] = True
        _check_must_be_refused(request, caller)
        return
    request.scope[CALLER] = caller
    allowances = running(request).allowances
    if isinstance(caller, Device):
        allowances.spend(caller.id, asks)
    else:
        allowances.spend(caller.name.encode(), Asks.OF_READERS)


def _check_must_be_refused(request: Request, caller: Caller) -> None:
    """Check that a drill asks only for what it has to be refused.

    Raises:
        RefusedError: Its role may ask this; who stole its certificate gets nothing of it.

    """
    role = Role.DEVICE if isinstance(caller, Device) else Role.READER
    asked = (request.method, request.scope.get(PATH, ""))
    if role in request.scope.get(CALLERS, ()) and asked not in OWN_CHECKS:
        raise RefusedError(Why.NOT_FOR_DRILLS, "a drill is answered nothing")


async def body(request: Request, largest: int) -> bytes:
    """Return the body, bounded."""
    limits = running(request).collector.config.limits
    bounds = Bounds(largest_bytes=largest, seconds=limits.body_seconds)
    return await bounded(request.scope["headers"], request.receive, bounds)


def intake(request: Request) -> Intake:
    """Return who takes in the frame of an upload: whoever holds the connection."""
    elsewhere: Intake | None = request.scope.get(EXTENSION)
    store = running(request).collector.store
    return elsewhere or Here(scope=request.scope, receive=request.receive, store=store)


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


async def _refused(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, RefusedError):
        raise exc
    level = logging.DEBUG if request.scope.get(DRILL) else logging.INFO
    _log.log(level, "refused with %d %s", exc.why.status, exc.why.label)
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
