"""Recording hours go by the clock on the workstation's wall, whatever its zone does to it."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from tests.fakes.organisation import Organisation
from wire.errors import MalformedError
from wire.hours import WEEK_MINUTES, Zone, closes_at, is_inside, minutes
from wire.ids import WallInstant
from wire.policy import Hours, Weekday, decode_policy, encode_policy

SECOND: Final = 1_000_000_000
WORKDAYS: Final = tuple(Weekday)[:5]
OFFICE: Final = (Hours(days=WORKDAYS, begin="09:00", end="17:00"),)
NIGHT: Final = (Hours(days=tuple(Weekday), begin="01:30", end="02:30"),)
ZONES: Final = [
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",  # 5:45 ahead
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Apia",
    "UTC",
]


def zone(name: str) -> Zone:
    there = ZoneInfo(name)
    return lambda wall: datetime.fromtimestamp(wall // SECOND, there)


def wall(moment: datetime) -> WallInstant:
    return WallInstant(int(moment.timestamp()) * SECOND)


def at(name: str, *when: int, fold: int = 0) -> WallInstant:
    return wall(datetime(*when, tzinfo=ZoneInfo(name), fold=fold))  # type: ignore[misc,arg-type]


def test_without_hours_anything_may_be_recorded_at_any_time() -> None:
    """None said is none forbidden: the rest of the policy decides."""
    assert is_inside((), datetime(2027, 3, 14, 3, 0, tzinfo=UTC))
    assert closes_at((), WallInstant(0), zone("UTC")) is None
    assert len(minutes(())) == WEEK_MINUTES


@pytest.mark.parametrize("name", ZONES)
def test_hours_begin_with_their_first_minute_and_end_before_their_last(name: str) -> None:
    """09:00:00 is inside and 17:00:00 is not, in every zone."""
    there = zone(name)
    for when, inside in (
        ((2027, 3, 15, 8, 59, 59), False),
        ((2027, 3, 15, 9, 0, 0), True),
        ((2027, 3, 15, 16, 59, 59), True),
        ((2027, 3, 15, 17, 0, 0), False),
        ((2027, 3, 14, 12, 0, 0), False),  # a Sunday
    ):
        assert is_inside(OFFICE, there(at(name, *when))) is inside, when


@pytest.mark.parametrize("name", ZONES)
def test_the_end_is_known_to_the_second(name: str) -> None:
    """From anywhere inside, the instant comes out at which the clock shows 17:00:00."""
    there = zone(name)
    for when in ((2027, 3, 15, 9, 0, 0), (2027, 3, 15, 16, 59, 59), (2027, 3, 15, 12, 34, 56)):
        assert closes_at(OFFICE, at(name, *when), there) == at(name, 2027, 3, 15, 17, 0, 0)


def test_outside_they_close_at_once() -> None:
    """An instant that is outside already is its own end."""
    now = at("UTC", 2027, 3, 15, 20, 0, 0)
    assert closes_at(OFFICE, now, zone("UTC")) == now


def test_an_hour_that_comes_twice_is_inside_both_times() -> None:
    """In Berlin 02:00 to 03:00 comes twice on 31 October 2027, and so does its first half."""
    there = zone("Europe/Berlin")
    start = at("Europe/Berlin", 2027, 10, 31, 1, 0, 0)
    inside = [
        minute
        for minute in range(180)
        if is_inside(NIGHT, there(WallInstant(start + minute * 60 * SECOND)))
    ]
    assert inside == [*range(30, 90), *range(120, 150)]
    first = closes_at(NIGHT, WallInstant(start + 30 * 60 * SECOND), there)
    assert first == start + 90 * 60 * SECOND  # 02:30, summer time still
    again = closes_at(NIGHT, WallInstant(start + 120 * 60 * SECOND), there)
    assert again == start + 150 * 60 * SECOND  # 02:30, winter time


def test_an_hour_that_is_left_out_ends_what_reaches_into_it() -> None:
    """On 28 March 2027 Berlin goes from 02:00 to 03:00: 01:30 to 02:30 has half an hour."""
    there = zone("Europe/Berlin")
    start = at("Europe/Berlin", 2027, 3, 28, 1, 30, 0)
    assert closes_at(NIGHT, start, there) == start + 30 * 60 * SECOND
    assert there(WallInstant(start + 30 * 60 * SECOND)).hour == 3


def test_hours_that_touch_are_one() -> None:
    """A night shift is two spans, and does not close at midnight."""
    shift = (
        Hours(days=(Weekday.MONDAY,), begin="22:00", end="24:00"),
        Hours(days=(Weekday.TUESDAY,), begin="00:00", end="06:00"),
    )
    begin = at("Europe/Berlin", 2027, 3, 15, 22, 0, 0)
    assert closes_at(shift, begin, zone("Europe/Berlin")) == begin + 8 * 3600 * SECOND


def test_every_minute_of_a_year_is_inside_exactly_when_the_wall_clock_says_so() -> None:
    """Both transitions of a year, in a zone with half an hour of summer time."""
    there = zone("Australia/Lord_Howe")
    moment = datetime(2027, 1, 1, tzinfo=UTC)
    open_minutes = minutes(OFFICE)
    for _ in range(366 * 24 * 4):
        local = there(wall(moment))
        shown = local.weekday() < 5 and 9 <= local.hour < 17
        assert is_inside(OFFICE, local) is shown
        assert (local.weekday() * 1440 + local.hour * 60 + local.minute in open_minutes) is shown
        moment += timedelta(minutes=15)


@pytest.mark.parametrize("text", ["9:00", "24:00", "25:00", "09:60", "09:00\n", "", "0900"])
def test_a_time_that_no_clock_shows_is_malformed(text: str, policy_text: bytes) -> None:
    """A policy with such hours cannot be read, so nothing is recorded under it."""
    hours = b'"hours": [{"days": ["mon"], "begin": "%s", "end": "24:00"}]' % (
        text.replace("\n", "\\n").encode()
    )
    with pytest.raises(MalformedError):
        decode_policy(policy_text.replace(b'"hours": []', hours))


@pytest.fixture(scope="module")
def policy_text() -> bytes:
    text = encode_policy(Organisation().policy(hours=()))
    assert b'"hours": []' in text
    return text
