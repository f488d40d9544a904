"""No change of any zone ends a pause early, or opens anything outside the policy's hours.

The zone is really set (`TZ`, tzset), and the agent's own code asks the C library for the local
time.  What it should say is worked out beside it, from the zone's file (`zones`) and `zoneinfo`.
"""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agent.consent.clocks import PAUSE_NANOSECONDS, deadline_after, disagreement
from agent.consent.entries import Line, Paused
from agent.consent.standing import Standing, after, pause_at
from agent.consent.states import Pause
from agent.programme import Programme
from agent.status import _clock_time
from base.clock import NANOSECONDS, Now, local_time
from tests.conftest import Size
from tests.fakes.workstation import Workstation
from tests.model.zones import Change, changes, zones
from tray.view import time_left
from wire.hours import closes_at
from wire.ids import WallInstant
from wire.policy import Hours, Weekday

PAUSE: Final = PAUSE_NANOSECONDS // NANOSECONDS  # seconds
BEFORE: Final = (1, 900, 1_799)  # so many seconds before the change the pause begins
BOOT: Final = 10_000  # what the boot clock shows then
MINUTE: Final = 60
DAYS: Final = tuple(Weekday)


@pytest.fixture
def travel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return what sets this process's zone; it is back where it was afterwards."""

    def go(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield go
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="module")
def every_change() -> list[Change]:
    return [change for zone in zones() for change in changes(zone)]


@pytest.fixture
def chosen(every_change: list[Change], size: Size, dice: random.Random) -> list[Change]:
    """Return all changes, or for `make test` some of them, of any zone and year."""
    number = size(share=800, full=len(every_change))
    return sorted(dice.sample(every_change, number), key=lambda c: (c.zone, c.at))


def reading(at: int, *, boot: int, boot_id: str = "one") -> Now:
    return Now(boot=boot * NANOSECONDS, wall=at * NANOSECONDS, boot_id=boot_id)


def after_a_pause(now: Now) -> Standing:
    """Return where everything stands after the data subject has clicked *Pause* at *now*."""
    until = deadline_after(now, PAUSE_NANOSECONDS)
    entry = Paused(until_wall=until.wall, until_boot=until.boot)
    line = Line(n=0, prev="", wall=now.wall, boot=now.boot, boot_id=now.boot_id, entry=entry)
    return after(Standing(), line, None)  # type: ignore[arg-type]  # no signature in it


@pytest.mark.slow
@pytest.mark.soak
def test_no_change_of_a_zone_ends_a_pause_early_or_late(
    chosen: list[Change], travel: Callable[[str], None], figure: Callable[[str], None]
) -> None:
    """Awake, over a suspend and over a reboot: half an hour is half an hour, to the second."""
    zone, early, late, pauses, doubts, jumps = "", 0, 0, 0, 0, 0
    for change in chosen:
        if change.zone != zone:
            travel(zone := change.zone)
        jumps += _shows_a_jump(change)
        for before in BEFORE:
            begun = reading(change.at - before, boot=BOOT)
            standing = after_a_pause(begun)
            for now, passed in _afterwards(begun):
                pauses += 1
                pause = pause_at(standing, now)
                early += passed < PAUSE and pause is not Pause.PAUSED
                late += passed >= PAUSE and pause is not Pause.RESUME_PENDING
                doubts += bool(disagreement(begun, now))
            _check_what_is_shown(begun, change)
    assert (early, late, doubts) == (0, 0, 0)
    assert jumps == len(chosen), "a change that the clock on the wall does not show"
    figure(
        f"{len(chosen):,} changes in {len({c.zone for c in chosen})} zones, {pauses:,} looks at a "
        f"pause begun before them (awake, suspend, reboot): {early} early, {late} late"
    )


def _afterwards(begun: Now) -> Iterator[tuple[Now, int]]:
    """Yield readings of the same pause and how long it lasts then; in each way to get there."""
    start = begun.wall // NANOSECONDS
    for passed in (0, 1, 2, 899, 901, PAUSE - 1, PAUSE, PAUSE + 1, 86_400):
        yield reading(start + passed, boot=BOOT + passed), passed  # awake, or asleep meanwhile
        yield reading(start + passed, boot=5, boot_id="two"), passed
        # Asleep over the change, and another boot once awake.
        yield reading(start + passed, boot=BOOT * 50, boot_id="three"), passed


def _shows_a_jump(change: Change) -> bool:
    """Whether the clock that the agent reads is put forward or back, by as much as is listed."""
    before, at = (local_time(s * NANOSECONDS).utcoffset() for s in (change.at - 1, change.at))
    assert before is not None
    assert at is not None
    return bool(at - before) and (at - before).total_seconds() == change.by


def _check_what_is_shown(begun: Now, change: Change) -> None:
    """The tray counts down by time that passes; the status names the end by the clock there."""
    until = begun.wall + PAUSE_NANOSECONDS
    for passed in (0, 600, PAUSE):
        left = PAUSE - passed
        shown = time_left(WallInstant(until), WallInstant(begun.wall + passed * NANOSECONDS))
        assert shown == f"{left // 60}:{left % 60:02}"
    there = datetime.fromtimestamp(until // NANOSECONDS, ZoneInfo(change.zone))
    assert _clock_time(until) == f"{there:%H:%M}"


# --- the policy's hours -------------------------------------------------------------------


@pytest.fixture(scope="module")
def programme(tmp_path_factory: pytest.TempPathFactory) -> Programme:
    """Return what an enrolled agent goes by."""
    station = Workstation.enrolled(tmp_path_factory.mktemp("station"))
    return Programme(station.paths.state, station.device, station.clock.now())


@pytest.mark.slow
@pytest.mark.soak
def test_nothing_is_asked_for_outside_the_hours_where_a_clock_is_put_forward_or_back(
    chosen: list[Change],
    travel: Callable[[str], None],
    programme: Programme,
    figure: Callable[[str], None],
) -> None:
    """Hours that begin or end in an hour which is left out, or comes twice, hold by the clock."""
    zone, looks, inside, ends = "", 0, 0, 0
    for change in chosen:
        if change.zone != zone:
            travel(zone := change.zone)
        there = ZoneInfo(zone)
        for hours, minutes in _around(change, there):
            _govern(programme, hours)
            for at in _moments(change):
                now = reading(at, boot=BOOT)
                expected = _minute(at, there) in minutes
                asked = bool(programme.asked_for(now))
                assert programme.within_hours(now) is expected is asked, (change, hours, at)
                looks, inside = looks + 1, inside + asked
            ends += _check_end(change, hours, minutes, there)
    assert inside > looks // 20
    figure(
        f"{len(chosen):,} changes in {len({c.zone for c in chosen})} zones: {looks:,} looks at "
        f"hours around them, {inside:,} within, 0 outside; {ends:,} ends to the second"
    )


def _govern(programme: Programme, hours: Hours) -> None:
    policy = programme.in_force.policy
    assert policy is not None
    changed = msgspec.structs.replace(policy, hours=(hours,))
    programme.in_force = type(programme.in_force)(
        policy=changed, digest=programme.in_force.digest, lease=programme.in_force.lease
    )


def _around(change: Change, there: ZoneInfo) -> Iterator[tuple[Hours, frozenset[int]]]:
    """Yield hours that begin or end just at, before and after what the clock shows at a change."""
    old = _minute(change.at - 1, there) + 1  # what it would have shown
    new = _minute(change.at, there)
    for begin, end in ((old - 20, old + 10), (new - 10, new + 25), (old + 5, old + 50)):
        first, last = max(0, begin), min(24 * 60 - 1, end)
        if first < last:
            span = Hours(days=DAYS, begin=_clock(first), end=_clock(last))
            yield span, frozenset(range(first, last))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _minute(at: int, there: ZoneInfo) -> int:
    """Return the minute of the day that the clock shows there."""
    local = datetime.fromtimestamp(at, UTC).astimezone(there)
    return local.hour * 60 + local.minute


def _moments(change: Change) -> Iterator[int]:
    yield from (change.at + seconds for seconds in (-3_600, -1_200, -601, -1, 0, 1, 599, 601))
    yield from (change.at + minutes * MINUTE for minutes in (15, 24, 26, 51, 70, 110))


def _check_end(change: Change, hours: Hours, minutes: frozenset[int], there: ZoneInfo) -> bool:
    """What is opened within the hours is open until they end, and not a second longer."""
    begin = next((at for at in _moments(change) if _minute(at, there) in minutes), None)
    if begin is None:
        return False
    end = closes_at((hours,), WallInstant(begin * NANOSECONDS), local_time)
    assert end is not None
    last = end // NANOSECONDS
    assert _minute(last, there) not in minutes
    assert all(_minute(at, there) in minutes for at in range(begin, last, 20))
    assert _minute(last - 1, there) in minutes
    return True


def test_every_zone_is_there_and_most_have_changes(every_change: list[Change]) -> None:
    """What would make the two above say nothing: a system without its zones."""
    assert len(zones()) > 500
    assert len({c.zone for c in every_change}) > 400
    assert len(every_change) > 20_000
    assert {2037, 1972} <= {datetime.fromtimestamp(c.at, UTC).year for c in every_change}
