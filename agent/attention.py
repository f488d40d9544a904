"""Until when the agent's loop has heard everybody: after a stall, less than until now.

A slow disk or a busy machine can hold the loop up.  What the sensors, the tray and the session
said meanwhile waits in sockets, and which of them is read first is chance.  So keys of that time
are not judged before all of it was heard, and a restriction that is heard then counts from where
the stall began: when the light went out or the screen was locked, nobody here can tell.  Pure.
"""

from typing import Final

from base.clock import NANOSECONDS

STALL_NANOSECONDS: Final = NANOSECONDS // 4
"""How long nobody may have looked: two and a half ticks, and half of the hold-back."""
UNREAD_NANOSECONDS: Final = NANOSECONDS // 10
"""What came so shortly before a stall may have waited unread in a socket, too: a tick."""


class Attention:
    """When the loop looked last, and whether it was held up before."""

    def __init__(self) -> None:
        """Nobody looks yet, which is no stall."""
        self._looked_at: int | None = None
        self._held_up_at: int | None = None

    def look(self, now: int) -> None:
        """Note that the loop runs at boot instant *now*; it reads what waits before the next."""
        before = self._looked_at
        is_late = before is not None and now - before > STALL_NANOSECONDS
        self._held_up_at = before if is_late else None
        self._looked_at = now

    def until(self, now: int) -> int:
        """Return until when everybody was heard, at boot instant *now*."""
        if self._looked_at is not None and now - self._looked_at > STALL_NANOSECONDS:
            return self._looked_at
        return now if self._held_up_at is None else self._held_up_at
