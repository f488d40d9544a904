"""Which keys and clicks a window of ours takes: none that was meant for another window.  Pure.

A window that appears while somebody types or clicks elsewhere receives what was on its way
to the other program.  Consent must not come about like that.  So nothing counts within
`QUIET_MS` after a window has appeared; for keys the quiet starts anew with the window's
focus and with each key that was refused, so that a burst of typing is refused to its end.

Times are those that the display server stamps on its events (milliseconds, 32 bits, they
wrap after 49 days): a busy tray that looks at a key late still judges it by when it was pressed.
"""

from typing import Final

QUIET_MS: Final = 700  # a person needs about 250 ms to see a window and 200 to stop typing
_WRAP: Final = 1 << 32


class Patience:
    """Remembers since when one window may be meant by a click or a key."""

    def __init__(self) -> None:
        self._clicks_since: int | None = None
        self._keys_since: int | None = None

    def appeared(self, at_ms: int) -> None:
        """Note that the window came into sight."""
        self._clicks_since = self._keys_since = at_ms

    def focused(self, at_ms: int) -> None:
        """Note that keys go to the window from now on."""
        self._keys_since = at_ms

    def takes_click(self, at_ms: int) -> bool:
        """Say whether a click at *at_ms* was meant for this window."""
        return _quiet_is_over(self._clicks_since, at_ms)

    def takes_key(self, at_ms: int) -> bool:
        """Say whether a key at *at_ms* was meant for this window; a no prolongs the quiet."""
        if _quiet_is_over(self._keys_since, at_ms):
            return True
        self._keys_since = at_ms
        return False


def _quiet_is_over(since: int | None, at_ms: int) -> bool:
    if since is None:  # not in sight: nothing can be meant for it
        return False
    elapsed = (at_ms - since) % _WRAP
    return QUIET_MS <= elapsed < _WRAP // 2  # the upper half: before it appeared
