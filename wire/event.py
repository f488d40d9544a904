"""The events that a workstation can produce, as sensors, agent and reader see them.

An event belongs to one category (`category_of`).  Its `at` is the boot clock of the
workstation in nanoseconds (the clock that counts suspend); a batch's opening record ties
that clock to the wall clock.  `sequence` counts events of one category on one device and
never repeats; the agent assigns it, a sensor leaves it 0.
"""

from typing import TypeAlias, assert_never

import msgspec

from wire.category import Category
from wire.ids import BootInstant


class Key(msgspec.Struct, frozen=True, kw_only=True, tag="key", array_like=True):
    """A key went down or up.

    At level `classes` only `kind` says which (letter, digit, punctuation, space, enter,
    backspace, delete, tab, escape, modifier, navigation, function, media, other); `text`
    is empty and `code` 0.  At level `text`, `text` is the keysym's character or name and
    `code` the X keycode.
    """

    at: BootInstant
    sequence: int = 0
    pressed: bool
    kind: str
    text: str = ""
    code: int = 0


class Move(msgspec.Struct, frozen=True, kw_only=True, tag="move", array_like=True):
    """The pointer is at (x, y), pixels of the whole desktop, origin top left."""

    at: BootInstant
    sequence: int = 0
    x: int
    y: int


class Button(msgspec.Struct, frozen=True, kw_only=True, tag="button", array_like=True):
    """A pointer button (1 left, 2 middle, 3 right, 8 back, 9 forward) went down or up at (x, y)."""

    at: BootInstant
    sequence: int = 0
    x: int
    y: int
    button: int
    pressed: bool


class Scroll(msgspec.Struct, frozen=True, kw_only=True, tag="scroll", array_like=True):
    """The wheel turned by (dx, dy) steps at (x, y); up and right are positive."""

    at: BootInstant
    sequence: int = 0
    x: int
    y: int
    dx: int
    dy: int


class Rectangle(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A part of a frame: `pixels` is zstd over rows of B, G, R bytes, width x height x 3."""

    x: int
    y: int
    width: int
    height: int
    pixels: bytes


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag="frame", array_like=True):
    """One picture of the desktop: a key frame, or what changed since the frame before it.

    `width` x `height` pixels with its top left at (`left`, `top`) of the desktop.  A key
    frame is drawn on black; any other on the frame before it in the same batch.  Everything
    outside the permitted window was set to black before encoding.  Lossless.
    """

    at: BootInstant  # when the grab was complete
    sequence: int = 0
    key: bool
    left: int
    top: int
    width: int
    height: int
    rectangles: tuple[Rectangle, ...]


class Still(msgspec.Struct, frozen=True, kw_only=True, tag="still", array_like=True):
    """The picture of a frame was what the screen showed from `since` to `at`.

    `of` is the frame's own `at`, on the same clock; the frame may be in an earlier batch.  By
    these a reader knows which picture was on the screen before an action, or that none is known.
    """

    at: BootInstant
    sequence: int = 0
    of: BootInstant
    since: BootInstant


class Focus(msgspec.Struct, frozen=True, kw_only=True, tag="focus", array_like=True):
    """A permitted program's window got the focus, moved, or (level title) was renamed.

    `process` is the name of the executable, `window_class` the X class; x, y, width and
    height are its bounds in desktop pixels.  `title` is empty at level `program`.
    """

    at: BootInstant
    sequence: int = 0
    process: str
    window_class: str
    title: str = ""
    x: int
    y: int
    width: int
    height: int


Event: TypeAlias = Key | Move | Button | Scroll | Frame | Still | Focus


def begins_at(event: Event) -> BootInstant:
    """Return since when *event* says something; for all but one kind that is its own instant."""
    return event.since if isinstance(event, Still) else event.at


def category_of(event: Event) -> Category:
    """Return the one category that *event* belongs to."""
    match event:
        case Key():
            return Category.KEYS
        case Move() | Button() | Scroll():
            return Category.POINTER
        case Frame() | Still():
            return Category.SCREEN
        case Focus():
            return Category.WINDOW
        case _:
            assert_never(event)
