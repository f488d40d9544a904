"""An agent notices that it was upgraded, and begins anew when nothing is recorded."""

import asyncio
from pathlib import Path

import pytest

from agent.installation import (
    LOOK_SECONDS,
    SETTLED_NANOSECONDS,
    Installation,
    run_until_replaced,
    stop_when_replaced,
)
from base.clock import NANOSECONDS, Now
from tests.fakes.workstation import (
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
from wire.control import Pause, Reason, Silent

SETTLED_SECONDS = SETTLED_NANOSECONDS / NANOSECONDS


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    path = tmp_path / "pyvenv.cfg"
    path.write_text("home = /usr/bin\n", "ascii")
    return path


def replace(mark: Path) -> None:
    """Put another file there, as dpkg does; its content may be the same."""
    new = mark.with_suffix(".dpkg-new")
    new.write_bytes(mark.read_bytes())
    new.replace(mark)


def at(seconds: float) -> Now:
    return Now(boot=int(seconds * NANOSECONDS), wall=0, boot_id="b")


def test_an_installation_that_is_left_alone_was_not_replaced(mark: Path) -> None:
    """However long it runs."""
    installation = Installation(mark)
    assert not installation.was_replaced(at(1))
    assert not installation.was_replaced(at(1_000_000))


def test_a_replaced_installation_counts_when_it_has_settled(mark: Path) -> None:
    """While files still come, half of them are old: nothing may be started from that."""
    installation = Installation(mark)
    replace(mark)
    assert not installation.was_replaced(at(100))
    assert not installation.was_replaced(at(99 + SETTLED_SECONDS))
    replace(mark)
    assert not installation.was_replaced(at(101 + SETTLED_SECONDS))
    assert installation.was_replaced(at(101 + 2 * SETTLED_SECONDS))


def test_a_removed_installation_was_not_replaced(mark: Path) -> None:
    """There is nothing that could begin anew."""
    installation = Installation(mark)
    mark.unlink()
    assert not installation.was_replaced(at(1))
    assert not installation.was_replaced(at(1 + 2 * SETTLED_SECONDS))


def test_one_that_never_had_a_mark_is_not_replaced(tmp_path: Path) -> None:
    """Programs that run without an environment of their own do not begin anew."""
    installation = Installation(tmp_path / "none")
    assert not installation.was_replaced(at(1))
    assert not installation.was_replaced(at(1 + 2 * SETTLED_SECONDS))


# --- the agent --------------------------------------------------------------------------


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path / "home")


def upgrade(station: Workstation, mark: Path) -> Installation:
    """Return an installation that was replaced and has settled."""
    installation = Installation(mark)
    replace(mark)
    assert not installation.was_replaced(station.clock.now())
    station.clock.pass_by(SETTLED_SECONDS + 1)
    assert installation.was_replaced(station.clock.now())
    return installation


def test_an_upgraded_agent_records_on_and_stops_at_the_pause(
    station: Workstation, mark: Path
) -> None:
    """What was recorded is sealed first; the new one is paused as the old one was."""

    async def story() -> None:
        installation = upgrade(station, mark)  # before: a jump of the clock would close capture
        async with capturing(station, Category.KEYS) as service:
            stop = asyncio.create_task(stop_when_replaced(service, installation))
            the(station, "input").emit(key(station))
            await eventually(lambda: bool(service.counters.kept))
            await asyncio.sleep(1.5 * LOOK_SECONDS)
            assert not stop.done(), "it was asked to stop while something was recorded"
            assert isinstance(await station.tray.say(Pause()), Silent)
            await asyncio.wait_for(stop, 5)
        assert list((station.paths.state / "spool").rglob("*.frame")) or station.collector.frames
        async with running(station):
            await station.tray.until(lambda s: s.reason is Reason.PAUSED_UNTIL)
            assert nothing_is_open(station)

    play(story())


def test_an_upgraded_agent_takes_no_window_away(station: Workstation, mark: Path) -> None:
    """Whoever reads what they are asked to agree to reads on; it stops after that."""

    async def story() -> None:
        async with running(station) as service:
            station.tray.window_open = True
            await eventually(lambda: service.tray.window_open)
            stop = asyncio.create_task(stop_when_replaced(service, upgrade(station, mark)))
            await asyncio.sleep(1.5 * LOOK_SECONDS)
            assert not stop.done()
            station.tray.window_open = False
            await asyncio.wait_for(stop, 5)

    play(story())


def test_an_upgraded_agent_keeps_what_the_disk_does_not_take(
    station: Workstation, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory alone would be lost, so it stops when that is written."""

    async def story() -> None:
        async with running(station) as service:
            with monkeypatch.context() as full:
                full.setattr(type(service.pipeline), "is_blocked", property(lambda _self: True))
                stop = asyncio.create_task(stop_when_replaced(service, upgrade(station, mark)))
                await asyncio.sleep(1.5 * LOOK_SECONDS)
                assert not stop.done()
            await asyncio.wait_for(stop, 5)

    play(story())


def test_only_an_agent_that_was_replaced_begins_anew(station: Workstation, mark: Path) -> None:
    """One that is told to quit has ended."""

    async def story(installation: Installation) -> bool:
        service = station.service()
        station.trays.clear()
        run = asyncio.create_task(run_until_replaced(service, installation))
        await eventually(lambda: bool(station.trays) and station.trays[-1].last is not None)
        service.stop()
        return await asyncio.wait_for(run, 10)

    async def replaced() -> bool:
        return await run_until_replaced(station.service(), upgrade(station, mark))

    assert asyncio.run(story(Installation(mark))) is False
    assert asyncio.run(asyncio.wait_for(replaced(), 20)) is True
