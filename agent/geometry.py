"""Rectangles of the desktop: pixels, origin top left, right and bottom just outside."""

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle that starts at (x, y); without width or height it is empty."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column that is not in it."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row that is not in it."""
        return self.y + self.height

    @property
    def empty(self) -> bool:
        """Whether no pixel is in it."""
        return self.width <= 0 or self.height <= 0

    def intersection(self, other: "Box") -> "Box":
        """Return what both cover; empty if they do not meet."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = max(0, min(self.right, other.right) - x)
        height = max(0, min(self.bottom, other.bottom) - y)
        return Box(x, y, width, height)

    def seen_from(self, other: "Box") -> "Box":
        """Return the same rectangle in coordinates whose origin is the top left of *other*."""
        return Box(self.x - other.x, self.y - other.y, self.width, self.height)
