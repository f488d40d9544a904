"""Sensor and reader together: the picture of an action was on the screen, and not long before.

The real feed looks at a screen whose colours change at any time; the real reader says which
picture belongs to each instant.  Whatever it names must have been shown at most 100 ms before
that instant, and complete before it.
"""

from hypothesis import example, given
from hypothesis import strategies as st

from agent.sensors.screen import PAINTING, SETTLE, ScreenFeed
from reader.actions import APART, LATEST_AGE, Missing, picture_before, spans_of
from tests.fakes.screen import DIARY, WORK, Desk
from wire.control import ScreenSettings
from wire.event import Frame, Still
from wire.ids import BootInstant

MILLISECOND = 1_000_000
LENGTH = 4_000 * MILLISECOND
WAKES = 200 * MILLISECOND  # at the latest: the test's own clock goes on so far without news

instants = st.integers(1, LENGTH)
changes = st.lists(instants, max_size=60)
rates = st.sampled_from([1.0, 5.0, 10.0, 20.0, 30.0])


def watch(desk: Desk, rate_hz: float, *, lag: int = 0) -> tuple[list[Frame], list[Still]]:
    """Let a feed look at *desk* until its time is over; each wake comes *lag* late."""
    settings = ScreenSettings(rate_hz=rate_hz, applications=(WORK,))
    feed = ScreenFeed(settings, desk, desk, desk.clock)
    frames: list[Frame] = []
    stills: list[Still] = []
    while desk.now < LENGTH:
        for item in feed.collect(room=True):
            (frames if isinstance(item, Frame) else stills).append(item)  # type: ignore[arg-type]
        following = [at for at in desk.changes if at > desk.now]
        wakes = [at for at in (feed.due(), *following[:1], desk.now + WAKES) if at is not None]
        desk.now = max(desk.now + MILLISECOND, min(wakes)) + lag
    # The last picture's time is told when it is over.
    desk.changes.append(desk.now)
    desk.now += MILLISECOND
    desk.focus(DIARY)
    stills += [item for item in feed.collect(room=True) if isinstance(item, Still)]
    return frames, stills


def colours(desk: Desk, frames: list[Frame]) -> dict[int, str]:
    """Return which colour each frame shows; it was grabbed 0.2 ms before it was complete."""
    return {frame.at: str(desk.colour_at(frame.at - 200_000)) for frame in frames}


def shown(desk: Desk, since: int, until: int) -> set[str]:
    """Return the colours that the screen had from *since* to *until*."""
    return {str(number) for number in range(desk.colour_at(since), desk.colour_at(until) + 1)}


def unnoticed(desk: Desk, frames: list[Frame]) -> range:
    """Return when an older picture may count, as a silent platform is believed (known issues).

    From the first change that it keeps to itself, once the picture before is too old for an
    action, to the look that finds it.
    """
    if desk.tells or not frames:
        return range(0)
    watched = frames[0].at - 200_000
    first = next((each for each in desk.changes if each > watched), LENGTH)
    found = next((frame.at for frame in frames[1:] if frame.at > first), LENGTH)
    return range(first + LATEST_AGE + MILLISECOND, found + 1)


@given(
    at=changes,
    rate_hz=rates,
    tells=st.booleans(),
    lag=st.integers(0, 80),
    actions=st.lists(instants, max_size=40),
)
@example(
    at=[3_000_800_001], rate_hz=1.0, tells=False, lag=0, actions=[3_000_000_000, 3_101_800_001]
)
def test_the_picture_of_an_action_was_there_just_before_it(
    *, at: list[int], rate_hz: float, tells: bool, lag: int, actions: list[int]
) -> None:
    """With a platform that tells of drawing and one that is silent, on time and late."""
    desk = Desk(at, tells=tells)
    frames, stills = watch(desk, rate_hz, lag=lag * MILLISECOND)
    images = colours(desk, frames)
    seen = spans_of(images, stills)
    for action in actions:
        found = picture_before(action, seen)
        if isinstance(found, Missing):
            assert found is not Missing.NOT_HERE
            assert not any(APART <= action - done <= LATEST_AGE for done in images)
        else:
            known = action not in unnoticed(desk, frames)
            since = action - LATEST_AGE - MILLISECOND if known else 0
            assert found in shown(desk, since, action)
            assert any(done <= action and name == found for done, name in images.items())


@given(changes)
def test_at_twenty_looks_a_second_nothing_is_missing_on_a_quiet_machine(at: list[int]) -> None:
    """From the first picture to the last, however the screen changes."""
    desk = Desk(at)
    frames, stills = watch(desk, 20.0)
    seen = spans_of(colours(desk, frames), stills)
    assert frames[0].at < SETTLE + 5 * MILLISECOND
    for action in range(frames[0].at + APART, LENGTH - SETTLE, 7 * MILLISECOND):
        assert not isinstance(picture_before(action, seen), Missing)


def test_a_screen_that_does_not_change_is_looked_at_once_a_second() -> None:
    """And all its actions have their picture."""
    desk = Desk([])
    frames, (still,) = watch(desk, 20.0)
    assert len(frames) == 1
    assert desk.looks <= 5
    assert still.of == still.since == frames[0].at
    assert still.at > LENGTH - SETTLE


def test_a_change_is_looked_at_soon_and_not_half_painted() -> None:
    """20 ms after the first stroke of the brush, at any rate that allows it."""
    first = 2_000 * MILLISECOND
    desk = Desk([first, first + 15 * MILLISECOND])
    frames, stills = watch(desk, 1.0)
    images = colours(desk, frames)
    assert list(images.values()) == ["1", "3"]
    assert 0 <= frames[1].at - first - PAINTING < 5 * MILLISECOND
    assert stills[0].at == BootInstant(first)


def test_a_platform_that_does_not_tell_is_not_believed() -> None:
    """From the first change that it kept to itself, looks come at the policy's rate."""
    desk = Desk([1_500 * MILLISECOND], tells=False)
    frames, stills = watch(desk, 20.0)
    assert len(frames) == 2
    assert desk.looks > 30
    # What was thought to be still is not said: nobody knows until when it was.
    assert all(still.of == frames[1].at for still in stills)


def test_before_a_change_of_focus_the_picture_counts_no_more() -> None:
    """The agent drops what happens around it, so the time that is told ends before that."""
    desk = Desk([])
    settings = ScreenSettings(rate_hz=20.0, applications=(WORK,))
    feed = ScreenFeed(settings, desk, desk, desk.clock)
    desk.now = SETTLE + MILLISECOND
    (frame,) = feed.collect(room=True)
    left = desk.now = 3_000 * MILLISECOND
    desk.focus(DIARY)
    (still,) = feed.collect(room=True)
    assert isinstance(still, Still)
    assert (still.of, still.since, still.at) == (frame.at, frame.at, left - SETTLE)
    assert feed.due() is None
