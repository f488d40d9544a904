"""The guide's way back: the index first, the batches after it, both put back, and on it goes."""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from base.command import outcome
from base.errors import ExitCode
from collector.__main__ import cli
from collector.assembly import Collector
from tests.fakes.site import Site, Workstation, collector_site
from wire.collector_http import State
from wire.errors import WireError
from wire.frame import join_unsigned, split
from wire.sealing import sign


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "site"))
    with collector_site(tmp_path / "site") as made:
        yield made


def collector(*arguments: object) -> int:
    return outcome(
        cli, "assent-collector", [str(each) for each in arguments], refusals=(WireError,)
    )


def again(home: Workstation, frame: bytes, number: int) -> bytes:
    parts = split(frame)
    return sign(join_unsigned(parts.core, parts.shelf, parts.body), number, home.org.device)


def lose_everything(site: Site) -> None:
    """The disk is gone, all but the configuration."""
    site.stop()
    for path in site.premises.paths.state.glob("index.sqlite*"):
        path.unlink()
    shutil.rmtree(site.premises.objects)


def test_what_was_acknowledged_before_the_copies_is_there_after_them(
    site: Site, tmp_path: Path
) -> None:
    """While it served; the same receipts, deletions stay deletions, and new batches are taken."""
    home = site.workstation()
    first = home.seals(home.consents())
    frames = [again(home, first, number) for number in range(1, 6)]
    said = [home.puts(frame) for frame in frames]
    assert home.deletes(frames[0]).status == 200
    assert collector("backup", tmp_path / "copy.sqlite") == ExitCode.DONE
    late = again(home, first, 9)
    assert home.puts(late).status == 201  # between the two copies: a file without a row
    shutil.copytree(site.premises.objects, tmp_path / "objects")

    lose_everything(site)
    assert collector("restore", tmp_path / "copy.sqlite") == ExitCode.DONE
    shutil.copytree(tmp_path / "objects", site.premises.objects)
    site.collector = Collector.open(site.premises, site.clock)
    site.restart()
    assert home.puts(frames[0]).status == 410
    for frame, before in zip(frames[1:], said[1:], strict=True):
        answer = home.puts(frame)
        assert (answer.status, answer.body) == (200, before.body)
    assert home.puts(late).status == 201
    state = msgspec.json.decode(home.door.request("GET", "/v1/state").body, type=State)
    assert not state.halted


def test_a_copy_is_one_private_file_that_replaces_none(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is said what comes next."""
    copy = tmp_path / "copy.sqlite"
    assert collector("backup", copy) == ExitCode.DONE
    assert str(site.premises.objects) in capsys.readouterr().out
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("copy*")] == [copy.name]
    before = copy.read_bytes()
    assert collector("backup", copy) == ExitCode.SETUP
    assert copy.read_bytes() == before


def test_an_index_that_is_there_is_not_replaced(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy would lose what came since, also for who is in a hurry."""
    copy = tmp_path / "copy.sqlite"
    assert collector("backup", copy) == ExitCode.DONE
    site.stop()
    assert collector("restore", copy) == ExitCode.SETUP
    assert "move it away first" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "no index"])
def test_what_is_no_whole_copy_is_not_put_there(site: Site, tmp_path: Path, how: str) -> None:
    """One line, and nothing is there afterwards that was not before."""
    copy, other = tmp_path / "copy.sqlite", tmp_path / "other.sqlite"
    assert collector("backup", copy) == ExitCode.DONE
    whole = copy.read_bytes()
    if how == "no index":
        with sqlite3.connect(other) as made:
            made.execute("CREATE TABLE leaves_of_a_tree (number INTEGER)")
        made.close()
    else:
        damaged = bytearray(whole)
        damaged[8192:12288] = b"\xff" * 4096
        other.write_bytes({"cut": whole[: len(whole) // 2], "empty": b""}.get(how, damaged))
    lose_everything(site)
    assert collector("restore", other) == ExitCode.SETUP
    assert not list(site.premises.paths.state.glob("*index.sqlite*"))


def test_an_index_in_postgresql_is_copied_by_its_own_means(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the database, and no word of how one gets in."""
    config = site.premises.paths.config / "config.toml"
    config.write_text(
        config.read_text() + '\n[index]\nurl = "postgresql://ada:secret@db.example/assent?x=1"\n'
    )
    assert collector("backup", tmp_path / "copy.sqlite") == ExitCode.SETUP
    said = capsys.readouterr().err
    assert "the database assent with pg_dump" in said
    assert "secret" not in said
