"""What a data subject is told of their own data: all of it with proof, and nobody else's."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest

from base.clock import NANOSECONDS
from base.https import OneDoor
from collector import enrol
from collector.rights import me
from tests.conftest import NewPlace
from tests.fakes.organisation import ANOTHER_ID, READER, raw
from tests.fakes.own import approved, asks, believed, hash_of, opened, query_of, sent, told
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.ids import LAST_INSTANT, LEAST_INSTANT, WallInstant
from wire.leaf import Kind
from wire.me import FRESH_SECONDS, About, SignedQuery, verify_query
from wire.me_answers import (
    OwnAccesses,
    OwnBatch,
    OwnBatches,
    OwnDeletions,
    check_access,
    check_batch,
    check_demand,
    check_tombstone,
    head_of,
)

KINDS = {
    About.BATCHES: OwnBatches,
    About.DELETIONS: OwnDeletions,
    About.ACCESSES: OwnAccesses,
}


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


def erases(workstation: Workstation) -> None:
    speaker = workstation.org.speaker(device=False)
    assert workstation.asks(workstation.demands(speaker=speaker)).status == 200


# --- what is told -------------------------------------------------------------------------


@pytest.mark.parametrize("device", [True, False])
def test_a_person_sees_each_batch_with_its_proof(
    site: Site, ada: Workstation, *, device: bool
) -> None:
    """By the rights key or by the device; under a head that the witness cosigned."""
    frames = [sent(ada) for _ in range(3)]
    sent(site.workstation())
    page = told(ada, About.BATCHES, OwnBatches, speaker=ada.org.speaker(device=device))
    head = head_of(page.checkpoint, believed(ada))
    assert head.is_cosigned
    assert [one.batch_hash for one in page.batches] == [hash_of(frame) for frame in frames]
    for one, frame in zip(page.batches, frames, strict=True):
        core = check_batch(one, head, believed(ada))
        assert core.category == "keys"
        assert one.bytes == len(frame)
        answer = asks(site, query_of(ada, About.FRAME, batch=one.batch_hash), _frame(one))
        assert (answer.status, answer.body) == (200, frame)


def test_pages_go_on_where_the_last_one_ended(
    ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch once; the last page says that it is the last."""
    frames = [hash_of(sent(ada)) for _ in range(5)]
    monkeypatch.setattr(me, "PAGE", 2)
    seen, after = [], ""
    for _ in range(3):
        page = told(ada, About.BATCHES, OwnBatches, after=after)
        seen += [one.batch_hash for one in page.batches]
        after = page.next
    assert seen == frames
    assert after == ""
    erases(ada)
    seen, after = [], ""
    for number in range(3):
        gone = told(ada, About.DELETIONS, OwnDeletions, after=after)
        assert bool(gone.demands) == (number == 0)
        seen += [one.batch_hash for one in gone.tombstones]
        after = gone.next
    assert seen == sorted(frames)
    assert after == ""


def test_a_person_sees_what_is_gone_and_why(site: Site, ada: Workstation) -> None:
    """Deleted by the device, run out, erased on demand; each by its leaf, with the guard's word."""
    deleted, erased = sent(ada), sent(ada)
    assert ada.deletes(deleted).status == 200
    erases(ada)
    page = told(ada, About.DELETIONS, OwnDeletions)
    head = head_of(page.checkpoint, believed(ada))
    (demand,) = page.demands
    assert check_demand(demand, head, believed(ada)).category is None
    assert demand.guard is not None
    for one in page.tombstones:
        check_tombstone(one, head)
    assert {(one.batch_hash, one.kind) for one in page.tombstones} == {
        (hash_of(deleted), Kind.TOMBSTONE),
        (hash_of(erased), Kind.DELETION),
    }
    assert told(ada, About.BATCHES, OwnBatches).batches == ()
    for frame in (deleted, erased):
        query = query_of(ada, About.FRAME, batch=hash_of(frame))
        answer = asks(site, query, f"frames/{hash_of(frame).hex()}")
        assert refusal(answer) == (410, "erased")


def test_a_person_sees_who_had_what_opened_and_who_approved_it(
    site: Site, ada: Workstation, reader: OneDoor
) -> None:
    """Also of what was erased since; and nothing of what others had opened."""
    first, second, other = sent(ada), sent(ada), sent(site.workstation())
    opened(reader, approved(site, why="to try it"), first, second, other)
    assert ada.deletes(second).status == 200
    page = told(ada, About.ACCESSES, OwnAccesses)
    head = head_of(page.checkpoint, believed(ada))
    assert head.is_cosigned
    assert [one.batch_hash for one in page.accesses] == [hash_of(first), hash_of(second)]
    for one in page.accesses:
        access = check_access(one, page, head, believed(ada))
        assert access.request is not None
        assert (access.request.reader, access.request.why) == (READER, "to try it")
        assert {name for name, _ in access.approvers} == {"Ada", "Grace"}
        assert {party for _, party in access.approvers} == {
            one.party for one in site.policy.approvers
        }


def test_what_the_collector_makes_up_does_not_verify(
    site: Site, ada: Workstation, reader: OneDoor
) -> None:
    """Another batch, core, leaf, approver or time; a head that no log signed."""
    grace = site.workstation()
    frame = sent(ada)
    sent(grace)
    opened(reader, approved(site), frame)
    page = told(ada, About.BATCHES, OwnBatches)
    others = told(grace, About.BATCHES, OwnBatches)
    head, mine = head_of(page.checkpoint, believed(ada)), believed(ada)
    (one,), (theirs,) = page.batches, others.batches
    with pytest.raises(ForgedError, match="somebody else"):
        check_batch(theirs, head_of(others.checkpoint, mine), mine)
    for changes in ({"batch_hash": bytes(32)}, {"leaf": theirs.leaf}):
        with pytest.raises(ForgedError):
            check_batch(msgspec.structs.replace(one, **changes), head, mine)
    with pytest.raises(WireError):
        head_of(page.checkpoint.replace("\n", "\n ", 1), mine)

    shown = told(ada, About.ACCESSES, OwnAccesses)
    head = head_of(shown.checkpoint, mine)
    (access,), (grant,) = shown.accesses, shown.grants
    lonely = msgspec.structs.replace(grant, approvals=grant.approvals[:1])
    mallory = msgspec.structs.replace(grant.approvals[1], approver="Mallory")
    more = msgspec.structs.replace(grant, approvals=(*grant.approvals, mallory))
    found = check_access(access, msgspec.structs.replace(shown, grants=(more,)), head, mine)
    assert {name for name, _ in found.approvers} == {"Ada", "Grace"}
    forged = msgspec.structs.replace(grant, approvals=(grant.approvals[0], mallory))
    for spoilt in (
        msgspec.structs.replace(shown, grants=()),
        msgspec.structs.replace(shown, grants=(lonely,)),
        msgspec.structs.replace(shown, grants=(forged,)),
        msgspec.structs.replace(shown, policies=()),
    ):
        with pytest.raises((ForgedError, NotCoveredError)):
            check_access(access, spoilt, head, mine)
    with pytest.raises(ForgedError):
        check_access(msgspec.structs.replace(access, batch_hash=bytes(32)), shown, head, mine)


def test_without_the_guard_the_answer_says_that_nobody_cosigned_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A right does not wait for the second party; who asks sees what is missing."""
    with collector_site(tmp_path_factory.mktemp("alone") / "site") as site:
        ada = site.workstation()
        sent(ada)
        away = dataclasses.replace(site.collector.witnessed, guard=None)
        alone = dataclasses.replace(site.collector, witnessed=away)
        query = verify_query(query_of(ada, About.BATCHES), site.origin, About.BATCHES)
        page = me.own_batches(alone, query)
        head = head_of(page.checkpoint, believed(ada))
        assert not head.is_cosigned
        check_batch(page.batches[0], head, believed(ada))


def test_a_halt_hides_nothing_from_the_person(tmp_path_factory: pytest.TempPathFactory) -> None:
    """It stops recording and access by readers, and no right."""
    with collector_site(tmp_path_factory.mktemp("halted") / "site") as site:
        ada = site.workstation()
        frame = sent(ada)
        site.halts("stop")
        assert told(ada, About.BATCHES, OwnBatches).batches
        query = query_of(ada, About.FRAME, batch=hash_of(frame))
        assert asks(site, query, f"frames/{hash_of(frame).hex()}").status == 200


# --- attacks ------------------------------------------------------------------------------


def test_a_query_counts_once(site: Site, ada: Workstation) -> None:
    """Who finds one that was answered gets nothing with it, at whatever path."""
    sent(ada)
    signed = query_of(ada, About.BATCHES)
    assert asks(site, signed, "batches").status == 200
    assert refusal(asks(site, signed, "batches")) == (403, "not-fresh")
    assert refusal(asks(site, signed, "accesses")) == (403, "not-this-subject")


@pytest.mark.parametrize("seconds", [-FRESH_SECONDS - 5, FRESH_SECONDS + 5, 10**8])
def test_a_query_counts_for_minutes(site: Site, ada: Workstation, seconds: int) -> None:
    """One that was kept back is worth nothing, nor is one that was signed ahead."""
    sent(ada)
    at = WallInstant(site.collector.now() + seconds * NANOSECONDS)
    assert refusal(asks(site, query_of(ada, About.BATCHES, made_at=at), "batches")) == (
        403,
        "not-fresh",
    )


def test_a_query_of_a_time_that_no_database_holds_is_refused(site: Site, ada: Workstation) -> None:
    """Before anything reckons with it, however many digits it has."""
    sent(ada)
    for at in (-(10**4000), LEAST_INSTANT - 1, LAST_INSTANT + 1, 10**4000):
        signed = query_of(ada, About.BATCHES, made_at=WallInstant(at))
        assert refusal(asks(site, signed, "batches")) == (422, "malformed")


def test_a_nonce_is_forgotten_only_once_its_query_is_too_old(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also one that was signed a little ahead."""
    with collector_site(tmp_path_factory.mktemp("later") / "site") as site:
        ada = site.workstation()
        sent(ada)
        ahead = WallInstant(site.collector.now() + 250 * NANOSECONDS)
        signed = query_of(ada, About.BATCHES, made_at=ahead)
        assert asks(site, signed, "batches").status == 200
        for seconds in (1, 400, 540, 600):
            site.clock.moved = timedelta(seconds=seconds)
            assert asks(site, query_of(ada, About.BATCHES), "batches").status == 200
            assert refusal(asks(site, signed, "batches")) == (403, "not-fresh")


def test_another_persons_key_gets_nothing_of_theirs(site: Site, ada: Workstation) -> None:
    """Neither by naming them, nor with their key, nor with an appointment of its own making."""
    grace = site.workstation()
    frame = sent(ada)
    sent(grace)
    named = query_of(grace, About.BATCHES, subject=ada.org.subject)
    assert refusal(asks(site, named, "batches")) == (403, "not-this-subject")
    stolen_key = msgspec.structs.replace(named, rights_key=raw(ada.org.rights_key))
    assert refusal(asks(site, stolen_key, "batches")) == (422, "forged")
    speaker = dataclasses.replace(grace.org.speaker(), rights_key=raw(ada.org.rights_key))
    appointed = query_of(grace, About.BATCHES, subject=ada.org.subject, speaker=speaker)
    assert refusal(asks(site, appointed, "batches")) == (422, "forged")
    path = f"frames/{hash_of(frame).hex()}"
    theirs = query_of(grace, About.FRAME, batch=hash_of(frame))
    assert refusal(asks(site, theirs, path)) == (404, "not-found")  # as one that never was
    elsewhere = query_of(ada, About.BATCHES, origin="https://other.example")
    assert refusal(asks(site, elsewhere, "batches")) == (403, "not-this-subject")


def test_a_batch_that_two_people_could_have_deleted_is_shown_to_neither(
    site: Site, ada: Workstation
) -> None:
    """On a device on which somebody else agreed, too, a deletion is nobody's for sure."""
    frame = sent(ada)
    assert ada.deletes(frame).status == 200
    assert told(ada, About.DELETIONS, OwnDeletions).tombstones
    grace = site.workstation()
    both = dataclasses.replace(
        ada,
        org=dataclasses.replace(
            ada.org, subject_identity=grace.org.subject_identity, subject=grace.org.subject
        ),
    )
    assert both.registers(both.consent(record_id=ANOTHER_ID)).status == 201
    assert told(ada, About.DELETIONS, OwnDeletions).tombstones == ()
    assert told(both, About.DELETIONS, OwnDeletions).tombstones == ()


def test_a_stranger_is_told_nothing(site: Site, ada: Workstation) -> None:
    """Who never agreed to anything here; not even that the query was good."""
    for about in KINDS:
        assert refusal(asks(site, query_of(ada, about), about)) == (404, "not-found")


def test_only_a_device_may_show_a_certificate(
    site: Site, ada: Workstation, reader: OneDoor
) -> None:
    """A reader asks nothing here, whatever it got somebody to sign."""
    sent(ada)
    signed = query_of(ada, About.BATCHES)
    assert refusal(asks(site, signed, "batches", reader)) == (403, "wrong-role")
    assert asks(site, signed, "batches", ada.door).status == 200


def test_a_revoked_device_is_told_nothing_and_the_rights_key_still_is(
    site: Site, ada: Workstation
) -> None:
    """A stolen device is revoked; the person is not."""
    sent(ada)
    with site.collector.index.writing() as connection:
        enrol.revoke_device(connection, ada.id.hex(), site.collector.now())
    by_device = query_of(ada, About.BATCHES, speaker=ada.org.speaker())
    assert refusal(asks(site, by_device, "batches")) == (401, "revoked")
    assert refusal(asks(site, query_of(ada, About.BATCHES), "batches", ada.door))[0] == 401
    assert told(ada, About.BATCHES, OwnBatches).batches


def test_a_huge_body_and_nonsense_are_refused(site: Site, ada: Workstation) -> None:
    """Before anything is looked up."""
    sent(ada)
    door = site.door()
    path = "/v1/me/batches"
    assert refusal(door.request("POST", path, b"[" * 100_000)) == (413, "too-large")
    assert refusal(door.request("POST", path, b"{}")) == (400, "bad-request")
    assert refusal(door.request("POST", path, b"\xff")) == (400, "bad-request")
    for after in ("-1", "x", "9" * 18, "\u0663"):
        answer = asks(site, query_of(ada, About.BATCHES, after=after), "batches")
        assert refusal(answer) == (400, "bad-request")
    long = asks(site, query_of(ada, About.BATCHES, after="9" * 65), "batches")
    assert refusal(long) == (422, "malformed")
    not_hex = asks(site, query_of(ada, About.DELETIONS, after="zz"), "deletions")
    assert refusal(not_hex) == (400, "bad-request")
    other = query_of(ada, About.FRAME, batch=bytes(32))
    assert refusal(asks(site, other, f"frames/{'11' * 32}")) == (400, "bad-request")


def test_one_person_asks_as_often_as_one_device(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And holds up nobody else."""
    limits = "device_uploads_per_minute = 0\ndevice_requests_per_minute = 3\n"
    with collector_site(tmp_path_factory.mktemp("few") / "site", limits) as site:
        ada, grace = site.workstation(), site.workstation()
        for one in (ada, grace):
            assert one.registers(one.consent()).status == 201
        answers = [asks(site, query_of(ada, About.BATCHES), "batches") for _ in range(5)]
        assert [each.status for each in answers] == [200, 200, 200, 429, 429]
        assert asks(site, query_of(grace, About.BATCHES), "batches").status == 200


@pytest.mark.parametrize("field", ["query", "rights_key", "signature", "device_key", "appointment"])
def test_every_byte_of_a_query_counts(site: Site, ada: Workstation, field: str) -> None:
    """Flipped, each one ends in a refusal, and in no other error."""
    good = query_of(ada, About.BATCHES, speaker=ada.org.speaker())
    data = getattr(good, field)
    assert data
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        changed = msgspec.structs.replace(good, **{field: bytes(spoilt)})
        with pytest.raises(WireError):
            verify_query(changed, site.origin, About.BATCHES)


@pytest.mark.parametrize(
    ("about", "changes", "expected"),
    [
        (About.BATCHES, {"nonce": b"short"}, MalformedError),
        (About.BATCHES, {"batch": bytes(32)}, MalformedError),
        (About.FRAME, {"batch": bytes(31)}, MalformedError),
        (About.BATCHES, {"origin": "https://else.example"}, NotCoveredError),
        (About.BATCHES, {"subject": bytes(16)}, NotCoveredError),
        (About.BATCHES, {"about": About.ACCESSES}, NotCoveredError),
    ],
)
def test_a_query_that_says_nonsense_is_refused(
    site: Site,
    ada: Workstation,
    about: About,
    changes: dict[str, object],
    expected: type[WireError],
) -> None:
    """Signed or not."""
    signed = query_of(ada, **({"about": about} | changes))  # type: ignore[arg-type]
    with pytest.raises(expected):
        verify_query(signed, site.origin, about)


def test_a_demand_is_no_query_and_a_query_no_demand(site: Site, ada: Workstation) -> None:
    """Each is signed under a label of its own."""
    sent(ada)
    demand = ada.demands(speaker=ada.org.speaker(device=False))
    as_query = SignedQuery(
        query=demand.request, rights_key=demand.rights_key, signature=demand.signature
    )
    assert refusal(asks(site, as_query, "batches")) == (422, "forged")


def _frame(shown: OwnBatch) -> str:
    return f"frames/{shown.batch_hash.hex()}"
