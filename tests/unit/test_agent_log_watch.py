"""What the running agent does about a log that lies: it closes, keeps its batches, and says so."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from agent.log_seen import SPLIT, UNWITNESSED, Seen
from agent.service import Service
from base.clock import NANOSECONDS
from base.door import Response
from collector.guard.client import RETRY_SECONDS
from collector.guard.witnessed import EVERY_SECONDS
from tests.fakes.delivering import Delivering
from tests.fakes.organisation import WITNESS_NAME
from tests.fakes.site import Site, collector_site, refusal
from tests.fakes.workstation import (
    ALWAYS_FRESH,
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
from wire.control import Pause, Reason
from wire.tlog import Tree, cosign, leaf_hash, verify_checkpoint, verify_cosignature


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workstation:
    """A workstation whose agent looks all the time at a log that others wrote to before."""
    monkeypatch.setattr("agent.log_watch.COMPARE_SECONDS", 0.2)
    monkeypatch.setattr("agent.log_watch.DOUBT_SECONDS", 0.2)
    enrolled = Workstation.enrolled(tmp_path)
    for number in range(5):
        enrolled.organisation.tree.append(leaf_hash(b"of others %d" % number))
    return enrolled


def leaves_of(tree: Tree) -> list[bytes]:
    return list(tree.subtrees(0, 0, tree.size))


def forked(tree: Tree) -> Tree:
    """Return a log of other leaves, longer than *tree*."""
    return Tree(leaf_hash(b"%d" % number) for number in range(tree.size + 5))


def rolled_back(tree: Tree) -> Tree:
    return Tree(leaves_of(tree)[:-1])


async def record(station: Workstation) -> None:
    the(station, "input").emit(key(station))
    await asyncio.sleep(HOLD_BACK + 0.1)
    await station.tray.say(Pause())


def is_closed_by_the_log(service: Service, station: Workstation) -> bool:
    stopped = service.verdict.reasons[Category.KEYS] is Reason.HALTED_BY_ORG
    return stopped and nothing_is_open(station)


@pytest.mark.parametrize(("lie", "ends"), [(forked, False), (rolled_back, True)])
def test_a_log_that_does_not_go_on_closes_the_agent_until_it_does(
    station: Workstation, lie: Callable[[Tree], Tree], *, ends: bool
) -> None:
    """Capture and uploads, also over a restart; a log that was mended opens them again.

    A log that has signed two histories cannot be mended: nothing makes one of them.
    """
    org = station.organisation

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await eventually(lambda: bool(list(station.paths.state.glob("log-*.json"))))
            honest = org.tree
            org.tree = lie(honest)
            await eventually(lambda: is_closed_by_the_log(service, station))
            status = await station.tray.until(lambda s: s.stopped)
            assert SPLIT in status.detail
        station.collector.reachable = False
        async with running(station) as service:
            looked = station.collector.looked_at
            await eventually(lambda: station.collector.looked_at > looked + 2)
            assert service.standing.stopped == {"log": SPLIT}, "nobody has looked at it since"
            org.tree, station.collector.reachable = honest, True
            if ends:
                await eventually(lambda: service.standing.stopped == {})
            else:
                looked = station.collector.looked_at
                await eventually(lambda: station.collector.looked_at > looked + 2)
                assert service.standing.stopped == {"log": SPLIT}

    play(story())


def test_a_receipt_of_another_history_deletes_nothing(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leaf is in, under a head that the log signed; but the log was another before."""
    monkeypatch.setattr("agent.log_watch.COMPARE_SECONDS", 600)
    org = station.organisation

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await eventually(lambda: bool(list(station.paths.state.glob("log-*.json"))))
            honest, org.tree = org.tree, forked(org.tree)
            await record(station)
            await eventually(lambda: bool(station.collector.frames))
            await eventually(lambda: service.standing.stopped == {"log": SPLIT})
            assert service.spool.number_sent() == 0
            assert len(service.spool.ready()) == 1
            status = await station.tray.until(lambda s: SPLIT in s.collector.last_error)
            assert status.stopped
            assert honest.size

    play(story())


def test_a_proof_that_does_not_come_holds_up_nobody_else(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector lets it drip, and has no cosigned head to show; a pause is heard all the same.

    Nobody but who asked for the proof waits for it, least of all the loop that hears the tray.
    """
    asked, comes, waited = threading.Event(), threading.Event(), []

    def drips(_old: int, _new: int) -> None:
        asked.set()
        waited.append(comes.wait(5))

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            await eventually(lambda: bool(list(station.paths.state.glob("log-*.json"))))
            monkeypatch.setattr(station.collector, "witnessed", lambda: None)
            monkeypatch.setattr(station.collector, "consistency", drips)
            await record(station)
            await eventually(asked.is_set)
            await asyncio.sleep(0.5)  # it has looked for a cosigned head twice meanwhile
            await station.tray.say(Pause())
            assert not waited, "it was held up until the proof had come"
            comes.set()

    play(story())


def test_an_equivocating_log_is_found_out_by_what_the_witness_saw(station: Workstation) -> None:
    """It shows this device one history and the witness another, each of them in order."""
    org = station.organisation

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            shown_here, org.tree = org.tree, forked(org.tree)
            elsewhere, org.tree = org.checkpoint(), shown_here
            line = cosign(elsewhere, WITNESS_NAME, org.witness, ALWAYS_FRESH)
            station.collector.shown_to_witness = elsewhere + line
            await eventually(lambda: is_closed_by_the_log(service, station))
            assert service.standing.stopped == {"log": SPLIT}

    play(story())


def test_a_log_that_no_witness_sees_closes_the_agent_while_its_lease_goes_on(
    station: Workstation,
) -> None:
    """The collector hands out an old cosignature, and renews the lease all the same."""
    org = station.organisation

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            note, then = org.checkpoint(), station.clock.now().wall // NANOSECONDS
            old = note + cosign(note, WITNESS_NAME, org.witness, then)
            station.collector.shown_to_witness = old
            half = station.policy.lease_seconds / 2
            for _ in range(3):
                assert service.standing.stopped == {}
                station.clock.pass_by(half)
                service.delivery.wake()
                await eventually(lambda: service.policy.policy is not None)
            await eventually(lambda: service.standing.stopped == {"log": UNWITNESSED})
            station.collector.shown_to_witness = None
            await eventually(lambda: service.standing.stopped == {})

    play(story())


# --- a real collector -------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as running_site:
        yield running_site


def test_a_collector_that_starts_from_an_old_index_is_told_by_its_devices(
    site: Site, tmp_path: Path
) -> None:
    """What came after the copy is missing: the next receipt is of a second history."""
    device = Delivering.enrolled(site, tmp_path / "device")
    device.seal()
    device.deliver(lambda _: not device.spool.ready())
    site.stop()
    shutil.copytree(site.premises.paths.state, tmp_path / "backup")
    site.restart()
    for _ in range(2):
        device.seal()
    device.deliver(lambda _: not device.spool.ready())
    assert SPLIT not in device.log_doubts

    site.stop()
    shutil.rmtree(site.premises.paths.state)
    shutil.copytree(tmp_path / "backup", site.premises.paths.state)
    site.restart()
    device.seal()
    device.deliver(lambda _: SPLIT in device.log_doubts)
    assert len(device.spool.ready()) == 1, "what it could not prove to have is still here"
    (kept,) = device.folder.glob("log-*.json")
    seen = msgspec.json.decode(kept.read_bytes(), type=Seen)
    before, after = (
        verify_checkpoint(note, site.policy.collector.log) for note in (seen.head, seen.doubt)
    )
    assert after.size < before.size


def test_the_collector_has_its_log_witnessed_every_few_minutes(site: Site) -> None:
    """Whoever asks for the newest cosigned head gets one that is no older."""
    station = site.workstation()

    def witnessed() -> tuple[int, int]:
        answer = station.door.request("GET", "/v1/log/witnessed")
        assert answer.status == 200
        note = answer.body.decode()
        size = verify_checkpoint(note, site.policy.collector.log).size
        return size, verify_cosignature(note, site.policy.guard.witness)

    first = witnessed()
    station.consents()
    assert witnessed() == first, "it is not time yet"
    site.clock.moved += timedelta(seconds=EVERY_SECONDS)
    size, at = witnessed()
    assert (size, at - first[1] >= EVERY_SECONDS) == (first[0] + 1, True)
    site.clock.moved += timedelta(seconds=EVERY_SECONDS)
    assert witnessed()[0] == size, "nothing was logged"
    assert witnessed()[1] >= at + EVERY_SECONDS, "but it was looked at"


def test_a_guard_that_does_not_cosign_is_asked_again_after_a_while(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log; uploads go on, and devices close when it lasts."""
    station, installed = site.workstation(), site.guard.policy

    def ask() -> Response:
        return station.door.request("GET", "/v1/log/witnessed")

    site.guard.policy = None
    assert refusal(ask()) == (404, "not-found")
    assert "the log was not cosigned" in caplog.text
    site.guard.policy = installed
    assert ask().status == 404, "it is left alone for half a minute"
    site.clock.moved += timedelta(seconds=RETRY_SECONDS)
    assert ask().status == 200
    site.guard.policy = None
    site.clock.moved += timedelta(seconds=EVERY_SECONDS)
    assert ask().status == 200, "the one before is handed out meanwhile"
