"""What operators may ask a server, on a listener of their own: is it well, and how much.

    GET /healthz        it runs
    GET /readyz         it can do its work; what is in the way, if anything
    GET /metrics        numbers, in the form of Prometheus (`base.metrics`)
    GET /openapi.json   what it can be asked, by everybody

On a loopback address anybody on that machine may ask, without a certificate; a name of the
host that is not loopback's is refused, so that no page in a browser there can.  On any other
address it takes a certificate of role `operator` whose name the configuration lists.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base.api import Body, Door, Media, Operation
from base.clock import Clock
from base.errors import AssentError, SetupError
from base.lines import one_line
from base.pki import CertificateError, Role, client_of

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """It runs: whoever reads this has an answer."""

    running: bool = True


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it can do its work; `waits_for` says what is in the way, in a line each."""

    ready: bool
    waits_for: dict[str, str]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was told."""

    error: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be so before the server can do its work."""

    name: str
    why_not: Callable[[], str]
    """Returns one line, empty if it is so; what it raises counts as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What operators are told, and who they are."""

    checks: tuple[Check, ...]
    metrics: Callable[[], bytes]
    document: bytes
    tenant: str
    names: frozenset[str] | None
    """Of the operators' certificates; None on a loopback address, where none is asked for."""
    clock: Clock


def _operation(path: str, says: str, gives: dict[int, Body]) -> Operation:
    return Operation(
        method="GET",
        path=path,
        name=f"get_{path.strip('/').partition('.')[0]}",
        says=says,
        doors=(Door.OPERATORS,),
        gives=gives,
        refuses={401: (), 403: ()},
    )


OPERATIONS: Final = (
    _operation("/healthz", "Whether it runs", {200: Health}),
    _operation(
        "/readyz",
        "Whether it can do its work, and what is in the way",
        {200: Readiness, 503: Readiness},
    ),
    _operation("/metrics", "Numbers, none about one person", {200: Media.METRICS}),
    _operation("/openapi.json", "This document", {200: Media.JSON}),
)


def names_let_in(names: Collection[str], *, clear: bool) -> frozenset[str] | None:
    """Return whose certificates are let in; None in the *clear*, where none is asked for.

    Raises:
        SetupError: Nobody's would be.

    """
    if clear:
        return None
    if not names:
        raise SetupError(
            "[operators] of config.toml lists no names: nobody would be let in; name the "
            "operators' certificates, or listen on 127.0.0.1"
        )
    return frozenset(names)


def build(desk: Desk) -> Starlette:
    """Return the operators' application."""
    asked: dict[str, Callable[[], Response]] = {
        "/healthz": lambda: _json(Health()),
        "/readyz": lambda: _readiness(desk.checks),
        "/metrics": lambda: Response(desk.metrics(), media_type=Media.METRICS),
        "/openapi.json": lambda: Response(desk.document, media_type=Media.JSON),
    }
    return Starlette(
        routes=[
            Route(one.path, _endpoint(desk, asked[one.path]), methods=[one.method])
            for one in OPERATIONS
        ],
        exception_handlers={404: _nothing_here, 405: _nothing_here},
    )


def _endpoint(desk: Desk, answer: Callable[[], Response]) -> Callable[..., object]:
    async def endpoint(request: Request) -> Response:
        status, why = _why_not(desk, request)
        if why:
            return _json(Refusal(error=why), status)
        return await run_in_threadpool(answer)

    return endpoint


def _why_not(desk: Desk, request: Request) -> tuple[int, str]:
    """Return why this caller is told nothing; an empty line if it is."""
    if desk.names is None:
        host = request.headers.get("host", "")
        bare = host if host.endswith("]") else host.rpartition(":")[0] or host
        known = bare in LOOPBACK_NAMES
        return 403, "" if known else "ask by a name of loopback: localhost, 127.0.0.1 or [::1]"
    certificate = request.scope.get("state", {}).get("client_cert")
    if certificate is None:
        return 401, "this listener wants the certificate of an operator"
    try:
        client = client_of(certificate)
    except CertificateError as exc:
        return 403, str(exc)
    is_one = client.role is Role.OPERATOR and client.tenant == desk.tenant
    if not is_one or client.name not in desk.names:
        return 403, "this certificate is of no operator that config.toml names"
    if client.has_ended(desk.clock.now().wall):
        return 401, "this certificate has expired; have another made"
    return 200, ""


def _readiness(checks: tuple[Check, ...]) -> Response:
    waits = {check.name: why for check in checks if (why := _tried(check))}
    return _json(Readiness(ready=not waits, waits_for=waits), 503 if waits else 200)


def _tried(check: Check) -> str:
    try:
        return check.why_not()
    except (AssentError, OSError) as exc:
        return one_line(str(exc))


def _json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type=Media.JSON)


async def _nothing_here(_request: Request, _exc: Exception) -> Response:
    return _json(Refusal(error="no such path here"), 404)
