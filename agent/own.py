"""What `assent-agent rights` asks about a person's own data, and how it comes to believe answers.

`Asker` signs a query for each page and yields what the pages hold, each thing with why it does
not verify, or an empty text.  Nothing is believed of the collector but that it left nothing
out, which only an audit can find.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec

from agent.rights import Card, believed_of
from agent.transport import Door
from base.errors import RejectedError, RetryableError
from base.lines import one_line
from wire.collector_http import decode
from wire.errors import WireError
from wire.frame import Core
from wire.ids import BatchHash, WallInstant
from wire.me import About, Query, SignedQuery, sign_query
from wire.me_answers import (
    Access,
    Believed,
    Head,
    OwnAccess,
    OwnAccesses,
    OwnBatch,
    OwnBatches,
    OwnDeletions,
    OwnDemand,
    OwnTombstone,
    check_access,
    check_batch,
    check_demand,
    check_tombstone,
    head_of,
)
from wire.rights import Erasure, Request, Speaker, rights_key_of

LARGEST_ANSWER_BYTES: Final = 16 << 20  # a frame has at most 8 MiB, a page of accesses its policies
_TRIES: Final = 3  # where the collector says when to come back
_LONGEST_WAIT_SECONDS: Final = 90.0
T = TypeVar("T")
Shown = TypeVar("Shown")
Checked = TypeVar("Checked")
Page = TypeVar("Page", OwnBatches, OwnDeletions, OwnAccesses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Generic[Shown, Checked]):
    """One thing that the collector says; `checked` is None where `why` says why it is no proof."""

    shown: Shown
    checked: Checked | None
    why: str = ""


@dataclass(kw_only=True)
class Asker:
    """Asks one collector with one rights key."""

    card: Card
    door: Door
    now: Callable[[], WallInstant]
    wait: Callable[[float], None] = time.sleep
    heads: int = 0
    cosigned: int = 0
    speaker: Speaker = field(init=False)
    believed: Believed = field(init=False)

    def __post_init__(self) -> None:
        """Derive the rights key."""
        key = rights_key_of(self.card.identity)
        public = key.public_key().public_bytes_raw()
        self.speaker = Speaker(key=key, rights_key=public)
        self.believed = believed_of(self.card)

    def batches(self) -> Iterator[Told[OwnBatch, Core]]:
        """Yield every batch that is stored."""
        for page, head in self._pages(About.BATCHES, OwnBatches):
            for shown in page.batches:
                yield self._told(shown, check_batch, head, self.believed)

    def deletions(
        self,
    ) -> Iterator[Told[OwnDemand, Request] | Told[OwnTombstone, OwnTombstone]]:
        """Yield the newest demands, then every batch that is gone."""
        for page, head in self._pages(About.DELETIONS, OwnDeletions):
            for demand in page.demands:
                yield self._told(demand, check_demand, head, self.believed)
            for tombstone in page.tombstones:
                yield self._told(tombstone, _buried, head)

    def accesses(self) -> Iterator[Told[OwnAccess, Access]]:
        """Yield every release of a batch."""
        for page, head in self._pages(About.ACCESSES, OwnAccesses):
            for shown in page.accesses:
                yield self._told(shown, check_access, page, head, self.believed)

    def erasure_of(self, demand: OwnDemand) -> Erasure | None:
        """Return the guard's word on a demand that was checked; None if there is none yet."""
        if demand.guard is None:
            return None
        return self.believed.verify_word(demand.guard, demand.signed.digest)

    def frame(self, batch: BatchHash) -> bytes:
        """Return the sealed frame of a batch, unverified.

        Raises:
            RetryableError: No answer that may be believed, or none now.
            RejectedError: It was erased, or is not of this data subject.

        """
        return self.patiently(
            lambda: self.door.own(f"frames/{batch.hex()}", self._query(About.FRAME, batch=batch))
        )

    def patiently(self, ask: Callable[[], T]) -> T:
        """Return what *ask* does, asking again where the collector says when.

        Raises:
            AssentError: As *ask* does; the last time.

        """
        for _ in range(_TRIES - 1):
            try:
                return ask()
            except RetryableError as exc:
                if not exc.retry_after_seconds or exc.retry_after_seconds > _LONGEST_WAIT_SECONDS:
                    raise
                self.wait(exc.retry_after_seconds)
        return ask()

    def head(self, note: str) -> Head:
        """Return the head that an answer rests on, and count it.

        Raises:
            RejectedError: It is not signed by the log that the file of the rights key names.

        """
        try:
            head = head_of(note, self.believed)
        except WireError as exc:
            raise RejectedError(f"the answer proves nothing ({exc}); do not believe it") from exc
        self.heads += 1
        self.cosigned += head.is_cosigned
        return head

    def _pages(self, about: About, kind: type[Page]) -> Iterator[tuple[Page, Head]]:
        seen, after = set[str](), ""
        while after not in seen:
            seen.add(after)
            page = self._page(about, kind, after)
            self.believed = self.believed.told_of(page.named)
            yield page, self.head(page.checkpoint)
            after = page.next
            if not after:
                return
        raise RejectedError("the collector shows the same page again and again; do not believe it")

    def _page(self, about: About, kind: type[Page], after: str) -> Page:
        body = self.patiently(lambda: self.door.own(about, self._query(about, after=after)))
        try:
            return decode(body, kind)
        except WireError as exc:
            raise RejectedError(f"the answer proves nothing ({exc}); do not believe it") from exc

    def _query(self, about: About, *, after: str = "", batch: bytes = b"") -> SignedQuery:
        query = Query(
            nonce=secrets.token_bytes(16),
            origin=self.card.origin,
            subject=self.believed.subject,
            about=about,
            after=after,
            batch=batch,
            made_at=self.now(),
        )
        return sign_query(query, self.speaker)

    def _told(
        self, shown: Shown, check: Callable[..., Checked], *given: object
    ) -> Told[Shown, Checked]:
        try:
            return Told(shown=shown, checked=check(shown, *given))
        except (WireError, msgspec.MsgspecError) as exc:
            return Told(shown=shown, checked=None, why=one_line(str(exc)))


def _buried(shown: OwnTombstone, head: Head) -> OwnTombstone:
    check_tombstone(shown, head)
    return shown
