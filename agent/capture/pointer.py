"""The pointer: buttons, wheel steps, and a bounded number of positions.

Sources see every motion; a mouse may report a thousand a second.  `Moves` keeps all that a
plain mouse makes and always the last one, so where the pointer rests is known.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wire.event import Button, Scroll
from wire.ids import BootInstant

MOVE_INTERVAL: Final = 4_000_000  # ns: 250 Hz, twice what a plain USB mouse reports

WHEEL: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {4: (0, 1), 5: (0, -1), 6: (-1, 0), 7: (1, 0)}
)
"""X reports a wheel as buttons: up, down, left, right, as steps to the right and up."""


def pressed_or_turned(
    at: BootInstant, number: int, position: tuple[int, int], *, pressed: bool
) -> Button | Scroll | None:
    """Return the event of button *number* at *position*, None for the second half of a step."""
    x, y = position
    if number not in WHEEL:
        return Button(at=at, x=x, y=y, button=number, pressed=pressed)
    if not pressed:
        return None  # one step of the wheel is a press and a release
    dx, dy = WHEEL[number]
    return Scroll(at=at, x=x, y=y, dx=dx, dy=dy)


class Moves:
    """Decides which motions become a `Move`: at most one in `MOVE_INTERVAL`, and the last."""

    def __init__(self) -> None:
        self._held: BootInstant | None = None
        self._last = BootInstant(0)
        self._position: tuple[int, int] | None = None

    def note(self, at: BootInstant) -> None:
        """Remember that the pointer moved at *at*."""
        self._held = at

    def due(self) -> BootInstant | None:
        """Return when the motion that is held back must come out; None if there is none."""
        return None if self._held is None else BootInstant(self._last + MOVE_INTERVAL)

    def take(self, now: BootInstant, position: tuple[int, int]) -> BootInstant | None:
        """Give up the held motion; return its time, None if the pointer is where it was.

        A wheel with fine steps reports motions that move nothing.
        """
        at, self._held = self._held, None
        self._last = now
        if at is None or position == self._position:
            return None
        self._position = position
        return at
