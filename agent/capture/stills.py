"""How long a picture was what the screen showed: from looks, and from what happened between.

An unchanged picture makes no frame.  That it was still there has to be said all the same:
otherwise nobody could tell an old picture that is true from one that is not.
"""

from typing import Final

from wire.event import Still
from wire.ids import BootInstant

BRIDGED: Final = 100_000_000
"""ns between two looks that saw the same, for one span: a picture so old counts as true anyway."""


class Stills:
    """Follows the last picture of one opening; what it returns is to be sent on, in order."""

    def __init__(self) -> None:
        self._of: BootInstant | None = None
        self._since = self._until = BootInstant(0)

    def picture(self, at: BootInstant) -> tuple[Still, ...]:
        """Begin with the picture that was complete at *at*; give up the one before it."""
        ended = self.end()
        self._of = self._since = self._until = at
        return ended

    def same(self, at: BootInstant) -> tuple[Still, ...]:
        """Note that a look which was complete at *at* found the picture unchanged."""
        of = self._of
        ended: tuple[Still, ...] = ()
        if of is not None and at - self._until > BRIDGED:
            ended = self.picture(at)
            self._of = of
        self._until = max(self._until, at)
        return ended

    def lasted(self, until: BootInstant) -> None:
        """Note that nothing was drawn from the last look until *until*."""
        self._until = max(self._until, until)

    def end(self) -> tuple[Still, ...]:
        """Give up the picture; say how long it was there, if longer than the frame itself says."""
        of, self._of = self._of, None
        if of is None or self._until <= self._since:
            return ()
        return (Still(at=self._until, of=of, since=self._since),)
