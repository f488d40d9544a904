"""The endpoints of data subjects: what is theirs, asked with a signature and no certificate.

Who asks is known only from the body, so what they may still ask is counted after it was
verified; a stranger gets as far as that and no further.
"""

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeAlias

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.assembly import Collector
from collector.refusal import RefusedError, Why
from collector.rights import me, personal, returned
from collector.serving.allowance import Asks
from collector.serving.asked import Asked, asked_of
from collector.serving.reached import (
    SMALL_BYTES,
    Endpoint,
    Running,
    as_json,
    body,
    certificate_of,
    running,
)
from wire.ids import DeviceId
from wire.me import About, Query, SignedQuery, SignedReturn

Answer: TypeAlias = Callable[[Running, Asked], Response]


def of_person(act: Answer) -> Endpoint:
    """Return the endpoint of *act*; a certificate that is none of a device is refused first."""

    async def endpoint(request: Request) -> Response:
        found, shown = running(request), certificate_of(request)
        await run_in_threadpool(personal.check_certificate, found.collector, shown)
        asked = asked_of(request, await body(request, SMALL_BYTES))
        return await run_in_threadpool(act, found, asked)

    return endpoint


def post_batches(found: Running, asked: Asked) -> Response:
    """POST /v1/me/batches."""
    return _told(found, asked, About.BATCHES, me.own_batches)


def post_deletions(found: Running, asked: Asked) -> Response:
    """POST /v1/me/deletions."""
    return _told(found, asked, About.DELETIONS, me.own_deletions)


def post_accesses(found: Running, asked: Asked) -> Response:
    """POST /v1/me/accesses."""
    return _told(found, asked, About.ACCESSES, me.own_accesses)


def post_own_frame(found: Running, asked: Asked) -> Response:
    """POST /v1/me/frames/{batch}."""
    batch, query = asked.batch(), _query(found, asked, About.FRAME)
    if query.batch != batch:
        raise RefusedError(Why.BAD_REQUEST, "the query names another batch than the path")
    frame = me.own_frame(found.collector, query)
    return Response(frame, HTTPStatus.OK, media_type="application/octet-stream")


def post_return(found: Running, asked: Asked) -> Response:
    """POST /v1/me/return: also during a halt."""
    signed = asked.decoded(SignedReturn)
    order = personal.order_of(found.collector, signed)
    spend(found, signed.rights_key)
    return as_json(returned.give_back(found.collector, signed, order))


def _told(
    found: Running,
    asked: Asked,
    about: About,
    tell: Callable[[Collector, Query], msgspec.Struct],
) -> Response:
    return as_json(tell(found.collector, _query(found, asked, about)))


def _query(found: Running, asked: Asked, about: About) -> Query:
    signed = asked.decoded(SignedQuery)
    query = personal.query_of(found.collector, signed, about)
    spend(found, signed.rights_key)
    personal.use_up(found.collector, query)  # after it was counted: each is a row for minutes
    return query


def spend(found: Running, rights_key: bytes) -> None:
    """Count one question of whoever holds this rights key.

    Raises:
        RefusedError: There were too many.

    """
    # As many as a device may ask; the label keeps the two from sharing one allowance.
    name = DeviceId(hashlib.sha256(b"rights key\0" + rights_key).digest())
    found.allowances.spend(name, Asks.QUESTIONS)
