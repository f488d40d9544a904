"""Fetching stops anywhere and goes on; what nobody agreed to is never kept or asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from base.door import Response
from base.errors import RejectedError, RetryableError
from guard.keys import Found
from guard.release import Refused, release
from guard.trust import PolicySet
from reader.fetch import Collector, fetch
from reader.library import Library, SpoiltFileError
from reader.opening import Fault, FaultError
from reader.verify import Opener, Report
from tests.fakes.organisation import (
    ANOTHER_ID,
    NOW,
    READER,
    Organisation,
    PolicyFolder,
    Sealed,
    raw,
    wall,
)
from wire.category import Category
from wire.collector_http import (
    FrameList,
    KeptConsent,
    LoggedRelease,
    ReleaseList,
    ReleaseOrder,
    StoredFrame,
    Terms,
)
from wire.errors import NotCoveredError
from wire.frame import decode_core, split
from wire.grant import AccessGrant, decode_request
from wire.guard_http import ReleaseAnswer, ReleaseAnswers, ReleaseRequest
from wire.ids import BatchHash, GrantHash, key_id
from wire.policy import Policy, encode_policy, policy_digest
from wire.tlog import Tree
from wire.xwing import public_key_of

ACME = Organisation()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PolicyFolder:
    return ACME.publish(tmp_path_factory.mktemp("policy"))


@dataclass
class CollectorInMemory:
    """A collector of a few frames; it logs a release for each that is asked for."""

    frames_here: dict[BatchHash, Sealed] = field(default_factory=dict)
    erased: set[BatchHash] = field(default_factory=set)
    without_consent: set[GrantHash] = field(default_factory=set)
    downloads: int = 0
    ordered: list[BatchHash] = field(default_factory=list)
    breaks_after: int | None = None
    texts: list[bytes] = field(default_factory=list)
    terms_asked: int = 0

    def hold(self, *sealed: Sealed) -> None:
        self.frames_here |= {one.hash: one for one in sealed}

    def policy(self) -> Policy:
        return ACME.policy()

    def frames(self, grant: AccessGrant) -> Iterator[StoredFrame]:
        asked = decode_request(grant.request)
        for number, (name, one) in enumerate(self.frames_here.items()):
            in_time = asked.first_day <= one.core.day <= asked.last_day
            if one.core.category in asked.categories and in_time:
                yield StoredFrame(
                    batch_hash=name,
                    index=number,
                    category=one.core.category,
                    day=one.core.day,
                    bytes=len(one.frame),
                )

    def frame(self, grant: AccessGrant, batch: BatchHash) -> bytes | None:
        assert decode_request(grant.request).reader == READER
        if self.breaks_after is not None and self.downloads >= self.breaks_after:
            raise RetryableError("the line went dead")
        self.downloads += 1
        return None if batch in self.erased else self.frames_here[batch].frame

    def terms(self, grant: AccessGrant, batch: BatchHash) -> Terms | None:
        assert decode_request(grant.request).reader == READER
        self.terms_asked += 1
        one = self.frames_here[batch]
        if one.core.grant in self.without_consent:
            return None
        kept = KeptConsent(
            record=one.consent.record,
            signature=one.consent.signature,
            device_key=raw(ACME.device),
        )
        return Terms(consent=kept, policies=tuple(self.texts))

    def releases(self, order: ReleaseOrder) -> ReleaseList:
        batches = [BatchHash(name) for name in order.batches]
        self.ordered += batches
        logged = [
            ACME.log_release(self.frames_here[name], order.grant, ACME.recipient)
            for name in batches
        ]
        return ReleaseList(
            checkpoint=ACME.cosigned(ACME.checkpoint()),
            releases=tuple(
                LoggedRelease(
                    batch_hash=one.batch_hash,
                    entry=one.entry,
                    salt=one.salt,
                    index=one.index,
                    proof=ACME.tree.inclusion(one.index, ACME.tree.size),
                )
                for one in logged
            ),
        )


@dataclass
class GuardInMemory:
    """The guard's real rules, without a network."""

    policy_set: PolicySet
    away: bool = False

    def release(self, request: ReleaseRequest) -> ReleaseAnswers:
        if self.away:
            raise RetryableError("the guard is away")
        found = Found(seed=ACME.guard_seed, key_id=key_id(public_key_of(ACME.guard_seed)))
        outcome = release(
            request,
            caller=READER,
            policy_set=self.policy_set,
            find_key=lambda *_: found,
            now=wall(NOW),
        )
        if isinstance(outcome, Refused):
            raise RejectedError(outcome.why)
        return ReleaseAnswers(
            batches=tuple(
                ReleaseAnswer(batch_hash=asked.batch_hash, refused=one.refusal, error=one.why)
                if isinstance(one, Refused)
                else ReleaseAnswer(batch_hash=asked.batch_hash, released=one.sealed)
                for asked, one in zip(request.batches, outcome, strict=True)
            )
        )


@pytest.fixture
def collector() -> CollectorInMemory:
    ACME.tree = Tree()
    return CollectorInMemory()


@pytest.fixture
def guard(published: PolicyFolder) -> GuardInMemory:
    return GuardInMemory(published.policy_set())


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "state")


def opened(library: Library) -> Report:
    report = Report()
    for batch, result in Opener(library=library, identity=ACME.identity, today=NOW.date()).each():
        report.add(batch, result)
    return report


def test_what_the_grant_covers_is_fetched_released_and_opens(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """Other categories and other days are not even asked for."""
    inside = [ACME.seal(published.digest) for _ in range(3)]
    collector.hold(*inside, ACME.seal(published.digest, day="2027-04-01"))
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.listed, tally.fetched, tally.released) == (3, 3, 3)
    assert set(collector.ordered) == {one.hash for one in inside}
    report = opened(library)
    assert report.refused == 0
    assert report.opened[Category.KEYS].batches == 3
    assert report.opened[Category.KEYS].events == 3


def test_fetching_again_fetches_and_releases_nothing_twice(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """What is here stays; only what is new is logged."""
    collector.hold(ACME.seal(published.digest))
    fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    collector.hold(ACME.seal(published.digest))
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.listed, tally.fetched, tally.released, tally.here_already) == (2, 1, 1, 1)
    assert len(collector.ordered) == 2
    assert collector.downloads == 2


def test_a_fetch_that_broke_off_goes_on_where_it_stopped(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """First the line dies, then the guard is away, then all is well."""
    collector.hold(*(ACME.seal(published.digest) for _ in range(3)))
    collector.breaks_after = 2
    with pytest.raises(RetryableError):
        fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert len(list(library.batches())) == 2
    collector.breaks_after, guard.away = None, True
    with pytest.raises(RetryableError):
        fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert opened(library).opened == {}
    guard.away = False
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.fetched, tally.released) == (0, 3)
    assert collector.downloads == 3


def test_a_batch_without_a_consent_record_is_neither_kept_nor_released(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """I10, at the first possible moment; the others go on."""
    good = ACME.seal(published.digest)
    bad = ACME.seal(published.digest, consent=ACME.consent(published.digest, record_id=ANOTHER_ID))
    collector.hold(good, bad)
    collector.without_consent.add(bad.core.grant)
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert tally.refused == {Fault.NO_CONSENT: 1}
    assert collector.ordered == [good.hash]
    assert list(library.batches()) == [good.hash]


def test_bytes_that_are_not_what_was_listed_are_not_kept(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """A collector that answers with other frames, or with noise."""
    one, other = ACME.seal(published.digest), ACME.seal(published.digest)
    collector.frames_here = {one.hash: other}
    assert fetch(ACME.grant(), library, collector, guard, now=wall(NOW)).refused == {
        Fault.WRONG_HASH: 1
    }
    collector.frames_here = {one.hash: Sealed(frame=b"x", core=one.core, consent=one.consent)}
    assert fetch(ACME.grant(), library, collector, guard, now=wall(NOW)).refused == {"malformed": 1}
    assert list(library.batches()) == []


def test_an_erased_batch_is_counted_and_left_alone(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """It was listed, and gone a moment later."""
    sealed = ACME.seal(published.digest)
    collector.hold(sealed)
    collector.erased.add(sealed.hash)
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.erased, tally.fetched) == (1, 0)


def test_what_the_guard_refuses_is_counted_by_its_name(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """The collector logged it, the guard did not follow: it stays sealed, and is said."""
    elsewhere = Organisation(
        device=ACME.device,
        identity=ACME.identity,
        subject_identity=ACME.subject_identity,
        subject=ACME.subject,
    )
    sealed = elsewhere.seal(published.digest)  # to another guard's key
    collector.hold(sealed)
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert tally.refused == {"key-unknown": 1}
    assert opened(library).faults == {Fault.NOT_RELEASED: [sealed.hash.hex()]}


def test_a_grant_that_could_open_nothing_downloads_nothing(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """Expired, or one approval of two: not a sealed byte is fetched for it."""
    collector.hold(ACME.seal(published.digest))
    for grant in (
        ACME.grant(ACME.request(expires_at=wall(NOW))),
        ACME.grant(approvers=("Ada",)),
    ):
        with pytest.raises(NotCoveredError):
            fetch(grant, library, collector, guard, now=wall(NOW))
    assert collector.downloads == 0


def test_the_guard_gets_no_body(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """What is sent to it holds core and shelf, and not a chunk of what is sealed."""
    sealed = ACME.seal(published.digest)
    collector.hold(sealed)
    sent: list[bytes] = []
    rules = guard.release

    def listen(request: ReleaseRequest) -> ReleaseAnswers:
        sent.append(msgspec.msgpack.encode(request))
        return rules(request)

    guard.release = listen  # type: ignore[method-assign]  # listens, then does the same
    fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    parts = split(sealed.frame)
    assert parts.shelf in sent[0]
    assert parts.body not in sent[0]
    assert decode_core(parts.core).guard_key == key_id(public_key_of(ACME.guard_seed))


def test_what_was_dropped_opens_no_more(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    published: PolicyFolder,
) -> None:
    """Frame and release are gone; the rest stays."""
    one, other = ACME.seal(published.digest), ACME.seal(published.digest)
    collector.hold(one, other)
    fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    library.drop(one.hash)
    assert list(library.batches()) == [other.hash]
    assert not library.has_release(one.hash)


def under_another_policy(*, wider: bool) -> tuple[Sealed, list[bytes]]:
    """Return a batch whose consent was given under another policy than it was recorded under."""
    other = ACME.policy(hold_seconds=1) if wider else ACME.policy(applications=())
    agreed, recorded = encode_policy(ACME.policy()), encode_policy(other)
    consent = ACME.consent(policy_digest(agreed))
    sealed = ACME.seal(policy_digest(recorded), consent=consent)
    return sealed, [agreed, recorded]


def test_a_batch_under_a_narrower_policy_than_was_agreed_to_is_fetched_and_opens(
    collector: CollectorInMemory, guard: GuardInMemory, library: Library
) -> None:
    """The two policies are fetched once, and kept to compare whenever it is opened."""
    sealed, texts = under_another_policy(wider=False)
    collector.texts = texts
    collector.hold(sealed)
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.fetched, tally.refused) == (1, {})
    opener = Opener(library=library, identity=ACME.identity, today=NOW.date())
    assert opener.open(sealed.hash).checked.consent.policy_digest != sealed.core.policy
    another = ACME.seal(sealed.core.policy, consent=sealed.consent)
    collector.hold(another)
    assert fetch(ACME.grant(), library, collector, guard, now=wall(NOW)).fetched == 1
    assert collector.terms_asked == 1


@pytest.mark.parametrize(("wider", "lost"), [(True, False), (False, True)])
def test_a_batch_under_a_policy_that_is_not_proved_narrower_is_refused(
    collector: CollectorInMemory,
    guard: GuardInMemory,
    library: Library,
    *,
    wider: bool,
    lost: bool,
) -> None:
    """I10: by name, whether it is wider or nobody has the texts, or hands out others."""
    sealed, texts = under_another_policy(wider=wider)
    lie = encode_policy(ACME.policy(version=7))
    collector.texts = [lie, lie] if lost else texts
    collector.hold(sealed)
    tally = fetch(ACME.grant(), library, collector, guard, now=wall(NOW))
    assert (tally.fetched, tally.refused) == (0, {Fault.NOT_CONSENTED: 1})
    library.keep_frame(sealed.hash, sealed.frame)  # and also where it was smuggled in
    terms = collector.terms(ACME.grant(), sealed.hash)
    assert terms is not None
    library.keep_consent(sealed.core.grant, terms.consent)
    opener = Opener(library=library, identity=ACME.identity, today=NOW.date())
    with pytest.raises(FaultError) as caught:
        opener.open(sealed.hash)
    assert caught.value.fault is Fault.NOT_CONSENTED


def test_a_policy_in_the_library_that_was_changed_is_said(tmp_path: Path) -> None:
    """It is named by its digest, so it can be told."""
    text = encode_policy(ACME.policy())
    library = Library(tmp_path)
    library.keep_policy(text)
    assert library.policy(policy_digest(text)) == ACME.policy()
    (file,) = (tmp_path / "policies").iterdir()
    file.write_bytes(text + b" ")
    with pytest.raises(SpoiltFileError, match="was changed"):
        library.policy(policy_digest(text))


@dataclass
class ListingDoor:
    """A collector that lists so many frames a page, and always says that there is more."""

    a_page: int
    step: int = 1
    asked: int = 0

    def request(self, _method: str, _path: str, order: bytes) -> Response:
        self.asked += 1
        after = msgspec.json.decode(order)["after"]
        frames = tuple(
            StoredFrame(
                batch_hash=bytes(32),
                index=after + n * self.step,
                category=Category.KEYS,
                day="2027-03-15",
                bytes=1,
            )
            for n in range(1, self.a_page + 1)
        )
        body = msgspec.json.encode(FrameList(frames=frames, more=True))
        return Response(status=200, headers={}, body=body)


@pytest.mark.parametrize(
    ("door", "why", "pages"),
    [
        (ListingDoor(a_page=10), "more than 50 frames", 5),
        (ListingDoor(a_page=0), "lists nothing", 1),
        (ListingDoor(a_page=1, step=0), "out of order", 1),
    ],
)
def test_a_list_without_an_end_is_refused(
    door: ListingDoor, why: str, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that goes on for ever fills no reader's memory; one that is stuck is said."""
    monkeypatch.setattr("reader.fetch.MOST_LISTED", 50)
    collector = object.__new__(Collector)
    monkeypatch.setattr(collector, "_door", door, raising=False)
    with pytest.raises(RejectedError, match=why):
        list(collector.frames(AccessGrant(request=b"", approvals=())))
    assert door.asked == pages
