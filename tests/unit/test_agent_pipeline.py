"""The path of one event, stage by stage, with a fake seal and spool at its end."""

import pytest

from agent.consent.hidden import HiddenTimeline
from agent.consent.scope import FocusTimeline
from agent.counters import Counters
from agent.handover import HOLD_BACK_NANOSECONDS, Permit, Rolled, SealedBatch, Span, back
from agent.pipeline import Pipeline
from agent.seal import UnsealableError
from base.clock import NANOSECONDS, Now
from wire.category import Category
from wire.control import Reason
from wire.event import Event, Focus, Frame, Key, Move, Still
from wire.ids import BootInstant, GrantHash, PolicyDigest

S = NANOSECONDS
WALL = 1_800_000_000 * S


class World:
    """A pipeline whose clock stands where the test puts it."""

    def __init__(self) -> None:
        self.timeline = FocusTimeline()
        self.hidden = HiddenTimeline()
        self.timeline.note(0, inside=True)
        self.counters = Counters()
        self.rolled: list[Rolled] = []
        self.spooled: list[SealedBatch] = []
        self.numbers = 0
        self.disk_full = False
        self.sealable = True
        self.why = Reason.PAUSED_UNTIL
        self.pipeline = Pipeline(
            timeline=self.timeline,
            hidden=self.hidden,
            counters=self.counters,
            number=self._number,
            seal=self._seal,
            spool=self._put,
            why_not=lambda _category: self.why,
        )

    def _number(self, category: Category) -> int:
        if self.disk_full:
            raise OSError(28, "No space left on device")
        self.numbers += 1
        return self.numbers

    def _seal(self, rolled: Rolled) -> SealedBatch:
        if not self.sealable:
            raise UnsealableError("no key")
        self.rolled.append(rolled)
        ats = [event.at for event in rolled.events]
        return SealedBatch(
            name=str(len(self.rolled)),
            category=rolled.permit.category,
            grant=rolled.permit.grant,
            policy=rolled.permit.policy,
            span=Span(
                first_wall=WALL + min(ats),
                last_wall=WALL + max(ats),
                first_boot=min(ats),
                last_boot=max(ats),
                boot_id="one",
            ),
            events=len(ats),
            expires="2027-12-31",
            unsigned=b"",
            age_header=b"",
        )

    def _put(self, sealed: SealedBatch, now: Now) -> None:
        if self.disk_full:
            raise OSError(28, "No space left on device")
        self.spooled.append(sealed)

    def permit(
        self,
        category: Category = Category.KEYS,
        since: float = 0,
        rate: float = 1e4,
        until: float | None = None,
    ) -> None:
        self.pipeline.permit(
            Permit(
                category=category,
                grant=GrantHash(b"g"),
                policy=PolicyDigest(b"p"),
                level="text",
                rate_hz=rate,
                since=BootInstant(int(since * S)),
                until=None if until is None else BootInstant(int(until * S)),
            )
        )

    def take(self, *events: Event, at: float) -> None:
        self.pipeline.take(events, now(at))

    def pause(self, at: float, *, keep: bool = True, settled: float | None = None) -> None:
        self.pipeline.shut(tuple(Category), now(at).boot)
        late = at + 0.03 if settled is None else settled
        self.pipeline.settle(tuple(Category), now(late), keep=keep)

    @property
    def kept(self) -> list[Event]:
        return [event for rolled in self.rolled for event in rolled.events]

    @property
    def typed(self) -> str:
        return "".join(event.text for event in self.kept if isinstance(event, Key))


def now(at: float) -> Now:
    return Now(boot=int(at * S), wall=WALL + int(at * S), boot_id="one")


def key(at: float, text: str = "k") -> Key:
    return Key(at=BootInstant(int(at * S)), pressed=True, kind="letter", text=text)


@pytest.fixture
def world() -> World:
    return World()


def test_an_event_without_a_permit_is_counted_and_goes_nowhere(world: World) -> None:
    """The gate stands before everything else; the count has its reason."""
    world.take(key(1), at=1)
    world.pause(at=9)
    assert world.kept == []
    assert world.counters.dropped == {"paused-until": 1}


def test_an_event_waits_in_memory_for_the_hold_back(world: World) -> None:
    """Half a second, by its own time and not by that of its arrival."""
    world.permit()
    world.take(key(1), at=1)
    world.take(at=1.499)
    assert world.numbers == 0
    world.take(at=1.5)
    assert world.numbers == 1
    world.take(key(2), at=2.6)  # it was on its way for longer than that
    assert world.numbers == 2


def test_nothing_of_a_stall_is_judged_before_everybody_was_heard(world: World) -> None:
    """The keys may be read first; where the focus went meanwhile, is read before the next look."""
    world.permit()
    world.pipeline.look(now(1.0))
    world.pipeline.hear([key(1.1, "a"), key(2.0, "b")])
    world.pipeline.look(now(3.0))
    assert world.numbers == 0
    world.timeline.note(int(1.5 * S), inside=False)
    world.pipeline.look(now(3.1))
    world.pause(at=9)
    assert world.typed == "a"
    assert world.counters.dropped == {"outside-scope": 1}


def test_a_restriction_that_is_heard_after_a_stall_counts_from_its_beginning(world: World) -> None:
    """It waited in a socket, as the keys did; also where others are recorded on meanwhile."""
    world.permit()
    world.permit(Category.POINTER)
    world.pipeline.look(now(1.0))
    world.pipeline.hear([key(0.7, "a"), key(1.1, "b"), key(2.0, "c")])
    world.pipeline.look(now(3.0))
    world.pipeline.shut((Category.KEYS,), now(3.05).boot)
    world.pipeline.look(now(3.1))
    world.pipeline.look(now(3.2))
    world.pipeline.settle((Category.KEYS,), now(3.25), keep=True)
    assert world.typed == "a"
    assert world.counters.dropped == {"hold-back": 2}


def test_a_rest_of_the_loop_while_nothing_is_permitted_costs_nothing_of_what_follows(
    world: World,
) -> None:
    """It looks like a stall, and ends with the next look: before anything is old enough to keep."""
    world.pipeline.look(now(1))
    world.permit(since=1.9)
    for tick in range(19, 28):
        world.pipeline.look(now(tick / 10))
        world.pipeline.take([key(tick / 10)], now(tick / 10))
    world.pipeline.shut([Category.KEYS], round(2.7 * S))
    world.pipeline.settle([Category.KEYS], now(2.7), keep=True)
    [batch] = world.rolled
    assert [event.at for event in batch.events] == [round(at * S) for at in (1.9, 2.0, 2.1, 2.2)]


def test_a_restriction_drops_what_is_younger_than_the_hold_back(world: World) -> None:
    """Of what was typed before the click, the last half second never leaves."""
    world.permit()
    for tenth in range(10, 30):
        world.take(key(tenth / 10, text=chr(97 + tenth - 10)), at=tenth / 10)
    world.pause(at=3.0, settled=3.4)
    assert world.typed == "abcdefghijklmnop"  # up to and including 2.5
    assert world.counters.dropped == {"hold-back": 4}
    assert world.pipeline.permits() == {}


def test_what_was_on_its_way_when_the_gate_shut_is_taken_if_it_is_old_enough(
    world: World,
) -> None:
    """A busy sensor does not lose what consent covered; what is younger stays out."""
    world.permit()
    world.pipeline.shut((Category.KEYS,), now(3).boot)
    world.take(key(2.0, "a"), key(2.5, "b"), key(2.6, "c"), key(3.5, "d"), at=3.1)
    world.pipeline.settle((Category.KEYS,), now(3.2), keep=True)
    assert world.typed == "ab"
    assert world.counters.dropped == {"hold-back": 2}


def test_after_settling_nothing_is_taken_any_more(world: World) -> None:
    """Not even what is old."""
    world.permit()
    world.pause(at=3)
    world.take(key(1), at=4)
    world.pause(at=9)
    assert world.kept == []
    assert world.counters.dropped == {"paused-until": 1}


def test_an_opt_out_forgets_what_was_open(world: World) -> None:
    """The open batch is not sealed, and the count says where it went."""
    world.permit()
    world.take(key(1), at=1)
    world.take(at=2)
    world.pause(at=3, keep=False)
    assert world.rolled == []
    assert world.counters.dropped == {"forgotten": 1}


def test_what_was_seen_before_the_permit_stays_out(world: World) -> None:
    """Consent is for what happens after it."""
    world.permit(since=2)
    world.take(key(1.9), key(2.1, "a"), at=2.2)
    world.pause(at=9)
    assert world.typed == "a"
    assert world.counters.dropped == {"before-it-was-allowed": 1}


def test_scope_is_judged_by_the_focus_of_the_events_own_time(world: World) -> None:
    """Also when the sensors tell of it in another order."""
    world.permit()
    world.take(key(2.55, "a"), key(2.75, "b"), key(2.95, "c"), at=3)
    world.timeline.note(int(2.66 * S), inside=False)
    world.timeline.note(int(2.84 * S), inside=True)
    world.pause(at=9)
    assert world.typed == "ac"
    assert world.counters.dropped == {"outside-scope": 1}


def test_a_window_event_is_inside_at_the_instant_of_the_change(world: World) -> None:
    """It names the listed program since its own time; the margin is for the others."""
    world.permit(Category.WINDOW)
    world.permit()
    world.timeline.note(1 * S, inside=False)
    world.timeline.note(2 * S, inside=True)
    seen = Focus(
        at=BootInstant(2 * S), process="gedit", window_class="Gedit", x=0, y=0, width=1, height=1
    )
    world.take(seen, key(2), at=2)
    world.pause(at=9)
    assert [type(event) for event in world.kept] == [Focus]


def test_numbers_follow_each_other(world: World) -> None:
    """What was kept is numbered in the order of its time."""
    world.permit()
    world.take(key(1.2, "b"), key(1.1, "a"), at=1.3)
    world.pause(at=9)
    assert world.typed == "ab"
    assert [event.sequence for event in world.kept] == [1, 2]


def test_more_than_the_policy_allows_is_dropped_at_the_gate(world: World) -> None:
    """The rate of the rule is a ceiling, and no gap is claimed for a move the less."""
    world.permit(Category.POINTER, rate=10)
    for step in range(1000):
        world.take(Move(at=BootInstant(S + step * S // 1000), x=step, y=0), at=2)
    world.pause(at=9)
    assert 10 <= len(world.kept) <= 12
    assert world.counters.dropped == {"over-rate": 1000 - len(world.kept)}
    assert world.rolled[0].gaps == ()


def test_a_silence_is_a_gap_in_the_next_batch(world: World) -> None:
    """From the gate's shutting to the first event kept again, with its reason."""
    world.permit()
    world.take(key(1), at=1)
    world.pause(at=3)
    world.permit(since=10)
    world.take(key(11), at=11)
    world.pause(at=13)
    (gap,) = world.rolled[1].gaps
    assert (gap.since, gap.until, gap.why) == (3 * S, 11 * S, "paused-until")


def test_a_dropped_frame_breaks_the_picture(world: World) -> None:
    """What changes a frame that was outside must not be drawn on an older one."""
    world.permit(Category.SCREEN)

    def frame(at: float, *, whole: bool) -> Frame:
        return Frame(
            at=BootInstant(int(at * S)),
            key=whole,
            left=0,
            top=0,
            width=1,
            height=1,
            rectangles=(),
        )

    world.timeline.note(int(1.5 * S), inside=False)
    world.timeline.note(int(2.5 * S), inside=True)
    for at, whole in ((1, True), (2, False), (3, False), (4, True), (5, False)):
        world.take(frame(at, whole=whole), at=at)
    world.pause(at=9)
    assert [[event.at // S for event in rolled.events] for rolled in world.rolled] == [[1], [4, 5]]
    assert world.counters.dropped == {"outside-scope": 1, "no-key-frame": 1}


def still(since: float, until: float) -> Still:
    """Return what a sensor says of a picture, in seconds."""
    begin = BootInstant(int(since * S))
    return Still(at=BootInstant(int(until * S)), of=begin, since=begin)


def test_how_long_a_picture_stayed_needs_a_permit_for_all_of_it(world: World) -> None:
    """Nothing is told of the time before a yes, and no gap is made of what is not told."""
    world.permit(Category.SCREEN, since=2)
    world.take(still(1.5, 3), at=3)
    world.take(still(2.5, 4), at=4)
    world.pause(at=9)
    assert [[event.at // S for event in rolled.events] for rolled in world.rolled] == [[4]]
    assert world.counters.dropped == {"before-it-was-allowed": 1}
    assert world.rolled[0].gaps == ()


def test_how_long_a_picture_stayed_is_forgotten_with_the_time(world: World) -> None:
    """A span that reaches into what was forgotten is not kept when it comes later."""
    world.permit(Category.SCREEN)
    world.pipeline.forget_since(now(2), now(5))
    world.take(still(4, 7), at=7)
    world.take(still(6, 8), at=8)
    world.pause(at=9)
    assert [[event.at // S for event in rolled.events] for rolled in world.rolled] == [[8]]
    assert world.counters.dropped["forgotten"] == 1


def test_what_cannot_be_written_stays_sealed_in_memory_and_blocks(world: World) -> None:
    """A full disk stops capture and loses nothing that was sealed."""
    world.permit()
    world.take(key(1), at=2)
    world.disk_full = True
    world.pause(at=3)
    world.pipeline.retry_spool(now(4))
    assert (world.pipeline.is_blocked, len(world.spooled)) == (True, 0)
    world.disk_full = False
    world.pipeline.retry_spool(now(5))
    assert (world.pipeline.is_blocked, len(world.spooled)) == (False, 1)


def test_what_cannot_be_numbered_is_dropped_with_a_reason(world: World) -> None:
    """A number that might repeat is worse than an event the less."""
    world.permit()
    world.disk_full = True
    world.take(key(1), at=2)
    assert world.counters.dropped == {"storage-blocked": 1}


def test_what_cannot_be_sealed_is_dropped_and_counted(world: World) -> None:
    """Plaintext does not wait for a key."""
    world.permit()
    world.take(key(1), key(1.1), at=2)
    world.sealable = False
    world.pause(at=3)
    assert world.counters.dropped == {"unsealed": 2}
    assert not world.pipeline.is_blocked


def test_forgetting_takes_everything_of_that_span_wherever_it_is(world: World) -> None:
    """Hold-back, open batch, sealed in memory, and what is still on its way."""
    world.permit()
    world.take(key(1, "a"), at=2)
    world.disk_full = True
    world.pipeline.close_all(now(2))
    world.disk_full = False
    world.take(key(70, "b"), at=71)
    world.take(key(71.8, "c"), at=72)
    world.pipeline.forget_since(back(now(72), 60 * S), now(72))
    world.take(key(71.9, "d"), at=72.1)
    world.take(key(72.05, "e"), at=72.2)
    world.pipeline.retry_spool(now(73))
    world.pause(at=80)
    assert world.typed == "ae"
    assert world.counters.dropped == {"forgotten": 3}


def test_the_hold_back_is_half_a_second() -> None:
    """The notice says so, and so does the design: at least 500 ms."""
    assert HOLD_BACK_NANOSECONDS == 500_000_000


def test_an_event_after_the_policys_hours_is_not_kept(world: World) -> None:
    """By its own time: how late the gate is told that they are over does not matter."""
    world.permit(until=3)
    world.take(key(2.9, "a"), key(3, "b"), key(3.4, "c"), at=3.5)
    world.pause(at=9)
    assert world.typed == "a"
    assert world.counters.dropped == {"outside-scope": 2}
