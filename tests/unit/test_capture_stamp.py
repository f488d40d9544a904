"""Server time becomes boot time: late reading is undone, wrong clocks are not believed."""

from agent.capture.stamp import LARGEST_CORRECTION, MILLISECOND, SLEPT, ServerClock
from base.clock import asleep_ns
from wire.ids import BootInstant

OPENED = BootInstant(5_000_000_000)


def at(milliseconds: float) -> BootInstant:
    return BootInstant(OPENED + round(milliseconds * MILLISECOND))


def test_an_event_that_waited_is_dated_back() -> None:
    """Two events that happened 10 ms apart stay 10 ms apart, though both are read at once."""
    clock = ServerClock(OPENED)
    clock.instant(1000, at(0))  # read at once: the least delay
    first, second = clock.instant(1010, at(40)), clock.instant(1020, at(40))
    assert (first, second) == (at(10), at(20))


def test_no_event_is_dated_later_than_it_was_read_or_before_the_opening() -> None:
    """A better estimate of the offset never moves an event out of its source's time."""
    clock = ServerClock(OPENED)
    assert clock.instant(1000, at(30)) == at(30)
    # This one waited less, so the first was 30 ms late: it is dated as read, not earlier.
    assert clock.instant(1001, at(31)) == at(31)
    assert ServerClock(at(50)).instant(7, at(50)) == at(50)


def test_instants_never_go_backwards() -> None:
    """Whatever the delays, events keep their order."""
    clock = ServerClock(OPENED)
    read = [(0, 20.0), (1, 20.5), (2, 3.0 + 20), (3, 23.1), (4, 50.0), (5, 24.0 + 30)]
    instants = [clock.instant(stamp, at(milliseconds)) for stamp, milliseconds in read]
    assert instants == sorted(instants)


def test_an_event_that_was_overtaken_keeps_its_place() -> None:
    """A click that the window manager had to look at first happened before the key after it."""
    clock = ServerClock(OPENED)
    clock.instant(1000, at(0))
    assert clock.instant(1030, at(30)) == at(30)  # the key
    assert clock.instant(1015, at(45)) == at(15)  # the click
    assert clock.instant(1050, at(50)) == at(50)
    late_opening = ServerClock(at(20))
    late_opening.instant(1030, at(30))
    assert late_opening.instant(1015, at(45)) == at(20)


def test_server_time_may_wrap() -> None:
    """49.7 days after the server's start its clock begins again at 0."""
    clock = ServerClock(OPENED)
    clock.instant((1 << 32) - 5, at(0))
    assert clock.instant(5, at(100)) == at(10)


def test_a_reader_that_was_held_up_dates_by_the_stamps() -> None:
    """Four seconds without a turn on a busy machine are a delay like any other."""
    clock = ServerClock(OPENED)
    clock.instant(1000, at(0))
    assert [clock.instant(1000 + each, at(4000)) for each in (10, 20, 3999)] == [
        at(10),
        at(20),
        at(3999),
    ]


def test_a_clock_that_stopped_is_not_believed() -> None:
    """After a suspend the server's clock is behind; events are not dated into the sleep."""
    asleep = [0]
    clock = ServerClock(OPENED, lambda: asleep[0])
    clock.instant(1000, at(0))
    asleep[0] = 2 * SLEPT
    woken = BootInstant(OPENED + 2 * SLEPT)
    assert clock.instant(1001, woken) == woken
    assert clock.instant(1011, BootInstant(woken + 50 * MILLISECOND)) == woken + 10 * MILLISECOND


def test_stamps_that_cannot_be_are_not_believed() -> None:
    """A stamp from far ahead, which any client may send, does not date back what follows."""
    clock = ServerClock(OPENED)
    clock.instant(1000, at(0))
    clock.instant(1000 + 2 * LARGEST_CORRECTION // MILLISECOND, at(1))
    assert clock.instant(1010, at(10)) == at(10)
    assert clock.instant(1020, at(25)) == at(20)


def test_a_machine_that_is_awake_does_not_seem_asleep() -> None:
    """The two clocks are read one after the other; that takes less than what counts as sleep."""
    apart = sorted(asleep_ns() for _ in range(101))
    assert apart[90] - apart[10] < SLEPT
