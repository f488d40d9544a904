"""What the running agent makes of each answer of the collector."""

import asyncio
import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.handover import Answered, NoAnswer
from base import durable
from base.door import UnreachableError
from tests.fakes.organisation import Organisation
from tests.fakes.repository import Repository
from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    play,
    running,
    the,
)
from wire.category import Category
from wire.control import Grant, Pause, Resume, Withdraw
from wire.policy import words_sha256


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


async def type_and_pause(station: Workstation) -> None:
    """Leave one batch in the spool."""
    the(station, "input").emit(key(station))
    await asyncio.sleep(HOLD_BACK + 0.1)
    await station.tray.say(Pause())


def test_a_batch_that_will_never_do_is_set_aside_and_said(station: Workstation) -> None:
    """422 is final: it is not offered again, not lost, and shown with its reason."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.answers["send"] = Answered(status=422, says="malformed: cut short")
            await type_and_pause(station)
            await eventually(lambda: service.spool.number_quarantined() == 1)
            status = await station.tray.until(lambda s: s.spool.quarantined == 1)
            assert "malformed: cut short" in status.collector.last_error
        async with running(station) as service:
            assert service.spool.ready() == []
            await station.tray.say(Withdraw(category=Category.KEYS))
            assert service.spool.batches() == []

    play(story())


def test_why_a_damaged_batch_was_set_aside_is_said_until_it_is_gone(station: Workstation) -> None:
    """Also after others were sent; and no longer than there is such a batch."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.reachable = False
            await type_and_pause(station)
            await eventually(lambda: bool(service.spool.ready()))
            [frame] = (station.paths.state / "spool/ready").glob("*.frame")
            frame.write_bytes(frame.read_bytes()[:-1] + b"?")
            station.collector.reachable = True
            station.clock.pass_by(3600)  # the back-off
            status = await station.tray.until(lambda s: s.spool.quarantined == 1)
            await station.tray.until(lambda s: "damaged" in s.collector.last_error)
            await station.tray.say(Withdraw(category=Category.KEYS))
            status = await station.tray.until(lambda s: s.collector.last_error == "")
            assert status.spool.quarantined == 0

    play(story())


def test_a_batch_that_was_erased_is_forgotten_here_too(station: Workstation) -> None:
    """410: somebody with the rights key was faster."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.answers["send"] = Answered(status=410)
            await type_and_pause(station)
            await eventually(lambda: service.spool.forgotten == 1)
            assert service.spool.batches() == []
            assert service.spool.number_sent() == 0

    play(story())


def test_a_consent_that_the_collector_lost_is_registered_again(station: Workstation) -> None:
    """409 consent-unknown: a collector restored from a backup is told anew."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            assert len(station.collector.consents) == 1
            station.collector.answers["send"] = Answered(status=409, says="consent-unknown: send")
            await type_and_pause(station)
            await eventually(lambda: len(station.collector.consents) == 2)
            await asyncio.sleep(0.3)
            assert len(station.collector.consents) == 2  # not without end
            station.collector.answers.clear()
            station.clock.pass_by(61)
            await eventually(lambda: service.spool.number_sent() == 1)

    play(story())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"batch_hash":""}'])
def test_without_a_receipt_nothing_is_deleted(station: Workstation, body: bytes) -> None:
    """A server that says yes to everything has proved nothing."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.answers["send"] = Answered(status=201, body=body)
            await type_and_pause(station)
            status = await station.tray.until(lambda s: "receipt" in s.collector.last_error)
            assert status.spool.sent == 0
            assert len(service.spool.ready()) == 1

    play(story())


def test_the_receipt_of_another_batch_is_none(station: Workstation) -> None:
    """It is for exactly these bytes."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await type_and_pause(station)
            await eventually(lambda: service.spool.number_sent() == 1)
            (name,) = station.collector.frames
            other = station.collector.send(name, station.collector.frames[name], lambda: True)
            station.collector.answers["send"] = other
            await station.tray.say(Resume())
            await eventually(lambda: the(station, "input").is_open)
            await refocus(station)
            await type_and_pause(station)
            await station.tray.until(lambda s: "another batch" in s.collector.last_error)
            assert len(service.spool.ready()) == 1

    play(story())


async def refocus(station: Workstation) -> None:
    await eventually(lambda: the(station, "context").is_open)
    await station.focus()
    await asyncio.sleep(0.15)


def test_why_nobody_answers_is_in_the_status(station: Workstation) -> None:
    """In the words of the door; and it goes when all is well again."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            why = "the key of https://collector.acme.example:8443 is not the pinned one"
            station.collector.answers["send"] = NoAnswer(why=why)
            await type_and_pause(station)
            await station.tray.until(lambda s: s.collector.last_error == why)
            station.collector.answers.clear()
            await eventually(lambda: service.spool.number_sent() == 1)
            await station.tray.until(lambda s: s.collector.last_error == "")

    play(story())


def test_a_key_that_cannot_be_kept_is_used_and_in_the_log(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The one line of the status may be taken by something else, and is free again soon."""
    replace = durable.replace

    def fails_for_keys(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        if path.name == "guard-keys.json":
            raise OSError(errno.EIO, "Input/output error")
        replace(path, data, mode=mode)

    async def story() -> None:
        async with running(station) as service:
            await station.agree(Category.KEYS)
            await eventually(lambda: service.pipeline.permits().keys() == {Category.KEYS})

    monkeypatch.setattr(durable, "replace", fails_for_keys)
    play(story())
    assert "cannot ask the collector: [Errno 5] Input/output error" in caplog.text


def test_a_collector_that_is_asked_in_vain_again_and_again_is_in_the_log_once(
    station: Workstation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A day offline is one line, not one for every ten seconds."""
    asked: list[None] = []

    def nobody() -> None:
        asked.append(None)
        raise UnreachableError("nobody answers")

    async def story() -> None:
        async with running(station) as service:
            for number in range(1, 4):
                while len(asked) < number:  # noqa: ASYNC110 - see `eventually`
                    await asyncio.sleep(0.005)
                service.delivery.wake()

    monkeypatch.setattr(station.collector, "state", nobody)
    play(story())
    assert caplog.text.count("cannot ask the collector: nobody answers") == 1


def test_a_second_consent_is_registered_before_its_batches_are_sent(
    station: Workstation,
) -> None:
    """Each grant is a leaf of the log; a batch never comes before it."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await type_and_pause(station)
            await eventually(lambda: service.spool.number_sent() == 1)
            await station.tray.say(Withdraw(category=Category.KEYS))
            words = words_sha256(station.policy, Category.KEYS)
            await station.tray.say(Grant(category=Category.KEYS, words_sha256=words))
            await station.tray.say(Resume())
            await eventually(lambda: len(station.collector.consents) == 2)
            await refocus(station)
            await type_and_pause(station)
            await eventually(lambda: service.spool.number_sent() == 2)
            assert len(set(station.collector.consents)) == 2

    play(story())


def test_a_batch_whose_grant_was_withdrawn_is_never_sent(station: Workstation) -> None:
    """Not even when it was signed and waiting."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.reachable = False
            await type_and_pause(station)
            await eventually(lambda: len(service.spool.ready()) == 1)
            await station.tray.say(Withdraw(category=Category.KEYS))
            station.collector.reachable = True
            service.delivery.wake()
            await eventually(lambda: service.spool.deletions() == [])
            assert station.collector.frames == {}

    play(story())


def test_a_policy_that_will_not_do_is_said_last(station: Workstation) -> None:
    """What keeps batches from leaving comes first; a policy that is refused changes nothing."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            acme = Organisation()
            other = acme.publish(station.folder / "other", at=datetime.now(UTC))
            strangers = Repository.of(acme, other, datetime.now(UTC))
            station.collector.policy_file_of = strangers.renewing(other, station.clock)
            station.collector.answers["send"] = Answered(status=201, body=b"{}")
            await type_and_pause(station)
            await station.tray.until(lambda s: "receipt does not hold" in s.collector.last_error)
            assert len(service.spool.ready()) == 1

    async def later() -> None:
        station.collector.answers.clear()
        async with running(station) as service:
            await eventually(lambda: service.spool.number_sent() == 1)
            await station.tray.until(
                lambda s: "timestamp was signed by 0/2" in s.collector.last_error
            )
            assert service.programme.in_force.policy == station.policy

    play(story())
    play(later())
