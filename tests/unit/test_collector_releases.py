"""A reader lists, fetches, and has releases logged; the guard opens on nothing less."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import func, select

from base.clock import NANOSECONDS
from base.door import Response
from base.https import OneDoor
from collector.index.tables import checkpoints, leaves
from collector.release import frames
from tests.conftest import NewPlace
from tests.fakes.organisation import READER, WITNESS_NAME
from tests.fakes.site import Site, Workstation, collector_site, refusal, today
from wire.category import Category
from wire.collector_http import FrameList, ReleaseList, ReleaseOrder, StoredFrame
from wire.frame import core_hash, split
from wire.grant import AccessGrant, access_digest
from wire.ids import BatchHash, WallInstant
from wire.leaf import Kind, entry, release_payload
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
    usual: dict[str, object] = {
        "first_day": today(),
        "last_day": today(),
        "expires_at": WallInstant(site.collector.now() + 3600 * NANOSECONDS),
        "programme": site.policy.programme,
    }
    return site.org.grant(site.org.request(**(usual | changes)))


def order(reader: OneDoor, grant: AccessGrant, *batches: bytes) -> Response:
    body = msgspec.json.encode(ReleaseOrder(grant=grant, batches=batches))
    return reader.request("POST", "/v1/releases", body)


def leaf_count(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


# --- listing and fetching ---------------------------------------------------------------


def listed(reader: OneDoor, query: str = "") -> FrameList:
    answer = reader.request("GET", f"/v1/frames{query}")
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=FrameList)


def test_a_reader_finds_and_fetches_sealed_frames(reader: OneDoor, frame: bytes) -> None:
    """By category and day; what comes is the frame, to the byte."""
    found = {one.batch_hash for one in listed(reader, f"?category=keys&first_day={today()}").frames}
    assert hash_of(frame) in found
    answer = reader.request("GET", f"/v1/frames/{hash_of(frame).hex()}")
    assert (answer.status, answer.body) == (200, frame)


def test_a_listing_goes_on_where_the_last_one_ended(
    reader: OneDoor, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, each frame once, in the order of the log."""
    signed = workstation.consents()
    for _ in range(3):
        workstation.puts(workstation.seals(signed))
    whole = listed(reader).frames
    monkeypatch.setattr(frames, "PAGE", 2)
    seen: list[StoredFrame] = []
    after, more = -1, True
    while more:
        page = listed(reader, f"?after={after}")
        assert len(page.frames) <= 2
        seen.extend(page.frames)
        after, more = page.frames[-1].index, page.more

    assert tuple(seen) == whole
    assert [one.index for one in seen] == sorted({one.index for one in seen})


@pytest.mark.parametrize(
    "query",
    ["?category=screen", f"?first_day={today(1)}", f"?last_day={today(-1)}", "?after=99999"],
)
def test_what_does_not_match_is_not_listed(reader: OneDoor, frame: bytes, query: str) -> None:
    """Category, first and last day, and what was seen already."""
    assert frame
    assert listed(reader, query).frames == ()


def test_nothing_can_be_asked_about_one_person(reader: OneDoor, frame: bytes) -> None:
    """A listing names no subject and no device, and takes neither as a filter."""
    answer = reader.request("GET", "/v1/frames")
    shown = json.loads(answer.body)["frames"][-1]
    assert set(shown) == {"batch_hash", "index", "category", "day", "bytes"}
    for name in ("subject", "device"):
        assert listed(reader, f"?{name}=x").frames == listed(reader).frames
    assert frame


def test_a_frame_whose_time_has_run_out_is_not_to_be_had(
    site: Site, reader: OneDoor, frame: bytes
) -> None:
    """Retention ends for readers on its day, swept or not."""
    site.clock.moved = timedelta(days=31)
    try:
        with site.collector.index.reading() as connection:
            page = frames.page(connection, frames.Wanted(), site.collector.now())
    finally:
        site.clock.moved = timedelta()
    assert page.frames == ()
    assert refusal(reader.request("GET", f"/v1/frames/{'0' * 64}")) == (404, "not-found")


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


@pytest.mark.parametrize("path", ["/v1/frames?first_day=%00", "/v1/policy/%00", "/v1/frames?%00=1"])
def test_a_nul_is_refused_at_the_door(reader: OneDoor, path: str) -> None:
    """PostgreSQL's text has none, so it would be taken for a mistake of ours."""
    assert refusal(reader.request("GET", path)) == (400, "bad-request")


def test_what_comes_after_a_number_beyond_all_leaves_is_nothing(reader: OneDoor) -> None:
    """Whoever asks so gets an empty list, on either back end."""
    assert listed(reader, f"?after={10**18 - 1}").frames == ()
