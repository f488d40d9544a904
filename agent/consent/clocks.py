"""What the two clocks say about a pause, and whether they may be believed at all.

The boot clock counts suspend and cannot be set, but ends with the boot; the wall clock
survives, but anybody may set it.  So a deadline is kept on both, and both must have passed.
Pure: a reading comes in as a value.
"""

from dataclasses import dataclass
from typing import Final

from base.clock import NANOSECONDS, Now

PAUSE_NANOSECONDS: Final = 30 * 60 * NANOSECONDS  # one click is half an hour
LARGEST_DISAGREEMENT: Final = 5 * NANOSECONDS  # a step of the clock, not the drift of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """An instant on both clocks; `boot` means something only while `boot_id` is the same."""

    wall: int
    boot: int
    boot_id: str


def deadline_after(now: Now, nanoseconds: int) -> Deadline:
    """Return the deadline that lies *nanoseconds* after *now* on both clocks."""
    return Deadline(wall=now.wall + nanoseconds, boot=now.boot + nanoseconds, boot_id=now.boot_id)


def has_passed(deadline: Deadline, now: Now) -> bool:
    """Whether *deadline* has passed on every clock that can tell.

    After a reboot only the wall clock can; whether that one may be believed is another
    question (`disagreement`), which blocks capture by itself.
    """
    if now.boot_id != deadline.boot_id:
        return now.wall >= deadline.wall
    return now.wall >= deadline.wall and now.boot >= deadline.boot


def passed_on_any(deadline: Deadline, now: Now) -> bool:
    """Whether *deadline* has passed on any clock that can tell: for what must not last longer."""
    if now.wall >= deadline.wall:
        return True
    return now.boot_id == deadline.boot_id and now.boot >= deadline.boot


def disagreement(anchor: Now, now: Now) -> str:
    """Say why the wall clock cannot be believed, or return "" when it can.

    *anchor* is a reading that was believed: the last confirmed one, or the last one seen
    before this start.
    """
    if now.boot_id == anchor.boot_id:
        step = (now.wall - anchor.wall) - (now.boot - anchor.boot)
        if abs(step) > LARGEST_DISAGREEMENT:
            return f"the clock was set by {step / NANOSECONDS:+.0f} s"
        return ""
    if now.wall < anchor.wall:
        return "the clock stands earlier than when this agent last ran"
    return ""
