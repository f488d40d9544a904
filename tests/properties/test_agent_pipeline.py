"""The pipeline under any order of events, focus changes and restrictions.

Whatever comes when: nothing younger than a restriction less the hold-back is ever sealed,
nothing outside, nothing twice; and every event is either sealed or counted.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.consent.hidden import HiddenTimeline
from agent.consent.scope import FocusTimeline
from agent.counters import Counters
from agent.handover import HOLD_BACK_NANOSECONDS, Permit, Rolled, SealedBatch, Span
from agent.pipeline import Pipeline
from agent.roll import Roll
from base.clock import Now
from wire.category import Category
from wire.control import Reason
from wire.event import Event, Frame, Key, Rectangle, category_of
from wire.ids import BootInstant, GrantHash, PolicyDigest

MS = 1_000_000
WALL = 1_800_000_000_000_000_000


def now(at_ms: int) -> Now:
    return Now(boot=at_ms * MS, wall=WALL + at_ms * MS, boot_id="one")


def permit(category: Category, since_ms: int) -> Permit:
    return Permit(
        category=category,
        grant=GrantHash(b"g"),
        policy=PolicyDigest(b"p"),
        level="text",
        rate_hz=1e6,
        since=BootInstant(since_ms * MS),
    )


class World:
    """A pipeline that remembers what it was given and what came out."""

    def __init__(self) -> None:
        self.timeline = FocusTimeline()
        self.hidden = HiddenTimeline()
        self.counters = Counters()
        self.sealed: list[Event] = []
        self.number = 0
        self.pipeline = Pipeline(
            timeline=self.timeline,
            hidden=self.hidden,
            counters=self.counters,
            number=self._number,
            seal=self._seal,
            spool=lambda _sealed, _now: None,
            why_not=lambda _category: Reason.PAUSED_UNTIL,
        )

    def _number(self, category: Category) -> int:
        self.number += 1
        return self.number

    def _seal(self, rolled: Rolled) -> SealedBatch:
        assert len({category_of(event) for event in rolled.events}) == 1
        self.sealed += rolled.events
        return SealedBatch(
            name="",
            category=rolled.permit.category,
            grant=rolled.permit.grant,
            policy=rolled.permit.policy,
            span=Span(first_wall=0, last_wall=0, first_boot=0, last_boot=0, boot_id=""),
            events=len(rolled.events),
            expires="",
            unsigned=b"",
            age_header=b"",
        )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("key"), st.integers(0, 400)),  # typed that many ms before it arrives
        st.tuples(st.just("focus"), st.sampled_from([True, False, None])),
        st.tuples(st.just("wait"), st.integers(1, 700)),
        st.tuples(
            st.just("pause"),  # ms until the sensor is closed, and what it tells of just before
            st.tuples(st.integers(0, 900), st.lists(st.integers(0, 1_300), max_size=3)),
        ),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_that_is_sealed_is_younger_than_a_restriction_less_the_hold_back(
    story: list[tuple[str, int | bool | tuple[int, list[int]] | None]],
) -> None:
    """I2 in the agent's memory, and I11: sealed or counted, each event exactly once."""
    world, at, typed = World(), 1_000, 0
    shut: list[tuple[int, int]] = []  # from the restriction to the next permit
    changes: list[tuple[int, bool | None]] = []
    world.pipeline.permit(permit(Category.KEYS, at))
    open_since: int | None = at
    for act, value in story:
        at += 1
        match act, value:
            case "key", int(ago):
                typed += 1
                when = BootInstant((at - ago) * MS)
                world.pipeline.take([Key(at=when, pressed=True, kind="letter")], now(at))
            case "focus", inside:
                assert inside is None or isinstance(inside, bool)
                world.timeline.note(at * MS, inside)
                changes.append((at, inside))
            case "wait", int(passed):
                at += passed
                world.pipeline.take((), now(at))
            case "pause", (late, told) if open_since is not None:
                world.pipeline.shut((Category.KEYS,), at * MS)
                shut.append((at, 10**9))
                at += late
                typed += len(told)
                times = sorted(BootInstant((at - ago) * MS) for ago in told)
                keys = [Key(at=when, pressed=True, kind="letter") for when in times]
                world.pipeline.take(keys, now(at))
                world.pipeline.settle((Category.KEYS,), now(at), keep=True)
                open_since = None
            case "resume", _ if open_since is None:
                world.pipeline.permit(permit(Category.KEYS, at))
                shut[-1] = (shut[-1][0], at)
                open_since = at
    world.pipeline.take((), now(at + 2_000))
    world.pipeline.close_all(now(at + 2_000))

    for event in world.sealed:
        for since, until in shut:
            assert not since * MS - HOLD_BACK_NANOSECONDS < event.at < until * MS
        focus = [state for when, state in changes if when * MS <= event.at]
        assert focus[-1] is True
    numbers = [event.sequence for event in world.sealed]
    assert len(set(numbers)) == len(numbers)
    assert len(world.sealed) + sum(world.counters.dropped.values()) == typed


frames = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3 << 20), st.sampled_from(["", "break", "close"])),
    max_size=30,
)


@given(frames)
def test_every_screen_batch_can_be_drawn_by_itself(
    story: list[tuple[bool, int, str]],
) -> None:
    """It begins with a key frame, and no change follows one that was lost."""
    lost: list[Event] = []
    roll, batches, number = Roll(lambda event, _why: lost.append(event)), [], 0
    broken_before: set[int] = set()
    for whole, size, then in story:
        number += 1
        part = Rectangle(x=0, y=0, width=1, height=1, pixels=bytes(size))
        frame = Frame(
            at=BootInstant(number),
            sequence=number,
            key=whole,
            left=0,
            top=0,
            width=1,
            height=1,
            rectangles=(part,),
        )
        _kept, closed = roll.add(frame, permit(Category.SCREEN, 0), None, now(1))
        batches += closed
        if then == "break":
            roll.break_picture()
            broken_before.add(number + 1)
        if then == "close":
            batches += roll.close(Category.SCREEN, now(1))
    batches += roll.close(Category.SCREEN, now(1))
    kept = [event for batch in batches for event in batch.events]
    assert Counter(e.sequence for e in [*kept, *lost]) == Counter(range(1, number + 1))
    for batch in batches:
        first, *rest = batch.events
        assert isinstance(first, Frame)
        assert first.key
        previous = first
        for event in rest:
            assert isinstance(event, Frame)
            assert not event.key
            # Nothing between the two was lost, and no picture broke there.
            assert event.sequence == previous.sequence + 1
            assert event.sequence not in broken_before
            previous = event
