"""The consent window opens by itself once a programme, also after a restart."""

from pathlib import Path

import pytest

from tests.fakes.damage import DAMAGES, Damage, unreadable
from tray.asked import Asked


def test_a_programme_is_remembered_across_restarts(tmp_path: Path) -> None:
    """What is noted is there for the next tray."""
    path = tmp_path / "asked"
    asked = Asked(path)
    assert not asked.has("Workflows")
    asked.note("Workflows")
    asked.note("Other\nprogramme")
    assert Asked(path).has("Workflows")
    assert Asked(path).has("Other\nprogramme")
    assert not Asked(path).has("Another")


def test_a_note_that_cannot_be_kept_still_holds_for_this_session(tmp_path: Path) -> None:
    """A full or missing disk must not make the window come back again and again."""
    asked = Asked(tmp_path / "missing" / "asked")
    asked.note("Workflows")
    assert asked.has("Workflows")


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d is not unreadable])
def test_a_note_that_cannot_be_read_asks_once_more(tmp_path: Path, damage: Damage) -> None:
    """Whatever is there instead is no programme, and the tray goes on."""
    path = tmp_path / "asked-programmes"
    Asked(path).note("Workflows")
    damage(path)
    asked = Asked(path)
    assert not asked.has("Workflows")
    asked.note("Workflows")
    assert asked.has("Workflows")
    assert Asked(path).has("Workflows") is path.is_file()
