"""The guard's HTTP face (docs/spec/guard-http-v1.md): who may ask what, and in which words.

`ROUTES` is the one source of what a listener serves, of the OpenAPI document, and of what the
tests try.  Decides nothing about content: `release`, `witness` and `keys` do.  Work that
touches disk or keys runs in threads, so that a bulk release does not hold up the witness.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from base.api import Body, Door, Media, Operation
from base.clock import NANOSECONDS
from base.crowd import things_in_words
from base.metrics import PATH
from base.pki import Role
from base.places import Places
from guard import orders
from guard.asked import (
    answering,
    as_json,
    body_of,
    caller_of,
    decoded,
    defect,
    large_of,
    nothing_here,
    one_line,
)
from guard.assembly import Answered, Guard, Watching
from guard.backup import BACKUP_DAYS
from guard.keys import ErasedError, OutOfSeasonError
from guard.release import Outcome, Refused, Released, release
from guard.returning import give_back
from guard.witness import SIZE_TYPE, Cosigned, Refuse, parse_submission
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.guard_http import (
    LARGEST_RELEASE,
    GuardState,
    KeyAnswer,
    KeyRequest,
    LoggedBatch,
    Orders,
    OrdersRequest,
    ReleaseAnswer,
    ReleaseAnswers,
    ReleaseRequest,
    ReturnRequest,
    key_message,
    sign_key,
)
from wire.ids import SubjectId, WallInstant
from wire.me import LARGEST_ORDER
from wire.policy import decode_policy
from wire.rights import (
    Demand,
    Erasure,
    SignedErasure,
    SignedRequest,
    sign_erasure,
    verify_request,
)

__all__ = ["ROUTES", "Guard", "make_app"]

ADD_CHECKPOINT: Final = "/add-checkpoint"
LARGEST_BODY_BYTES: Final = 16 << 20
LARGE_AT_ONCE: Final = 8  # bodies of that size, or decoded from it, in memory: 128 MiB
LARGEST_SUBMISSION_BYTES: Final = 64 << 10  # 63 proof lines and a note with many signatures

_log = logging.getLogger(__name__)


# --- the answers --------------------------------------------------------------------------


def _add_checkpoint(guard: Watching, body: bytes) -> Response:
    submission = parse_submission(body)
    match guard.witness.add(submission, guard.log_key(), guard.now()):
        case Cosigned(line=line):
            return PlainTextResponse(line)
        case Refuse(status=409, size=int(size)):
            return PlainTextResponse(f"{size}\n", 409, media_type=SIZE_TYPE)
        case Refuse(status=status, why=why):
            raise Answered(status, why)


def _make_key(guard: Guard, asked: KeyRequest) -> KeyAnswer:
    guard.check_running()
    if guard.policy().rule(asked.category) is None:
        raise Answered(403, f"the policy does not ask for {asked.category}")
    key_message(asked, b"")  # refuses a malformed subject or month before a key is made
    ring = guard.signing()  # likewise
    try:
        public = guard.keys.public_key(
            SubjectId(asked.subject), asked.category, asked.month, guard.now()
        )
    except ErasedError as exc:
        raise Answered(410, str(exc)) from exc
    except OutOfSeasonError as exc:
        raise Answered(422, str(exc)) from exc
    return sign_key(asked, public, ring.now, also=ring.others)


def _erase(guard: Guard, signed: SignedRequest) -> SignedErasure:
    """Erase keys on the data subject's own word; also during a halt, also without a policy."""
    try:
        request = verify_request(signed, guard.origin())
    except (ForgedError, NotCoveredError) as exc:
        raise Answered(403, str(exc)) from exc
    if request.demand is not Demand.ERASE:
        raise Answered(403, "this request asks for no erasure")
    key = guard.signing().now  # before anything goes for which nobody could sign
    gone = guard.keys.erase(signed.digest, request, guard.now())
    pending_until = WallInstant(gone.erased_at + BACKUP_DAYS * 24 * 3600 * NANOSECONDS)
    erasure = Erasure(
        request=signed.digest,
        keys=gone.keys,
        erased_at=gone.erased_at,
        pending_until=pending_until,
    )
    return sign_erasure(erasure, key)


def _tell_orders(guard: Guard, asked: OrdersRequest) -> Orders:
    """Tell what was erased by the guard's own hand; also during a halt, for erasing never ends."""
    return orders.answer(
        guard.keys,
        asked,
        origin=guard.origin(),
        log_key=guard.log_key(),
        signing_key=guard.signing().now,
        now=guard.now(),
    )


def _renew_lease(guard: Guard, offered: bytes) -> bytes:
    try:
        return guard.leases.renew(offered, guard.installed(), guard.now(), guard.why_still())
    except MalformedError:
        raise
    except WireError as exc:
        _log.warning("a lease was refused: %s", exc)
        raise Answered(403, str(exc)) from exc


def _release(guard: Guard, asked: ReleaseRequest, caller: str) -> ReleaseAnswers:
    if len(asked.batches) > LARGEST_RELEASE:
        raise Answered(413, f"at most {LARGEST_RELEASE} batches in one request")
    guard.check_running()
    with guard.keys.finding() as find_key:
        outcome = release(
            asked,
            caller=caller,
            policy_set=guard.installed(),
            find_key=find_key,
            now=guard.now(),
        )
    guard.check_running()  # a halt that was called meanwhile holds for this, too
    if isinstance(outcome, Refused):
        _log.info("a release was refused: %s", outcome.refusal)
        raise Answered(403, outcome.why, refused=outcome.refusal)
    answers = tuple(map(_answer, asked.batches, outcome))
    given = sum(answer.released is not None for answer in answers)
    refused = "" if given == len(answers) else "; some were refused"
    _log.info("a release of batches: %s%s", things_in_words(given), refused)
    return ReleaseAnswers(batches=answers)


def _give_back(guard: Guard, asked: ReturnRequest) -> ReleaseAnswers:
    """Give batches back to their data subject; also during a halt, also after the policy's end."""
    if len(asked.batches) > LARGEST_ORDER:
        raise Answered(413, f"at most {LARGEST_ORDER} batches in one order")
    policy = decode_policy(guard.installed().policy)
    outcome = give_back(asked, policy=policy, find_key=guard.keys.find, now=guard.now())
    if isinstance(outcome, Refused):
        _log.info("an order was refused: %s", outcome.refusal)
        raise Answered(403, outcome.why, refused=outcome.refusal)
    answers = tuple(map(_answer, asked.batches, outcome))
    given = sum(answer.released is not None for answer in answers)
    _log.info("gave %d of %d batches back", given, len(answers))
    return ReleaseAnswers(batches=answers)


def _answer(batch: LoggedBatch, outcome: Outcome) -> ReleaseAnswer:
    match outcome:
        case Released(sealed=sealed):
            return ReleaseAnswer(batch_hash=batch.batch_hash, released=sealed)
        case Refused(refusal=refusal, why=why):
            return ReleaseAnswer(batch_hash=batch.batch_hash, refused=refusal, error=one_line(why))


# --- the table ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row(Operation):
    """An operation, and what answers."""

    endpoint: Callable[[Guard, Request], Awaitable[Response]]

    def route(self, guard: Guard) -> Route:
        """Return what Starlette serves."""

        async def asked(request: Request) -> Response:
            request.scope[PATH] = self.path
            return await self.endpoint(guard, request)

        return Route(self.path, answering(asked), methods=[self.method], name=self.name)


def _row(
    path: str,
    endpoint: Callable[[Guard, Request], Awaitable[Response]],
    caller: Role | None,
    says: str,
    *,
    takes: Body | None,
    gives: Mapping[int, Body],
    refuses: tuple[int, ...] = (),
) -> Row:
    always = (400, 408, 413, 503)
    of_caller = () if caller is None else (401, 403)
    return Row(
        method="POST",
        path=path,
        name=endpoint.__name__,
        says=says,
        callers=() if caller is None else (caller,),
        doors=(Door.READERS,) if caller is Role.READER else (Door.COLLECTOR,),
        takes=takes,
        gives=MappingProxyType(dict(gives)),
        refuses=MappingProxyType(dict.fromkeys((*always, *of_caller, *refuses), ())),
        endpoint=endpoint,
    )


async def add_checkpoint(guard: Watching, request: Request) -> Response:
    """POST /add-checkpoint."""
    body = await body_of(request, LARGEST_SUBMISSION_BYTES)
    return await run_in_threadpool(_add_checkpoint, guard, body)


async def make_key(guard: Guard, request: Request) -> Response:
    """POST /v1/keys."""
    caller_of(request, guard, Role.COLLECTOR)
    asked = decoded(await body_of(request, LARGEST_SUBMISSION_BYTES), KeyRequest)
    return as_json(await run_in_threadpool(_make_key, guard, asked))


async def erase_keys(guard: Guard, request: Request) -> Response:
    """POST /v1/erase."""
    caller_of(request, guard, Role.COLLECTOR)
    asked = decoded(await body_of(request, LARGEST_SUBMISSION_BYTES), SignedRequest)
    return as_json(await run_in_threadpool(_erase, guard, asked))


async def tell_orders(guard: Guard, request: Request) -> Response:
    """POST /v1/erasures."""
    caller_of(request, guard, Role.COLLECTOR)
    asked = decoded(await body_of(request, LARGEST_SUBMISSION_BYTES), OrdersRequest)
    return as_json(await run_in_threadpool(_tell_orders, guard, asked))


async def tell_state(guard: Guard, request: Request) -> Response:
    """POST /v1/state."""
    caller_of(request, guard, Role.COLLECTOR)
    await body_of(request, LARGEST_SUBMISSION_BYTES)
    return as_json(await run_in_threadpool(guard.state))


async def renew_lease(guard: Guard, request: Request) -> Response:
    """POST /v1/lease."""
    caller_of(request, guard, Role.COLLECTOR)
    body = await body_of(request, LARGEST_SUBMISSION_BYTES)
    lease = await run_in_threadpool(_renew_lease, guard, body)
    return Response(lease, media_type="application/json")


async def give_back_batches(guard: Guard, request: Request) -> Response:
    """POST /v1/return."""
    caller = caller_of(request, guard, Role.COLLECTOR)
    async with large_of(request, caller):
        asked = decoded(await body_of(request, LARGEST_BODY_BYTES), ReturnRequest)
        return as_json(await run_in_threadpool(_give_back, guard, asked))


async def release_batches(guard: Guard, request: Request) -> Response:
    """POST /v1/release."""
    caller = caller_of(request, guard, Role.READER)
    async with large_of(request, caller):
        asked = decoded(await body_of(request, LARGEST_BODY_BYTES), ReleaseRequest)
        return as_json(await run_in_threadpool(_release, guard, asked, caller.name))


ROUTES: Final = (
    _row(
        ADD_CHECKPOINT,
        add_checkpoint,
        None,
        "Cosign the log, if it only grew (C2SP tlog-witness)",
        takes=Media.TEXT,
        gives={200: Media.TEXT, 409: Media.SIZE},
        refuses=(403, 404, 422),
    ),
    _row(
        "/v1/keys",
        make_key,
        Role.COLLECTOR,
        "The public key of a data subject, a category and a month, signed",
        takes=KeyRequest,
        gives={200: KeyAnswer},
        refuses=(410, 422),
    ),
    _row(
        "/v1/erase",
        erase_keys,
        Role.COLLECTOR,
        "Erase keys on a data subject's own request",
        takes=SignedRequest,
        gives={200: SignedErasure},
    ),
    _row(
        "/v1/erasures",
        tell_orders,
        Role.COLLECTOR,
        "What the guard has erased by its own hand, until the collector's log has it",
        takes=OrdersRequest,
        gives={200: Orders},
    ),
    _row(
        "/v1/state",
        tell_state,
        Role.COLLECTOR,
        "Whether the guard has halted or stopped the programme",
        takes=None,
        gives={200: GuardState},
    ),
    _row(
        "/v1/lease",
        renew_lease,
        Role.COLLECTOR,
        "Sign the guard's half of the lease",
        takes=Media.JSON,
        gives={200: Media.JSON},
    ),
    _row(
        "/v1/return",
        give_back_batches,
        Role.COLLECTOR,
        "Give logged batches back to their data subject, on their own signed order",
        takes=ReturnRequest,
        gives={200: ReleaseAnswers},
    ),
    _row(
        "/v1/release",
        release_batches,
        Role.READER,
        "Release logged batches to the reader of an approved grant",
        takes=ReleaseRequest,
        gives={200: ReleaseAnswers},
    ),
)

EVERY_DOOR: Final = frozenset({Door.COLLECTOR, Door.READERS})


def make_app(guard: Guard, doors: Collection[Door] = EVERY_DOOR) -> Starlette:
    """Return the application for whoever comes to *doors*."""
    return _starlette([each.route(guard) for each in ROUTES if set(each.doors) & set(doors)])


def make_witness(watching: Watching) -> Starlette:
    """Return the application of a witness alone: it cosigns, and knows no other question."""

    async def asked(request: Request) -> Response:
        request.scope[PATH] = ADD_CHECKPOINT
        return await add_checkpoint(watching, request)

    return _starlette([Route(ADD_CHECKPOINT, answering(asked), methods=["POST"])])


def _starlette(routes: list[Route]) -> Starlette:
    app = Starlette(
        routes=routes,
        exception_handlers={404: nothing_here, 405: nothing_here, Exception: defect},
    )
    app.router.redirect_slashes = False  # our clients refuse redirects, rightly
    app.state.places = Places(LARGE_AT_ONCE)
    return app
