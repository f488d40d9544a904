"""The endpoints: one small function each, and the two ways in which all of them are reached.

`answering` is the way of all requests but uploads: the caller is looked up, the bounded body
is read, then the function runs in a thread.  `put_batch` asks for its body only after the
head was judged.  What the endpoints do stands in docs/spec/collector-http-v1.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.errors import RetryableError, SetupError
from collector import auth, consents, enrol, forget, frames, halt, policies, rights
from collector.asked import Asked, asked_of
from collector.assembly import Collector
from collector.auth import Caller, Device
from collector.guard_keys import guard_key
from collector.index import FullError
from collector.refusal import RefusedError, Why
from wire.collector_http import (
    PROTOCOL,
    PROTOCOL_HEADER,
    Consistency,
    Deleted,
    EnrolRequest,
    ErrorAnswer,
    ReleaseOrder,
    RenewRequest,
)
from wire.consent_event import SignedEvent
from wire.errors import MalformedError
from wire.grant import SignedConsent
from wire.ids import GrantHash, PolicyDigest
from wire.receipt import encode_receipt
from wire.rights import SignedRequest
from wire.tile import parse_tile_name

_log = logging.getLogger(__name__)
T = TypeVar("T")

_LENGTH_DIGITS: Final = 18  # Python refuses to read numbers of very many digits, with an error
SMALL_BYTES: Final = 64 << 10  # what somebody without a certificate may send


# --- anybody ----------------------------------------------------------------------------


def post_enroll(collector: Collector, asked: Asked) -> Response:
    """POST /v1/enroll."""
    request = asked.decoded(EnrolRequest)
    with collector.index.writing() as connection:
        halt.check_running(connection)
        certified, new = enrol.enrol(connection, collector.registry, request, collector.now())
    return _json(certified, HTTPStatus.CREATED if new else HTTPStatus.OK)


def post_renew(collector: Collector, asked: Asked) -> Response:
    """POST /v1/renew."""
    request = asked.decoded(RenewRequest)
    with collector.index.writing() as connection:
        return _json(enrol.renew(connection, collector.registry, request, collector.now()))


def post_rights(collector: Collector, asked: Asked) -> Response:
    """POST /v1/rights: the request's own signature says whose it is; a halt holds up none."""
    return _json(rights.carry_out(collector, asked.decoded(SignedRequest)))


def get_state(collector: Collector, _asked: Asked) -> Response:
    """GET /v1/state."""
    with collector.index.reading() as connection:
        return _json(halt.state(connection))


# --- devices and readers ----------------------------------------------------------------


def get_policy(collector: Collector, _caller: Caller, asked: Asked) -> Response:
    """GET /v1/policy/{name}."""
    name = asked.path["name"]
    if name == policies.TIMESTAMP_NAME:
        content = collector.leases.timestamp()
    else:
        with collector.index.reading() as connection:
            content = policies.file(connection, name)
    return Response(content, media_type="application/json")


def get_checkpoint(collector: Collector, _caller: Caller, _asked: Asked) -> Response:
    """GET /v1/log/checkpoint."""
    return Response(collector.log.checkpoint(), media_type="text/plain; charset=utf-8")


def get_witnessed(collector: Collector, _caller: Caller, _asked: Asked) -> Response:
    """GET /v1/log/witnessed."""
    return Response(
        collector.witnessed.latest(collector.now()), media_type="text/plain; charset=utf-8"
    )


def get_consistency(collector: Collector, _caller: Caller, asked: Asked) -> Response:
    """GET /v1/log/consistency."""
    try:
        proof = collector.log.consistency(asked.number("old"), asked.number("new"))
    except ValueError as exc:
        raise RefusedError(Why.BAD_REQUEST, str(exc)) from exc
    return _json(Consistency(proof=proof))


def get_tile(collector: Collector, _caller: Caller, asked: Asked) -> Response:
    """GET /v1/log/tile/{name}: whatever it is, it never changes."""
    try:
        content = collector.log.tile(parse_tile_name(f"tile/{asked.path['name']}"))
    except (MalformedError, ValueError) as exc:
        raise RefusedError(Why.NOT_FOUND, str(exc)) from exc
    unchanging = {"Cache-Control": "public, max-age=604800, immutable"}
    return Response(content, media_type="application/octet-stream", headers=unchanging)


# --- devices ----------------------------------------------------------------------------


def post_consents(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/consents."""
    device, signed = auth.device(caller), asked.decoded(SignedConsent)
    with collector.index.writing() as connection:
        halt.check_running(connection)
        number, new = consents.register(connection, device, signed, collector.now())
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return _json(collector.log.logged(leaf), HTTPStatus.CREATED if new else HTTPStatus.OK)


def post_consent_events(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/consent-events: also during a halt, for a no may always be said."""
    device, signed = auth.device(caller), asked.decoded(SignedEvent)
    with collector.index.writing() as connection:
        number, new = consents.end(connection, device, signed, collector.now())
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return _json(collector.log.logged(leaf), HTTPStatus.CREATED if new else HTTPStatus.OK)


def get_guard_key(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/guard-key."""
    device, category = auth.device(caller), asked.category()
    if category is None:
        raise RefusedError(Why.BAD_REQUEST, "name a category")
    month = asked.query.get("month", "")
    return _json(
        guard_key(collector.index, collector.guard, device, category, month, collector.now())
    )


def get_rights(collector: Collector, caller: Caller, _asked: Asked) -> Response:
    """GET /v1/rights."""
    device = auth.device(caller)
    with collector.index.reading() as connection:
        return _json(rights.for_device(connection, device))


def delete_batch(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """DELETE /v1/batches/{batch}."""
    device, batch, now = auth.device(caller), asked.batch(), collector.now()
    with collector.index.writing() as connection:
        number, stored = forget.entomb(connection, device.id, batch, now)
    forget.sweep(collector.index, collector.store, batch, device.id, now)
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return _json(Deleted(stored=stored, tombstone=collector.log.logged(leaf)))


async def put_batch(request: Request) -> Response:
    """PUT /v1/batches/{batch}: the steps of `collector.receive`."""
    collector: Collector = request.app.state.collector
    batch = asked_of(request, b"").batch()
    uploads: asyncio.Semaphore = request.app.state.uploads

    def before_body() -> tuple[Device, Response | None]:
        device = auth.device(_caller(collector, request))
        receipt = collector.receiver.before_body(device, batch)
        return device, None if receipt is None else _receipt(encode_receipt(receipt), new=False)

    def take(device: Device, frame: bytes) -> Response:
        receipt, new = collector.receiver.take(device, batch, frame, collector.now())
        return _receipt(encode_receipt(receipt), new=new)

    device, early = await run_in_threadpool(before_body)
    if early is not None:
        return early
    async with uploads:
        frame = await _bounded(request, collector.config.limits.frame_bytes)
        return await run_in_threadpool(take, device, frame)


# --- readers ----------------------------------------------------------------------------


def get_frames(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/frames."""
    auth.reader(caller)
    wanted = frames.Wanted(
        after=asked.number("after", -1),
        category=asked.category(),
        first_day=asked.query.get("first_day"),
        last_day=asked.query.get("last_day"),
    )
    with collector.index.reading() as connection:
        return _json(frames.page(connection, wanted, collector.now()))


def get_frame(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/frames/{batch}."""
    auth.reader(caller)
    with collector.index.reading() as connection:
        frames.find(connection, asked.batch(), collector.now())
    content = frames.body(collector.store, asked.batch())
    return Response(content, media_type="application/octet-stream")


def get_consent(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/consents/{grant}."""
    auth.reader(caller)
    grant = GrantHash(asked.hash("grant"))
    with collector.index.reading() as connection:
        return _json(consents.find(connection, grant))


def get_policy_text(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/policies/{digest}."""
    auth.reader(caller)
    digest = PolicyDigest(asked.hash("digest"))
    with collector.index.reading() as connection:
        return Response(policies.text(connection, digest), media_type="application/json")


def post_releases(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/releases."""
    reader, order = auth.reader(caller), asked.decoded(ReleaseOrder)
    return _json(collector.releaser.release(reader, order, collector.now()))


# --- how they are reached ---------------------------------------------------------------

Endpoint = Callable[[Request], Awaitable[Response]]


def open_to_all(act: Callable[[Collector, Asked], Response]) -> Endpoint:
    """Return the endpoint of *act*, which asks for no certificate."""

    async def endpoint(request: Request) -> Response:
        collector: Collector = request.app.state.collector
        asked = asked_of(request, await _bounded(request, SMALL_BYTES))
        return await run_in_threadpool(act, collector, asked)

    return endpoint


def answering(act: Callable[[Collector, Caller, Asked], Response]) -> Endpoint:
    """Return the endpoint of *act*; who calls is known before the body is asked for."""

    async def endpoint(request: Request) -> Response:
        collector: Collector = request.app.state.collector
        caller = await run_in_threadpool(_caller, collector, request)
        asked = asked_of(request, await _bounded(request, collector.config.limits.json_bytes))
        return await run_in_threadpool(act, collector, caller, asked)

    return endpoint


ROUTES: Final = (
    Route("/v1/enroll", open_to_all(post_enroll), methods=["POST"]),
    Route("/v1/renew", open_to_all(post_renew), methods=["POST"]),
    Route("/v1/rights", open_to_all(post_rights), methods=["POST"]),
    Route("/v1/rights", answering(get_rights), methods=["GET"]),
    Route("/v1/state", open_to_all(get_state), methods=["GET"]),
    Route("/v1/policy/{name}", answering(get_policy), methods=["GET"]),
    Route("/v1/log/checkpoint", answering(get_checkpoint), methods=["GET"]),
    Route("/v1/log/witnessed", answering(get_witnessed), methods=["GET"]),
    Route("/v1/log/consistency", answering(get_consistency), methods=["GET"]),
    Route("/v1/log/tile/{name:path}", answering(get_tile), methods=["GET"]),
    Route("/v1/consents", answering(post_consents), methods=["POST"]),
    Route("/v1/consent-events", answering(post_consent_events), methods=["POST"]),
    Route("/v1/guard-key", answering(get_guard_key), methods=["GET"]),
    Route("/v1/batches/{batch}", put_batch, methods=["PUT"]),
    Route("/v1/batches/{batch}", answering(delete_batch), methods=["DELETE"]),
    Route("/v1/frames", answering(get_frames), methods=["GET"]),
    Route("/v1/frames/{batch}", answering(get_frame), methods=["GET"]),
    Route("/v1/consents/{grant}", answering(get_consent), methods=["GET"]),
    Route("/v1/policies/{digest}", answering(get_policy_text), methods=["GET"]),
    Route("/v1/releases", answering(post_releases), methods=["POST"]),
)


class _Versioned:
    """Says in each answer which protocol it is of."""

    _HEADER: Final = (PROTOCOL_HEADER.encode(), "{}.{}".format(*PROTOCOL).encode())

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def versioned(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), self._HEADER]
            await send(message)

        await self._app(scope, receive, versioned)


def build(collector: Collector) -> Starlette:
    """Return the application of *collector*."""
    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(_Versioned)],
        exception_handlers={
            RefusedError: _refused,
            FullError: _full,
            RetryableError: _later,
            SetupError: _later,
            TimeoutError: _too_slow,
            ClientDisconnect: _gone,
            HTTPException: _no_such,
            Exception: _defect,
        },
    )
    app.router.redirect_slashes = False  # our clients refuse redirects, rightly
    app.state.collector = collector
    app.state.uploads = asyncio.Semaphore(collector.config.limits.uploads)
    return app


def _caller(collector: Collector, request: Request) -> Caller:
    certificate = request.scope.get("state", {}).get("client_cert")
    with collector.index.reading() as connection:
        return auth.caller(connection, certificate, collector.config.tenant, collector.now())


async def _bounded(request: Request, largest: int) -> bytes:
    """Return the body, which the first read here asks for (100 Continue)."""
    too_large = RefusedError(Why.TOO_LARGE, f"at most {largest} bytes are taken here")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > _LENGTH_DIGITS or int(announced) > largest:
        raise too_large
    body = bytearray()
    collector: Collector = request.app.state.collector
    async with asyncio.timeout(collector.config.limits.body_seconds):
        async for chunk in request.stream():
            body += chunk
            if len(body) > largest:
                raise too_large
    return bytes(body)


def _json(answer: msgspec.Struct, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def _receipt(receipt: bytes, *, new: bool) -> Response:
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return Response(receipt, status, media_type="application/json")


# --- what goes wrong --------------------------------------------------------------------


def _error(status: int, line: str, retry_after_seconds: float | None = None) -> Response:
    answer = _json(ErrorAnswer(error=" ".join(line.split())), status)
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
    return _error(status, f"{name.label}: {HTTPStatus(status).phrase}")


async def _defect(_request: Request, _exc: Exception) -> Response:
    # Starlette raises it again after this answer, so the log has the trace.
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "defect: this is our mistake; see the log")
