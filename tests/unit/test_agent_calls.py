"""Stops and halts in the running agent: both close, and each lifts in its own way only."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.calls import MOST_REASONS
from agent.consent.facts import is_frozen
from agent.consent.policy import PolicyInForce
from agent.consent.states import Consent
from agent.handover import NoAnswer, Outcome
from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    nothing_is_open,
    play,
    running,
    the,
)
from wire.category import Category
from wire.collector_http import State
from wire.control import Pause, Reason, Status
from wire.ids import PolicyDigest


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


def is_stopped(status: Status) -> bool:
    return status.reason is Reason.HALTED_BY_ORG and status.stopped


def is_halted(status: Status) -> bool:
    return status.reason is Reason.HALTED_BY_ORG and not status.stopped


def test_a_stop_closes_and_lifts_by_itself_when_its_cause_is_gone(station: Workstation) -> None:
    """Nobody has to agree anew: what was agreed to has not changed."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            service.calls.stop("collector", "a drill failed")
            status = await station.tray.until(is_stopped)
            assert "a drill failed" in status.detail
            assert is_frozen(service.standing), "nothing is sent either"
            await eventually(lambda: nothing_is_open(station))
            service.calls.lift_stop("collector")
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_a_stop_lasts_until_every_party_that_called_one_has_lifted_it(
    station: Workstation,
) -> None:
    """Also over a restart; and no party lifts another's."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            service.calls.stop("collector", "an outage")
            service.calls.stop("guard", "a drill failed")
            service.calls.lift_stop("collector")
            service.calls.lift_stop("governance")  # called none
        async with running(station) as service:
            status = await station.tray.until(is_stopped)
            assert "a drill failed" in status.detail
            assert "an outage" not in status.detail
            assert nothing_is_open(station)
            service.calls.lift_stop("guard")
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_a_halt_lifts_with_another_policy_only_and_then_every_consent_is_stale(
    station: Workstation,
) -> None:
    """Nothing is captured before it is granted again, whatever the new policy says."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            first = service.policy.digest
            service.calls.stop("guard", "a drill failed")
            service.calls.halt("for good")
            await station.tray.until(is_halted)
            service.calls.lift_stop("guard")
            service.calls.keep_up()
            assert is_frozen(service.standing), "its own policy does not lift it"
            assert service.standing.consents[Category.KEYS] is Consent.GIVEN
            service.programme.in_force = _another(service.programme.in_force)
            assert service.policy.digest != first
            service.calls.keep_up()
            assert not is_frozen(service.standing)
            assert service.standing.consents[Category.KEYS] is Consent.STALE
            service.programme.in_force = _named(service.programme.in_force, first)
            service.poke()
            status = await station.tray.until(lambda s: s.reason is Reason.CONSENT_STALE)
            assert nothing_is_open(station)
            assert not any(each.granted for each in status.categories)
            await station.agree(Category.KEYS)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_a_halt_that_came_before_any_policy_is_not_lifted_by_the_first(
    station: Workstation,
) -> None:
    """It may be the very one that was halted."""

    async def story() -> None:
        async with running(station) as service:
            known = service.programme.in_force
            service.programme.in_force = _named(known, None, without=True)
            service.calls.halt("early")
            service.programme.in_force = known
            service.calls.keep_up()
            halted = service.standing.halted
            assert halted is not None
            assert halted.policy == known.digest
            service.calls.keep_up()
            assert service.standing.halted is not None

    play(story())


@pytest.mark.parametrize("call", ["stop", "halt"])
def test_a_call_that_the_disk_refuses_closes_all_the_same(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Counted from the moment it comes."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            monkeypatch.setattr(service.ledger, "_disk", FullDisk())
            calls: dict[str, Callable[[], None]] = {
                "stop": lambda: service.calls.stop("guard", "an outage"),
                "halt": lambda: service.calls.halt("halted"),
            }
            calls[call]()
            assert service.verdict.reason is Reason.HALTED_BY_ORG
            await eventually(lambda: nothing_is_open(station))

    play(story())


def test_a_stop_for_ever_another_reason_does_not_fill_the_record(station: Workstation) -> None:
    """A reason that changes is told, each once and not without end; it stays stopped throughout."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            record = station.paths.state / "consent.jsonl"

            def lines() -> int:
                return record.read_bytes().count(b"\n")

            before = lines()
            for _ in range(20):
                for why in ("an outage", "a drill failed"):
                    service.calls.hear(State(halted=False, why="", stopped=why))
            assert lines() == before + 2
            for number in range(100):
                service.calls.hear(State(halted=False, why="", stopped=str(number)))
            assert lines() == before + MOST_REASONS
            assert service.verdict.reason is Reason.HALTED_BY_ORG
            service.calls.hear(State(halted=False, why=""))
            service.calls.hear(State(halted=False, why="", stopped="an outage"))
            assert service.standing.stopped == {"collector": "an outage"}

    play(story())


def test_a_halt_that_the_disk_refused_is_not_lifted_by_silence(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written down as soon as there is room, and lifts with another policy only."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            with monkeypatch.context() as full:
                full.setattr(service.ledger, "_disk", FullDisk())
                service.calls.hear(State(halted=True, why="a halt", stopped="an outage"))
                assert service.calls.freeze, "nothing is sent either"
                service.calls.hear(State(halted=False, why=""))
                service.calls.keep_up()
                assert service.verdict.reason is Reason.HALTED_BY_ORG
                await eventually(lambda: nothing_is_open(station))
            await eventually(lambda: service.standing.halted is not None)
            assert service.standing.halted is not None
            assert service.standing.halted.why == "a halt"
            assert service.standing.stopped == {}, "a stop ends when it is said no more"
            assert not service.calls.unwritten
            assert service.verdict.reason is Reason.HALTED_BY_ORG

    play(story())


def test_a_halt_cuts_short_what_is_on_its_way(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a further byte leaves; the batch waits, and nothing else is held up for it."""
    asked, halted, goes = threading.Event(), threading.Event(), []

    def send(_name: str, _frame: bytes, goes_on: Callable[[], bool]) -> Outcome:
        goes.append(goes_on())
        asked.set()
        assert halted.wait(60)
        goes.append(goes_on())
        return NoAnswer(why="cut short")

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            monkeypatch.setattr(station.collector, "send", send)
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.1)
            await station.tray.say(Pause())
            await eventually(asked.is_set)
            service.calls.halt("a halt")
            halted.set()
            await eventually(lambda: len(goes) == 2)
            await asyncio.sleep(0.1)  # its end is noted
            assert len(service.spool.ready()) == 1
            assert service.delivery.last_error == ""

    play(story())
    assert goes == [True, False]


class FullDisk:
    """A disk that takes nothing."""

    def append(self, path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    replace = append

    def remove(self, path: Path) -> None:
        raise OSError(28, "No space left on device")

    sync_folder = remove


def _another(in_force: PolicyInForce) -> PolicyInForce:
    return _named(in_force, PolicyDigest(b"\2" * 32))


def _named(
    in_force: PolicyInForce, digest: PolicyDigest | None, *, without: bool = False
) -> PolicyInForce:
    policy = None if without else in_force.policy
    return dataclasses.replace(in_force, policy=policy, digest=digest)
