"""When keys went to a field for secrets: each event is judged by its own time, and backwards."""

from agent.consent.hidden import BACK_NANOSECONDS, HiddenTimeline
from agent.consent.scope import SETTLE_NANOSECONDS
from base.clock import NANOSECONDS

S = NANOSECONDS


def told(*notes: tuple[str, int, bool | None]) -> HiddenTimeline:
    timeline = HiddenTimeline("context")
    for who, at, secret in notes:
        timeline.note(who, at, secret)
    return timeline


def test_without_the_context_sensors_word_nothing_is_known_and_nothing_permitted() -> None:
    """The input sensor may keep silent; the one that sees fields may not."""
    timeline = told(("input", 0, False))
    assert timeline.current() is None
    assert not timeline.permits(1 * S)


def test_what_came_in_the_hold_back_before_a_secret_field_goes_with_it() -> None:
    """The field had the focus before anybody said so."""
    timeline = told(("context", 0, False), ("context", 5 * S, True))
    assert timeline.current() is True
    assert timeline.permits(5 * S - BACK_NANOSECONDS - 1)
    assert not timeline.permits(5 * S - BACK_NANOSECONDS)
    assert not timeline.permits(6 * S)


def test_a_secret_field_that_lost_the_focus_settles_first() -> None:
    """Two processes do not stamp the same key and the same change alike."""
    timeline = told(("context", 0, True), ("context", 5 * S, False))
    assert timeline.current() is False
    assert not timeline.permits(5 * S + SETTLE_NANOSECONDS - 1)
    assert timeline.permits(5 * S + SETTLE_NANOSECONDS)


def test_one_of_the_two_is_enough_to_make_it_secret() -> None:
    """A grab over an ordinary field; an unknown kind of field without a grab."""
    assert told(("context", 0, False), ("input", 0, True)).current() is True
    assert told(("context", 0, None), ("input", 0, False)).current() is None
    assert told(("context", 0, None), ("input", 0, True)).current() is True
