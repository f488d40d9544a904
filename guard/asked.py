"""How a request reaches the guard, and how it is answered: who calls, what came, in which words.

Knows no path of the table; `guard.app` has that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from base.errors import RetryableError, SetupError
from base.pki import CertificateError, Client, Role, client_of
from base.places import Places
from guard.assembly import Answered, Guard
from wire.errors import UNREADABLE, MalformedError

RETRY_SECONDS: Final = 60  # what keeps a guard from its work takes a person, or passes by itself
BODY_SECONDS: Final = 120.0  # for a request to arrive: nobody holds a connection for nothing

T = TypeVar("T")
_log = logging.getLogger(__name__)


def caller_of(request: Request, guard: Guard, role: Role) -> Client:
    """Return who calls, if the path is for them.

    Raises:
        Answered: It is not.

    """
    certificate = request.scope["state"].get("client_cert")
    if certificate is None:
        raise Answered(401, "this path needs a client certificate of this guard")
    try:
        client = client_of(certificate)
    except CertificateError as exc:
        raise Answered(403, str(exc)) from exc
    if client.tenant != guard.tenant or client.role is not role:
        raise Answered(403, f"this path is for a {role} of {guard.tenant}")
    if client.has_ended(guard.clock.now().wall):
        raise Answered(401, "this certificate has expired; have another made")
    return client


def large_of(request: Request, caller: Client) -> AbstractAsyncContextManager[None]:
    """Return a place for a large body of *caller*: a reader does not fill this guard's memory."""
    places: Places = request.app.state.places
    return places.one(caller.spki_sha256)


async def body_of(request: Request, most_bytes: int) -> bytes:
    """Return the body, of at most so many bytes.

    Raises:
        Answered: It is larger, or does not come.

    """
    announced = request.headers.get("content-length", "0")
    # Python refuses to read numbers of very many digits, with an error.
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > most_bytes):
        raise Answered(413, f"at most {most_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise Answered(413, f"at most {most_bytes} bytes")
    except TimeoutError:
        raise Answered(408, f"the request took longer than {BODY_SECONDS:.0f} s") from None
    return bytes(body)


def decoded(body: bytes, kind: type[T]) -> T:
    """Return what *body* asks.

    Raises:
        Answered: It cannot be read.

    """
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as exc:
        raise Answered(400, f"the request cannot be read: {exc}") from exc


def as_json(answer: msgspec.Struct) -> Response:
    """Return *answer* as it is sent."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


def answering(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[..., object]:
    """Return *endpoint* with its refusals turned into answers."""

    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Answered as answer:
            return error(answer.status, str(answer), **answer.more)
        except MalformedError as exc:
            return error(400, str(exc))
        except (RetryableError, SetupError) as exc:
            _log.error("%s", exc)
            return error(503, "the guard cannot use its files now; try again later")
        except ClientDisconnect:
            return error(400, "the request was cut short")

    return answering


def error(status: int, message: str, **more: object) -> Response:
    """Return an error as it is sent; *more* are fields beside it."""
    body = msgspec.json.encode({"error": one_line(message), **more})
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    return Response(body, status, headers, media_type="application/json")


def one_line(text: str) -> str:
    """Return *text*, in which a name of the request may stand, without its line breaks."""
    return " ".join(text.split())


async def nothing_here(_request: Request, _exc: Exception) -> Response:
    """Answer who asks for what is not there."""
    return error(404, "no such path here")


async def defect(_request: Request, _exc: Exception) -> Response:
    """Answer who met a mistake of ours; the log has its trace."""
    return error(500, "the guard failed; its log says why")
