"""Writes that survive a crash: whole or not at all, private, and synced in the right order."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from base import durable

OLD, NEW = b"old content", b"new"


class Calls:
    """Records the order of the system calls that matter, and can fail one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.fail_at: int | None = None
        self._real_fsync = os.fsync
        self._real_replace = Path.replace
        monkeypatch.setattr(os, "fsync", self._fsync)
        calls = self

        def replace(path: Path, target: Path) -> Path:
            calls.note("rename")
            return calls._real_replace(path, target)

        monkeypatch.setattr(Path, "replace", replace)

    def note(self, what: str) -> None:
        self.order.append(what)
        if self.fail_at == len(self.order):
            raise OSError(28, "No space left on device")

    def _fsync(self, fd: int) -> None:
        self.note("sync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync file")  # noqa: PTH112 - a descriptor
        self._real_fsync(fd)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_replace_syncs_the_file_before_the_name_and_the_folder_after_it(
    calls: Calls, tmp_path: Path
) -> None:
    """Any other order could leave the name on an empty file after a power cut."""
    durable.replace(tmp_path / "state", NEW)

    assert calls.order == ["sync file", "rename", "sync folder"]
    assert (tmp_path / "state").read_bytes() == NEW
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_replace_that_fails_leaves_the_whole_old_or_the_whole_new_file(
    calls: Calls, tmp_path: Path, step: int
) -> None:
    """Failing before the rename leaves the old file; after it (failed but persisted) the new."""
    path = tmp_path / "state"
    path.write_bytes(OLD)
    calls.fail_at = step
    with pytest.raises(OSError, match="No space"):
        durable.replace(path, NEW)

    assert path.read_bytes() == (NEW if step == 3 else OLD)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_append_adds_and_syncs_the_folder_of_a_new_file_only(calls: Calls, tmp_path: Path) -> None:
    """The first record makes the file's name durable, later ones need not."""
    path = tmp_path / "ledger"
    durable.append(path, b"one\n")
    durable.append(path, b"two\n")

    assert path.read_bytes() == b"one\ntwo\n"
    assert calls.order == ["sync file", "sync folder", "sync file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_append_that_fails_says_so(calls: Calls, tmp_path: Path) -> None:
    """Failed but persisted: the record may be there, and the caller is told that it failed."""
    calls.fail_at = 1
    with pytest.raises(OSError, match="No space"):
        durable.append(tmp_path / "ledger", b"one\n")


def test_remove_is_durable_and_does_not_mind_a_missing_file(calls: Calls, tmp_path: Path) -> None:
    """Removing twice is removing."""
    path = tmp_path / "state"
    path.write_bytes(OLD)
    durable.remove(path)
    durable.remove(path)

    assert not path.exists()
    assert calls.order == ["sync folder", "sync folder"]


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_short_write_is_continued(most: int) -> None:
    """The kernel may take less than it was given."""
    taken = bytearray()

    def write(_fd: int, view: memoryview) -> int:
        taken.extend(view[:most])
        return min(most, len(view))

    durable.write_all(-1, NEW, write)
    assert bytes(taken) == NEW


def test_a_private_folder_is_private_even_when_it_was_not(tmp_path: Path) -> None:
    """0700, made or mended."""
    folder = tmp_path / "a" / "b"
    durable.private_folder(folder)
    folder.chmod(0o755)
    assert durable.private_folder(folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("act", [durable.replace, durable.append])
def test_nothing_is_written_where_the_folder_is_missing(
    tmp_path: Path, act: Callable[[Path, bytes], None]
) -> None:
    """A missing folder is an error, not a new folder."""
    with pytest.raises(FileNotFoundError):
        act(tmp_path / "none" / "file", NEW)


def test_what_a_killed_write_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """Temporary files of `replace`, whatever process they were of."""
    durable.replace(tmp_path / "file", NEW)
    (tmp_path / ".file.77.tmp").write_bytes(NEW[:1])
    (tmp_path / ".hidden").write_bytes(NEW)
    durable.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", ".hidden"}
