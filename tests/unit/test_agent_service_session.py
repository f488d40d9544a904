"""What the whole agent does when the session is no longer ours; sensors and platform are fakes."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from agent.session import Known, SessionSeen
from tests.fakes.workstation import (
    HOLD_BACK,
    OURS,
    Workstation,
    capturing,
    eventually,
    key,
    nothing_is_open,
    play,
    texts,
    the,
)
from wire.category import Category
from wire.control import Pause, Reason

NO, UNKNOWN = Known(holds=False, by="the test"), Known(None, "nobody")
CLOSING = {
    "locked": dataclasses.replace(OURS, unlocked=NO),
    "about to sleep": dataclasses.replace(OURS, awake=NO),
    "another user in front": dataclasses.replace(OURS, in_front=NO),
    "used from afar": dataclasses.replace(OURS, local=NO),
    "nobody knows whether it is locked": dataclasses.replace(OURS, unlocked=UNKNOWN),
    "nothing known at all": SessionSeen(),
}


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


@pytest.mark.parametrize("seen", CLOSING.values(), ids=CLOSING.keys())
def test_a_session_that_is_not_known_to_be_ours_closes_every_source(
    station: Workstation, seen: SessionSeen
) -> None:
    """Shut in the very call; the sources follow, the status says why; all of it comes back."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.sessions[-1].host.on_session(seen)
            assert not service.pipeline.permits()
            status = await station.tray.until(lambda s: s.reason is Reason.SESSION_BLOCKED)
            assert seen.why_not() in status.detail
            await eventually(lambda: nothing_is_open(station))
            station.sessions[-1].host.on_session(OURS)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_what_was_typed_just_before_the_lock_and_during_it_is_kept_nowhere(
    station: Workstation,
) -> None:
    """The hold-back goes with the lock; a sensor that is late says nothing any more."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            the(station, "input").emit(key(station, "a"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            the(station, "input").emit(key(station, "b"))
            await asyncio.sleep(0.1)
            station.sessions[-1].host.on_session(CLOSING["locked"])
            the(station, "input").emit(key(station, "c"))
            await eventually(lambda: nothing_is_open(station))
            station.sessions[-1].host.on_session(OURS)
            await eventually(lambda: the(station, "context").is_open)
            await station.focus()
            await eventually(lambda: the(station, "input").is_open)
            await asyncio.sleep(0.15)
            the(station, "input").emit(key(station, "d"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: len(station.collector.frames) == 2)
        assert texts(station.opened()) == "ad"

    play(story())


def test_when_it_hushes_the_sources_are_closed(station: Workstation) -> None:
    """That is what holds sleep up: when `hush` returns, nothing is hooked any more."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            host = station.sessions[-1].host
            host.on_session(CLOSING["about to sleep"])
            await host.hush()
            assert nothing_is_open(station)

    play(story())
