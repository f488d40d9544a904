"""The endpoints: one small function each.

How a request reaches its endpoint stands in `reached`, who may ask what in the table
`collector.app.ROUTES`, and what the endpoints do in docs/spec/collector-http-v1.md.
`put_batch` asks for its body only after the head was judged.
"""

from http import HTTPStatus
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Row
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector import auth, enrol, halt, policies
from collector.assembly import Collector
from collector.auth import Caller, Device
from collector.guard.keys import guard_key
from collector.ingest.intake import Ahead, Bounds, Intake
from collector.ingest.receive import Knock, Stored, Upload
from collector.refusal import RefusedError, Why
from collector.release import frames
from collector.rights import consents, demands, forget
from collector.serving.allowance import Asks
from collector.serving.asked import Asked, asked_of
from collector.serving.reached import (
    Running,
    admit,
    as_json,
    certificate_of,
    intake,
    running,
)
from wire.collector_http import (
    Consistency,
    Deleted,
    EnrolRequest,
    FrameOrder,
    ReleaseOrder,
    RenewRequest,
    ShownGrant,
)
from wire.consent_event import SignedEvent
from wire.errors import MalformedError
from wire.grant import SignedConsent
from wire.ids import BatchHash, DeviceId
from wire.receipt import Receipt, encode_receipt
from wire.rights import SignedRequest
from wire.tile import parse_tile_name

# --- anybody ----------------------------------------------------------------------------


def post_enroll(collector: Collector, asked: Asked) -> Response:
    """POST /v1/enroll."""
    request = asked.decoded(EnrolRequest)
    with collector.index.writing() as connection:
        halt.check_running(connection)
        certified, new = enrol.enrol(connection, collector.registry, request, collector.now())
    return as_json(certified, HTTPStatus.CREATED if new else HTTPStatus.OK)


def post_renew(collector: Collector, asked: Asked) -> Response:
    """POST /v1/renew."""
    request = asked.decoded(RenewRequest)
    with collector.index.writing() as connection:
        return as_json(enrol.renew(connection, collector.registry, request, collector.now()))


def post_rights(collector: Collector, asked: Asked) -> Response:
    """POST /v1/rights: the request's own signature says whose it is; a halt holds up none."""
    return as_json(demands.carry_out(collector, asked.decoded(SignedRequest)))


def get_state(collector: Collector, _asked: Asked) -> Response:
    """GET /v1/state."""
    with collector.index.reading() as connection:
        return as_json(halt.state(connection))


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
    note = collector.witnessed.latest(collector.now())
    return Response(note, media_type="text/plain; charset=utf-8")


def get_consistency(collector: Collector, _caller: Caller, asked: Asked) -> Response:
    """GET /v1/log/consistency."""
    try:
        proof = collector.log.consistency(asked.number("old"), asked.number("new"))
    except ValueError as exc:
        raise RefusedError(Why.BAD_REQUEST, str(exc)) from exc
    return as_json(Consistency(proof=proof))


def get_tile(collector: Collector, _caller: Caller, asked: Asked) -> Response:
    """GET /v1/log/tile/{tile}: whatever it is, it never changes."""
    try:
        content = collector.log.tile(parse_tile_name(f"tile/{asked.path['tile']}"))
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
    return as_json(collector.log.logged(leaf), HTTPStatus.CREATED if new else HTTPStatus.OK)


def post_consent_events(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/consent-events: also during a halt, for a no may always be said."""
    device, signed = auth.device(caller), asked.decoded(SignedEvent)
    with collector.index.writing() as connection:
        number, new = consents.end(connection, device, signed, collector.now())
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return as_json(collector.log.logged(leaf), HTTPStatus.CREATED if new else HTTPStatus.OK)


def get_guard_key(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """GET /v1/guard-key."""
    device, category = auth.device(caller), asked.category()
    if category is None:
        raise RefusedError(Why.BAD_REQUEST, "name a category")
    month = asked.query.get("month", "")
    return as_json(
        guard_key(collector.index, collector.guard, device, category, month, collector.now())
    )


def get_rights(collector: Collector, caller: Caller, _asked: Asked) -> Response:
    """GET /v1/rights."""
    device = auth.device(caller)
    with collector.index.reading() as connection:
        return as_json(demands.for_device(connection, device))


def delete_batch(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """DELETE /v1/batches/{batch}."""
    device, batch, now = auth.device(caller), asked.batch(), collector.now()
    with collector.index.writing() as connection:
        number, stored = forget.entomb(connection, device.id, batch, now)
    forget.sweep(collector.index, collector.store, batch, device.id, now)
    with collector.index.reading() as connection:
        leaf = collector.log.leaf(connection, number)
    return as_json(Deleted(stored=stored, tombstone=collector.log.logged(leaf)))


async def put_batch(request: Request) -> Response:
    """PUT /v1/batches/{batch}: the steps of `collector.ingest.receive`."""
    found, taking = running(request), intake(request)
    batch = asked_of(request, b"").batch()
    came = taking.ahead or await _let_in(request, found, taking, batch)
    if isinstance(came, Receipt):
        return _receipt(came, new=False)
    try:
        stored = _come_ahead(request, found, came) if isinstance(came, Ahead) else came
        receipt, new = await found.groups.kept.ask(stored)
    except RefusedError as exc:
        await _let_go(found.collector, taking, batch, exc.why)
        raise
    await taking.settle(ahead=found.allowances.are_ample(stored.upload.device))
    return _receipt(receipt, new=new)


def _come_ahead(request: Request, found: Running, ahead: Ahead) -> Stored:
    """Return a frame that came ahead of step 1: its certificate is looked up when it is kept."""
    now, shown = found.collector.now(), certificate_of(request)
    client = auth.claimed(shown, found.collector.config.tenant, now)
    key = Ed25519PublicKey.from_public_bytes(ahead.key)
    device = Device(id=DeviceId(client.spki_sha256), key=key)
    admit(request, device, Asks.UPLOADS)
    found.collector.gate.check()
    found.allowances.count(device.id, ahead.account.size_bytes)
    upload = Upload(device=device.id, account=ahead.account, now=now, shown=shown)
    return Stored(upload, ahead.began)


async def _let_in(
    request: Request, found: Running, taking: Intake, batch: BatchHash
) -> Stored | Receipt:
    """Carry out steps 1 and 2, then what needs the body in memory; a receipt is one of before."""
    collector = found.collector
    knock = Knock(certificate=certificate_of(request), batch=batch, now=collector.now())
    knocked = await found.groups.knocked.ask(knock)
    admit(request, knocked.caller, Asks.UPLOADS)
    device = auth.device(knocked.caller)
    collector.gate.check()
    if knocked.refusal is not None:
        raise knocked.refusal
    if knocked.receipt is not None:
        return knocked.receipt
    async with found.uploads.one(device.id):
        return await _stored(found, taking, device, batch)


async def _stored(found: Running, taking: Intake, device: Device, batch: BatchHash) -> Stored:
    """Carry out what needs the body in memory: steps 3 to 6, and the first half of 7."""
    collector, limits = found.collector, found.collector.config.limits
    bounds = Bounds(largest_bytes=limits.frame_bytes, seconds=limits.body_seconds)
    began = collector.clock.now().boot
    try:
        account = await taking.taken(device.key, batch, bounds)
    finally:
        found.allowances.count(device.id, taking.size_bytes)
    upload = Upload(device=device.id, account=account, now=collector.now())
    if not taking.belonged:
        await found.groups.in_scope.ask(upload)
    await taking.store_it()
    return Stored(upload, began)


async def _let_go(collector: Collector, taking: Intake, batch: BatchHash, why: Why) -> None:
    """Remove what was stored of a frame that was refused; its device signed it, and so no other."""
    if why is Why.ERASED:
        await run_in_threadpool(collector.receiver.take_back, batch)
        await taking.settle()
    elif taking.mark:
        await run_in_threadpool(collector.let_go, taking.mark)


def _receipt(receipt: Receipt, *, new: bool) -> Response:
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return Response(encode_receipt(receipt), status, media_type="application/json")


# --- readers ----------------------------------------------------------------------------


def post_frames(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/frames: what a grant covers, and nothing else."""
    reader, order, now = auth.reader(caller), asked.decoded(FrameOrder), collector.now()
    with collector.index.reading() as connection:
        access = collector.entry.admit(connection, reader, order.grant, now)
        found = frames.page(connection, access, order.after, now)
    if reader.drill and not found.frames:  # to a drill nothing is a no, and anything a hole
        raise RefusedError(Why.NOT_FOR_DRILLS, "a drill is told of nothing")
    return as_json(found)


def post_frame(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/frames/{batch}."""
    with collector.index.reading() as connection:
        _covered(collector, connection, caller, asked)
    content = frames.body(collector.store, asked.batch())
    return Response(content, media_type="application/octet-stream")


def post_terms(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/frames/{batch}/terms."""
    with collector.index.reading() as connection:
        row = _covered(collector, connection, caller, asked)
        return as_json(frames.terms(connection, row))


def _covered(
    collector: Collector, connection: Connection, caller: Caller, asked: Asked
) -> Row[Any]:
    """Return the index row of the frame of the path, if the grant in the body is for it."""
    reader, shown, now = auth.reader(caller), asked.decoded(ShownGrant), collector.now()
    access = collector.entry.admit(connection, reader, shown.grant, now)
    row = frames.find(connection, asked.batch(), now)
    access.check_covers(row)
    return row


def post_releases(collector: Collector, caller: Caller, asked: Asked) -> Response:
    """POST /v1/releases."""
    reader, order = auth.reader(caller), asked.decoded(ReleaseOrder)
    return as_json(collector.releaser.release(reader, order, collector.now()))
