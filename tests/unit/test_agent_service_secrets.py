"""What the whole agent does when a field for secrets gets the focus; sensors are fakes."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    play,
    texts,
    the,
)
from wire.category import Category
from wire.control import Pause, Reason


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


@pytest.mark.parametrize("secret", [True, None], ids=["secret", "nobody can tell"])
def test_keys_still_held_back_when_the_field_turns_out_secret_are_dropped(
    station: Workstation, *, secret: bool | None
) -> None:
    """Typed before the sensor knew, and while it knows; sources stay open, the status says so."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            sensor, context = the(station, "input"), the(station, "context")
            sensor.emit(key(station, "a"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            sensor.emit(key(station, "b"))
            await asyncio.sleep(0.05)
            context.tell(secret=secret)
            sensor.emit(key(station, "c"))
            status = await station.tray.until(lambda s: s.reason is Reason.SENSITIVE)
            assert status.recording == ()
            assert sensor.is_open
            await asyncio.sleep(HOLD_BACK + 0.2)
            context.tell(secret=False)
            await asyncio.sleep(0.2)
            sensor.emit(key(station, "d"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: bool(station.collector.frames))
            assert service.counters.dropped["sensitive"] == 1  # how many keys it had, is nowhere
        assert texts(station.opened()) == "ad"

    play(story())
