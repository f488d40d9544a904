"""Turns the X server's time stamps into instants of the boot clock.

The server stamps an event when it happens, we read it later.  Both clocks run at the same
rate (Linux servers use CLOCK_MONOTONIC, in milliseconds, 32 bits), only their offset is
unknown.  The smallest difference seen between reading and stamp is the best estimate of
it: that event waited least.

In a suspend only ours goes on, so the estimate is good for as long as the machine is awake.
"""

from collections.abc import Callable
from typing import Final

from base.clock import asleep_ns
from wire.ids import BootInstant

MILLISECOND: Final = 1_000_000
LARGEST_CORRECTION: Final = 10_000 * MILLISECOND  # no reader is held up longer: wrong stamps
SLEPT: Final = 20 * MILLISECOND  # more than reading two clocks one after the other takes


class ServerClock:
    """Dates events of one connection: never before *opened_at*, and in the order of their stamps.

    That is not always the order in which they come: while a window manager holds the pointer
    still, to decide about a click, keys overtake it.
    """

    def __init__(self, opened_at: BootInstant, asleep: Callable[[], int] = asleep_ns) -> None:
        self._opened_at = self._latest = opened_at
        self._asleep, self._slept = asleep, asleep()
        self._first_stamp: int | None = None
        self._first_read = 0
        self._least_delay = 0  # of all events so far, relative to the first
        self._latest_elapsed = 0

    def instant(self, stamp: int, read_at: BootInstant) -> BootInstant:
        """Return when the event with server time *stamp*, read at *read_at*, happened."""
        if self._first_stamp is None:
            self._first_stamp, self._first_read = stamp, read_at
        # Server time wraps after 49.7 days: take the nearest of the possible differences.
        elapsed = (stamp - self._first_stamp + (1 << 31)) % (1 << 32) - (1 << 31)
        delay = (read_at - self._first_read) - elapsed * MILLISECOND
        self._least_delay = min(self._least_delay, delay)
        late = delay - self._least_delay
        slept = self._asleep()
        if abs(slept - self._slept) > SLEPT or late > LARGEST_CORRECTION:
            self._slept = slept
            self._first_stamp, self._first_read, self._least_delay = stamp, read_at, 0
            late = elapsed = self._latest_elapsed = 0
        at = read_at - late
        if elapsed < self._latest_elapsed:
            return BootInstant(max(self._opened_at, min(self._latest, at)))
        self._latest, self._latest_elapsed = BootInstant(max(self._latest, at)), elapsed
        return self._latest
