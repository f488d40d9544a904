"""Where programs keep things: private folders, movable as a whole."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from base import paths
from base.errors import ExitCode, SetupError
from base.paths import Paths, paths_for
from tests.conftest import ROOT


def test_one_variable_moves_everything_of_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASSENT_HOME: nothing is left elsewhere but what dies with the session."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    paths = paths_for("collector")

    for folder in (paths.config, paths.state, paths.logs, paths.runtime):
        assert folder.is_relative_to(tmp_path / "home")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    assert paths_for("collector").runtime == tmp_path / "run" / "assent" / "collector"


def test_without_it_the_platform_decides_and_programs_do_not_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XDG folders, one below them for each program."""
    monkeypatch.delenv("ASSENT_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)

    assert paths_for("agent").state == tmp_path / "state" / "assent" / "agent"
    assert paths_for("agent").state != paths_for("guard").state


def test_folders_are_made_private(tmp_path: Path) -> None:
    """0700, also where they were open before."""
    paths = Paths(
        config=tmp_path / "c", state=tmp_path / "s", logs=tmp_path / "l", runtime=tmp_path / "r"
    )
    paths.state.mkdir(mode=0o755)

    assert paths.make() is paths
    for folder in (paths.config, paths.state, paths.logs, paths.runtime):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the folder owns what is in it."""
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(SetupError, match=r"must belong to you alone|belongs to somebody else"):
        Paths(config=tmp_path, state=tmp_path, logs=tmp_path, runtime=tmp_path).make()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    """A file in the way."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "below"
    with pytest.raises(SetupError, match="cannot be used"):
        Paths(config=folder, state=folder, logs=folder, runtime=folder).make()


def test_without_a_session_a_command_says_what_it_has_to_say_and_nothing_else(
    tmp_path: Path,
) -> None:
    """Over ssh, with sudo, as a service: no runtime folder, and no library that complains."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-m", "agent", "status"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == ExitCode.LATER
    assert len(ran.stderr.splitlines()) == 1, ran.stderr


def all_in(folder: Path) -> Paths:
    return Paths(config=folder / "c", state=folder / "s", logs=folder / "l", runtime=folder / "r")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have a path belong to a stranger, as far as we can see."""
    strange: set[Path] = set()
    lstat = Path.lstat

    def seen(path: Path) -> os.stat_result:
        found = list(lstat(path))
        if path in strange:
            found[stat.ST_UID] = 4001
        return os.stat_result(found)

    monkeypatch.setattr(Path, "lstat", seen)
    return strange.add


def test_what_lies_in_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, theirs: Callable[[Path], None]
) -> None:
    """A sticky bit keeps others from swapping what is in it, and not its owner."""
    home = tmp_path / "above" / "home"
    home.mkdir(parents=True)
    home.chmod(0o1777)
    all_in(home).make()
    theirs(tmp_path / "above")
    with pytest.raises(SetupError, match="above belongs to somebody else"):
        all_in(home).make()


def test_a_folder_far_above_that_everybody_can_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who renames one folder on the way has all below it: a guard would take their policy."""
    far = tmp_path / "data"
    home = far / "assent" / "guard"
    home.mkdir(parents=True)
    all_in(home).make()
    far.chmod(0o777)
    with pytest.raises(SetupError, match=r"everybody can swap what is in \S*data;"):
        all_in(home).make()
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(SetupError, match=r"everybody can swap what is in \S*data;"):
        all_in(tmp_path / "link").make()
    with monkeypatch.context() as patch:
        patch.setenv("ASSENT_ALONE", "1")  # as in a container: nobody else is there
        all_in(home).make()
    far.chmod(0o1777)  # as /tmp is: what is in it stays its owner's
    all_in(home).make()


def test_a_link_of_ours_is_followed_and_one_of_somebody_else_is_not(
    tmp_path: Path, theirs: Callable[[Path], None]
) -> None:
    """A home folder on another disk is usual; a link that others made leads where they like."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to("./disk/../disk")
    all_in(tmp_path / "home").make()
    theirs(tmp_path / "home")
    with pytest.raises(SetupError, match="home belongs to somebody else"):
        all_in(tmp_path / "home").make()


def test_the_way_on_behind_a_link_is_looked_at_too(
    tmp_path: Path, theirs: Callable[[Path], None]
) -> None:
    """The link is ours, and leads into a folder of somebody else."""
    (tmp_path / "their" / "disk").mkdir(parents=True)
    (tmp_path / "home").symlink_to(tmp_path / "their" / "disk")
    theirs(tmp_path / "their")
    with pytest.raises(SetupError, match="their belongs to somebody else"):
        all_in(tmp_path / "home").make()


def test_whom_a_user_namespace_does_not_know_is_no_stranger_there(
    tmp_path: Path, theirs: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root outside looks so; and nobody else is anybody's stand-in where all are known."""
    everybody, one, unknown = (tmp_path / name for name in ("everybody", "one", "unknown"))
    everybody.write_text("         0          0 4294967295\n")
    one.write_text("         0       1000          1\n")
    unknown.write_text("4001\n")
    (tmp_path / "home").mkdir()
    theirs(tmp_path / "home")
    monkeypatch.setattr(paths, "_UNKNOWN", unknown)
    monkeypatch.setattr(paths, "_USERS", everybody)
    with pytest.raises(SetupError, match="home belongs to somebody else"):
        all_in(tmp_path / "home").make()
    monkeypatch.setattr(paths, "_USERS", one)
    all_in(tmp_path / "home").make()
