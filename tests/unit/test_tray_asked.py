"""The consent window opens by itself once a programme, also after a restart."""

from pathlib import Path

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


def test_an_unreadable_note_asks_once_more(tmp_path: Path) -> None:
    """Garbage in the file is no programme."""
    path = tmp_path / "asked"
    path.write_bytes(b"\xff\xfe\x00")
    assert not Asked(path).has("Workflows")
