"""A guard's copy of its keys: it goes back for a week, and brings nothing back that was erased."""

import dataclasses
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from base.api import Door
from base.clock import NANOSECONDS, Now, SystemClock
from base.command import outcome
from base.errors import ExitCode
from base.paths import paths_for
from base.pki import (
    certificate_expires_at,
    certificate_hosts,
    certificate_spki_sha256_of_pem,
    load_p256,
)
from guard.__main__ import cli
from guard.keys import Found, Missing
from guard.listeners import credentials_for
from guard.premises import Premises
from tests.fakes.organisation import WITNESS_NAME
from wire.category import Category
from wire.errors import WireError
from wire.ids import SubjectId, WallInstant

INIT: Final = (
    *("init", "--origin", "https://127.0.0.1:8444", "--tenant", "acme"),
    *("--name", WITNESS_NAME),
)
ANN, BEN = SubjectId(b"a" * 16), SubjectId(b"b" * 16)


def guard(*arguments: object) -> int:
    return outcome(cli, "assent-guard", [str(each) for each in arguments], refusals=(WireError,))


@pytest.fixture
def premises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Premises:
    """Return those of a guard that was set up just now."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert guard(*INIT) == ExitCode.DONE
    capsys.readouterr()
    return Premises(paths_for("guard"))


@pytest.fixture
def month(premises: Premises) -> str:
    """Return this month, for which both data subjects have a key."""
    now = WallInstant(SystemClock().now().wall)
    this = f"{datetime.now(UTC):%Y-%m}"
    with closing(premises.keys()) as keys:
        for subject in (ANN, BEN):
            keys.public_key(subject, Category.KEYS, this, now)
    return this


@pytest.fixture
def copy(premises: Premises, month: str, tmp_path: Path) -> Path:
    """Return a copy of both keys."""
    assert guard("backup", tmp_path / "copy") == ExitCode.DONE
    return tmp_path / "copy"


def lose(premises: Premises, *, erasures: bool = False) -> None:
    """Let the disk lose the keys."""
    for path in premises.paths.state.glob("keys.sqlite*"):
        path.unlink()
    if erasures:
        (premises.paths.state / "keys.erased").unlink()


def found(premises: Premises, subject: SubjectId, month: str) -> Found | Missing:
    with closing(premises.keys()) as keys:
        return keys.find(subject, Category.KEYS, month)


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Let the clock say so much more."""
    now = SystemClock.now

    def moved(self: SystemClock) -> Now:
        at = now(self)
        return dataclasses.replace(at, wall=at.wall + int(by.total_seconds() * NANOSECONDS))

    monkeypatch.setattr(SystemClock, "now", moved)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_a_copy_brings_the_keys_back_but_for_what_was_erased_since(
    premises: Premises, copy: Path, month: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file of the guard's own, without what only copies have."""
    before = found(premises, BEN, month)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert guard("forget", "--subject", ANN.hex(), "--yes") == ExitCode.DONE
    lose(premises)
    assert guard("status") == ExitCode.SETUP
    assert guard("restore", copy) == ExitCode.DONE
    assert "restored as of" in capsys.readouterr().out
    assert found(premises, ANN, month) is Missing.ERASED
    assert found(premises, BEN, month) == before
    assert stat.S_IMODE(premises.keys_file.stat().st_mode) == 0o600
    with closing(sqlite3.connect(premises.keys_file)) as keys:
        names = {name for (name,) in keys.execute("SELECT name FROM sqlite_master")}
    assert not [name for name in names if name.startswith("copy_")]
    assert guard("status") == ExitCode.DONE


def test_a_copy_is_no_way_back_after_a_week(
    premises: Premises,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """People were told that what they had erased is gone by then."""
    lose(premises)
    with monkeypatch.context() as patch:
        later(patch, timedelta(days=7))
        assert guard("restore", copy) == ExitCode.SETUP
        assert "is 7 days old" in said(capsys)
    with monkeypatch.context() as patch:
        later(patch, timedelta(days=-1))
        assert guard("restore", copy) == ExitCode.SETUP
        assert "check the clock" in said(capsys)
    later(monkeypatch, timedelta(days=6, hours=23))
    assert guard("restore", copy) == ExitCode.DONE


def test_where_the_erasures_are_lost_as_well_that_has_to_be_said(
    premises: Premises, copy: Path, month: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then those that the copy knows of are all; the operator is told whom to ask."""
    lose(premises, erasures=True)
    assert guard("restore", copy) == ExitCode.SETUP
    assert "--erasures-lost" in said(capsys)
    assert not premises.keys_file.exists()
    assert guard("restore", copy, "--erasures-lost") == ExitCode.DONE
    assert "has to ask for it again" in capsys.readouterr().out
    assert isinstance(found(premises, ANN, month), Found)


def test_what_was_erased_before_a_copy_stays_so_without_the_file_of_erasures(
    premises: Premises, month: str, tmp_path: Path
) -> None:
    """A copy has its own list of them."""
    assert guard("forget", "--subject", ANN.hex(), "--yes") == ExitCode.DONE
    assert guard("backup", tmp_path / "second") == ExitCode.DONE
    lose(premises, erasures=True)
    assert guard("restore", tmp_path / "second", "--erasures-lost") == ExitCode.DONE
    assert found(premises, ANN, month) is Missing.ERASED
    assert isinstance(found(premises, BEN, month), Found)


def test_a_copy_takes_the_place_of_no_keys_that_are_there(
    premises: Premises, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They can have been made since, and something can be sealed to them."""
    before = premises.keys_file.read_bytes()
    assert guard("restore", copy) == ExitCode.SETUP
    assert "move it away first" in said(capsys)
    assert premises.keys_file.read_bytes() == before


@pytest.mark.parametrize("damage", ["other", "cut", "plain"])
def test_what_is_no_copy_is_not_put_anywhere(
    premises: Premises,
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    """Nor is one that was cut, or a file of keys that somebody copied by hand."""
    by_hand = tmp_path / "by-hand"
    shutil.copy(premises.keys_file, by_hand)
    if damage == "other":
        copy.write_bytes(b"no database at all, but long enough to be looked at" * 99)
    elif damage == "cut":
        copy.write_bytes(copy.read_bytes()[:5000])
    else:
        copy = by_hand
    lose(premises)
    assert guard("restore", copy) == ExitCode.SETUP
    said(capsys)
    assert not premises.keys_file.exists()


def test_a_copy_is_made_beside_a_running_guard_and_put_back_without_one(
    premises: Premises, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a running guard has open would go on being used."""
    lose(premises)
    with premises.alone():
        assert guard("restore", copy) == ExitCode.SETUP
        assert "another assent-guard serves" in said(capsys)
    assert guard("restore", copy) == ExitCode.DONE


def test_a_copy_overwrites_nothing(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of yesterday may be the only good one."""
    before = copy.read_bytes()
    assert guard("backup", copy) == ExitCode.SETUP
    assert "name a new file" in said(capsys)
    assert guard("backup", tmp_path / "no" / "folder") == ExitCode.SETUP
    said(capsys)
    assert copy.read_bytes() == before


def test_a_certificate_is_renewed_and_the_pin_stays(
    premises: Premises, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to be told: whoever calls knows the key and the authority."""
    with monkeypatch.context() as patch:
        patch.setattr("base.pki.SERVER_DAYS", 30)  # one that is soon over
        old = premises.authority().server_certificate(load_p256(premises.tls_key), ["127.0.0.1"])
    premises.tls_certificate.write_bytes(old)
    assert guard("tls", "renew") == ExitCode.DONE
    new = premises.tls_certificate.read_bytes()
    assert certificate_spki_sha256_of_pem(new) == certificate_spki_sha256_of_pem(old)
    assert certificate_hosts(new) == certificate_hosts(old)
    assert certificate_expires_at(new) > certificate_expires_at(old) + timedelta(days=700)
    assert "Start the guard again" in capsys.readouterr().out


def test_the_key_of_the_server_changes_in_two_steps(
    premises: Premises, capsys: pytest.CaptureFixture[str]
) -> None:
    """Announced as often as one likes, it is the same; then key and certificate fit."""
    assert guard("tls", "switch", "--yes") == ExitCode.SETUP
    assert "announce first" in capsys.readouterr().err
    assert guard("tls", "announce") == ExitCode.DONE
    told = capsys.readouterr().out
    now, coming = (line.split()[1] for line in told.splitlines()[:2])
    assert now == premises.card().tls_pin != coming
    assert guard("tls", "announce") == ExitCode.DONE
    assert capsys.readouterr().out == told
    assert guard("tls", "renew") == ExitCode.DONE
    assert premises.card().tls_pin == now
    assert guard("tls", "switch", "--yes") == ExitCode.DONE
    assert premises.card().tls_pin == coming
    credentials_for(premises, Door.COLLECTOR).check()
    assert not list(premises.paths.config.glob("tls.next*"))
    assert guard("tls", "switch", "--yes") == ExitCode.SETUP


def test_a_switch_that_was_cut_short_goes_on(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its writes; a server with half of it does not start."""
    assert guard("tls", "announce") == ExitCode.DONE
    coming = certificate_spki_sha256_of_pem(premises.next_tls_certificate.read_bytes()).hex()
    with monkeypatch.context() as patch:
        patch.setattr("guard.tls_commands.remove", cut_short)
        assert guard("tls", "switch", "--yes") != ExitCode.DONE
    assert guard("tls", "switch", "--yes") == ExitCode.DONE
    assert premises.card().tls_pin == coming
    credentials_for(premises, Door.COLLECTOR).check()


def cut_short(_path: Path) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _ended(premises: Premises) -> Iterator[None]:
    """Leave no half of a file behind."""
    yield
    assert list(premises.paths.state.glob(".*.tmp")) == []
