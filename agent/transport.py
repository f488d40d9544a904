"""Stage 8: the agent's only network door, to the one origin that the signed policy names.

No other module of the agent knows how to reach a network.  A `Door` is used from worker
threads.  What goes wrong is one line for a person; whether the server may be trusted is
`base.https`'s to decide, before any byte of a batch leaves.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, cast

import msgspec

from agent.handover import Answered, NoAnswer, Outcome
from base.errors import RejectedError, RetryableError, SetupError
from base.https import DoorError, OneDoor, Response
from base.lines import one_line
from base.proxy import Proxy
from wire.category import Category
from wire.collector_http import (
    PROTOCOL_HEADER,
    Certified,
    Consistency,
    EnrolRequest,
    ErrorAnswer,
    RenewRequest,
    State,
    decode,
    newer_protocol,
)
from wire.consent_event import SignedEvent
from wire.errors import MalformedError
from wire.grant import SignedConsent
from wire.guard_http import KeyAnswer
from wire.me import SignedQuery, SignedReturn
from wire.rights import Requests, SignedRequest

TIMEOUT_SECONDS: Final = 30.0
# What neither waiting nor a renewal mends.
_ENROL_AGAIN: Final = frozenset({"absent-too-long", "revoked", "unknown-client"})
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
LARGEST_ANSWER_BYTES: Final = 2 << 20  # a policy file has at most half of it; the rest is small
SLICE_BYTES: Final = 64 << 10  # what may still leave after a batch was taken back


class Door:
    """Speaks to one collector; with the device's certificate, where there is one already."""

    def __init__(
        self,
        origin: str,
        pins: Iterable[str],
        ca_pem: str,
        certificate: Path | None = None,
        key: Path | None = None,
        *,
        proxy: Proxy | None = None,
        largest_answer_bytes: int = LARGEST_ANSWER_BYTES,
    ) -> None:
        """Prepare; nothing is connected yet.  The way leads through *proxy*, if there is one.

        Raises:
            SetupError: The origin or a pin is none, or a file cannot be used.

        """
        self._door = OneDoor(
            origin,
            pins,
            ca_pem,
            certificate,
            key,
            TIMEOUT_SECONDS,
            largest_answer_bytes=largest_answer_bytes,
            proxy=proxy,
        )

    is_newer: bool = False  # whether the collector said last that it knows more than this version

    def close(self) -> None:
        """Close what is open."""
        self._door.close()

    # --- once, and again before the certificate runs out ------------------------------

    def enroll(self, token: str, request_pem: bytes) -> str:
        """Return the device's first certificate (PEM) for a one-time token.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The token is wrong, used or expired.

        """
        body = EnrolRequest(token=token, csr=request_pem.decode("ascii"))
        return decode(self._ask("POST", "/v1/enroll", body).body, Certified).certificate

    def renew(self, request_pem: bytes) -> Certified:
        """Return a new certificate for the same key, and the server's authority.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The device was revoked, away for too long, or never enrolled.

        """
        body = RenewRequest(csr=request_pem.decode("ascii"))
        return decode(self._ask("POST", "/v1/renew", body).body, Certified)

    # --- what the agent needs to know -------------------------------------------------

    def policy_file(self, name: str) -> bytes | None:
        """Return a file of the policy, unverified; None when the collector has none of that name.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The collector has no policy, or the device is not accepted.

        """
        answer = self._request("GET", f"/v1/policy/{name}", None)
        return None if answer.status == NOT_FOUND else _expected(answer).body

    def state(self) -> State:
        """Return whether the programme is halted or has stopped.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The collector does not know the question.

        """
        said = decode(self._ask("GET", "/v1/state").body, State)
        return State(halted=said.halted, why=one_line(said.why), stopped=one_line(said.stopped))

    def rights(self) -> Requests:
        """Return what the data subject demanded elsewhere, and what the guard erased, unverified.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The collector does not know the question.

        """
        return decode(self._ask("GET", "/v1/rights").body, Requests)

    def guard_key(self, category: Category, month: str) -> KeyAnswer:
        """Return the guard's key for this subject, a category and a month, unverified.

        Raises:
            RetryableError: No answer that may be believed, or the guard is away.
            RejectedError: The guard gives none, or there is no consent for it.

        """
        path = f"/v1/guard-key?category={category}&month={month}"
        return decode(self._ask("GET", path).body, KeyAnswer)

    def witnessed(self) -> str | None:
        """Return the newest head of the log that a witness cosigned, unverified; None if none.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The device is not accepted.

        """
        answer = self._request("GET", "/v1/log/witnessed", None)
        return None if answer.status == NOT_FOUND else _text(_expected(answer).body)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...] | None:
        """Return what is to prove that the log of *old* leaves is a prefix of that of *new*.

        None when the collector says that it cannot: its log has not so many.

        Raises:
            RetryableError: No answer that may be believed.
            RejectedError: The device is not accepted.

        """
        path = f"/v1/log/consistency?old={old}&new={new}"
        answer = self._request("GET", path, None)
        if answer.status in (BAD_REQUEST, NOT_FOUND):
            return None
        return decode(_expected(answer).body, Consistency).proof

    # --- what the agent has to say ----------------------------------------------------

    def register(self, signed: SignedConsent) -> Outcome:
        """Show the collector a consent record."""
        return self._try("POST", "/v1/consents", msgspec.json.encode(signed))

    def tell(self, signed: SignedEvent) -> Outcome:
        """Tell the collector what became of a consent."""
        return self._try("POST", "/v1/consent-events", msgspec.json.encode(signed))

    def send(self, name: str, frame: bytes, goes_on: Callable[[], bool]) -> Outcome:
        """Send a batch under the hash of its bytes, for as long as *goes_on* says so.

        Once it does not, no further byte is sent and the connection is cut.
        """
        body = cast("bytes", _Body(frame, goes_on))  # all that is asked of it is length and bytes
        return self._try("PUT", f"/v1/batches/{name}", body)

    def delete(self, name: str) -> Outcome:
        """Ask the collector to delete a batch, now or when it comes."""
        return self._try("DELETE", f"/v1/batches/{name}")

    def demand(self, signed: SignedRequest) -> Outcome:
        """Hand in a request of the data subject; it needs no certificate."""
        return self._try("POST", "/v1/rights", msgspec.json.encode(signed))

    def own(self, what: str, signed: SignedQuery | SignedReturn) -> bytes:
        """Return the answer to what a data subject asks about their own data, unverified.

        It needs no certificate.

        Raises:
            RetryableError: No answer that may be believed, or none now.
            RejectedError: The collector refused.

        """
        return self._ask("POST", f"/v1/me/{what}", signed).body

    def _request(self, method: str, path: str, body: bytes | None) -> Response:
        answer = self._door.request(method, path, body)
        self.is_newer = newer_protocol(answer.headers.get(PROTOCOL_HEADER, ""))
        return answer

    def _try(self, method: str, path: str, body: bytes | None = None) -> Outcome:
        try:
            answer = self._request(method, path, body)
        except DoorError as exc:
            return NoAnswer(why=str(exc))
        return Answered(
            status=answer.status,
            body=answer.body,
            says=_says(answer),
            retry_after_seconds=answer.retry_after_seconds,
        )

    def _ask(self, method: str, path: str, message: msgspec.Struct | None = None) -> Response:
        body = None if message is None else msgspec.json.encode(message)
        return _expected(self._request(method, path, body))


def _expected(answer: Response) -> Response:
    """Return *answer* if it is what was asked for; raises as `Door` says."""
    if answer.status in (200, 201):
        return answer
    says = _says(answer)
    said = f"the collector answered {answer.status}"
    said += f": {says}" if says else " without a reason; ask who runs it"
    if says.partition(":")[0] in _ENROL_AGAIN:
        raise RejectedError(said)
    if answer.status in (401, 409, 429) or answer.status >= 500:
        raise RetryableError(
            f"{said}; trying again later", retry_after_seconds=answer.retry_after_seconds
        )
    raise RejectedError(said)


class _Body:
    """The bytes of a frame in slices, until somebody takes them back."""

    def __init__(self, frame: bytes, goes_on: Callable[[], bool]) -> None:
        self._frame = memoryview(frame)
        self._goes_on = goes_on

    def __len__(self) -> int:
        return len(self._frame)

    def __iter__(self) -> Iterator[memoryview]:
        for at in range(0, len(self._frame), SLICE_BYTES):
            if not self._goes_on():
                raise ConnectionAbortedError  # an OSError, as when the network does it
            yield self._frame[at : at + SLICE_BYTES]


def same_origin(of_policy: str, of_enrolment: str) -> None:
    """Check that the policy names the collector at which this device was enrolled.

    Raises:
        SetupError: It names another: no byte may go to either.

    """
    if of_policy != of_enrolment:
        raise SetupError(
            f"the policy names the collector {of_policy}, this device is enrolled at "
            f"{of_enrolment}; nothing is sent; enrol again"
        )


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedError("the collector's answer is no text") from exc


def _says(answer: Response) -> str:
    """Return the one line of an error, cut to what a status line can show."""
    try:
        return one_line(decode(answer.body, ErrorAnswer).error)
    except MalformedError:
        return ""
