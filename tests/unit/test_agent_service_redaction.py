"""What the whole agent does when a sensor cannot show that its redaction works."""

from pathlib import Path

import pytest

from tests.fakes.workstation import Workstation, capturing, eventually, play, the
from wire.category import Category
from wire.control import Reason


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


@pytest.mark.parametrize("name", ["input", "context", "screen"])
def test_without_redaction_everything_is_shut_until_it_works_again(
    station: Workstation, name: str
) -> None:
    """Whichever sensor it is: the others are shut too, and it is said why."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            the(station, name).say_redacting(works=False)
            status = await station.tray.until(lambda s: s.reason is Reason.REDACTOR_DOWN)
            assert status.recording == ()
            assert "it hides nothing" in status.detail
            await eventually(lambda: not any(s.is_open for s in station.sensors.values()))
            the(station, name).say_redacting(works=True)
            await eventually(lambda: the(station, "context").is_open)
            await station.focus()
            status = await station.tray.until(lambda s: s.reason is Reason.ACTIVE)
            assert "it hides nothing" not in status.detail

    play(story())
