"""Own batches back: on the rights key's own order, logged, to the person's own key and no other."""

import dataclasses
from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import func, select

from base.clock import NANOSECONDS
from base.door import Response
from base.https import OneDoor
from collector.index.tables import leaves
from collector.refusal import RefusedError, Why
from guard.halt import Halts
from guard.keys import Keys
from guard.release import Refusal, Refused, Released
from guard.returning import give_back
from tests.conftest import NewPlace
from tests.fakes.organisation import READER, public_key_of_identity, raw
from tests.fakes.own import (
    approved,
    asks,
    believed,
    hash_of,
    opened,
    order_of,
    query_of,
    sent,
    told,
)
from tests.fakes.site import PLAINTEXT, Site, Workstation, collector_site, refusal
from wire.collector_http import decode
from wire.errors import ForgedError, MalformedError, NotCoveredError, NotForUsError, WireError
from wire.frame import core_hash, split
from wire.guard_http import LoggedBatch, ReturnRequest
from wire.ids import LAST_INSTANT, LEAST_INSTANT, WallInstant, key_id
from wire.leaf import Kind, entry, release_payload
from wire.me import LARGEST_ORDER, ORDER_SECONDS, About, SignedReturn, verify_return
from wire.me_answers import OwnAccesses, Returned, check_access, check_given, head_of
from wire.opening import open_body, open_released
from wire.sealing import new_identity, recipient_of
from wire.tlog import leaf_hash


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder / "site", index_url=new_place(folder).url) as site:
        yield site


@pytest.fixture(scope="module")
def reader(site: Site) -> OneDoor:
    return site.reader(READER)


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


def ordered(site: Site, signed: SignedReturn) -> Response:
    return asks(site, signed, "return")


def returned(site: Site, signed: SignedReturn) -> Returned:
    answer = ordered(site, signed)
    assert answer.status == 200, answer.body
    return decode(answer.body, Returned)


def leaf_count(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


def test_a_person_gets_back_what_was_recorded_and_the_log_says_so(
    site: Site, ada: Workstation
) -> None:
    """The guard seals the header to their own key; with that they open what they recorded."""
    frames = [sent(ada) for _ in range(2)]
    order = order_of(ada, *map(hash_of, frames))
    answer = returned(site, order)
    head = head_of(answer.checkpoint, believed(ada))
    assert head.is_cosigned
    for given, frame in zip(answer.batches, frames, strict=True):
        check_given(given, order, ada.recipient, head)
        parts = split(frame)
        digest = core_hash(parts.core)
        assert (given.batch_hash, given.core_hash) == (hash_of(frame), digest)
        assert given.released is not None
        header = open_released(given.released, ada.org.subject_identity, digest)
        assert open_body(header, parts.body, ada.org.subject_identity, digest) == PLAINTEXT
        with pytest.raises(NotForUsError):
            open_released(given.released, new_identity(), digest)


def test_it_stands_among_the_accesses_as_the_persons_own(
    site: Site, ada: Workstation, reader: OneDoor
) -> None:
    """Beside those of readers."""
    frame = sent(ada)
    opened(reader, approved(site), frame)
    returned(site, order_of(ada, hash_of(frame)))
    page = told(ada, About.ACCESSES, OwnAccesses)
    head = head_of(page.checkpoint, believed(ada))
    theirs, own = (check_access(one, page, head, believed(ada)) for one in page.accesses)
    assert theirs.order is None
    assert own.request is None
    assert own.order is not None
    elsewhere = dataclasses.replace(believed(ada), subject=site.workstation().org.subject)
    with pytest.raises(ForgedError):
        check_access(page.accesses[1], page, head, elsewhere)


def test_the_same_order_again_is_the_same_release(site: Site, ada: Workstation) -> None:
    """Whoever was interrupted goes on; the log does not grow by it, nor does a finder gain."""
    order = order_of(ada, hash_of(sent(ada)))
    first = returned(site, order)
    size = leaf_count(site)
    second = returned(site, order)
    assert leaf_count(site) == size
    assert [one.leaf.index for one in first.batches] == [one.leaf.index for one in second.batches]


def test_a_halt_of_everybody_does_not_keep_own_data_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nor a stop: they end access by others."""
    with collector_site(tmp_path_factory.mktemp("halted") / "site") as site:
        ada = site.workstation()
        frame = sent(ada)
        site.halts("stop")
        Halts(site.guard.folder / "halt.json").stop("a fault", WallInstant(1))
        assert returned(site, order_of(ada, hash_of(frame))).batches[0].released is not None


def test_what_was_erased_is_gone_for_the_person_too(site: Site, ada: Workstation) -> None:
    """410, and nothing is logged; one erased batch spoils the order, and says which."""
    gone, kept = sent(ada), sent(ada)
    assert ada.deletes(gone).status == 200
    size = leaf_count(site)
    answer = ordered(site, order_of(ada, hash_of(kept), hash_of(gone)))
    assert refusal(answer) == (410, "erased")
    assert hash_of(gone).hex().encode() in answer.body
    assert leaf_count(site) == size


def test_without_the_guard_it_is_logged_and_may_be_asked_for_again(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log then says more than happened, never less."""
    order = order_of(ada, hash_of(sent(ada)))
    assert site.collector.guard is not None

    def away(*_: object) -> None:
        raise RefusedError(Why.GUARD_UNREACHABLE, "away")

    monkeypatch.setattr(type(site.collector.guard), "give_back", away)
    assert refusal(ordered(site, order)) == (503, "guard-unreachable")
    monkeypatch.undo()
    assert returned(site, order).batches[0].released is not None


# --- attacks on the collector -------------------------------------------------------------


def test_a_device_cannot_order_anything_back(site: Site, ada: Workstation) -> None:
    """Whoever steals it, or runs a program on it, would read back all that ever left it."""
    batch = hash_of(sent(ada))
    by_device = order_of(ada, batch, speaker=ada.org.speaker())
    assert refusal(ordered(site, by_device)) == (422, "forged")
    own_name = dataclasses.replace(ada.org.speaker(), rights_key=raw(ada.org.device))
    assert refusal(ordered(site, order_of(ada, batch, speaker=own_name)))[0] == 403
    fetches = query_of(ada, About.FRAME, batch=batch, speaker=ada.org.speaker())
    assert refusal(asks(site, fetches, f"frames/{batch.hex()}")) == (403, "not-this-device")
    body = msgspec.json.encode(query_of(ada, About.BATCHES, speaker=ada.org.speaker()))
    answer = site.door().request("POST", "/v1/me/return", body)
    assert refusal(answer) == (400, "bad-request")


def test_nobody_orders_somebody_elses_batch(site: Site, ada: Workstation) -> None:
    """It looks like one that never was; nothing is logged."""
    grace = site.workstation()
    batch = hash_of(sent(ada))
    sent(grace)
    size = leaf_count(site)
    assert refusal(ordered(site, order_of(grace, batch))) == (404, "not-found")
    named = order_of(grace, batch, subject=ada.org.subject)
    assert refusal(ordered(site, named)) == (403, "not-this-subject")
    assert refusal(ordered(site, order_of(site.workstation(), batch))) == (404, "not-found")
    assert leaf_count(site) == size


def test_a_person_cannot_have_it_sealed_to_a_reader_or_anybody(
    site: Site, ada: Workstation
) -> None:
    """A release to a reader takes approvals, whatever the person is made to sign."""
    batch = hash_of(sent(ada))
    size = leaf_count(site)
    for other in (site.org.recipient, recipient_of(new_identity())):
        signed = order_of(ada, batch, recipient=other)
        assert refusal(ordered(site, signed)) == (403, "not-this-subject")
    assert leaf_count(site) == size


def test_an_order_counts_for_a_day(site: Site, ada: Workstation) -> None:
    """One that was kept back is worth nothing."""
    batch, now = hash_of(sent(ada)), site.collector.now()
    for seconds in (-ORDER_SECONDS - 60, ORDER_SECONDS + 60):
        at = WallInstant(now + seconds * NANOSECONDS)
        assert refusal(ordered(site, order_of(ada, batch, made_at=at))) == (403, "not-fresh")


def test_an_order_of_a_time_that_no_database_holds_is_refused(site: Site, ada: Workstation) -> None:
    """Before anything reckons with it."""
    batch = hash_of(sent(ada))
    for at in (LEAST_INSTANT - 1, LAST_INSTANT + 1):
        signed = order_of(ada, batch, made_at=WallInstant(at))
        assert refusal(ordered(site, signed)) == (422, "malformed")


def test_an_order_of_too_much_is_refused(site: Site, ada: Workstation, reader: OneDoor) -> None:
    """Too many, one twice, none, and a body without end; a reader's certificate, whatever it is."""
    batch = hash_of(sent(ada))
    many = [bytes([n]) * 32 for n in range(LARGEST_ORDER + 1)]
    for batches in ((), (batch, batch), (b"short",), many):
        assert refusal(ordered(site, order_of(ada, *batches))) == (422, "malformed")
    huge = site.door().request("POST", "/v1/me/return", b"[" * 100_000)
    assert refusal(huge) == (413, "too-large")
    by_reader = asks(site, order_of(ada, batch), "return", reader)
    assert refusal(by_reader) == (403, "wrong-role")


@pytest.mark.parametrize("field", ["order", "rights_key", "signature"])
def test_every_byte_of_an_order_counts(site: Site, ada: Workstation, field: str) -> None:
    """Flipped, each one ends in a refusal, and in no other error."""
    good = order_of(ada, bytes(32))
    data = getattr(good, field)
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        with pytest.raises(WireError):
            verify_return(msgspec.structs.replace(good, **{field: bytes(spoilt)}), site.origin)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nonce": b"short"}, MalformedError),
        ({"recipient": "age1pq"}, MalformedError),
        ({"origin": "https://else.example"}, NotCoveredError),
        ({"subject": bytes(16)}, NotCoveredError),
    ],
)
def test_an_order_that_says_nonsense_is_refused(
    site: Site, ada: Workstation, changes: dict[str, object], expected: type[WireError]
) -> None:
    """Signed or not."""
    with pytest.raises(expected):
        verify_return(order_of(ada, bytes(32), **changes), site.origin)


# --- attacks on the guard: a collector that asks for what nobody ordered --------------------


@dataclasses.dataclass(kw_only=True)
class Evil:
    """A collector that logs and asks whatever it likes; its log and witness are real."""

    site: Site
    keys: Keys

    def asks(self, signed: SignedReturn, frame: bytes, **changes: object) -> Refusal | None:
        """Return why the guard does not give *frame* back on this order; None if it does."""
        recipient = str(changes.pop("recipient", "") or _recipient_in(signed))
        logged = self.logs(frame, signed.digest, recipient)
        batch = msgspec.structs.replace(logged[0], **changes)
        asked = ReturnRequest(order=signed, checkpoint=logged[1], batches=(batch,))
        outcome = self.decides(asked)
        (one,) = (outcome,) if isinstance(outcome, Refused) else outcome
        return one.refusal if isinstance(one, Refused) else None

    def decides(self, asked: ReturnRequest) -> tuple[Released | Refused, ...] | Refused:
        return give_back(
            asked,
            policy=self.site.policy,
            find_key=self.keys.find,
            now=self.site.collector.now(),
        )

    def logs(self, frame: bytes, access: bytes, recipient: str) -> tuple[LoggedBatch, str]:
        """Log a release as if it had been ordered; return it under a cosigned head."""
        org, parts = self.site.org, split(frame)
        salt = bytes(16)
        payload = release_payload(hash_of(frame), core_hash(parts.core), access, recipient)
        leaf = entry(Kind.RELEASE, payload, salt)
        number = org.tree.append(leaf_hash(leaf))
        batch = LoggedBatch(
            batch_hash=hash_of(frame),
            core=parts.core,
            shelf=parts.shelf,
            entry=leaf,
            salt=salt,
            index=number,
            proof=org.tree.inclusion(number, org.tree.size),
        )
        return batch, org.cosigned(org.checkpoint())


def _recipient_in(signed: SignedReturn) -> str:
    found: dict[str, str] = msgspec.json.decode(signed.order)
    return found["recipient"]


@pytest.fixture
def evil(site: Site) -> Iterator[Evil]:
    keys = Keys(site.guard.folder / "keys.sqlite")
    collector = msgspec.structs.replace(site.policy.collector, log=site.org.log_key)
    policy = msgspec.structs.replace(site.policy, collector=collector)
    yield Evil(site=dataclasses.replace(site, policy=policy), keys=keys)
    keys.close()


def test_the_guard_gives_back_on_the_persons_order_alone(
    site: Site, ada: Workstation, evil: Evil
) -> None:
    """Without this, the refusals below would prove nothing."""
    frame = sent(ada)
    assert evil.asks(order_of(ada, hash_of(frame)), frame) is None
    forged = msgspec.structs.replace(order_of(ada, hash_of(frame)), signature=bytes(64))
    assert evil.asks(forged, frame) is Refusal.ORDER_REFUSED
    by_device = order_of(ada, hash_of(frame), speaker=ada.org.speaker())
    assert evil.asks(by_device, frame) is Refusal.ORDER_REFUSED
    old = WallInstant(site.collector.now() - (ORDER_SECONDS + 60) * NANOSECONDS)
    assert evil.asks(order_of(ada, hash_of(frame), made_at=old), frame) is Refusal.ORDER_REFUSED
    elsewhere = order_of(ada, hash_of(frame), origin="https://other.example")
    assert evil.asks(elsewhere, frame) is Refusal.ORDER_REFUSED


def test_the_guard_seals_to_nobody_but_the_person(site: Site, ada: Workstation, evil: Evil) -> None:
    """Another key in the log than in the order, a reader's key, or one that nobody sealed to."""
    frame = sent(ada)
    batch = hash_of(frame)
    mallory = recipient_of(new_identity())
    assert evil.asks(order_of(ada, batch), frame, recipient=mallory) is Refusal.LEAF_OF_ANOTHER
    for other in (mallory, site.org.recipient):
        signed = order_of(ada, batch, recipient=other)
        assert evil.asks(signed, frame) is Refusal.NOT_COVERED
    last = tuple(
        key_id(public_key_of_identity(i)) for i in (ada.org.subject_identity, site.org.identity)
    )
    spoilt = ada.spoils(frame, recipients=last)
    signed = order_of(ada, hash_of(spoilt), recipient=site.org.recipient)
    assert evil.asks(signed, spoilt) is Refusal.NOT_COVERED


def test_the_guard_gives_nobody_the_batch_of_somebody_else(
    site: Site, ada: Workstation, evil: Evil
) -> None:
    """With an own, good order; nor when the core is made to say that it is theirs."""
    grace = site.workstation()
    frame = sent(ada)
    sent(grace)
    signed = order_of(grace, hash_of(frame))
    assert evil.asks(signed, frame) is Refusal.NOT_COVERED
    own = (key_id(public_key_of_identity(grace.org.subject_identity)),)
    mine = grace.spoils(frame, subject=grace.org.subject, recipients=own)
    signed = order_of(grace, hash_of(mine))
    assert evil.asks(signed, mine) in (Refusal.KEY_UNKNOWN, Refusal.SHELF_FORGED)
    assert evil.asks(order_of(ada, bytes(32)), frame) is Refusal.NOT_COVERED


def test_the_guard_gives_nothing_back_that_the_log_does_not_have(
    site: Site, ada: Workstation, evil: Evil
) -> None:
    """Another leaf, another place, a head that nobody cosigned, or a log of another."""
    frame = sent(ada)
    signed = order_of(ada, hash_of(frame))
    assert evil.asks(signed, frame, salt=b"1" * 16) is Refusal.LEAF_OF_ANOTHER
    assert evil.asks(signed, frame, salt=b"") is Refusal.LEAF_OF_ANOTHER
    assert evil.asks(signed, frame, index=0, proof=()) is Refusal.NOT_IN_LOG
    assert evil.asks(signed, frame, core=b"\x00") is Refusal.CORE_MALFORMED
    batch, _ = evil.logs(frame, signed.digest, ada.recipient)
    for note in (site.org.checkpoint(), site.collector.log.checkpoint(), "nonsense"):
        asked = ReturnRequest(order=signed, checkpoint=note, batches=(batch,))
        outcome = evil.decides(asked)
        assert isinstance(outcome, Refused)
        assert outcome.refusal is Refusal.CHECKPOINT_FOREIGN


def test_what_was_erased_at_the_guard_never_comes_back(
    site: Site, ada: Workstation, evil: Evil
) -> None:
    """Whoever kept a copy of the frame, and whatever was ordered before."""
    frame = sent(ada)
    signed = order_of(ada, hash_of(frame))
    assert evil.asks(signed, frame) is None
    assert ada.asks(ada.demands(speaker=ada.org.speaker(device=False))).status == 200
    assert evil.asks(signed, frame) in (Refusal.KEY_ERASED, Refusal.KEY_UNKNOWN)


def test_only_the_collector_may_ask_the_guard(site: Site, ada: Workstation) -> None:
    """And it gets nothing in bulk."""
    guard = site.collector.guard
    assert guard is not None
    batch = LoggedBatch(
        batch_hash=bytes(32), core=b"", shelf=b"", entry=b"", salt=b"", index=0, proof=()
    )
    signed = order_of(ada, bytes(32))
    many = ReturnRequest(order=signed, checkpoint="", batches=(batch,) * (LARGEST_ORDER + 1))
    with pytest.raises(RefusedError, match="413"):
        guard.give_back(many)
    with pytest.raises(RefusedError, match="403"):
        guard.give_back(ReturnRequest(order=signed, checkpoint="", batches=(batch,)))
