"""Pictures become frames: a key frame, then only the rectangles that changed.  Lossless.

An unchanged picture becomes nothing.  A key frame comes at the start, whenever the desktop
or the visible window moved or changed its size, and often enough that a batch can start at
one: a batch that starts at a key frame and ends before another decodes by itself.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from backports import zstd

from agent.geometry import Box
from base.errors import AssentError
from wire.event import Frame, Rectangle
from wire.ids import BootInstant

LEVEL: Final = 3  # the default; higher costs more processor than it saves in bytes
KEY_INTERVAL: Final = 30_000_000_000  # ns
KEY_BYTES: Final = 3 << 20  # key frame and changes stay below a batch's 4 MiB
LARGEST_BYTES: Final = 7 << 20  # a batch of 8 MiB must take it; noise on a 4K screen is larger
ROW_GAP: Final = 16  # unchanged rows or columns that a rectangle of their own is worth
COLUMN_GAP: Final = 64
MOST_RECTANGLES: Final = 64
COLOUR: Final = np.uint32(0x00FFFFFF)  # the three bytes with a meaning, little-endian

Pixels: TypeAlias = npt.NDArray[np.uint8]


class TooLargeError(AssentError):
    """A frame would not fit into a batch."""


class FrameEncoder:
    """Turns pictures of one opening into frames.

    Every frame that `encode` returns must reach the reader, or the next must be a key frame:
    say `restart` if one got lost.
    """

    def __init__(self) -> None:
        self._box: Box | None = None
        self._desktop: Box | None = None
        self._pixels: npt.NDArray[np.uint32] | None = None
        self._key_at = BootInstant(0)
        self._bytes_since_key = 0

    def restart(self) -> None:
        """Make the next frame a key frame."""
        self._pixels = None

    def encode(self, at: BootInstant, desktop: Box, box: Box, pixels: Pixels) -> Frame | None:
        """Return the frame for a picture, None if it looks like the one before.

        Args:
            at: When the picture was complete.
            desktop: The bounds of the whole desktop; outside *box* it is black.
            box: Where *pixels* belong.
            pixels: Height x width x 4, redacted.

        Raises:
            TooLargeError: It would not fit into a batch; the next is a key frame again.

        """
        before = self._pixels
        now = _words(pixels)
        if before is None or (box, desktop) != (self._box, self._desktop):
            return self._frame(at, desktop, box, now, [Box(0, 0, box.width, box.height)], key=True)
        changed = changes(before, now)
        if not changed:
            return None
        if self._bytes_since_key > KEY_BYTES or at - self._key_at >= KEY_INTERVAL:
            return self._frame(at, desktop, box, now, [Box(0, 0, box.width, box.height)], key=True)
        return self._frame(at, desktop, box, now, changed, key=False)

    def _frame(
        self,
        at: BootInstant,
        desktop: Box,
        box: Box,
        pixels: npt.NDArray[np.uint32],
        parts: list[Box],
        *,
        key: bool,
    ) -> Frame:
        rectangles = tuple(_rectangle(pixels, part, box, desktop) for part in parts)
        size = sum(len(each.pixels) for each in rectangles)
        if size > LARGEST_BYTES:
            self.restart()
            raise TooLargeError(f"{size} bytes")
        if key:
            self._key_at, self._bytes_since_key = at, 0
        self._bytes_since_key += size
        self._box, self._desktop, self._pixels = box, desktop, pixels
        return Frame(
            at=at,
            key=key,
            left=desktop.x,
            top=desktop.y,
            width=desktop.width,
            height=desktop.height,
            rectangles=rectangles,
        )


def changes(before: npt.NDArray[np.uint32], now: npt.NDArray[np.uint32]) -> list[Box]:
    """Return rectangles that hold every pixel in which two pictures of one size differ."""
    touched = np.flatnonzero((before != now).any(axis=1))
    if not len(touched):
        return []
    # Most changes are a line or two: look closely only there.
    start, end = int(touched[0]), int(touched[-1]) + 1
    different = ((before[start:end] ^ now[start:end]) & COLOUR) != 0
    boxes = [
        Box(left, start + top, right - left, bottom - top)
        for top, bottom in _runs(different.any(axis=1), ROW_GAP)
        for left, right in _runs(different[top:bottom].any(axis=0), COLUMN_GAP)
    ]
    if len(boxes) <= MOST_RECTANGLES:
        return boxes
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, bottom = max(box.right for box in boxes), max(box.bottom for box in boxes)
    return [Box(left, top, right - left, bottom - top)]


def _runs(marked: npt.NDArray[np.bool_], gap: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of marks; fewer than *gap* others do not end a run."""
    places = np.flatnonzero(marked)
    if not len(places):
        return
    ends = np.flatnonzero(np.diff(places) > gap)
    firsts = places[np.concatenate(([0], ends + 1))]
    lasts = places[np.concatenate((ends, [len(places) - 1]))]
    for first, last in zip(firsts, lasts, strict=True):
        yield int(first), int(last) + 1


def _rectangle(pixels: npt.NDArray[np.uint32], part: Box, box: Box, desktop: Box) -> Rectangle:
    words = pixels[part.y : part.bottom, part.x : part.right]
    rows = np.ascontiguousarray(words).view(np.uint8).reshape(part.height, part.width, 4)
    return Rectangle(
        x=part.x + box.x - desktop.x,
        y=part.y + box.y - desktop.y,
        width=part.width,
        height=part.height,
        pixels=zstd.compress(rows[:, :, :3].tobytes(), LEVEL),
    )


def _words(pixels: Pixels) -> npt.NDArray[np.uint32]:
    height, width, _ = pixels.shape
    return np.ascontiguousarray(pixels).view(np.uint32).reshape(height, width)
