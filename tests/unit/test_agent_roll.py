"""When a batch closes, what fits into one, and what a picture needs before it."""

import pytest

from agent.counters import Drop
from agent.handover import Permit, Rolled
from agent.roll import CLOSES_AFTER_NANOSECONDS, CLOSES_AT_BYTES, LARGEST_BYTES, Roll
from base.clock import NANOSECONDS, Now
from wire.batch import Gap
from wire.category import Category
from wire.event import Event, Frame, Key, Rectangle, Still
from wire.ids import BootInstant, GrantHash, PolicyDigest

NOON = 1_800_000_000 * NANOSECONDS  # 2027-01-15 08:00 UTC
NOW = Now(boot=1_000 * NANOSECONDS, wall=NOON, boot_id="one")


class World:
    """A roll, and what it could not take."""

    def __init__(self) -> None:
        self.lost: list[tuple[Event, Drop]] = []
        self.roll = Roll(lambda event, why: self.lost.append((event, why)))

    def add(self, event: Event, permit: Permit | None = None, now: Now = NOW) -> list[Rolled]:
        screen = isinstance(event, Frame | Still)
        category = Category.SCREEN if screen else Category.KEYS
        _kept, closed = self.roll.add(event, permit or a_permit(category), None, now)
        return closed


def a_permit(category: Category = Category.KEYS, grant: bytes = b"g") -> Permit:
    return Permit(
        category=category,
        grant=GrantHash(grant),
        policy=PolicyDigest(b"p"),
        level="classes",
        rate_hz=1000,
        since=BootInstant(0),
    )


def key(at: int = 999 * NANOSECONDS) -> Key:
    return Key(at=BootInstant(at), pressed=True, kind="letter")


def frame(size: int = 100, *, whole: bool = False) -> Frame:
    part = Rectangle(x=0, y=0, width=1, height=1, pixels=bytes(size))
    return Frame(
        at=BootInstant(999 * NANOSECONDS),
        key=whole,
        left=0,
        top=0,
        width=9,
        height=9,
        rectangles=(part,),
    )


def still() -> Still:
    at = BootInstant(999 * NANOSECONDS)
    return Still(at=at, of=BootInstant(at - 1), since=BootInstant(at - 1))


@pytest.fixture
def world() -> World:
    return World()


def test_events_of_one_category_and_permit_share_a_batch(world: World) -> None:
    """Nothing closes without a reason."""
    assert [world.add(key()) for _ in range(3)] == [[], [], []]
    (rolled,) = world.roll.close(Category.KEYS, NOW)
    assert len(rolled.events) == 3
    assert rolled.counters == {"kept": 3}
    assert rolled.day == "2027-01-15"
    assert rolled.anchor == NOW


def test_another_grant_closes_the_batch(world: World) -> None:
    """A batch names one grant, so a change of consent closes it."""
    world.add(key())
    (rolled,) = world.add(key(), a_permit(grant=b"other"))
    assert rolled.permit.grant == b"g"


def test_midnight_closes_the_batch(world: World) -> None:
    """A batch has one day, by the time of its events and not of their arrival."""
    world.add(key())
    tomorrow = Now(boot=NOW.boot, wall=NOON + 86_400 * NANOSECONDS, boot_id="one")
    (rolled,) = world.add(key(), now=tomorrow)
    assert rolled.day == "2027-01-15"
    (rolled,) = world.roll.close(Category.KEYS, tomorrow)
    assert rolled.day == "2027-01-16"


def test_sixty_seconds_close_the_batch(world: World) -> None:
    """And not one nanosecond earlier."""
    world.add(key())
    just_before = CLOSES_AFTER_NANOSECONDS - 1
    later = Now(boot=NOW.boot + just_before, wall=NOON + just_before, boot_id="one")
    assert world.roll.aged(later) == []
    assert len(world.roll.aged(Now(boot=later.boot + 1, wall=later.wall + 1, boot_id="one"))) == 1
    assert world.roll.aged(later) == []


def test_four_mebibytes_close_the_batch(world: World) -> None:
    """The batch that reaches the size goes as it is."""
    big = Key(at=BootInstant(1), pressed=True, kind="letter", text="x" * (CLOSES_AT_BYTES // 4))
    (rolled,) = world.add(big)
    assert rolled.events == (big,)


def test_an_event_that_fits_into_no_batch_is_lost_with_a_reason(world: World) -> None:
    """The hard bound of a frame holds, and it is said."""
    assert world.add(frame(LARGEST_BYTES + 1, whole=True)) == []
    assert [why for _event, why in world.lost] == [Drop.TOO_LARGE]
    world.add(frame())
    assert world.lost[-1][1] is Drop.NO_KEY_FRAME


def test_a_screen_batch_begins_with_a_key_frame(world: World) -> None:
    """A key frame that arrives while a batch is open begins the next one."""
    assert world.add(frame(whole=True)) == []
    assert world.add(frame()) == []
    (rolled,) = world.add(frame(whole=True))
    assert [event.key for event in rolled.events if isinstance(event, Frame)] == [True, False]


def test_how_long_a_picture_stayed_needs_no_picture_in_its_batch(world: World) -> None:
    """The frame may be in an earlier batch; the key frame that comes next joins this one."""
    assert [world.add(event) for event in (still(), frame(whole=True), frame(), still())] == [
        []
    ] * 4
    (rolled,) = world.add(frame(whole=True))
    assert len(rolled.events) == 4
    assert world.lost == []


def test_a_change_is_not_drawn_on_a_batch_without_a_picture(world: World) -> None:
    """A batch that only says how long a picture stayed holds nothing to draw on."""
    world.add(frame(whole=True))
    world.roll.close(Category.SCREEN, NOW)
    world.add(still())
    world.add(frame())
    assert [why for _event, why in world.lost] == [Drop.NO_KEY_FRAME]


def test_a_full_screen_batch_waits_for_its_next_key_frame(world: World) -> None:
    """Also when what comes next is no frame: changes could not be continued elsewhere."""
    world.add(frame(CLOSES_AT_BYTES, whole=True))
    assert world.add(still()) == []
    assert world.add(frame()) == []
    assert world.lost == []


def test_a_change_without_its_picture_is_lost(world: World) -> None:
    """What would be drawn on the wrong picture is not kept."""
    world.add(frame())
    assert [why for _event, why in world.lost] == [Drop.NO_KEY_FRAME]
    world.add(frame(whole=True))
    world.roll.break_picture()
    world.add(frame())
    world.add(frame(whole=True))
    world.add(frame())
    assert len(world.lost) == 2


def test_after_a_screen_batch_has_closed_changes_wait_for_a_key_frame(world: World) -> None:
    """A picture cannot be continued in another batch."""
    world.add(frame(whole=True))
    world.roll.close(Category.SCREEN, NOW)
    world.add(frame())
    assert world.lost[-1][1] is Drop.NO_KEY_FRAME


def test_frames_beyond_four_mebibytes_stay_together_until_the_next_key_frame(
    world: World,
) -> None:
    """Closing in the middle would lose the changes up to the next key frame."""
    world.add(frame(CLOSES_AT_BYTES, whole=True))
    assert world.add(frame(1000)) == []
    assert len(world.add(frame(whole=True))) == 1


def test_a_batch_never_grows_beyond_what_a_frame_can_hold(world: World) -> None:
    """It closes before the event that would be too much."""
    world.add(frame(LARGEST_BYTES - 1000, whole=True))
    (rolled,) = world.add(frame(2000))
    assert len(rolled.events) == 1
    assert world.lost[-1][1] is Drop.NO_KEY_FRAME


def test_discarding_forgets_the_open_batch(world: World) -> None:
    """An opt-out leaves nothing to seal."""
    world.add(key())
    assert world.roll.discard(Category.KEYS) == 1
    assert world.roll.close(Category.KEYS, NOW) == []


def test_forgetting_a_span_keeps_what_is_older(world: World) -> None:
    """Only the last minutes go; pictures after that need a key frame."""
    for at in (1, 2, 3, 4):
        world.add(key(at * NANOSECONDS))
    world.add(frame(whole=True))
    assert world.roll.forget_since(3 * NANOSECONDS) == 3
    (rolled,) = world.roll.close(Category.KEYS, NOW)
    assert [event.at for event in rolled.events] == [NANOSECONDS, 2 * NANOSECONDS]
    assert world.roll.close(Category.SCREEN, NOW) == []
    world.add(frame())
    assert world.lost[-1][1] is Drop.NO_KEY_FRAME


def test_a_gap_travels_with_the_event_that_ended_it(world: World) -> None:
    """The reader sees that there was silence, and why."""
    gap = Gap(since=BootInstant(1), until=BootInstant(2), why="paused-until")
    world.roll.add(key(), a_permit(), gap, NOW)
    (rolled,) = world.roll.close(Category.KEYS, NOW)
    assert rolled.gaps == (gap,)
