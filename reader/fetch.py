"""Getting from collector and guard what an access grant covers; the reader's one door.

`fetch` is the flow, in five steps; `Collector` and `Guard` are the two ends of the door.
Every step leaves whole files behind, so an interrupted fetch goes on where it stopped, and
what is here already is neither fetched nor released again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final, Protocol, TypeVar

import msgspec

from base.door import Response
from base.errors import RejectedError, RetryableError, SetupError
from base.https import OneDoor
from reader.keys import recipients_of
from reader.library import Kept, Library
from reader.opening import FaultError, check_sealed
from reader.premises import Premises
from wire.age import decode_recipient
from wire.collector_http import (
    FrameList,
    FrameOrder,
    KeptConsent,
    LoggedRelease,
    ReleaseList,
    ReleaseOrder,
    ShownGrant,
    StoredFrame,
    Terms,
    decode,
)
from wire.consent_record import decode_record
from wire.errors import UNREADABLE, WireError
from wire.frame import Core, decode_core, split
from wire.grant import AccessGrant, access_digest, verify_access
from wire.guard_http import LoggedBatch, ReleaseAnswer, ReleaseAnswers, ReleaseRequest
from wire.ids import BatchHash, PolicyDigest, WallInstant, key_id
from wire.policy import TARGET_NAME, Policy, decode_policy, policy_digest
from wire.quorum import verify_quorum
from wire.tlog import verify_checkpoint

BATCHES_AT_ONCE: Final = 200  # of the largest shelves, just below the guard's 16 MiB
LARGEST_ANSWER: Final = 32 << 20  # 200 of the largest shelves, in base64
HASH_BYTES: Final = 32
MOST_LISTED: Final = 10_000_000  # by one fetch: some 3 GB of memory, and there it ends
NOT_FOUND: Final = 404
GONE: Final = 410

T = TypeVar("T")


class CollectorEnd(Protocol):
    """What a reader asks of the collector."""

    def policy(self) -> Policy:
        """Return the policy in force, as the collector says."""
        ...

    def frames(self, grant: AccessGrant) -> Iterator[StoredFrame]:
        """Yield what is stored that *grant* covers."""
        ...

    def frame(self, grant: AccessGrant, batch: BatchHash) -> bytes | None:
        """Return a frame; None when it was erased."""
        ...

    def terms(self, grant: AccessGrant, batch: BatchHash) -> Terms | None:
        """Return what a frame was recorded under; None when there is nothing."""
        ...

    def releases(self, order: ReleaseOrder) -> ReleaseList:
        """Have releases logged and witnessed."""
        ...


class GuardEnd(Protocol):
    """What a reader asks of the guard."""

    def release(self, request: ReleaseRequest) -> ReleaseAnswers:
        """Have logged batches released."""
        ...


@dataclass(kw_only=True)
class Tally:
    """What became of a fetch; `refused` maps the reason to how many batches it met."""

    listed: int = 0
    fetched: int = 0
    bytes: int = 0
    released: int = 0
    here_already: int = 0
    erased: int = 0
    other_key: int = 0  # sealed to another key of ours, or of another reader: not asked for
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, why: str) -> None:
        """Count one batch that goes no further."""
        self.refused[why] = self.refused.get(why, 0) + 1


Progress = Callable[[str, int, int], None]  # what is being done, how many done, of how many


def fetch(
    grant: AccessGrant,
    library: Library,
    collector: CollectorEnd,
    guard: GuardEnd,
    *,
    now: WallInstant,
    progress: Progress = lambda _what, _done, _of: None,
) -> Tally:
    """Fetch and have released what *grant* covers; return what became of it.

    0. stop here if the grant is not approved: nobody downloads what cannot be opened (the
       collector's word is enough for that; the guard believes nobody);
    1. list what is stored that it covers;
    2. download what is not here, and check signature and consent before keeping it;
    3. have one release logged for each batch that is not released yet, under a head that as
       many witnesses have cosigned as the policy asks for (the guard looks once more);
    4. hand the leaves to the guard, together with core and shelf of each;
    5. keep the releases, which only our identity opens.

    Raises:
        WireError: The grant is not approved, or does not fit the policy; or witnesses are missing.
        RejectedError: Collector or guard refuse it as a whole.
        RetryableError: Collector or guard could not be reached; go on later.

    """
    policy = collector.policy()
    request = verify_access(grant, policy, now)  # 0
    asked = _Asked(grant=grant, library=library, collector=collector)
    tally, today = Tally(), datetime.fromtimestamp(now / 1e9, UTC).date()
    listed = list(collector.frames(grant))  # 1
    tally.listed = len(listed)
    usable = []
    for number, stored in enumerate(listed):
        progress("frames", number, len(listed))
        if _keep_frame(BatchHash(stored.batch_hash), asked, tally, today):  # 2
            usable.append(BatchHash(stored.batch_hash))
    progress("frames", len(listed), len(listed))
    waiting = [batch for batch in usable if not library.has_release(batch)]
    tally.here_already = len(usable) - len(waiting)
    mine = key_id(decode_recipient(request.recipient))
    wanted = [batch for batch in waiting if mine in recipients_of(library.frame(batch))]
    tally.other_key = len(waiting) - len(wanted)
    for start in range(0, len(wanted), BATCHES_AT_ONCE):
        progress("releases", start, len(wanted))
        some = wanted[start : start + BATCHES_AT_ONCE]
        order = ReleaseOrder(grant=grant, batches=tuple(some))
        logged = collector.releases(order)  # 3
        verify_checkpoint(logged.checkpoint, policy.collector.log)
        verify_quorum(logged.checkpoint, policy)
        answers = _released(grant, some, logged, library, guard)  # 4
        for batch, answer in zip(some, answers, strict=True):
            _keep_release(batch, answer, grant, library, tally)  # 5
    progress("releases", len(wanted), len(wanted))
    return tally


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Under which grant, of whom, and where it is kept."""

    grant: AccessGrant
    library: Library
    collector: CollectorEnd


def _keep_frame(batch: BatchHash, asked: _Asked, tally: Tally, today: date) -> bool:
    """Whether the batch is here now, checked."""
    library = asked.library
    if library.has_frame(batch):
        return True
    frame = asked.collector.frame(asked.grant, batch)
    if frame is None:
        tally.erased += 1
        return False
    try:
        core = decode_core(split(frame).core)
        kept = _consent(batch, core, asked)
        check_sealed(frame, batch, kept, today=today, policy_of=library.policy)
    except FaultError as exc:
        tally.refuse(exc.fault)
        return False
    except WireError:
        tally.refuse("malformed")
        return False
    if kept is not None:
        library.keep_consent(core.grant, kept)
    # The consent first: a frame that is here always has its record beside it.
    library.keep_frame(batch, frame)
    tally.fetched += 1
    tally.bytes += len(frame)
    return True


def _consent(batch: BatchHash, core: Core, asked: _Asked) -> KeptConsent | None:
    """Return the consent of a batch, fetched if need be, with the policies that it takes.

    What is in the record is not believed yet, and a policy is what its digest says: a wrong one
    leads to a comparison that fails.
    """
    kept = asked.library.consent(core.grant)
    if kept is not None and not _missing(kept, core, asked.library):
        return kept
    terms = asked.collector.terms(asked.grant, batch)
    if terms is None:
        return kept
    kept = kept or terms.consent
    texts = {policy_digest(text): text for text in terms.policies}
    for digest in _missing(kept, core, asked.library):
        if digest in texts:
            asked.library.keep_policy(texts[digest])
    return kept


def _missing(kept: KeptConsent, core: Core, library: Library) -> list[PolicyDigest]:
    """Return which policies have to be compared, and are not here: none, if they are one."""
    agreed = PolicyDigest(decode_record(kept.record).policy_digest)
    both = (agreed, core.policy) if agreed != core.policy else ()
    return [digest for digest in both if library.policy(digest) is None]


def _released(
    grant: AccessGrant,
    batches: Sequence[BatchHash],
    logged: ReleaseList,
    library: Library,
    guard: GuardEnd,
) -> Sequence[ReleaseAnswer]:
    if [one.batch_hash for one in logged.releases] != list(batches):
        raise RejectedError("the collector logged other releases than were asked for")
    asked = ReleaseRequest(
        grant=grant,
        checkpoint=logged.checkpoint,
        batches=tuple(map(_with_parts, logged.releases, map(library.frame, batches))),
    )
    answers = guard.release(asked).batches
    if [one.batch_hash for one in answers] != list(batches):
        raise RejectedError("the guard answered for other batches than were asked for")
    return answers


def _with_parts(logged: LoggedRelease, frame: bytes) -> LoggedBatch:
    parts = split(frame)
    return LoggedBatch(
        batch_hash=logged.batch_hash,
        core=parts.core,
        shelf=parts.shelf,
        entry=logged.entry,
        salt=logged.salt,
        index=logged.index,
        proof=logged.proof,
    )


def _keep_release(
    batch: BatchHash, answer: ReleaseAnswer, grant: AccessGrant, library: Library, tally: Tally
) -> None:
    if answer.released is None:
        tally.refuse(answer.refused or "refused")
        return
    library.keep_release(batch, Kept(access=access_digest(grant), released=answer.released))
    tally.released += 1


# --- the two ends of the door -------------------------------------------------------------


class Collector:
    """The collector, as docs/spec/collector-http-v1.md has it for readers."""

    def __init__(self, premises: Premises) -> None:
        """Prepare the door; nothing is connected yet.

        Raises:
            SetupError: It was not said how to reach it.

        """
        self._door = _door(premises, "collector")

    def policy(self) -> Policy:
        """Return the policy in force, as the collector says."""
        answer = self._door.request("GET", f"/v1/policy/{TARGET_NAME}")
        _check(answer, "collector")
        return decode_policy(answer.body)

    def frames(self, grant: AccessGrant) -> Iterator[StoredFrame]:
        """Yield what is stored that *grant* covers, page by page.

        Raises:
            RejectedError: The list does not move on, or has no end.

        """
        after, more, listed = -1, True, 0
        while more:
            order = msgspec.json.encode(FrameOrder(grant=grant, after=after))
            answer = self._door.request("POST", "/v1/frames", order)
            page = _decoded(answer, FrameList, "collector")
            for stored in page.frames:
                if stored.index <= after or len(stored.batch_hash) != HASH_BYTES:
                    raise RejectedError("the collector lists frames out of order, or without names")
                after = stored.index
                yield stored
            listed += len(page.frames)
            more = page.more
            if more and not page.frames:
                raise RejectedError("the collector says that there is more, and lists nothing")
            if more and listed >= MOST_LISTED:
                raise RejectedError(
                    f"the collector lists more than {MOST_LISTED} frames; ask for a shorter period"
                )

    def frame(self, grant: AccessGrant, batch: BatchHash) -> bytes | None:
        """Return a frame; None when it was erased."""
        shown = msgspec.json.encode(ShownGrant(grant=grant))
        answer = self._door.request("POST", f"/v1/frames/{batch.hex()}", shown)
        if answer.status == GONE:
            return None
        _check(answer, "collector")
        return answer.body

    def terms(self, grant: AccessGrant, batch: BatchHash) -> Terms | None:
        """Return what a frame was recorded under; None when there is nothing."""
        shown = msgspec.json.encode(ShownGrant(grant=grant))
        answer = self._door.request("POST", f"/v1/frames/{batch.hex()}/terms", shown)
        if answer.status in {NOT_FOUND, GONE}:
            return None
        return _decoded(answer, Terms, "collector")

    def releases(self, order: ReleaseOrder) -> ReleaseList:
        """Have releases logged and witnessed."""
        answer = self._door.request("POST", "/v1/releases", msgspec.json.encode(order))
        return _decoded(answer, ReleaseList, "collector")

    def close(self) -> None:
        """Close the door."""
        self._door.close()


class Guard:
    """The guard, as docs/spec/guard-http-v1.md has it for readers."""

    def __init__(self, premises: Premises) -> None:
        """Prepare the door; nothing is connected yet.

        Raises:
            SetupError: It was not said how to reach it.

        """
        self._door = _door(premises, "guard")

    def release(self, request: ReleaseRequest) -> ReleaseAnswers:
        """Have logged batches released."""
        answer = self._door.request("POST", "/v1/release", msgspec.json.encode(request))
        return _decoded(answer, ReleaseAnswers, "guard")

    def close(self) -> None:
        """Close the door."""
        self._door.close()


def _door(premises: Premises, peer: str) -> OneDoor:
    settings, folder = premises.door(peer), premises.peer(peer)
    try:
        authority = (folder / "ca.pem").read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{folder / 'ca.pem'}: run assent-reader connect {peer} again") from exc
    return OneDoor(
        settings.origin,
        settings.tls_pins,
        authority,
        folder / "client.pem",
        premises.client_key,
        settings.timeout_seconds,
        largest_answer_bytes=LARGEST_ANSWER,
    )


def _decoded(answer: Response, kind: type[T], peer: str) -> T:
    _check(answer, peer)
    return decode(answer.body, kind)


def _check(answer: Response, peer: str) -> None:
    if answer.status == 200:
        return
    said = _error(answer.body) or f"status {answer.status}"
    if answer.status in {429, 503}:
        raise RetryableError(
            f"the {peer} says: {said}", retry_after_seconds=answer.retry_after_seconds
        )
    if answer.status == 401:
        raise SetupError(f"the {peer} says: {said}; have reader.csr certified again")
    raise RejectedError(f"the {peer} says: {said}")


class _Error(msgspec.Struct):
    error: str = ""


def _error(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Error).error
    except UNREADABLE:
        return ""
