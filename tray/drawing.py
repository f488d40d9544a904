"""The icons, drawn: five shapes that differ without their colours, on light and dark panels.

Pure: `draw(mark)` returns a picture.  It is drawn large and reduced, so that the edges are
smooth; strokes are at least 1/8 of the width, so that they survive a 22-pixel panel.
"""

from functools import cache
from typing import Final

from PIL import Image, ImageDraw

from tray.view import Mark

SIZE: Final = 48  # what panels ask for at most; 24 and 22 come out of it cleanly
_GRAIN: Final = 8  # drawn this many times larger, then reduced

_RED: Final = (224, 27, 45, 255)
_BLUE: Final = (44, 120, 214, 255)
_GREY: Final = (140, 140, 140, 255)
_AMBER: Final = (245, 176, 0, 255)
_INK: Final = (40, 30, 0, 255)


@cache
def draw(mark: Mark, size: int = SIZE) -> Image.Image:
    """Return the icon for *mark*, *size* pixels square, on transparent ground."""
    side = size * _GRAIN
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    _DRAWINGS[mark](ImageDraw.Draw(picture), side)
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def _recording(pen: ImageDraw.ImageDraw, side: int) -> None:
    """A filled dot with a ring around it."""
    _ring(pen, side, _RED)
    _disc(pen, side, 0.25, _RED)


def _waiting(pen: ImageDraw.ImageDraw, side: int) -> None:
    """The same ring with nothing in it."""
    _ring(pen, side, _RED)


def _paused(pen: ImageDraw.ImageDraw, side: int) -> None:
    """Two bars."""
    for left in (0.16, 0.58):
        box = (left * side, 0.08 * side, (left + 0.26) * side, 0.92 * side)
        pen.rounded_rectangle(box, radius=0.06 * side, fill=_BLUE)


def _shut(pen: ImageDraw.ImageDraw, side: int) -> None:
    """A grey ring, struck through."""
    _ring(pen, side, _GREY)
    pen.line((0.2 * side, 0.8 * side, 0.8 * side, 0.2 * side), fill=_GREY, width=side // 7)


def _attention(pen: ImageDraw.ImageDraw, side: int) -> None:
    """A triangle with an exclamation mark."""
    corners = [(0.5 * side, 0.1 * side), (0.94 * side, 0.9 * side), (0.06 * side, 0.9 * side)]
    pen.polygon(corners, fill=_AMBER)
    pen.line([*corners, corners[0], corners[1]], fill=_AMBER, width=side // 10, joint="curve")
    pen.rounded_rectangle(
        (0.44 * side, 0.34 * side, 0.56 * side, 0.65 * side), radius=0.05 * side, fill=_INK
    )
    pen.ellipse((0.43 * side, 0.72 * side, 0.57 * side, 0.86 * side), fill=_INK)


def _ring(pen: ImageDraw.ImageDraw, side: int, colour: tuple[int, ...]) -> None:
    box = (0.04 * side, 0.04 * side, 0.96 * side, 0.96 * side)
    pen.ellipse(box, outline=colour, width=side // 7)


def _disc(pen: ImageDraw.ImageDraw, side: int, radius: float, colour: tuple[int, ...]) -> None:
    low, high = (0.5 - radius) * side, (0.5 + radius) * side
    pen.ellipse((low, low, high, high), fill=colour)


_DRAWINGS: Final = {
    Mark.RECORDING: _recording,
    Mark.WAITING: _waiting,
    Mark.PAUSED: _paused,
    Mark.SHUT: _shut,
    Mark.ATTENTION: _attention,
}
