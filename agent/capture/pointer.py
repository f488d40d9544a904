"""The pointer: buttons, wheel steps, and as many positions as the policy allows.

Sources see every motion; a mouse may report a thousand a second.  `Moves` lets through what
the policy's rate allows, evenly, and always the last one, so where the pointer rests is known.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from base.clock import NANOSECONDS
from wire.event import Button, Scroll
from wire.ids import BootInstant

ALL_HZ: Final = 1_000.0  # more moves a second than any policy may ask for

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
    """Decides which motions become a `Move`: at most so many a second, and always the last."""

    def __init__(self, rate_hz: float = ALL_HZ) -> None:
        """*rate_hz* is above 0; a source that may see no moves is not asked for any."""
        self._interval = round(NANOSECONDS / rate_hz)
        self._held: BootInstant | None = None
        self._last = BootInstant(0)
        self._position: tuple[int, int] | None = None

    def note(self, at: BootInstant) -> None:
        """Remember that the pointer moved at *at*."""
        self._held = at

    def due(self) -> BootInstant | None:
        """Return when the motion that is held back must come out; None if there is none."""
        return None if self._held is None else BootInstant(self._last + self._interval)

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
