"""The collector's one way out: to the guard and to witnesses, for keys and for cosignatures.

Protocol: docs/spec/guard-http-v1.md.  What the guard answers is checked here as far as the
collector can: a key by the signature that the policy names, a cosignature likewise.
"""

import base64
import logging
import threading
from typing import Final

import msgspec

from base.clock import NANOSECONDS
from base.door import DoorError, Response
from base.errors import SetupError
from base.https import OneDoor
from base.lines import one_line
from collector.config import GuardConfig, WitnessConfig
from collector.log import Log
from collector.premises import Premises
from collector.refusal import RefusedError, Why
from wire.errors import UNREADABLE, WireError
from wire.guard_http import (
    GuardState,
    KeyAnswer,
    KeyRequest,
    Orders,
    OrdersRequest,
    ReleaseAnswer,
    ReleaseAnswers,
    ReturnRequest,
    verify_key,
)
from wire.guard_order import SignedOrder
from wire.ids import WallInstant
from wire.lease import verify_lease
from wire.metadata import Timestamp, metadata_of
from wire.rights import SignedErasure, SignedRequest, verify_erasure
from wire.tlog import verify_checkpoint, verify_cosignature

_log = logging.getLogger(__name__)
RETRY_SECONDS: Final = 30
LARGEST_ANSWER_BYTES: Final = 4 << 20  # the headers of one order; all else is small
LARGEST_LINE_BYTES: Final = 4 << 10  # of a witness: a signature line, or a size
LONGEST_SIZE: Final = 19  # digits of 2^63
_CORRECTIONS: Final = 2  # another collector of the same log may advance the witness meanwhile


class GuardClient:
    """Speaks to one guard.  May be used by several threads."""

    def __init__(self, premises: Premises, config: GuardConfig) -> None:
        """Prepare the door.

        Raises:
            SetupError: Certificate, key or authority of the guard's folder are missing.

        """
        folder = premises.guard_folder
        try:
            authority = (folder / "ca.pem").read_text("ascii")
        except (OSError, ValueError) as exc:
            raise SetupError(f"{folder / 'ca.pem'} is unreadable; run connect-guard again") from exc
        self._door = OneDoor(
            config.origin,
            config.tls_pins,
            authority,
            folder / "client.pem",
            folder / "client.key",
            config.timeout_seconds,
            largest_answer_bytes=LARGEST_ANSWER_BYTES,
        )
        self._one_at_a_time = threading.Lock()
        self._cosigned = 0  # what the witness has seen, as far as we know; it corrects us

    def key(self, request: KeyRequest, signing_key: str) -> KeyAnswer:
        """Return the guard's public key for one subject, category and month.

        Raises:
            RefusedError: The guard is away, does not accept us, or has erased that key.

        """
        answer = self._ask("/v1/keys", msgspec.json.encode(request))
        if answer.status == 410:
            raise RefusedError(Why.ERASED, "the guard erased the key of this subject")
        self._check(answer)
        try:
            key = msgspec.json.decode(answer.body, type=KeyAnswer)
            verify_key(key, request, signing_key)
        except (*UNREADABLE, WireError) as exc:
            raise _unusable("the guard's key does not verify", exc) from exc
        return key

    def state(self) -> GuardState:
        """Return whether the guard has halted the programme.

        Raises:
            RefusedError: The guard is away, or does not accept us.

        """
        answer = self._ask("/v1/state", b"{}")
        self._check(answer)
        try:
            return msgspec.json.decode(answer.body, type=GuardState)
        except UNREADABLE as exc:
            raise _unusable("the guard's state cannot be read", exc) from exc

    def erase(self, signed: SignedRequest, signing_key: str) -> SignedErasure:
        """Pass a data subject's request on; return the guard's signed word.

        Raises:
            RefusedError: The guard is away, does not accept it, or its word does not verify.

        """
        answer = self._ask("/v1/erase", msgspec.json.encode(signed))
        self._check(answer)
        try:
            word = msgspec.json.decode(answer.body, type=SignedErasure)
            verify_erasure(word, signed.digest, signing_key)
        except (*UNREADABLE, WireError) as exc:
            raise _unusable("the guard's receipt does not verify", exc) from exc
        return word

    def orders(self, asked: OrdersRequest) -> tuple[SignedOrder, ...]:
        """Return what the guard has erased by its own hand, unverified; none if it cannot say.

        Raises:
            RefusedError: The guard is away, or does not accept us.

        """
        answer = self._ask("/v1/erasures", msgspec.json.encode(asked))
        if answer.status == 404:  # an older guard
            return ()
        self._check(answer)
        try:
            return msgspec.json.decode(answer.body, type=Orders).orders
        except UNREADABLE as exc:
            raise _unusable("the guard's orders cannot be read", exc) from exc

    def give_back(self, asked: ReturnRequest) -> tuple[ReleaseAnswer, ...]:
        """Return what the guard made of a data subject's order, batch by batch.

        Raises:
            RefusedError: The guard is away, or refuses the order as a whole.

        """
        answer = self._ask("/v1/return", msgspec.json.encode(asked))
        self._check(answer)
        try:
            answers = msgspec.json.decode(answer.body, type=ReleaseAnswers).batches
        except UNREADABLE as exc:
            raise _unusable("the guard's answer cannot be read", exc) from exc
        if [each.batch_hash for each in answers] != [each.batch_hash for each in asked.batches]:
            raise _unusable("the guard answered about other batches than it was asked for", None)
        return answers

    def lease(self, offered: bytes, root: bytes, snapshot: bytes) -> bytes:
        """Return the *offered* lease with the guard's signature, too.

        Raises:
            RefusedError: The guard is away, or does not sign it: it may have another policy.

        """
        answer = self._ask("/v1/lease", offered)
        if answer.status != 200:
            _log.error("the guard did not sign a lease: %s", _line(answer.body))
        self._check(answer)
        try:
            given = verify_lease(root=root, snapshot=snapshot, timestamp=answer.body)
            asked = metadata_of(offered, Timestamp).signed
        except WireError as exc:
            raise _unusable("the guard's lease does not verify", exc) from exc
        if (given.version, given.expires) != (asked.version, asked.expires):
            raise _unusable("the guard signed another lease than it was asked for", None)
        return answer.body

    def refusals(self) -> list[tuple[str, int]] | None:
        """Ask the guard for what a collector must not get; return with which status it refused.

        None if it does not answer.
        """
        try:
            return [("a release", self._door.request("POST", "/v1/release", b"{}").status)]
        except DoorError as exc:
            _log.warning("the guard did not answer a drill: %s", exc)
            return None

    def cosign(self, log: Log, witness_key: str, size: int | None = None) -> str:
        """Return a checkpoint over *size* leaves of *log* (all) with the witness's cosignature.

        Raises:
            RefusedError: The guard is away, or does not cosign this log.

        """
        with self._one_at_a_time:
            note, reached, answer = self._offered(log, size)
            for _ in range(_CORRECTIONS):
                if answer.status != 409:
                    break
                self._cosigned = _size(answer.body)
                note, reached, answer = self._offered(log, size)
            self._check(answer)
            try:
                both = note + answer.body.decode("utf-8")
                verify_cosignature(both, witness_key)
            except (UnicodeDecodeError, WireError) as exc:
                raise _unusable("the guard's cosignature does not verify", exc) from exc
            self._cosigned = reached
            return both

    def _offered(self, log: Log, size: int | None) -> tuple[str, int, Response]:
        """Offer a head over *size* leaves, or over all: others may have had more cosigned."""
        note = log.checkpoint(size)
        reached = verify_checkpoint(note, log.verifier_key).size
        return note, reached, self._ask("/add-checkpoint", self._offer(log, note, reached))

    def _offer(self, log: Log, note: str, size: int) -> bytes:
        if self._cosigned > size:
            self._cosigned = 0  # ask anew: it may have said so wrongly, and it corrects us
            raise _unusable("the witness has seen more of the log than there is", None)
        proof = log.consistency(self._cosigned, size)
        lines = [f"old {self._cosigned}", *(base64.b64encode(step).decode() for step in proof)]
        return ("\n".join(lines) + "\n\n" + note).encode()

    def _ask(self, path: str, body: bytes) -> Response:
        try:
            return self._door.request("POST", path, body)
        except DoorError as exc:
            _log.warning("the guard did not answer: %s", exc)
            raise RefusedError(
                Why.GUARD_UNREACHABLE,
                "the guard does not answer; trying again later",
                retry_after_seconds=RETRY_SECONDS,
            ) from exc

    def _check(self, answer: Response) -> None:
        if answer.status != 200:
            _log.error("the guard refused a request with status %d", answer.status)
            raise RefusedError(
                Why.GUARD_UNREACHABLE,
                f"the guard refused with status {answer.status}; ask who runs both",
                retry_after_seconds=RETRY_SECONDS,
            )


def waits(now: WallInstant, again_at: int) -> bool:
    """Whether the guard, who refused or was away, is asked again at *again_at* only.

    A clock that was ahead when that was said, and is right again, would wait for years else.
    """
    return 0 < again_at - now <= RETRY_SECONDS * NANOSECONDS


def witness_door(config: WitnessConfig, authority: str) -> OneDoor:
    """Return the way to one more witness, whose answers are short.

    Raises:
        SetupError: Its origin or a pin is none, or the authority cannot be used.

    """
    return OneDoor(
        config.origin,
        config.tls_pins,
        authority,
        timeout=config.timeout_seconds,
        largest_answer_bytes=LARGEST_LINE_BYTES,
    )


def _size(body: bytes) -> int:
    text = body.strip()
    if len(text) > LONGEST_SIZE or not text.isdigit():
        raise _unusable("the guard did not say which checkpoint it has seen", None)
    return int(text)


def _line(body: bytes) -> str:
    """Return what the guard said, as far as it may stand in a log."""
    return one_line(body.decode("utf-8", "replace"), 300)


def _unusable(said: str, exc: Exception | None) -> RefusedError:
    _log.error("%s: %s", said, exc)
    return RefusedError(
        Why.GUARD_UNREACHABLE, f"{said}; ask who runs it", retry_after_seconds=RETRY_SECONDS
    )
