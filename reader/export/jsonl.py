"""Export as JSON Lines: one event a line in order of time, pictures as PNG, and an index.

    events.jsonl        every event, with wall clock and pseudonym
    frames/*.png        the pictures that events name: "image" of a frame, "frame" before an action
    index.json          the batches: whose, under which consent, how long they may be kept
    PLAINTEXT.txt       what this folder is, for whoever finds it

Each action (a key or button pressed, a step of the wheel) names in "frame" the picture that was
on the screen just before it, or says null and in "frame_missing" why (`reader.actions`).

The folder is made with mode 0700, its files with 0600.  Two passes: all batches are
opened and checked before the first byte is written.
"""

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from base.durable import private_folder, replace, sync_folder
from base.errors import SetupError
from reader.actions import Missing, Screens, is_action
from reader.opening import Opened
from reader.pictures import Canvas, to_png
from wire.event import Event, Frame, Still
from wire.ids import BatchHash, WallInstant

NANOSECONDS: Final = 1_000_000_000
WARNING: Final = """\
This folder holds PLAINTEXT of people's work, exported from sealed batches.

It was released for {purpose} only and may be used for nothing else. index.json says until
when each batch may be kept; delete the folder then, and at once when a data subject asks for
erasure. Keep it on an encrypted disk, and send it to nobody whom the policy does not name.
"""

OpenAgain = Callable[[BatchHash], Opened]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    batches: int
    events: int
    pictures: int
    bytes: int


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that every event has in an export; those of its kind follow."""

    time: str  # ISO 8601, UTC, microseconds
    wall_ns: int
    subject: str  # pseudonym, hexadecimal
    category: str
    batch: str


def export(
    batches: Sequence[BatchHash], open_again: OpenAgain, out: Path, now: WallInstant
) -> Exported:
    """Write *batches* below *out*, a folder that is not there yet or is empty.

    Raises:
        SetupError: *out* holds something already.
        WireError: A batch does not open, or a picture cannot be drawn.

    """
    if out.exists() and any(out.iterdir()):
        raise SetupError(f"{out} is not empty; export into a new folder")
    pictures = _Pictures(out / "frames")
    surveyed = []
    for batch in batches:
        opened = open_again(batch)
        surveyed.append(_survey(opened, batch))
        pictures.expect(opened, batch)
    surveyed.sort(key=lambda entry: entry.starts_at)
    private_folder(out)
    private_folder(pictures.folder)
    replace(out / "PLAINTEXT.txt", WARNING.format(purpose=_purposes(surveyed)).encode())
    events = written = 0
    fd = os.open(out / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        for line in _merged(surveyed, open_again, pictures):
            written += file.write(line + b"\n")
            events += 1
        file.flush()
        os.fsync(file.fileno())
    index = {"exported_at": _iso(now), "batches": [entry.facts for entry in surveyed]}
    replace(out / "index.json", msgspec.json.format(msgspec.json.encode(index), indent=2) + b"\n")
    sync_folder(out)
    return Exported(
        batches=len(surveyed),
        events=events,
        pictures=pictures.count,
        bytes=written + pictures.bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surveyed:
    batch: BatchHash
    starts_at: int  # wall ns of its first event
    purpose: str
    facts: dict[str, object]


def _survey(opened: Opened, batch: BatchHash) -> _Surveyed:
    core, opening, record = opened.core, opened.batch.opening, opened.checked.consent
    times = [_wall(opened, event.at) for event in opened.batch.events]
    starts_at = min(times, default=opening.wall)
    facts: dict[str, object] = {
        "batch": batch.hex(),
        "category": core.category,
        "level": opening.level,
        "subject": core.subject.hex(),
        "device": core.device.hex(),
        "programme": core.programme,
        "purpose": core.purpose,
        "policy": core.policy.hex(),
        "consent_record": core.grant.hex(),
        "consent_id": record.record_id,  # as in the data subject's receipt
        "consented_at": _iso(record.given_at),
        "day": core.day,
        "keep_until": core.expires,
        "sequence": opened.checked.verified.sequence,
        "from": _iso(starts_at),
        "to": _iso(max(times, default=opening.wall)),
        "events": len(opened.batch.events),
        "counters": opening.counters,
        "gaps": [
            {
                "from": _iso(opening.wall + gap.since - opening.boot),
                "to": _iso(opening.wall + gap.until - opening.boot),
                "why": gap.why,
            }
            for gap in opening.gaps
        ],
    }
    return _Surveyed(batch=batch, starts_at=starts_at, purpose=core.purpose, facts=facts)


def _merged(
    surveyed: Iterable[_Surveyed], open_again: OpenAgain, pictures: "_Pictures"
) -> Iterator[bytes]:
    """Yield all lines in order of time, holding only batches that overlap in memory."""
    running: list[tuple[int, int, bytes, Iterator[tuple[int, bytes]]]] = []

    def advance(number: int, lines: Iterator[tuple[int, bytes]]) -> None:
        following = next(lines, None)
        if following is not None:
            heapq.heappush(running, (following[0], number, following[1], lines))

    for number, entry in enumerate(surveyed):
        while running and running[0][0] < entry.starts_at:
            _at, earlier, line, lines = heapq.heappop(running)
            yield line
            advance(earlier, lines)
        advance(number, _lines(open_again(entry.batch), entry.batch, pictures))
    while running:
        _at, earlier, line, lines = heapq.heappop(running)
        yield line
        advance(earlier, lines)


def _lines(opened: Opened, batch: BatchHash, pictures: "_Pictures") -> Iterator[tuple[int, bytes]]:
    canvas = Canvas()
    # Stable: events of one instant stay as they were, pictures build on each other.
    for event in sorted(opened.batch.events, key=lambda event: event.at):
        wall = _wall(opened, event.at)
        line = Line(
            time=_iso(wall),
            wall_ns=wall,
            subject=opened.core.subject.hex(),
            category=opened.core.category,
            batch=batch.hex(),
        )
        own = _own(event)
        if isinstance(event, Frame):
            own["image"] = pictures.keep(to_png(canvas.draw(event)), batch)
        elif isinstance(event, Still):
            own["image"] = pictures.screens.image_of(opened, event)
            own["since"] = _iso(_wall(opened, event.since))
        elif is_action(event):
            own |= _before(pictures.screens, opened, event)
        yield wall, msgspec.json.encode({**msgspec.to_builtins(line), **own})


def _own(event: Event) -> dict[str, object]:
    """Return the type and the fields of *event*, less those that each line has anyway."""
    fields: dict[str, object] = {"type": event.__struct_config__.tag}
    for name in event.__struct_fields__:
        if name not in {"at", "rectangles", "of", "since"}:
            fields[name] = getattr(event, name)
    return fields


def _before(screens: Screens, opened: Opened, action: Event) -> dict[str, object]:
    """Return which picture *action* was done to, or why it is missing."""
    found = screens.before(opened, action.at)
    if isinstance(found, Missing):
        return {"frame": None, "frame_missing": found.value}
    return {"frame": found}


class _Pictures:
    """The pictures of an export: named before they are drawn, as actions name them too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.screens = Screens()
        self.count = 0
        self.bytes = 0
        self._expected = 0
        self._names: dict[BatchHash, Iterator[str]] = {}

    def expect(self, opened: Opened, batch: BatchHash) -> None:
        """Take in one batch; its frames are drawn later, in order of their time."""
        frames = [event for event in opened.batch.events if isinstance(event, Frame)]
        frames.sort(key=lambda frame: frame.at)
        named = [(frame, self._name(batch, frame)) for frame in frames]
        self.screens.note(opened, named)
        self._names[batch] = iter([name for _, name in named])

    def keep(self, png: bytes, batch: BatchHash) -> str:
        """Write the next picture of *batch*; return its name."""
        name = next(self._names[batch])
        path = self.folder.parent / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(png)
        self.count += 1
        self.bytes += len(png)
        return name

    def _name(self, batch: BatchHash, frame: Frame) -> str:
        self._expected += 1
        number = self._expected
        return f"{self.folder.name}/{batch.hex()[:16]}-{frame.sequence:08d}-{number:06d}.png"


def _wall(opened: Opened, at: int) -> int:
    opening = opened.batch.opening
    return opening.wall + at - opening.boot


def _iso(wall_ns: int) -> str:
    seconds, rest = divmod(wall_ns, NANOSECONDS)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000:06d}Z"


def _purposes(surveyed: Sequence[_Surveyed]) -> str:
    return " and ".join(sorted({entry.purpose for entry in surveyed})) or "no purpose"
