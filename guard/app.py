"""The guard's HTTP face (docs/spec/guard-http-v1.md): who may ask what, and in which words.

Decides nothing about content: `release`, `witness` and `keys` do.  Work that touches disk
or keys runs in threads, so that a bulk release does not hold up the witness.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from base.clock import NANOSECONDS, Clock, why_implausible
from base.errors import AssentError, RetryableError, SetupError
from base.pki import CertificateError, Client, Role, client_of
from guard.halt import Halts
from guard.keys import ErasedError, Keys, OutOfSeasonError
from guard.lease import Leases
from guard.release import Outcome, Refused, Released, release
from guard.trust import PolicySet
from guard.witness import SIZE_TYPE, Cosigned, Refuse, Witness, parse_submission
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError, WireError
from wire.guard_http import (
    LARGEST_RELEASE,
    GuardState,
    KeyAnswer,
    KeyRequest,
    LoggedBatch,
    ReleaseAnswer,
    ReleaseAnswers,
    ReleaseRequest,
    key_message,
    sign_key,
)
from wire.ids import SubjectId, WallInstant
from wire.policy import Policy, decode_policy
from wire.rights import (
    Demand,
    Erasure,
    SignedErasure,
    SignedRequest,
    sign_erasure,
    verify_request,
)

LARGEST_BODY_BYTES: Final = 16 << 20
BACKUP_DAYS: Final = 7  # docs/guides/guard.md: copies of keys.sqlite age out in so many days
BODY_SECONDS: Final = 120.0  # for a request to arrive: nobody holds a connection for nothing
LARGEST_SUBMISSION_BYTES: Final = 64 << 10  # 63 proof lines and a note with many signatures

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Answered(AssentError):  # noqa: N818 - not a defect: an answer given early
    """The request ends here, with this status and line."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.more = more


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the application works with; `policy_set` gives what is installed now, or None."""

    tenant: str
    signing_key: Ed25519PrivateKey
    keys: Keys
    witness: Witness
    leases: Leases
    policy_set: Callable[[], PolicySet | None]
    halts: Halts
    clock: Clock

    def now(self) -> WallInstant:
        """Return the wall clock.

        Raises:
            Answered: It is wrong for sure.

        """
        wall = self.clock.now().wall
        if why := why_implausible(wall):
            _log.error("%s", why)
            raise Answered(503, "this guard's clock is wrong; its operator has to set it")
        return WallInstant(wall)

    def installed(self) -> PolicySet:
        """Return the installed policy, unverified.

        Raises:
            Answered: There is none.

        """
        found = self.policy_set()
        if found is None:
            raise Answered(503, "this guard has no policy yet; its operator runs `trust`")
        return found

    def policy(self) -> Policy:
        """Return the installed policy, verified as of now.

        Raises:
            Answered: There is none, or it has expired.

        """
        try:
            return self.installed().verified(datetime.fromtimestamp(self.now() / 1e9, UTC))
        except WireError as exc:
            raise Answered(503, f"this guard's policy is not valid any more: {exc}") from exc

    def state(self) -> GuardState:
        """Return whether a halt holds here, and whether there is a stop."""
        return self.halts.state(self.policy_set())

    def check_running(self) -> None:
        """Check that neither a halt nor a stop holds.

        Raises:
            Answered: One does.

        """
        if why := self.why_still():
            raise Answered(503, why)

    def why_still(self) -> str:
        """Return why the programme stands still here, and whose word that is; empty if not."""
        state = self.state()
        if state.halted:
            return f"the programme is halted: {state.why} (said by {state.by})"
        return f"the programme stands still for now: {state.stopped}" if state.stopped else ""

    def origin(self) -> str:
        """Return the collector that the policy names, expired or not: erasing never ends."""
        return decode_policy(self.installed().policy).collector.origin

    def log_key(self) -> str:
        """Return the verifier key of the log that the policy names, expired or not.

        A log has to be able to grow when everything else has ended: its last entries are
        deletions.
        """
        return decode_policy(self.installed().policy).collector.log


def make_app(guard: Guard) -> ASGIApp:
    """Return the ASGI application."""

    async def add_checkpoint(request: Request) -> Response:
        body = await _body(request, LARGEST_SUBMISSION_BYTES)
        return await run_in_threadpool(_add_checkpoint, guard, body)

    async def make_key(request: Request) -> Response:
        _caller(request, guard, Role.COLLECTOR)
        asked = _decode(await _body(request, LARGEST_SUBMISSION_BYTES), KeyRequest)
        return _json(await run_in_threadpool(_make_key, guard, asked))

    async def erase_keys(request: Request) -> Response:
        _caller(request, guard, Role.COLLECTOR)
        asked = _decode(await _body(request, LARGEST_SUBMISSION_BYTES), SignedRequest)
        return _json(await run_in_threadpool(_erase, guard, asked))

    async def tell_state(request: Request) -> Response:
        _caller(request, guard, Role.COLLECTOR)
        await _body(request, LARGEST_SUBMISSION_BYTES)
        return _json(await run_in_threadpool(guard.state))

    async def renew_lease(request: Request) -> Response:
        _caller(request, guard, Role.COLLECTOR)
        body = await _body(request, LARGEST_SUBMISSION_BYTES)
        lease = await run_in_threadpool(_renew_lease, guard, body)
        return Response(lease, media_type="application/json")

    async def release_batches(request: Request) -> Response:
        caller = _caller(request, guard, Role.READER)
        asked = _decode(await _body(request, LARGEST_BODY_BYTES), ReleaseRequest)
        return _json(await run_in_threadpool(_release, guard, asked, caller.name))

    return Starlette(
        routes=[
            Route("/add-checkpoint", _said(add_checkpoint), methods=["POST"]),
            Route("/v1/keys", _said(make_key), methods=["POST"]),
            Route("/v1/erase", _said(erase_keys), methods=["POST"]),
            Route("/v1/state", _said(tell_state), methods=["POST"]),
            Route("/v1/lease", _said(renew_lease), methods=["POST"]),
            Route("/v1/release", _said(release_batches), methods=["POST"]),
        ],
        exception_handlers={404: _nothing_here, 405: _nothing_here, Exception: _defect},
    )


# --- the answers --------------------------------------------------------------------------


def _add_checkpoint(guard: Guard, body: bytes) -> Response:
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
    try:
        public = guard.keys.public_key(
            SubjectId(asked.subject), asked.category, asked.month, guard.now()
        )
    except ErasedError as exc:
        raise Answered(410, str(exc)) from exc
    except OutOfSeasonError as exc:
        raise Answered(422, str(exc)) from exc
    return sign_key(asked, public, guard.signing_key)


def _erase(guard: Guard, signed: SignedRequest) -> SignedErasure:
    """Erase keys on the data subject's own word; also during a halt, also without a policy."""
    try:
        request = verify_request(signed, guard.origin())
    except (ForgedError, NotCoveredError) as exc:
        raise Answered(403, str(exc)) from exc
    if request.demand is not Demand.ERASE:
        raise Answered(403, "this request asks for no erasure")
    gone = guard.keys.erase(signed.digest, request, guard.now())
    _log.info("erased %d keys on a data subject's request", gone.keys)
    pending_until = WallInstant(gone.erased_at + BACKUP_DAYS * 24 * 3600 * NANOSECONDS)
    erasure = Erasure(
        request=signed.digest,
        keys=gone.keys,
        erased_at=gone.erased_at,
        pending_until=pending_until,
    )
    return sign_erasure(erasure, guard.signing_key)


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
    outcome = release(
        asked,
        caller=caller,
        policy_set=guard.installed(),
        find_key=guard.keys.find,
        now=guard.now(),
    )
    if isinstance(outcome, Refused):
        _log.info("a release was refused: %s", outcome.refusal)
        raise Answered(403, outcome.why, refused=outcome.refusal)
    answers = tuple(map(_answer, asked.batches, outcome))
    given = sum(answer.released is not None for answer in answers)
    _log.info("released %d of %d batches", given, len(answers))
    return ReleaseAnswers(batches=answers)


def _answer(batch: LoggedBatch, outcome: Outcome) -> ReleaseAnswer:
    match outcome:
        case Released(sealed=sealed):
            return ReleaseAnswer(batch_hash=batch.batch_hash, released=sealed)
        case Refused(refusal=refusal, why=why):
            return ReleaseAnswer(batch_hash=batch.batch_hash, refused=refusal, error=_one_line(why))


# --- HTTP ---------------------------------------------------------------------------------


def _caller(request: Request, guard: Guard, role: Role) -> Client:
    """Return who calls, if the path is for them."""
    certificate = request.scope["state"].get("client_cert")
    if certificate is None:
        raise Answered(401, "this path needs a client certificate of this guard")
    try:
        client = client_of(certificate)
    except CertificateError as exc:
        raise Answered(403, str(exc)) from exc
    if client.tenant != guard.tenant or client.role is not role:
        raise Answered(403, f"this path is for a {role} of {guard.tenant}")
    return client


async def _body(request: Request, most_bytes: int) -> bytes:
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


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as exc:
        raise Answered(400, f"the request cannot be read: {exc}") from exc


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _said(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[..., object]:
    """Return *endpoint* with its refusals turned into answers."""

    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Answered as answer:
            return _error(answer.status, str(answer), **answer.more)
        except MalformedError as exc:
            return _error(400, str(exc))
        except (RetryableError, SetupError) as exc:
            _log.error("%s", exc)
            return _error(503, "the guard cannot use its files now; try again later")
        except ClientDisconnect:
            return _error(400, "the request was cut short")

    return answering


def _error(status: int, message: str, **more: object) -> Response:
    body = msgspec.json.encode({"error": _one_line(message), **more})
    return Response(body, status, media_type="application/json")


def _one_line(text: str) -> str:
    """Return *text*, in which a name of the request may stand, without its line breaks."""
    return " ".join(text.split())


async def _nothing_here(_request: Request, _exc: Exception) -> Response:
    return _error(404, "no such path here")


async def _defect(_request: Request, _exc: Exception) -> Response:
    return _error(500, "the guard failed; its log says why")
