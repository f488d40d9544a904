"""Demands of a data subject at collector and guard: their own, carried out once, and final."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import select

from base.clock import NANOSECONDS
from base.door import Response
from collector import enrol
from collector.guard.client import GuardClient
from collector.guard.watch import Watch
from collector.index.tables import requests
from collector.ingest.taken_back import OF_SUBJECTS
from collector.refusal import RefusedError, Why
from collector.rights import demands
from collector.rights.demands import carry_out
from guard.keys import Keys, Missing
from tests.conftest import NewPlace
from tests.fakes.organisation import ANOTHER_ID, Organisation, raw, wall
from tests.fakes.site import Site, Workstation, collector_site, refusal, today
from wire.category import Category
from wire.collector_http import Carried, decode, verify_logged
from wire.consent_event import ConsentEvent, sign_event
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.grant import grant_hash
from wire.guard_http import KeyAnswer, KeyRequest
from wire.ids import LAST_INSTANT, LEAST_INSTANT, BatchHash, WallInstant, key_id
from wire.leaf import Kind, request_payload
from wire.linked import ConsentState
from wire.me_answers import OwnAccess, Proof
from wire.rights import (
    Demand,
    Erasure,
    SignedErasure,
    SignedRequest,
    rights_key_of,
    sign_erasure,
    subject_of,
    verify_erasure,
    verify_request,
)
from wire.sealing import new_identity

MONTH = today()[:7]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder / "site", index_url=new_place(folder).url) as site:
        yield site


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


def sent(workstation: Workstation) -> bytes:
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    return frame


def carried(answer: Response) -> Carried:
    assert answer.status == 200, answer.body
    return decode(answer.body, Carried)


def is_stored(site: Site, frame: bytes) -> bool:
    return site.collector.store.get(BatchHash(hashlib.sha256(frame).digest())) is not None


def has_seed(site: Site, workstation: Workstation) -> bool:
    keys = Keys(site.guard.folder / "keys.sqlite")
    try:
        return not isinstance(keys.find(workstation.org.subject, Category.KEYS, MONTH), Missing)
    finally:
        keys.close()


def without_guard(site: Site) -> Site:
    class Away:
        def erase(self, signed: SignedRequest, signing_key: str) -> SignedErasure:
            raise RefusedError(Why.GUARD_UNREACHABLE, f"away: {signed.digest!r} {signing_key}")

    collector = dataclasses.replace(site.collector, guard=cast("GuardClient", Away()))
    return dataclasses.replace(site, collector=collector)


# --- how many ----------------------------------------------------------------------------


def test_a_hundred_days_are_erased_in_a_day_and_not_without_end(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each demand stays for ever: one key has so many a day, by itself; a no has its own."""
    assert demands.MOST_A_DAY >= 100
    monkeypatch.setattr(demands, "MOST_A_DAY", 3)
    ada.consents()
    day: dict[str, Any] = {"first_day": "2020-01-01", "last_day": "2020-01-01"}
    first, *_ = asked = [ada.demands(**day) for _ in range(3)]
    assert [ada.asks(one).status for one in asked] == [200] * 3

    answer = ada.asks(ada.demands(**day))
    assert refusal(answer) == (429, "too-many")
    assert answer.retry_after_seconds == 900
    assert ada.asks(first).status == 200  # it is carried out already
    assert ada.asks(ada.demands(**day, speaker=ada.org.speaker(device=False))).status == 200
    assert [ada.asks(ada.demands(Demand.WITHDRAW)).status for _ in range(4)] == [200] * 3 + [429]
    other = site.workstation()
    other.consents()
    assert other.asks(other.demands(**day)).status == 200
    monkeypatch.setattr(site.clock, "moved", timedelta(hours=25))
    assert ada.asks(ada.demands(**day)).status == 200


def test_what_is_demanded_again_and_again_costs_an_upload_one_row(
    site: Site, ada: Workstation
) -> None:
    """The last demand for the same thing says it all."""
    ada.consents()
    for made_at in (5, 7, 6):
        demand = ada.demands(first_day="2020-01-01", last_day="2020-01-01", made_at=made_at)
        assert ada.asks(demand).status == 200
    assert ada.asks(ada.demands(category=Category.SCREEN, made_at=3)).status == 200
    with site.collector.index.reading() as connection:
        rows = OF_SUBJECTS.all(connection, subjects=[ada.org.subject])
    said = {(row.category, row.first_day, row.last_day, row.made_at) for row in rows}
    assert said == {(None, "2020-01-01", "2020-01-01", 7), ("screen", "", "", 3)}
    assert len(rows) == 2


# --- erasing ------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [True, False])
@pytest.mark.parametrize("category", [None, Category.KEYS])
def test_an_erasure_leaves_nothing_that_opens_and_is_receipted_by_both(
    site: Site, ada: Workstation, category: Category | None, *, device: bool
) -> None:
    """One request, from the device or the rights key: body, index row and guard's key are gone."""
    frame = sent(ada)
    assert has_seed(site, ada)
    signed = ada.demands(category=category, speaker=ada.org.speaker(device=device))
    done = carried(ada.asks(signed))
    assert done.erased == 1
    verify_logged(
        done.logged, Kind.DELETION, request_payload(signed.digest), site.policy.collector.log
    )
    assert done.guard is not None
    word = verify_erasure(done.guard, signed.digest, site.policy.guard.signing_key)
    assert word.keys == 1
    assert word.pending_until > word.erased_at
    assert not is_stored(site, frame)
    assert not has_seed(site, ada)
    assert refusal(ada.puts(frame)) == (410, "erased")


def test_what_comes_later_under_the_same_consent_is_gone_too(site: Site, ada: Workstation) -> None:
    """A batch that was on its way, and a consent record that was."""
    consent = ada.consents()
    late = ada.seals(consent)
    other = ada.consent(Category.POINTER, given_at=site.collector.now())
    carried(ada.asks(ada.demands()))
    assert refusal(ada.puts(late)) == (410, "erased")
    assert refusal(ada.registers(other)) == (410, "erased")


@pytest.mark.parametrize("whole", [True, False], ids=["all", "of days"])
def test_a_consent_that_is_dated_ahead_is_taken_back_all_the_same(
    site: Site, ada: Workstation, *, whole: bool
) -> None:
    """A device whose clock is an hour ahead, or that says so: what was here before counts."""
    ada.agrees_at = WallInstant(site.collector.now() + 3600 * NANOSECONDS)
    consent = ada.consents()
    frame, late = ada.seals(consent), ada.seals(consent)
    assert ada.puts(frame).status == 201
    days: dict[str, Any] = {} if whole else {"first_day": today(-1), "last_day": today(1)}
    done = carried(ada.asks(ada.demands(**days, speaker=ada.org.speaker(device=False))))
    assert done.erased == 1
    assert not is_stored(site, frame)
    assert refusal(ada.puts(late)) == (410, "erased")
    again = ada.consent(
        given_at=WallInstant(site.collector.now() + 3600 * NANOSECONDS), record_id=ANOTHER_ID
    )
    assert ada.registers(again).status == 201
    assert ada.puts(ada.seals(again)).status == 201


def test_who_agrees_again_afterwards_is_recorded_again_under_a_new_key(
    site: Site, ada: Workstation
) -> None:
    """Erasing is no ban; nothing of before becomes readable by it."""
    sent(ada)
    before = msgspec.json.decode(ada.asks_key().body, type=KeyAnswer).public_key
    carried(ada.asks(ada.demands()))
    again = ada.consent(given_at=site.collector.now(), record_id=ANOTHER_ID)
    assert ada.registers(again).status == 201
    after = msgspec.json.decode(ada.asks_key().body, type=KeyAnswer).public_key
    assert key_id(after) != key_id(before)
    assert ada.puts(ada.seals(again)).status == 201


def test_a_key_that_was_on_its_way_while_it_was_erased_is_not_handed_out(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept, it would be handed out for the rest of the month, and what it seals is lost."""
    sent(ada)
    guard = site.collector.guard
    assert guard is not None
    answered = guard.key

    def erased_meanwhile(asked: KeyRequest, signing_key: str) -> KeyAnswer:
        answer = answered(asked, signing_key)
        carried(ada.asks(ada.demands()))
        return answer

    pointer = ada.consent(Category.POINTER, given_at=site.collector.now())
    assert ada.registers(pointer).status == 201
    with monkeypatch.context() as changed:
        changed.setattr(guard, "key", erased_meanwhile)
        assert refusal(ada.asks_key(Category.POINTER)) == (503, "guard-unreachable")
    again = ada.consent(given_at=site.collector.now(), record_id=ANOTHER_ID)
    assert ada.registers(again).status == 201
    assert ada.asks_key().status == 200
    assert ada.puts(ada.seals(again)).status == 201


def test_a_replay_is_harmless(site: Site, ada: Workstation) -> None:
    """The same request again gives the same answer, and touches nothing that came since."""
    sent(ada)
    signed = ada.demands()
    first = carried(ada.asks(signed))
    again = ada.consent(given_at=site.collector.now(), record_id=ANOTHER_ID)
    assert ada.registers(again).status == 201
    frame = ada.seals(again)
    assert ada.puts(frame).status == 201
    second = carried(ada.asks(signed))
    assert (second.erased, second.guard, second.logged.index) == (
        first.erased,
        first.guard,
        first.logged.index,
    )
    assert is_stored(site, frame)
    assert has_seed(site, ada)


def test_a_span_takes_its_days_and_leaves_keys_that_other_days_need(
    site: Site, ada: Workstation
) -> None:
    """Inside a month the batches go, and the guard says truthfully that no key did."""
    frame = sent(ada)
    gone = carried(ada.asks(ada.demands(first_day=today(-3), last_day=today(-1))))
    assert gone.erased == 0
    assert is_stored(site, frame)
    signed = ada.demands(first_day=today(), last_day=today())
    done = carried(ada.asks(signed))
    assert done.erased == 1
    assert not is_stored(site, frame)
    assert done.guard is not None
    word = verify_erasure(done.guard, signed.digest, site.policy.guard.signing_key)
    assert word.keys == 0
    assert has_seed(site, ada)


def test_erasing_goes_on_during_a_halt_of_everybody(tmp_path: Path) -> None:
    """A halt must never keep anybody's data alive."""
    with collector_site(tmp_path / "site") as site:
        ada = site.workstation()
        sent(ada)
        site.halts("stop")
        assert carried(ada.asks(ada.demands())).guard is not None


# --- the guard is away --------------------------------------------------------------------


def test_without_the_guard_its_half_is_said_to_be_outstanding_and_made_up_for(
    site: Site, ada: Workstation
) -> None:
    """Our half is done at once; the guard's with its next answer; no new key comes between."""
    frame = sent(ada)
    signed = ada.demands()
    done = carry_out(without_guard(site).collector, signed)
    assert (done.erased, done.guard) == (1, None)
    assert not is_stored(site, frame)
    assert has_seed(site, ada)
    again = ada.consent(given_at=site.collector.now(), record_id=ANOTHER_ID)
    assert ada.registers(again).status == 201
    assert refusal(ada.asks_key()) == (503, "guard-unreachable")
    Watch(site.collector).pass_on()
    assert not has_seed(site, ada)
    assert ada.asks_key().status == 200
    assert carried(ada.asks(signed)).guard is not None


def test_what_is_outstanding_is_passed_on_in_portions_and_one_holds_up_no_other(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round is short, ends where the guard fails, and the next one begins behind that."""
    monkeypatch.setattr(demands, "MOST_PASSED_ON", 2)
    ada.consents()
    away = without_guard(site).collector
    asked = [ada.demands(first_day=today(-n), last_day=today(-n)) for n in range(1, 6)]
    for each in asked:
        carry_out(away, each)

    def outstanding() -> list[int]:
        rows = select(requests.c.digest).where(requests.c.guard.is_(None))
        with site.collector.index.reading() as connection:
            left = set(connection.execute(rows).scalars())
        return [number for number, each in enumerate(asked) if each.digest in left]

    after, failed = demands.pass_on_next(away, -1)
    assert failed
    assert outstanding() == [0, 1, 2, 3, 4]
    after, failed = demands.pass_on_next(site.collector, after)
    assert (failed, outstanding()) == (False, [0, 3, 4])
    after, failed = demands.pass_on_next(site.collector, after)
    assert (failed, outstanding()) == (False, [0])
    demands.pass_on_next(site.collector, after)
    assert outstanding() == []


def test_whoever_looks_for_a_halt_passes_nothing_on(site: Site, ada: Workstation) -> None:
    """The thread that hears halts has nothing else to wait for."""
    ada.consents()
    carry_out(without_guard(site).collector, ada.demands())
    watch = Watch(site.collector)
    watch.look()
    assert refusal(ada.asks_key()) == (503, "guard-unreachable")
    watch.pass_on()
    ada.consents()
    assert ada.asks_key().status == 200


def test_a_crash_after_the_tombstones_is_put_right_at_the_next_start(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files go then; what was acknowledged as erased is."""
    frame = sent(ada)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("collector.rights.demands.sweep_left", dies)
    with pytest.raises(KeyboardInterrupt):
        carry_out(site.collector, signed := ada.demands())
    monkeypatch.undo()
    assert is_stored(site, frame)
    assert refusal(ada.puts(frame)) == (410, "erased")
    site.collector.put_right()
    assert not is_stored(site, frame)
    assert carried(ada.asks(signed)).erased == 1


# --- withdrawing --------------------------------------------------------------------------


def test_a_withdrawal_with_the_rights_key_stops_uploads_and_the_device_hears_it(
    ada: Workstation, site: Site
) -> None:
    """What is there stays until it is erased; the device is told who said it, and can check."""
    frame = sent(ada)
    late = ada.seals(ada.consents())
    signed = ada.demands(Demand.WITHDRAW, speaker=ada.org.speaker(device=False))
    done = carried(ada.asks(signed))
    assert (done.erased, done.guard) == (0, None)
    assert is_stored(site, frame)
    assert refusal(ada.puts(late)) == (410, "erased")
    assert ada.hears() == (signed,)
    assert verify_request(signed, site.origin).demand is Demand.WITHDRAW


def test_a_device_is_not_told_of_its_own_requests_nor_of_others(
    site: Site, ada: Workstation
) -> None:
    """Those it has carried out already, and those are not its data subject's."""
    grace = site.workstation()
    for one in (ada, grace):
        one.consents()
    carried(ada.asks(ada.demands()))
    carried(grace.asks(grace.demands(speaker=grace.org.speaker(device=False))))
    assert ada.hears() == ()


def test_no_demand_grants() -> None:
    """The rights key takes away; there is no word for giving."""
    assert set(Demand) == {Demand.WITHDRAW, Demand.ERASE}


# --- attacks ------------------------------------------------------------------------------


def test_a_device_cannot_erase_another_data_subject(site: Site, ada: Workstation) -> None:
    """Neither by naming it, nor with an appointment of its own making, nor with its pseudonym."""
    grace = site.workstation()
    frame = sent(ada)
    sent(grace)
    named = grace.demands(subject=ada.org.subject)
    assert refusal(grace.asks(named)) == (403, "not-this-subject")
    stolen = msgspec.structs.replace(named, rights_key=raw(ada.org.rights_key))
    assert refusal(grace.asks(stolen)) == (422, "forged")
    speaker = dataclasses.replace(grace.org.speaker(), rights_key=raw(ada.org.rights_key))
    appointed = grace.demands(subject=ada.org.subject, speaker=speaker)
    assert refusal(grace.asks(appointed)) == (422, "forged")
    assert is_stored(site, frame)
    assert has_seed(site, ada)


def test_a_revoked_device_asks_for_nothing_and_the_rights_key_still_can(
    site: Site, ada: Workstation
) -> None:
    """A stolen device is revoked; the person is not."""
    sent(ada)
    with site.collector.index.writing() as connection:
        enrol.revoke_device(connection, ada.id.hex(), site.collector.now())
    assert refusal(ada.asks(ada.demands())) == (401, "revoked")
    assert carried(ada.asks(ada.demands(speaker=ada.org.speaker(device=False)))).erased == 1


def test_the_guard_believes_no_collector_about_a_data_subjects_will(
    site: Site, ada: Workstation
) -> None:
    """It checks the signature itself: what the data subject did not sign erases no key."""
    sent(ada)
    assert site.collector.guard is not None
    forged = msgspec.structs.replace(ada.demands(), signature=bytes(64))
    with pytest.raises(RefusedError, match="403"):
        site.collector.guard.erase(forged, site.policy.guard.signing_key)
    withdrawal = ada.demands(Demand.WITHDRAW)
    with pytest.raises(RefusedError, match="403"):
        site.collector.guard.erase(withdrawal, site.policy.guard.signing_key)
    assert has_seed(site, ada)


def test_a_strangers_request_and_one_of_tomorrow_are_refused(site: Site, ada: Workstation) -> None:
    """Nobody fills the log with demands about nobody; nor bans a consent that is yet to come."""
    assert refusal(ada.asks(ada.demands())) == (404, "not-found")
    ada.consents()
    ahead = WallInstant(site.collector.now() + 2 * 24 * 3600 * 1_000_000_000)
    assert refusal(ada.asks(ada.demands(made_at=ahead))) == (400, "bad-request")
    elsewhere = ada.demands(origin="https://other.example")
    assert refusal(ada.asks(elsewhere)) == (403, "not-this-subject")


@pytest.mark.parametrize("at", [-(10**30), LEAST_INSTANT - 1, LAST_INSTANT + 1, 10**30])
def test_a_demand_of_a_time_that_no_database_holds_is_refused(
    site: Site, ada: Workstation, at: int
) -> None:
    """By name, and by guard and collector alike; the earliest that is held is carried out."""
    ada.consents()
    signed = ada.demands(made_at=WallInstant(at))
    assert refusal(ada.asks(signed)) == (422, "malformed")
    assert site.collector.guard is not None
    with pytest.raises(RefusedError, match="status 4"):
        site.collector.guard.erase(signed, site.policy.guard.signing_key)
    assert ada.asks(ada.demands(made_at=WallInstant(LEAST_INSTANT))).status == 200


@pytest.mark.parametrize("year", [1600, 2263, 9999])
def test_a_consent_of_a_year_that_no_database_holds_is_refused(ada: Workstation, year: int) -> None:
    """And so is what became of one; the device's clock is anything."""
    given = ada.consents()
    at = wall(datetime(year, 1, 2, tzinfo=UTC))
    assert refusal(ada.registers(ada.consent(given_at=at))) == (422, "forged")
    ended = ConsentEvent(grant=grant_hash(given), state=ConsentState.WITHDRAWN, at=at)
    body = msgspec.json.encode(sign_event(ended, ada.org.device))
    assert refusal(ada.door.request("POST", "/v1/consent-events", body)) == (422, "forged")


# --- formats ------------------------------------------------------------------------------

ACME = Organisation()


@pytest.fixture(scope="module")
def good(site: Site) -> SignedRequest:
    return site.workstation().demands()


@pytest.mark.parametrize(
    "field", ["request", "rights_key", "signature", "device_key", "appointment"]
)
def test_every_byte_of_a_request_counts(site: Site, good: SignedRequest, field: str) -> None:
    """Flipped, each one ends in a refusal, and in no other error."""
    data = getattr(good, field)
    assert data
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 1
        changed = msgspec.structs.replace(good, **{field: bytes(spoilt)})
        with pytest.raises(WireError):
            verify_request(changed, site.origin)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nonce": b"short"}, MalformedError),
        ({"first_day": "2027-03-01"}, MalformedError),
        ({"first_day": "2027-03-02", "last_day": "2027-03-01"}, MalformedError),
        ({"first_day": "2027-02-30", "last_day": "2027-03-01"}, MalformedError),
        ({"first_day": "20270301", "last_day": "20270302"}, MalformedError),
        (
            {"demand": Demand.WITHDRAW, "first_day": "2027-03-01", "last_day": "2027-03-02"},
            MalformedError,
        ),
        ({"made_at": WallInstant(LEAST_INSTANT - 1)}, MalformedError),
        ({"made_at": WallInstant(-(10**30))}, MalformedError),
        ({"made_at": WallInstant(LAST_INSTANT + 1)}, MalformedError),
        ({"origin": "https://else.example"}, NotCoveredError),
        ({"subject": bytes(16)}, NotCoveredError),
    ],
)
def test_a_request_that_says_nonsense_is_refused(
    site: Site, changes: dict[str, object], expected: type[WireError]
) -> None:
    """Signed or not."""
    with pytest.raises(expected):
        verify_request(site.workstation().demands(**changes), site.origin)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "last", "month", "whole"),
    [
        ("2027-02-01", "2027-02-28", "2027-02", True),
        ("2027-02-01", "2027-02-27", "2027-02", False),
        ("2027-02-02", "2027-02-28", "2027-02", False),
        ("2027-11-15", "2028-01-15", "2027-12", True),
        ("2028-02-01", "2028-02-28", "2028-02", False),  # a leap year
        ("", "", "2027-02", True),
    ],
)
def test_a_month_is_covered_only_whole(
    site: Site, first: str, last: str, month: str, *, whole: bool
) -> None:
    """A key opens its whole month, so it goes only with it."""
    signed = site.workstation().demands(first_day=first, last_day=last)
    request = verify_request(signed, site.origin)
    assert request.covers_month("keys", month) is whole


def test_the_pseudonym_and_the_rights_key_follow_from_the_identity() -> None:
    """The same on every machine; another identity has others."""
    one, two = new_identity(), new_identity()
    subject: Callable[[str], bytes] = lambda i: subject_of(raw(rights_key_of(i)))  # noqa: E731
    assert subject(one) == subject(one)
    assert subject(one) != subject(two)
    assert len(subject(one)) == 16


def test_a_receipt_of_another_guard_or_for_another_request_proves_nothing(
    site: Site, ada: Workstation
) -> None:
    """A collector that only pretends has nothing to show."""
    sent(ada)
    signed = ada.demands()
    word = carried(ada.asks(signed)).guard
    assert word is not None
    key = site.policy.guard.signing_key
    for forged, digest, signer in (
        (msgspec.structs.replace(word, signature=bytes(64)), signed.digest, key),
        (word, bytes(32), key),
        (word, signed.digest, ACME.policy().guard.signing_key),
    ):
        with pytest.raises(ForgedError):
            verify_erasure(forged, digest, signer)


@pytest.mark.parametrize("field", ["erased_at", "pending_until"])
@pytest.mark.parametrize("at", [10**30, -(10**30)])
def test_a_receipt_of_no_time_is_none(field: str, at: int) -> None:
    """The guard that signed it would end whoever says the day of it."""
    word = Erasure(
        request=bytes(32), keys=1, erased_at=WallInstant(1), pending_until=WallInstant(2)
    )
    key = ACME.policy().guard.signing_key
    assert verify_erasure(sign_erasure(word, ACME.guard), bytes(32), key) == word
    odd = msgspec.structs.replace(word, **{field: at})
    with pytest.raises(MalformedError, match="no calendar"):
        verify_erasure(sign_erasure(odd, ACME.guard), bytes(32), key)


def test_an_answer_about_ones_own_data_has_times_that_can_be_said() -> None:
    """A collector's answer of the year 10^21 is none."""
    leaf = Proof(index=0, salt=b"", proof=())
    for at in (10**30, -(10**30)):
        own = OwnAccess(
            batch_hash=b"",
            core_hash=b"",
            access=b"",
            policy=b"",
            released_at=WallInstant(at),
            leaf=leaf,
        )
        with pytest.raises(MalformedError):
            decode(msgspec.json.encode(own), OwnAccess)
