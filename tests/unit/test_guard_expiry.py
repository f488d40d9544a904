"""Keys go when nothing that may still exist is sealed to them, and not a day sooner."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from guard import expiry, sweep
from guard.keys import Found, Keys, Missing
from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.ids import SubjectId, WallInstant
from wire.policy import Policy, encode_policy

ADA = SubjectId(b"a" * 16)
BOB = SubjectId(b"b" * 16)
ACME = Organisation()


def at(day: str) -> WallInstant:
    return WallInstant(int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9)


def policy(days: int, *categories: Category) -> Policy:
    """Return a policy that keeps these (keys and screen by default) for so many days."""
    rules = tuple(
        msgspec.structs.replace(rule, retention_days=days)
        for rule in ACME.policy().categories
        if rule.category in (categories or (Category.KEYS, Category.SCREEN))
    )
    return msgspec.structs.replace(ACME.policy(), categories=rules)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    keys = Keys(tmp_path / "keys.sqlite")
    yield keys
    keys.close()


def makes(
    keys: Keys, month: str, subject: SubjectId = ADA, category: Category = Category.KEYS
) -> None:
    keys.public_key(subject, category, month, at(f"{month}-10"))


def there(keys: Keys, month: str, category: Category = Category.KEYS) -> bool:
    return isinstance(keys.find(ADA, category, month), Found)


def lets(keys: Keys, until: str, policy: Policy | None, since: str = "2027-01-10") -> int:
    """Look on *since*, and then on *until* as often as it takes; return how many went."""
    gone = keys.let_run_out(policy, at(since))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expiry, "STEP", 1 << 62)  # how it gets there is another test's matter
        return gone + keys.let_run_out(policy, at(until))


def test_a_key_goes_when_the_last_batch_of_its_month_must_be_gone(keys: Keys) -> None:
    """31 January, thirty days, and the margin: on that day it is still there, the next day not."""
    makes(keys, "2027-01")
    makes(keys, "2027-02")
    last = date(2027, 1, 31) + timedelta(days=30 + expiry.MARGIN_DAYS)
    assert lets(keys, last.isoformat(), policy(30)) == 0
    assert there(keys, "2027-01")
    assert lets(keys, (last + timedelta(days=1)).isoformat(), policy(30), last.isoformat()) == 1
    assert keys.find(ADA, Category.KEYS, "2027-01") is Missing.NEVER_MADE
    assert there(keys, "2027-02")
    assert keys.count().run_out == 1


@pytest.mark.parametrize("days", [1, 28, 30, 31, 90, 365, 10**9])
def test_no_key_goes_while_a_batch_of_its_month_may_be_there(days: int) -> None:
    """For every day of a year and each retention: the last batch of the month has run out."""
    kept = expiry.kept_days(policy(days))[Category.KEYS]
    for number in range(366):
        day = date(2028, 1, 1) + timedelta(days=number)
        needed = expiry.first_month_needed(at(day.isoformat()), kept)
        last_of_gone = date.fromisoformat(f"{needed}-01") - timedelta(days=1)
        assert last_of_gone + timedelta(days=kept + expiry.MARGIN_DAYS) < day


def test_the_longest_retention_ever_said_holds(keys: Keys) -> None:
    """A policy that keeps for less says nothing of what was recorded under the one before."""
    makes(keys, "2027-01")
    keys.let_run_out(policy(90), at("2027-01-15"))
    assert lets(keys, "2027-04-30", policy(1), "2027-01-16") == 0
    assert lets(keys, "2027-05-20", policy(1), "2027-04-30") == 1


def test_a_policy_that_was_only_installed_counts_too(keys: Keys) -> None:
    """`trust` says it, whether a server runs or not."""
    makes(keys, "2027-01")
    keys.remember(policy(90))
    keys.remember(policy(30))
    assert lets(keys, "2027-04-30", None) == 0
    assert there(keys, "2027-01")


def test_a_category_of_which_nobody_said_how_long_stays(keys: Keys) -> None:
    """Also without any policy; each category by its own retention."""
    makes(keys, "2027-01")
    makes(keys, "2027-01", category=Category.SCREEN)
    assert lets(keys, "2027-12-31", None) == 0
    assert keys.let_run_out(policy(30, Category.SCREEN), at("2028-01-01")) == 1
    assert there(keys, "2027-01")
    assert not there(keys, "2027-01", Category.SCREEN)


def test_a_clock_that_jumps_ahead_erases_nothing_at_once(keys: Keys) -> None:
    """Half a day a look: by the time a key would go, somebody has seen the clock."""
    makes(keys, "2027-01")
    keys.let_run_out(policy(30), at("2027-01-15"))
    for _ in range(20):
        assert keys.let_run_out(policy(30), at("2035-01-01")) == 0
    assert there(keys, "2027-01")
    assert keys.let_run_out(policy(30), at("2027-01-16")) == 0  # and it is right again
    assert lets(keys, "2027-03-09", policy(30), "2027-01-17") == 0


def test_a_guard_that_is_started_again_and_again_does_not_erase_faster(tmp_path: Path) -> None:
    """Each start looks; with a clock that jumped, twenty of them would have used up the margin."""
    path = tmp_path / "keys.sqlite"
    keys = Keys(path)
    makes(keys, "2027-01")
    last_day = at("2027-03-09")
    keys.let_run_out(policy(30), WallInstant(last_day - 3600 * 10**9))
    gone = 0
    for start in range(40):
        keys.close()
        keys = Keys(path)
        gone += keys.let_run_out(policy(30), WallInstant(at("2035-01-01") + start * 5 * 10**9))
    keys.close()
    assert gone == 0


def test_a_clock_that_is_right_again_is_followed_at_once(keys: Keys) -> None:
    """Also if it had been ahead at the last step; and hourly looks go on as ever."""
    makes(keys, "2027-01")
    keys.let_run_out(policy(30), at("2027-01-15"))
    keys.let_run_out(policy(30), at("2035-01-01"))
    hour = 3600 * 10**9
    looks = [WallInstant(at("2027-01-16") + number * hour) for number in range(24 * 60)]
    gone = [number for number, now in enumerate(looks) if keys.let_run_out(policy(30), now)]
    last = date(2027, 1, 31) + timedelta(days=30 + expiry.MARGIN_DAYS)
    assert gone == [((last - date(2027, 1, 16)).days + 1) * 24]


def test_a_clock_that_goes_back_brings_nothing_back_and_takes_nothing(keys: Keys) -> None:
    """What is gone is gone; the rest waits for its day."""
    makes(keys, "2027-01")
    makes(keys, "2027-03")
    assert lets(keys, "2027-04-01", policy(30)) == 1
    assert keys.let_run_out(policy(30), at("2026-01-01")) == 0
    assert there(keys, "2027-03")


def test_an_old_copy_that_is_put_back_is_looked_through_again(tmp_path: Path) -> None:
    """Nothing has to be written down elsewhere: the time alone says what has run out."""
    path = tmp_path / "keys.sqlite"
    one = Keys(path)
    makes(one, "2027-01")
    one.let_run_out(policy(30), at("2027-01-15"))
    one.close()
    copy = path.read_bytes()
    again = Keys(path)
    assert lets(again, "2027-04-01", policy(30), "2027-01-16") == 1
    again.close()
    path.write_bytes(copy)
    restored = Keys(path)
    assert there(restored, "2027-01")
    assert lets(restored, "2027-04-01", policy(30), "2027-01-16") == 1
    restored.close()


def test_a_seed_that_has_run_out_is_on_no_page_of_the_files(tmp_path: Path) -> None:
    """Neither in the database nor in the log before it."""
    keys = Keys(tmp_path / "keys.sqlite")
    makes(keys, "2027-01")
    found = keys.find(ADA, Category.KEYS, "2027-01")
    assert isinstance(found, Found)
    lets(keys, "2027-04-01", policy(30))
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    keys.close()
    assert found.seed not in everything


def test_a_file_of_before_there_were_retentions_opens(tmp_path: Path) -> None:
    """Its keys are there, and run out from now on."""
    path = tmp_path / "keys.sqlite"
    keys = Keys(path)
    makes(keys, "2027-01")
    keys.close()
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TABLE retentions")
        raw.execute("DROP TABLE looks")
    raw.close()
    keys = Keys(path)
    assert there(keys, "2027-01")
    assert keys.count().run_out == 0
    assert lets(keys, "2027-04-01", policy(30)) == 1
    keys.close()


def guard_of(keys: Keys, day: str, installed: bytes | None) -> Any:  # noqa: ANN401 - what a look asks
    """Return as much of a guard as a look at its keys asks for."""
    found = None if installed is None else SimpleNamespace(policy=installed)
    clock = SimpleNamespace(now=lambda: SimpleNamespace(wall=at(day)))
    return SimpleNamespace(keys=keys, clock=clock, policy_set=lambda: found)


def test_a_look_takes_the_installed_policy_valid_or_not(keys: Keys) -> None:
    """Keys run out when the signatures have, too; with a wrong clock nobody looks."""
    makes(keys, "2027-01")
    text = encode_policy(policy(30))
    assert sweep.look(guard_of(keys, "1999-01-01", text)) == 0
    assert sweep.look(guard_of(keys, "2028-01-01", None)) == 0
    assert sweep.look(guard_of(keys, "2028-01-01", text)) == 1


def test_a_server_looks_from_its_start_on(keys: Keys) -> None:
    """In a thread of its own, which ends with the server."""
    makes(keys, "2027-01")
    guard = guard_of(keys, "2028-01-01", encode_policy(policy(30)))
    with sweep.sweeping(guard, every_seconds=0.001):
        pass
    assert keys.count().run_out == 1
