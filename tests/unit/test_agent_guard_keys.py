"""The guard's keys at hand: only those that the policy's guard signed, for exactly this."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.guard_keys import FILE_NAME, GuardKeys, month_at
from base.clock import NANOSECONDS, Now
from base.stored import NewerError
from tests.fakes.organisation import b64, raw
from wire.category import Category
from wire.errors import WireError
from wire.guard_http import KeyAnswer, KeyRequest, sign_key
from wire.ids import SubjectId
from wire.xwing import public_key_of

GUARD = Ed25519PrivateKey.generate()
SIGNING_KEY = b64(raw(GUARD))
SUBJECT = SubjectId(b"s" * 16)
PUBLIC = public_key_of(b"\1" * 32)
DAY = 86_400 * NANOSECONDS
MIDNIGHT = int(datetime(2027, 3, 15, tzinfo=UTC).timestamp()) * NANOSECONDS
MARCH_15 = Now(boot=0, wall=MIDNIGHT, boot_id="b")


def answer(month: str = "2027-03", category: Category = Category.KEYS) -> KeyAnswer:
    request = KeyRequest(subject=SUBJECT, category=category, month=month)
    return sign_key(request, PUBLIC, GUARD)


def keys(folder: Path) -> GuardKeys:
    made = GuardKeys(folder, SUBJECT)
    made.use_guard(SIGNING_KEY)
    return made


def test_a_key_that_the_guard_signed_is_kept_over_a_restart(tmp_path: Path) -> None:
    """And verified anew when it is loaded."""
    keys(tmp_path).add(Category.KEYS, "2027-03", answer())
    again = keys(tmp_path)
    assert again.keys == {(Category.KEYS, "2027-03"): PUBLIC}
    assert again.has(Category.KEYS, MARCH_15)
    assert not again.has(Category.SCREEN, MARCH_15)


@pytest.mark.parametrize(
    ("category", "month"), [(Category.SCREEN, "2027-03"), (Category.KEYS, "2027-04")]
)
def test_a_key_for_something_else_is_refused(
    tmp_path: Path, category: Category, month: str
) -> None:
    """The signature is over subject, category and month."""
    with pytest.raises(WireError):
        keys(tmp_path).add(category, month, answer())


def test_a_file_that_was_tampered_with_opens_no_third_lock(tmp_path: Path) -> None:
    """A key that somebody put there is not sealed to."""
    keys(tmp_path).add(Category.KEYS, "2027-03", answer())
    path = tmp_path / FILE_NAME
    stranger = public_key_of(b"\2" * 32)
    path.write_bytes(path.read_bytes().replace(b64(PUBLIC).encode(), b64(stranger).encode()))
    assert keys(tmp_path).keys == {}
    path.write_bytes(b"garbage")
    assert keys(tmp_path).keys == {}


def test_when_the_policy_names_another_guard_the_old_keys_are_not_used(tmp_path: Path) -> None:
    """What the new guard did not sign is not the new guard's."""
    made = keys(tmp_path)
    made.add(Category.KEYS, "2027-03", answer())
    made.use_guard(b64(raw(Ed25519PrivateKey.generate())))
    assert made.keys == {}
    made.use_guard(SIGNING_KEY)
    assert made.has(Category.KEYS, MARCH_15)


def test_what_is_missing_is_this_month_and_near_its_end_the_next(tmp_path: Path) -> None:
    """So that midnight closes nothing."""
    made = keys(tmp_path)
    assert made.missing([Category.KEYS], MARCH_15) == [(Category.KEYS, "2027-03")]
    march_29 = Now(boot=0, wall=MARCH_15.wall + 14 * DAY, boot_id="b")
    made.add(Category.KEYS, "2027-03", answer())
    assert made.missing([Category.KEYS], MARCH_15) == []
    assert made.missing([Category.KEYS], march_29) == [(Category.KEYS, "2027-04")]
    assert made.missing([], march_29) == []


def test_months_are_utc() -> None:
    """As in the frame's day."""
    assert month_at(MARCH_15) == "2027-03"
    assert month_at(Now(boot=0, wall=MARCH_15.wall - 14 * DAY - 1, boot_id="b")) == "2027-02"


def test_a_file_of_a_later_version_is_refused_each_time_and_stays_as_it_is(tmp_path: Path) -> None:
    """No key is missing then: the next one would be written over that file."""
    keys(tmp_path).add(Category.KEYS, "2027-03", answer())
    path = tmp_path / FILE_NAME
    [kept] = json.loads(path.read_bytes())
    later = json.dumps([{**kept, "version": 99}])
    path.write_text(later)
    made = GuardKeys(tmp_path, SUBJECT)
    for _attempt in range(2):
        with pytest.raises(NewerError, match="later version"):
            made.use_guard(SIGNING_KEY)
    assert path.read_text() == later
