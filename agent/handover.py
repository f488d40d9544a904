"""What the stages hand to each other, so that none of them has to know another.

gate -> Permit -> roll -> Rolled -> seal -> SealedBatch -> spool
    transport -> Outcome -> upload
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from base.clock import NANOSECONDS, Now
from wire.batch import Gap
from wire.category import Category
from wire.event import Event
from wire.ids import BootInstant, GrantHash, PolicyDigest

HOLD_BACK_NANOSECONDS: Final = NANOSECONDS // 2
"""How long an event waits in memory before it may be rolled.

A secure field is recognised up to 50 ms after its first key, a focus change up to 11 ms;
and what is younger than this when a restriction comes never leaves.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """One category may be captured since `since`, under this grant and this policy."""

    category: Category
    grant: GrantHash
    policy: PolicyDigest
    level: str
    rate_hz: float  # at most so many events (for screens: looks) a second
    since: BootInstant
    until: BootInstant | None = None  # when the policy's hours end; None: not for a week


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """A closed batch of kept events: one category, one permit, one day (ISO, UTC).

    `anchor` is one reading of both clocks; `counters` counts events kept and lost.
    """

    permit: Permit
    day: str
    events: tuple[Event, ...]
    anchor: Now
    counters: dict[str, int]
    gaps: tuple[Gap, ...]


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the first to the last captured event of a batch, on both clocks."""

    first_wall: int
    last_wall: int
    first_boot: int
    last_boot: int
    boot_id: str

    def reaches(self, since: Now) -> bool:
        """Whether anything in it is as young as *since*, on either clock that can tell."""
        if self.boot_id == since.boot_id and self.last_boot >= since.boot:
            return True
        return self.last_wall >= since.wall

    def touches(self, first_day: str, last_day: str) -> bool:
        """Whether anything in it is of these days (UTC, inclusive)."""
        return _day(self.first_wall) <= last_day and first_day <= _day(self.last_wall)


def _day(wall: int) -> str:
    try:
        return f"{datetime.fromtimestamp(wall // NANOSECONDS, UTC):%Y-%m-%d}"
    except (OverflowError, ValueError):
        return "9999-12-31"  # nobody knows when


class SealedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A frame without its trailer, and what the device remembers of it.

    `name` is the SHA-256 of the unsigned frame in hexadecimal; `age_header`, sealed to
    the data subject alone, lets that person look inside while the batch is on the device.
    """

    name: str
    category: Category
    grant: GrantHash
    policy: PolicyDigest
    span: Span
    events: int
    expires: str  # ISO day until which the collector may keep it
    unsigned: bytes
    age_header: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The collector answered."""

    status: int
    body: bytes = b""
    says: str = ""  # the one line of its error, if it sent one
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoAnswer:
    """Nobody answered whom we may believe; `why` is one line for a person."""

    why: str


Outcome: TypeAlias = Answered | NoAnswer


def back(now: Now, nanoseconds: int) -> Now:
    """Return the instant that lies *nanoseconds* before *now*, on both clocks."""
    return Now(boot=now.boot - nanoseconds, wall=now.wall - nanoseconds, boot_id=now.boot_id)
