"""Getting from collector and guard what an access grant covers; the reader's one door.

`fetch` is the flow, in five steps; `Collector` and `Guard` are the two ends of the door.
Every step leaves whole files behind, so an interrupted fetch goes on where it stopped, and
what is here already is neither fetched nor released again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final, Protocol, TypeVar
from urllib.parse import urlencode

import msgspec

from base.door import Response
from base.errors import RejectedError, RetryableError, SetupError
from base.https import OneDoor
from reader.keys import recipients_of
from reader.library import Kept, Library
from reader.opening import FaultError, check_sealed
from reader.premises import Premises
from wire.age import decode_recipient
from wire.category import Category
from wire.collector_http import (
    FrameList,
    KeptConsent,
    LoggedRelease,
    ReleaseList,
    ReleaseOrder,
    StoredFrame,
    decode,
)
from wire.consent_record import decode_record
from wire.errors import UNREADABLE, WireError
from wire.frame import decode_core, split
from wire.grant import (
    AccessGrant,
    AccessRequest,
    access_digest,
    verify_access,
)
from wire.guard_http import LoggedBatch, ReleaseAnswer, ReleaseAnswers, ReleaseRequest
from wire.ids import BatchHash, GrantHash, PolicyDigest, WallInstant, key_id
from wire.policy import TARGET_NAME, Policy, decode_policy, policy_digest

BATCHES_AT_ONCE: Final = 200  # of the largest shelves, just below the guard's 16 MiB
LARGEST_ANSWER: Final = 32 << 20  # 200 of the largest shelves, in base64
HASH_BYTES: Final = 32
NOT_FOUND: Final = 404
GONE: Final = 410

T = TypeVar("T")


class CollectorEnd(Protocol):
    """What a reader asks of the collector."""

    def policy(self) -> Policy:
        """Return the policy in force, as the collector says."""
        ...

    def frames(self, category: Category, first_day: str, last_day: str) -> Iterator[StoredFrame]:
        """Yield what is stored of one category and span."""
        ...

    def frame(self, batch: BatchHash) -> bytes | None:
        """Return a frame; None when it was erased."""
        ...

    def consent(self, grant: GrantHash) -> KeptConsent | None:
        """Return the consent record of that hash; None when there is none."""
        ...

    def policy_text(self, digest: PolicyDigest) -> bytes | None:
        """Return the text of an earlier policy; None when it was not published there."""
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
    1. list what is stored of each category in the span;
    2. download what is not here, and check signature and consent before keeping it;
    3. have one release logged for each batch that is not released yet;
    4. hand the leaves to the guard, together with core and shelf of each;
    5. keep the releases, which only our identity opens.

    Raises:
        WireError: The grant is not approved, or does not fit the policy.
        RejectedError: Collector or guard refuse it as a whole.
        RetryableError: Collector or guard could not be reached; go on later.

    """
    request = verify_access(grant, collector.policy(), now)  # 0
    tally, today = Tally(), datetime.fromtimestamp(now / 1e9, UTC).date()
    listed = list(_listed(request, collector))  # 1
    tally.listed = len(listed)
    usable = []
    for number, stored in enumerate(listed):
        progress("frames", number, len(listed))
        if _keep_frame(BatchHash(stored.batch_hash), library, collector, tally, today):  # 2
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
        answers = _released(grant, some, logged, library, guard)  # 4
        for batch, answer in zip(some, answers, strict=True):
            _keep_release(batch, answer, grant, library, tally)  # 5
    progress("releases", len(wanted), len(wanted))
    return tally


def _listed(request: AccessRequest, collector: CollectorEnd) -> Iterator[StoredFrame]:
    for category in request.categories:
        yield from collector.frames(category, request.first_day, request.last_day)


def _keep_frame(
    batch: BatchHash, library: Library, collector: CollectorEnd, tally: Tally, today: date
) -> bool:
    """Whether the batch is here now, checked."""
    if library.has_frame(batch):
        return True
    frame = collector.frame(batch)
    if frame is None:
        tally.erased += 1
        return False
    try:
        grant = decode_core(split(frame).core).grant
        kept = library.consent(grant) or collector.consent(grant)
        _fetch_policies(kept, split(frame).core, library, collector)
        check_sealed(frame, batch, kept, today=today, policy_of=library.policy)
    except FaultError as exc:
        tally.refuse(exc.fault)
        return False
    except WireError:
        tally.refuse("malformed")
        return False
    if kept is not None:
        library.keep_consent(grant, kept)
    # The consent first: a frame that is here always has its record beside it.
    library.keep_frame(batch, frame)
    tally.fetched += 1
    tally.bytes += len(frame)
    return True


def _fetch_policies(
    kept: KeptConsent | None, core: bytes, library: Library, collector: CollectorEnd
) -> None:
    """Fetch the two policies to compare, where consent was given under another than the batch's.

    What is in the record is not believed yet, and a policy is what its digest says: a wrong one
    leads to a comparison that fails.
    """
    if kept is None:
        return
    under = decode_core(core).policy
    agreed = PolicyDigest(decode_record(kept.record).policy_digest)
    for digest in (agreed, under) if agreed != under else ():
        if library.policy(digest) is None:
            text = collector.policy_text(digest)
            if text is not None and policy_digest(text) == digest:
                library.keep_policy(text)


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

    def frames(self, category: Category, first_day: str, last_day: str) -> Iterator[StoredFrame]:
        """Yield what is stored of one category and span, page by page."""
        after, more = -1, True
        while more:
            query = urlencode(
                {
                    "after": after,
                    "category": category.value,
                    "first_day": first_day,
                    "last_day": last_day,
                }
            )
            answer = self._door.request("GET", f"/v1/frames?{query}")
            page = _decoded(answer, FrameList, "collector")
            for stored in page.frames:
                if stored.index <= after or len(stored.batch_hash) != HASH_BYTES:
                    raise RejectedError("the collector lists frames out of order, or without names")
                after = stored.index
                yield stored
            more = page.more and bool(page.frames)

    def frame(self, batch: BatchHash) -> bytes | None:
        """Return a frame; None when it was erased."""
        answer = self._door.request("GET", f"/v1/frames/{batch.hex()}")
        if answer.status == GONE:
            return None
        _check(answer, "collector")
        return answer.body

    def consent(self, grant: GrantHash) -> KeptConsent | None:
        """Return the consent record of that hash; None when there is none."""
        answer = self._door.request("GET", f"/v1/consents/{grant.hex()}")
        if answer.status in {404, GONE}:
            return None
        return _decoded(answer, KeptConsent, "collector")

    def policy_text(self, digest: PolicyDigest) -> bytes | None:
        """Return the text of an earlier policy; None when it was not published there."""
        answer = self._door.request("GET", f"/v1/policies/{digest.hex()}")
        if answer.status == NOT_FOUND:
            return None
        _check(answer, "collector")
        return answer.body

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
