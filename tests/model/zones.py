"""Every change of every zone that IANA knows, 1970 to 2037, as this system has them.

Read from the compiled files themselves (RFC 9636), not asked of the code that is to be judged.
"""

import struct
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

FIRST: Final = int(datetime(1970, 1, 1, tzinfo=UTC).timestamp())
LAST: Final = int(datetime(2038, 1, 1, tzinfo=UTC).timestamp())
WEEK: Final = 7 * 86_400  # the rules by which a zone goes on have no two changes in so short a time
_HEADER: Final = struct.Struct(">4sc15x6I")


@dataclass(frozen=True, slots=True)
class Change:
    """At `at` (seconds of UTC) clocks in `zone` are put by `by` seconds."""

    zone: str
    at: int
    by: int


def zones() -> list[str]:
    """Return the names of all zones."""
    return sorted(zoneinfo.available_timezones())


def changes(zone: str) -> Iterator[Change]:
    """Yield each instant at which the clocks in *zone* are put forward or back."""
    there = ZoneInfo(zone)
    for at in sorted({*_listed(zone), *_by_rule(zone, there)}):
        if FIRST < at < LAST and (by := _offset(there, at) - _offset(there, at - 1)):
            yield Change(zone, at, by)


def _offset(there: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, there).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _listed(zone: str) -> tuple[int, ...]:
    """Return the instants that the file lists, from its part with 64 bits."""
    data = next(path for root in zoneinfo.TZPATH if (path := Path(root, zone)).is_file())
    content = data.read_bytes()
    assert content[:4] == b"TZif"
    first = _HEADER.unpack_from(content)
    isut, isstd, leap, times, types, letters = first[2:]
    start = _HEADER.size + times * 5 + types * 6 + letters + leap * 8 + isstd + isut
    count = _HEADER.unpack_from(content, start)[5]
    return struct.unpack_from(f">{count}q", content, start + _HEADER.size)


def _by_rule(zone: str, there: ZoneInfo) -> Iterator[int]:
    """Yield the instants after the last that is listed."""
    at = max((*_listed(zone), FIRST))
    while at < LAST:
        if _offset(there, at) != _offset(there, at + WEEK):
            yield _between(there, at, at + WEEK)
        at += WEEK


def _between(there: ZoneInfo, before: int, after: int) -> int:
    old = _offset(there, before)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(there, middle) == old else (before, middle)
    return after
