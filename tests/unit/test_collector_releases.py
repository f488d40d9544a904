"""A reader lists, fetches, and has releases logged; the guard opens on nothing less."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from base.clock import NANOSECONDS
from base.door import Response
from base.https import OneDoor
from base.serving import Listener
from collector.assembly import Collector
from collector.drill.gate import Gate
from collector.index.tables import checkpoints, leaves
from collector.refusal import RefusedError
from collector.release import frames
from collector.release.access import NEVER
from tests.conftest import NewPlace
from tests.fakes.organisation import READER, WITNESS_NAME, b64, ed25519, raw
from tests.fakes.site import (
    Site,
    Workstation,
    collector_site,
    fetches,
    lists,
    refusal,
    today,
)
from wire.category import Category
from wire.collector_http import (
    FrameList,
    FrameOrder,
    ReleaseList,
    ReleaseOrder,
    StoredFrame,
    Terms,
)
from wire.frame import core_hash, decode_core, split
from wire.grant import AccessGrant, access_digest, decode_request, longest_grant
from wire.ids import BatchHash, WallInstant
from wire.leaf import Kind, entry, release_payload
from wire.policy import policy_digest
from wire.tlog import leaf_hash, verify_checkpoint, verify_cosignature, verify_inclusion


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        yield running


@pytest.fixture(scope="module")
def reader(site: Site) -> OneDoor:
    return site.reader(READER)


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


@pytest.fixture
def frame(workstation: Workstation) -> bytes:
    stored = workstation.seals(workstation.consents())
    assert workstation.puts(stored).status == 201
    return stored


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def approved(site: Site, **changes: object) -> AccessGrant:
    usual = {"categories": (Category.KEYS,), "first_day": today(), "last_day": today()}
    return site.grant(**(usual | changes))


def order(reader: OneDoor, grant: AccessGrant, *batches: bytes) -> Response:
    body = msgspec.json.encode(ReleaseOrder(grant=grant, batches=batches))
    return reader.request("POST", "/v1/releases", body)


def leaf_count(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


# --- listing and fetching ---------------------------------------------------------------


def listed(reader: OneDoor, grant: AccessGrant, after: int = -1) -> FrameList:
    answer = lists(reader, grant, after)
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=FrameList)


def test_a_reader_finds_and_fetches_sealed_frames(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """By what its grant covers; what comes is the frame, to the byte."""
    grant = approved(site)
    assert hash_of(frame) in {one.batch_hash for one in listed(reader, grant).frames}
    answer = fetches(reader, grant, hash_of(frame))
    assert (answer.status, answer.body) == (200, frame)
    terms = msgspec.json.decode(fetches(reader, grant, hash_of(frame), "/terms").body, type=Terms)
    assert hashlib.sha256(terms.consent.record).digest() == decode_core(split(frame).core).grant
    assert [policy_digest(text) for text in terms.policies] == [site.digest]


WAYS: Final = ("", "/terms")
REFUSED: Final[dict[str, Callable[[Site], AccessGrant]]] = {
    "nobody approved it": lambda site: replace(approved(site), approvals=()),
    "one party approved it": lambda site: replace(
        approved(site), approvals=approved(site).approvals[:1]
    ),
    "it has expired": lambda site: approved(site, expires_at=site.collector.now()),
    "it is for too long": lambda site: approved(
        site, expires_at=WallInstant(longest_grant(site.collector.now()) + 3600 * NANOSECONDS)
    ),
    "it is of another reader": lambda site: approved(site, reader="another-team"),
    "it is for another programme": lambda site: approved(site, programme="other"),
    "it is for another purpose": lambda site: approved(site, purpose="performance-evaluation"),
    "it was changed after it was approved": lambda site: replace(
        approved(site), request=approved(site, last_day=today(9)).request
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_without_a_grant_that_holds_a_reader_gets_nothing_at_all(
    site: Site, reader: OneDoor, frame: bytes, case: str
) -> None:
    """Neither the list, nor a frame, nor under which consent it was made: 403, by name."""
    grant = REFUSED[case](site)
    answers = [lists(reader, grant), *(fetches(reader, grant, hash_of(frame), w) for w in WAYS)]
    assert {refusal(answer) for answer in answers} == {(403, "grant-refused")}


@pytest.mark.parametrize(
    "path", ["/v1/frames", f"/v1/frames/{'0' * 64}", f"/v1/consents/{'0' * 64}"]
)
def test_a_reader_without_any_grant_asks_in_vain(reader: OneDoor, path: str) -> None:
    """As readers did before there were grants for it: no such path, verb or body."""
    assert reader.request("GET", path).status in (404, 405)
    for body in (b"", b"{}", b'{"grant":null}', b'{"grant":{"request":"","approvals":[]}}'):
        assert reader.request("POST", path, body).status in (400, 403, 404)


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": (Category.SCREEN,)},
        {"first_day": today(1), "last_day": today(2)},
        {"first_day": today(-2), "last_day": today(-1)},
        {"first_day": today(1), "last_day": today(-1)},
        {"categories": ()},
    ],
    ids=str,
)
def test_a_grant_is_for_what_it_covers_alone(
    site: Site, reader: OneDoor, frame: bytes, changes: dict[str, object]
) -> None:
    """What it does not cover is not listed, and not given to whoever knows the hash."""
    grant = approved(site, **changes)
    assert listed(reader, grant).frames == ()
    for way in WAYS:
        assert refusal(fetches(reader, grant, hash_of(frame), way)) == (403, "not-covered")


@pytest.mark.parametrize("end", ["halt", "stop"])
def test_while_the_programme_stands_still_readers_get_nothing(
    site: Site, reader: OneDoor, frame: bytes, end: str
) -> None:
    """Whatever their grants say; a stop that ends gives it back."""
    grant = approved(site)
    site.halts("enough") if end == "halt" else site.stops("a fault")
    answers = [lists(reader, grant), *(fetches(reader, grant, hash_of(frame), w) for w in WAYS)]
    answers.append(order(reader, grant, hash_of(frame)))
    site.publishes() if end == "halt" else site.goes_on()
    assert {refusal(answer) for answer in answers} == {
        (503, {"halt": "halted", "stop": "stopped"}[end])
    }
    assert fetches(reader, approved(site), hash_of(frame)).body == frame


def test_before_the_first_drill_has_passed_readers_get_nothing(tmp_path: Path) -> None:
    """Nobody knows yet whether what must be refused is refused."""
    with collector_site(tmp_path / "site") as site:
        ada, reader = site.workstation(), site.reader(READER)
        frame = ada.seals(ada.consents())
        assert ada.puts(frame).status == 201
        site.stop()
        site.collector = Collector.open(site.premises, site.clock, gate=Gate())
        site.serve(Listener("127.0.0.1", int(site.origin.rpartition(":")[2])))
        grant = approved(site)
        answers = [lists(reader, grant), *(fetches(reader, grant, hash_of(frame), w) for w in WAYS)]
        answers.append(order(reader, grant, hash_of(frame)))
        assert {refusal(answer) for answer in answers} == {(503, "undrilled")}
        site.collector.gate.open()
        assert fetches(reader, grant, hash_of(frame)).body == frame


def test_frames_of_today_are_withheld_until_the_day_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default: whoever was recorded has at least the day to take it back."""
    monkeypatch.setattr("tests.fakes.site.READERS", "")
    with collector_site(tmp_path / "site") as site:
        ada, reader = site.workstation(), site.reader(READER)
        frame = ada.seals(ada.consents())
        assert ada.puts(frame).status == 201
        grant = approved(site, last_day=today(3), expires_at=longest_grant(site.collector.now()))
        assert listed(reader, grant).frames == ()
        asked = [*(fetches(reader, grant, hash_of(frame), w) for w in WAYS)]
        asked.append(order(reader, grant, hash_of(frame)))
        assert {refusal(answer) for answer in asked} == {(403, "not-yet")}
        site.clock.moved = timedelta(days=1)
        assert [one.batch_hash for one in listed(reader, grant).frames] == [hash_of(frame)]
        assert fetches(reader, grant, hash_of(frame)).body == frame
        assert order(reader, grant, hash_of(frame)).status == 200


def test_a_grant_that_another_policy_does_not_know_ends_with_it(tmp_path: Path) -> None:
    """Nothing is remembered: what is asked next is judged by the policy that is in force then."""
    with collector_site(tmp_path / "site") as site:
        reader, grant = site.reader(READER), approved(site)
        assert lists(reader, grant).status == 200
        others = tuple(
            msgspec.structs.replace(one, key=b64(raw(ed25519()))) for one in site.policy.approvers
        )
        site.publishes(approvers=others)
        assert refusal(lists(reader, grant)) == (403, "grant-refused")


def test_a_listing_goes_on_where_the_last_one_ended(
    site: Site, reader: OneDoor, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, each frame once, in the order of the log."""
    signed = workstation.consents()
    for _ in range(3):
        workstation.puts(workstation.seals(signed))
    grant = approved(site)
    whole = listed(reader, grant).frames
    monkeypatch.setattr(frames, "PAGE", 2)
    seen: list[StoredFrame] = []
    after, more = -1, True
    while more:
        page = listed(reader, grant, after)
        assert len(page.frames) <= 2
        seen.extend(page.frames)
        after, more = page.frames[-1].index, page.more

    assert tuple(seen) == whole
    assert [one.index for one in seen] == sorted({one.index for one in seen})


def test_nothing_can_be_asked_about_one_person(site: Site, reader: OneDoor, frame: bytes) -> None:
    """A listing names no subject and no device, and takes neither as a filter."""
    answer = lists(reader, approved(site))
    shown = json.loads(answer.body)["frames"][-1]
    assert set(shown) == {"batch_hash", "index", "category", "day", "bytes"}
    asked = msgspec.json.decode(msgspec.json.encode(FrameOrder(grant=approved(site))))
    for name in ("subject", "device"):
        body = msgspec.json.encode({**asked, name: "x"})
        assert refusal(reader.request("POST", "/v1/frames", body)) == (400, "bad-request")
    assert frame


def test_a_frame_whose_time_has_run_out_is_not_to_be_had(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """Retention ends for readers on its day, swept or not."""
    grant = approved(site, expires_at=longest_grant(site.collector.now()))
    site.clock.moved = timedelta(days=31)
    try:
        with site.collector.index.reading() as connection:
            access = frames.Access(request=decode_request(grant.request), before=NEVER)
            page = frames.page(connection, access, -1, site.collector.now())
            with pytest.raises(RefusedError, match="erased"):
                frames.find(connection, hash_of(frame), site.collector.now())
    finally:
        site.clock.moved = timedelta()
    assert page.frames == ()
    assert refusal(fetches(reader, approved(site), bytes(32))) == (404, "not-found")


# --- releases ---------------------------------------------------------------------------


def test_a_release_is_logged_and_cosigned_before_the_answer(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """What the reader gets is what the guard wants to see: leaf, proof, cosigned checkpoint."""
    grant = approved(site)
    answer = order(reader, grant, hash_of(frame))
    assert answer.status == 200, answer.body
    released = msgspec.json.decode(answer.body, type=ReleaseList)
    (one,) = released.releases

    checkpoint = verify_checkpoint(released.checkpoint, site.policy.collector.log)
    verify_cosignature(released.checkpoint, site.policy.guard.witness)
    payload = release_payload(
        hash_of(frame), core_hash(split(frame).core), access_digest(grant), site.org.recipient
    )
    assert one.entry == entry(Kind.RELEASE, payload, one.salt)
    verify_inclusion(
        leaf=leaf_hash(one.entry),
        index=one.index,
        size=checkpoint.size,
        proof=one.proof,
        root=checkpoint.root,
    )
    with site.collector.index.reading() as connection:
        kept = select(checkpoints.c.note).where(checkpoints.c.size == checkpoint.size)
        assert WITNESS_NAME in connection.execute(kept).scalar_one()


def test_the_same_order_again_finds_the_same_leaves(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """An answer that was lost adds nothing to the log: one access, one leaf."""
    grant = approved(site)
    first = msgspec.json.decode(order(reader, grant, hash_of(frame)).body, type=ReleaseList)
    before = leaf_count(site)
    again = msgspec.json.decode(order(reader, grant, hash_of(frame)).body, type=ReleaseList)

    assert leaf_count(site) == before
    assert again.releases[0].index == first.releases[0].index
    other = approved(site, request_id="r-2")
    assert order(reader, other, hash_of(frame)).status == 200
    assert leaf_count(site) == before + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": (Category.SCREEN,)},
        {"first_day": today(1), "last_day": today(2)},
        {"first_day": today(-2), "last_day": today(-1)},
    ],
    ids=["another category", "a later period", "an earlier period"],
)
def test_a_batch_that_the_grant_does_not_cover_is_not_released(
    site: Site, reader: OneDoor, frame: bytes, changes: dict[str, object]
) -> None:
    """Category and period; and nothing is logged."""
    before = leaf_count(site)
    assert refusal(order(reader, approved(site, **changes), hash_of(frame))) == (403, "not-covered")
    assert leaf_count(site) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"programme": "other"},
        {"purpose": "sale"},
        {"purpose": "performance-evaluation"},
        {"expires_at": WallInstant(1)},
        {"reader": "another-team"},
        {"recipient": "age1pqother"},
    ],
    ids=["programme", "purpose", "prohibited purpose", "expired", "reader", "recipient"],
)
def test_a_grant_that_does_not_hold_releases_nothing(
    site: Site, reader: OneDoor, frame: bytes, changes: dict[str, object]
) -> None:
    """Programme, purpose, date, reader and key are the policy's and the certificate's."""
    before = leaf_count(site)
    answer = order(reader, approved(site, **changes), hash_of(frame))
    assert refusal(answer) == (403, "grant-refused")
    assert leaf_count(site) == before


def test_too_few_approvals_release_nothing(site: Site, reader: OneDoor, frame: bytes) -> None:
    """Each approver that the policy asks for."""
    request = msgspec.json.decode(approved(site).request)
    assert request["reader"] == READER
    one = AccessGrant(request=approved(site).request, approvals=approved(site).approvals[:1])
    assert refusal(order(reader, one, hash_of(frame))) == (403, "grant-refused")


def test_one_refused_batch_refuses_the_order(site: Site, reader: OneDoor, frame: bytes) -> None:
    """All or nothing, so that no leaf stands for an answer that nobody got."""
    before = leaf_count(site)
    answer = order(reader, approved(site), hash_of(frame), b"\0" * 32)
    assert refusal(answer) == (404, "not-found")
    assert leaf_count(site) == before


@pytest.mark.parametrize("count", [0, 1001])
def test_an_order_has_a_size(site: Site, reader: OneDoor, count: int) -> None:
    """None, or more than the guard takes."""
    answer = order(reader, approved(site), *([bytes(32)] * count))
    assert refusal(answer) == (400, "bad-request")


def test_a_deleted_batch_is_not_released(
    site: Site, reader: OneDoor, workstation: Workstation
) -> None:
    """Erased is erased, with whatever grant."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    workstation.deletes(frame)
    assert refusal(order(reader, approved(site), hash_of(frame))) == (410, "erased")


def test_nothing_is_released_during_a_halt(site: Site, reader: OneDoor, frame: bytes) -> None:
    """Halted means for readers too."""
    site.halts("stop")
    answer = order(reader, approved(site), hash_of(frame))
    site.publishes()
    assert refusal(answer) == (503, "halted")


def test_without_the_guard_nothing_is_answered_and_later_the_same_leaf_serves(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """Logged first: the log may say more than was opened, never less."""
    grant = approved(site, request_id="while the guard is away")
    installed, site.guard.policy = site.guard.policy, None  # the guard answers 503
    before = leaf_count(site)
    answer = order(reader, grant, hash_of(frame))
    site.guard.policy = installed

    assert refusal(answer) == (503, "guard-unreachable")
    assert answer.retry_after_seconds == 30
    assert leaf_count(site) == before + 1
    assert order(reader, grant, hash_of(frame)).status == 200
    assert leaf_count(site) == before + 1


def test_many_batches_in_one_order(site: Site, reader: OneDoor, workstation: Workstation) -> None:
    """One leaf each, one checkpoint for all, in the order asked."""
    signed = workstation.consents()
    stored = [workstation.seals(signed) for _ in range(5)]
    for one in stored:
        workstation.puts(one)
    wanted = [hash_of(one) for one in reversed(stored)]
    answer = order(reader, approved(site), *wanted)
    released = msgspec.json.decode(answer.body, type=ReleaseList)

    assert [one.batch_hash for one in released.releases] == wanted
    assert len({one.index for one in released.releases}) == 5


@pytest.mark.parametrize(
    "path", ["/v1/log/consistency?old=%00", "/v1/policy/%00", "/v1/log/checkpoint?%00=1"]
)
def test_a_nul_is_refused_at_the_door(reader: OneDoor, path: str) -> None:
    """PostgreSQL's text has none, so it would be taken for a mistake of ours."""
    assert refusal(reader.request("GET", path)) == (400, "bad-request")


def test_what_comes_after_a_number_beyond_all_leaves_is_nothing(
    site: Site, reader: OneDoor
) -> None:
    """Whoever asks so gets an empty list, on either back end; numbers that are none get a 400."""
    assert listed(reader, approved(site), (1 << 53) - 1).frames == ()
    for after in (1 << 53, 1 << 63, 10**40, -2):
        assert refusal(lists(reader, approved(site), after)) == (400, "bad-request")
