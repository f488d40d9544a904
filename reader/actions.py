"""Which picture was on the screen just before an action: a key, a button, a step of the wheel.

It is the newest one that was complete before the action and still true at most 100 ms before
it; where the screen may have changed since, the picture is missing, and never a stale one.
`picture_before` decides; `Screens` gathers what it decides on from all batches of an export.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from reader.opening import Opened
from wire.event import Button, Event, Frame, Key, Scroll, Still

MILLISECOND: Final = 1_000_000
LATEST_AGE: Final = 100 * MILLISECOND
APART: Final = 2 * MILLISECOND
"""ns by which a picture must be older: two sensors do not date the same instant alike."""

STEP: Final = 1000 * MILLISECOND
"""ns: one workstation's wall clock and boot clock drift apart by less from batch to batch, and a
restart, which sets the boot clock to zero, takes longer."""


class Missing(StrEnum):
    """Why there is no picture for an action."""

    NO_PICTURE = "no-picture"  # none of the screen from before it
    CHANGED = "screen-changed"  # the newest was true more than 100 ms before it, and no later
    NOT_HERE = "picture-not-here"  # there was one, and it is not in this export


class Span(NamedTuple):
    """From `since` to `until` (boot clock, ns) the screen showed *image*; None: not here."""

    since: int
    until: int
    image: str | None


Picture: TypeAlias = str | Missing


def picture_before(at: int, spans: Sequence[Span]) -> Picture:
    """Return the picture that was on the screen just before *at*; *spans* are in order."""
    number = bisect_right(spans, at - APART, key=lambda span: span.since)
    if not number:
        return Missing.NO_PICTURE
    newest = spans[number - 1]
    if at - newest.until > LATEST_AGE:
        return Missing.CHANGED
    return Missing.NOT_HERE if newest.image is None else newest.image


def spans_of(images: Mapping[int, str], stills: Iterable[Still]) -> list[Span]:
    """Return in order what frames (the name of each by its time) and stills say together."""
    spans = [Span(at, at, name) for at, name in images.items()]
    spans += [Span(still.since, still.at, images.get(still.of)) for still in stills]
    return sorted(spans, key=lambda span: span[:2])


def is_action(event: Event) -> bool:
    """Whether *event* is something that a person did to what is on the screen."""
    match event:
        case Key() | Button():
            return event.pressed
        case Scroll():
            return True
        case _:
            return False


@dataclass(slots=True)
class _Seen:
    """What one workstation's batches say, each with the wall clock less the boot clock there."""

    offsets: set[int] = field(default_factory=set)
    frames: list[tuple[int, int, str]] = field(default_factory=list)
    stills: list[tuple[int, Still]] = field(default_factory=list)


class Screens:
    """The pictures of an export, by workstation and by running of its boot clock."""

    def __init__(self) -> None:
        """Nothing was noted yet."""
        self._seen: defaultdict[bytes, _Seen] = defaultdict(_Seen)
        self._spans: dict[tuple[bytes, int], list[Span]] | None = None
        self._runnings: dict[bytes, dict[int, int]] = {}

    def note(self, opened: Opened, images: Iterable[tuple[Frame, str]]) -> None:
        """Take in one batch of any category, with the names that its frames' pictures have."""
        seen, offset = self._seen[opened.core.device], _offset(opened)
        seen.offsets.add(offset)
        seen.frames += [(offset, frame.at, name) for frame, name in images]
        stills = (event for event in opened.batch.events if isinstance(event, Still))
        seen.stills += [(offset, still) for still in stills]
        self._spans = None

    def before(self, opened: Opened, at: int) -> Picture:
        """Return the picture before boot instant *at* of the batch's workstation."""
        if self._spans is None:
            self._spans = dict(self._sorted())
        device = opened.core.device
        running = self._runnings[device][_offset(opened)]
        return picture_before(at, self._spans.get((device, running), ()))

    def image_of(self, opened: Opened, still: Still) -> str | None:
        """Return the name of the picture that *still* is about, None if it is not here."""
        found = self.before(opened, still.since + APART)
        return None if isinstance(found, Missing) else found

    def _sorted(self) -> Iterator[tuple[tuple[bytes, int], list[Span]]]:
        for device, seen in self._seen.items():
            running = self._runnings[device] = runnings(seen.offsets)
            images: defaultdict[int, dict[int, str]] = defaultdict(dict)
            stills: defaultdict[int, list[Still]] = defaultdict(list)
            for offset, at, name in seen.frames:
                images[running[offset]][at] = name
            for offset, still in seen.stills:
                stills[running[offset]].append(still)
            for number in images.keys() | stills.keys():
                yield (device, number), spans_of(images[number], stills[number])


def runnings(offsets: Iterable[int]) -> dict[int, int]:
    """Return for each difference of wall and boot clock which running of the boot clock it is of.

    A step of the wall clock looks like another one: then no picture is found, rather than a
    wrong one.
    """
    found: dict[int, int] = {}
    number, last = 0, None
    for offset in sorted(offsets):
        number += last is not None and offset - last > STEP
        found[offset] = number
        last = offset
    return found


def _offset(opened: Opened) -> int:
    return opened.batch.opening.wall - opened.batch.opening.boot
