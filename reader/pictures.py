"""Screen frames drawn again, as they were before encoding (`wire.event.Frame`).

A batch of screens begins with a key frame, drawn on black; every other one is drawn on the
frame before it.  Sizes are checked before anything is unpacked: what a device sent is not
believed to be small.
"""

import io
from typing import Final

from backports import zstd
from PIL import Image

from wire.errors import MalformedError
from wire.event import Frame, Rectangle

MOST_PIXELS: Final = 64 << 20  # two 4K screens are 17 million
MOST_PIXELS_A_BATCH: Final = 16 << 30  # a minute of 4K at 30 pictures a second
_BYTES_A_PIXEL: Final = 3
_COMPRESSION: Final = 1  # of PNG: half the size of 0, a fifth of the time of 9


class Canvas:
    """The picture that the frames of one batch are drawn on, in their order."""

    def __init__(self) -> None:
        self._picture: Image.Image | None = None
        self._drawn = 0

    def draw(self, frame: Frame) -> Image.Image:
        """Return the whole picture after *frame*.

        Raises:
            MalformedError: No key frame before it, or rectangles that do not fit.

        """
        size = (frame.width, frame.height)
        if frame.width < 1 or frame.height < 1 or frame.width * frame.height > MOST_PIXELS:
            raise MalformedError(f"a frame of {frame.width} x {frame.height} pixels")
        self._drawn += frame.width * frame.height
        if self._drawn > MOST_PIXELS_A_BATCH:
            raise MalformedError("the frames of a batch hold more pixels than a minute has")
        if frame.key:
            self._picture = Image.new("RGB", size)
        if self._picture is None or self._picture.size != size:
            raise MalformedError("a frame shows changes of a picture that is not there")
        # What changed is said once: a thousand layers over the same pixels would take minutes.
        if sum(part.width * part.height for part in frame.rectangles) > frame.width * frame.height:
            raise MalformedError("the rectangles of a frame hold more pixels than it has")
        for rectangle in frame.rectangles:
            self._picture.paste(_pixels(rectangle, frame), (rectangle.x, rectangle.y))
        return self._picture


def to_png(picture: Image.Image) -> bytes:
    """Return *picture* as PNG, lossless."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=_COMPRESSION)
    return out.getvalue()


def _pixels(part: Rectangle, frame: Frame) -> Image.Image:
    inside = (
        part.width > 0
        and part.height > 0
        and 0 <= part.x <= frame.width - part.width
        and 0 <= part.y <= frame.height - part.height
    )
    if not inside:
        raise MalformedError("a rectangle lies outside its frame")
    expected = part.width * part.height * _BYTES_A_PIXEL
    unpacker = zstd.ZstdDecompressor()
    try:
        rows = unpacker.decompress(part.pixels, max_length=expected + 1)
    except zstd.ZstdError as exc:
        raise MalformedError(f"a rectangle is not zstd: {exc}") from exc
    if len(rows) != expected:
        raise MalformedError("a rectangle holds another number of pixels than it says")
    return Image.frombytes("RGB", (part.width, part.height), rows, "raw", "BGR")
