"""Erasures of the whole agent: asked durably, told again until proved, and listed until then."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.consent.entries import Withdrawn
from agent.consent.ledger import Ledger
from agent.consent.standing import Erasing
from agent.erasures import Asked, Erasures, look
from base.clock import SystemClock
from tests.fakes.organisation import Organisation, ed25519
from tests.fakes.workstation import (
    Workstation,
    capturing,
    eventually,
    nothing_is_open,
    play,
    running,
)
from wire.category import Category
from wire.collector_http import decode, verify_logged
from wire.control import Done, Erase, Reason, Refused, Withdraw
from wire.errors import MalformedError
from wire.guard_order import SignedOrder, verify_order
from wire.ids import WallInstant
from wire.rights import (
    MOST_AT_ONCE,
    Demand,
    Erasure,
    Request,
    Requests,
    SignedErasure,
    SignedRequest,
    sign_request,
    verify_request,
)


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


@pytest.mark.parametrize("guard", ["silent", "false"])
def test_an_erasure_without_the_guards_receipt_stays_listed(
    station: Workstation, guard: str
) -> None:
    """A collector that only says so proves nothing; the data subject is told what is missing."""

    async def story() -> None:
        station.collector.guard_answers = guard == "false"
        station.collector.guard = ed25519()
        async with capturing(station, Category.KEYS) as service:
            await station.tray.say(Withdraw(erase=True))
            status = await station.tray.until(
                lambda s: any("NOT confirmed by the guard" in line for line in s.unconfirmed)
            )
            assert "everything" in status.unconfirmed[0]
        station.collector.guard_answers, station.collector.guard = True, None
        async with running(station) as service:  # and it is asked again after a restart
            await eventually(lambda: service.erasures.outstanding() == [])
            assert "confirmed" in service.erasures.all()[0].words(0)
        assert len(set(map(repr, station.collector.demanded))) == 1

    play(story())


def test_what_is_demanded_elsewhere_with_the_rights_key_ends_consent_here(
    station: Workstation,
) -> None:
    """Only with this data subject's key, and only what was agreed to before."""

    def demand(org: Organisation, *, device: bool = False) -> SignedRequest:
        request = Request(
            nonce=bytes(16),
            origin=station.policy.collector.origin,
            subject=org.subject,
            demand=Demand.WITHDRAW,
            category=None,
            made_at=WallInstant(station.clock.now().wall),
        )
        return sign_request(request, org.speaker(device=device))

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            own = demand(station.organisation)
            forged = msgspec.structs.replace(own, signature=bytes(64))
            for false in (demand(Organisation()), forged):
                await service.on_demands((false,))
            assert Category.KEYS in service.standing.grants
            station.collector.demands = (own,)
            service.delivery.wake()
            await station.tray.until(lambda s: s.reason is Reason.NOT_CONSENTED)
            await eventually(lambda: nothing_is_open(station))
            await station.agree(Category.KEYS)  # a click afterwards is a new consent
            await service.on_demands((own,))
            assert Category.KEYS in service.standing.grants

    play(story())


def test_an_answer_full_of_nonsense_holds_nobody_up(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An honest one has so many at most; they are verified beside, and one line says so."""
    demand = SignedRequest(request=b"", rights_key=b"", signature=b"")
    order = SignedOrder(order=b"", signature=b"")
    most = Requests(requests=(demand,) * MOST_AT_ONCE, orders=(order,) * MOST_AT_ONCE)
    assert decode(msgspec.json.encode(most), Requests) == most
    for more in ({"requests": (demand, *most.requests)}, {"orders": (order, *most.orders)}):
        with pytest.raises(MalformedError):
            decode(msgspec.json.encode(msgspec.structs.replace(most, **more)), Requests)
    monkeypatch.setattr("agent.afar.verify_request", in_a_thread(verify_request))
    monkeypatch.setattr("agent.guard_orders.verify_order", in_a_thread(verify_order))
    monkeypatch.setattr("agent.knock.verify_logged", in_a_thread(verify_logged))

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            monkeypatch.setattr(station.collector, "rights", lambda: most)
            service.delivery.wake()
            await eventually(lambda: "orders that the collector passed on" in caplog.text)

    play(story())
    assert caplog.text.count("100 demands that the collector passed on are not") == 1
    assert caplog.text.count("100 orders that the collector passed on are not") == 1


def in_a_thread(verify: Callable[..., object]) -> Callable[..., object]:
    """Return *verify*, which is not to be called in the loop's."""

    def beside(*what: object) -> object:
        assert threading.current_thread() is not threading.main_thread()
        return verify(*what)

    return beside


def test_days_that_are_past_can_be_erased_and_today_cannot(station: Workstation) -> None:
    """What of them is here is deleted; the consent stays."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            today = f"{datetime.now(UTC):%Y-%m-%d}"
            for first, last in ((today, today), ("2026-01-02", "2026-01-01"), ("x", "y")):
                said = await service.answer(Erase(first_day=first, last_day=last))
                assert isinstance(said, Refused)
            assert isinstance(
                await service.answer(Erase(first_day="2026-01-01", last_day="2026-01-02")), Done
            )
            await eventually(lambda: service.erasures.outstanding() == [])
            [request] = station.collector.demanded
            assert (request.first_day, request.last_day) == ("2026-01-01", "2026-01-02")
            assert Category.KEYS in service.standing.grants

    play(story())


def test_a_crash_between_the_ledger_and_the_request_makes_the_same_request(
    station: Workstation,
) -> None:
    """However often it is made again: to the byte, so nobody carries it out twice."""
    device, now = station.device, SystemClock().now()
    ledger = Ledger.open(station.paths.state, device.key.public_key(), now)
    ledger.append(Withdrawn(category=Category.SCREEN, erase=True), now)
    service = station.service()  # the next start
    [asked] = service.erasures.all()
    assert (asked.request.category, asked.is_outstanding) == (Category.SCREEN, True)
    before = {path.name: path.read_bytes() for path in (station.paths.state / "erasures").iterdir()}
    service.enforce()
    again = Erasures(station.paths.state, device.asker)
    assert not any(again.ask(each) for each in service.standing.erasing)
    after = {path.name: path.read_bytes() for path in (station.paths.state / "erasures").iterdir()}
    assert before == after
    assert look(station.paths.state) == [asked]


@pytest.mark.parametrize("year", [1970, 2026, 2100])
def test_an_erasure_covers_all_that_was_agreed_to_whatever_the_clock_says(
    station: Workstation, year: int
) -> None:
    """A no needs no right clock: not one that went back, and not one that the collector refuses."""

    async def story() -> None:
        async with capturing(station, Category.KEYS, Category.POINTER) as service:
            given = [grant.record.given_at for grant in service.standing.grants.values()]
            wrong = int(datetime(year, 1, 2, tzinfo=UTC).timestamp() * 1e9)
            right = station.clock.now().wall
            station.clock.wall_shift += wrong - right
            await station.tray.say(Withdraw(category=Category.KEYS))
            await station.tray.say(Withdraw(erase=True))
            [asked] = service.erasures.all()
            assert max(given) <= asked.request.made_at <= right

    play(story())


def one_asked(station: Workstation) -> tuple[Erasing, Asked, Path]:
    """Withdraw and ask for the erasure; return what asks, what is kept of it, and where."""
    device, now = station.device, SystemClock().now()
    ledger = Ledger.open(station.paths.state, device.key.public_key(), now)
    ledger.append(Withdrawn(category=None, erase=True), now)
    erasures, [erasing] = Erasures(station.paths.state, device.asker), ledger.standing.erasing
    assert erasures.ask(erasing)
    [asked], [path] = erasures.all(), (station.paths.state / "erasures").iterdir()
    return erasing, asked, path


def test_a_damaged_request_is_put_aside_and_asked_anew_from_the_ledger(
    station: Workstation,
) -> None:
    """Nothing is lost with the file: what was withdrawn stands in the ledger."""
    erasing, _asked, path = one_asked(station)
    path.write_bytes(b"{}")
    damaged = Erasures(station.paths.state, station.device.asker)
    assert damaged.all() == []
    assert damaged.ask(erasing)
    assert path.with_suffix(".unreadable").exists()


def test_who_looks_beside_the_agent_changes_nothing(
    station: Workstation, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged request is named, and stays where it is: the agent alone puts it aside."""
    _erasing, _asked, path = one_asked(station)
    path.write_bytes(b"{}")
    assert look(station.paths.state) == []
    assert path.name in caplog.text
    assert [path] == list(path.parent.iterdir())
    assert path.read_bytes() == b"{}"


@pytest.mark.parametrize("at", [1 << 90, -(1 << 90)])
def test_a_kept_receipt_with_a_time_that_no_calendar_has_is_asked_for_anew(
    station: Workstation, at: int
) -> None:
    """Nobody trips over it: it counts as damaged, as it would if the guard said it today."""
    now = SystemClock().now()
    erasing, asked, path = one_asked(station)
    for until in (WallInstant(now.wall), WallInstant(at)):
        word = Erasure(
            request=asked.signed.digest,
            keys=1,
            erased_at=WallInstant(now.wall),
            pending_until=until,
        )
        signed = SignedErasure(erasure=msgspec.json.encode(word), signature=bytes(64))
        kept = msgspec.structs.replace(asked, collector_at=now.wall, guard=signed)
        path.write_bytes(msgspec.json.encode(kept))
        assert look(station.paths.state) == ([kept] if until != at else [])
    again = Erasures(station.paths.state, station.device.asker)
    assert again.ask(erasing)
    assert "not confirmed" in again.words(now.wall)[0]


@pytest.mark.parametrize("damage", ["a byte", "another request"])
def test_a_damaged_request_of_days_is_asked_anew_too(station: Workstation, damage: str) -> None:
    """It stands in the ledger as well; the same request to the byte, listed until confirmed."""

    async def ask() -> None:
        async with running(station) as service:
            station.collector.reachable = False
            for day in ("2026-01-01", "2026-01-05"):
                said = await service.answer(Erase(first_day=day, last_day=day))
                assert isinstance(said, Done)

    async def find() -> None:
        async with running(station) as service:
            assert [line.split(",")[0] for line in service.status().unconfirmed] == [
                f"everything from {day} to {day}" for day in ("2026-01-01", "2026-01-05")
            ]

    play(ask())
    folder = station.paths.state / "erasures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    one, other = sorted(before)
    spoiled = before[other] if damage == "another request" else b"[" + before[one][1:]
    (folder / one).write_bytes(spoiled)
    play(find())
    assert {path.name: path.read_bytes() for path in folder.glob("*.json")} == before
    assert (folder / one).with_suffix(".unreadable").read_bytes() == spoiled


def test_agreeing_again_is_later_than_the_erasure_whatever_the_clock_says(
    station: Workstation,
) -> None:
    """A clock that was set back in between must not make the new consent part of what went."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await station.tray.say(Withdraw(category=Category.KEYS, erase=True))
            station.clock.wall_shift -= 2 * 10**9
            await station.agree(Category.KEYS)
            given_at = service.standing.grants[Category.KEYS].record.given_at
            [asked] = service.erasures.all()
            assert given_at > asked.request.made_at

    play(story())


def test_the_guards_keys_are_forgotten_here_before_an_erasure_is_asked_for(
    station: Workstation,
) -> None:
    """Also when a crash comes between: what is agreed to later is not sealed to a key that goes."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            pass

    play(story())
    kept = station.paths.state / "guard-keys.json"
    assert b'"keys"' in kept.read_bytes()
    device, now = station.device, SystemClock().now()
    ledger = Ledger.open(station.paths.state, device.key.public_key(), now)
    ledger.append(Withdrawn(category=Category.KEYS, erase=True), now)
    station.service()  # the next start
    assert b'"keys"' not in kept.read_bytes()
    assert len(look(station.paths.state)) == 1
