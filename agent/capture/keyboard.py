"""Keys: what goes down and what comes up is the same key, whatever happened in between."""

from collections.abc import Callable

from agent.capture.source import KeyStroke
from wire.ids import BootInstant


class Keyboard:
    """Names each key by the keysym that it had when it went down.

    Shift may be let go before the letter: its release is still that of the capital.
    """

    def __init__(self, keysym_of: Callable[[int], int]) -> None:
        self._keysym_of = keysym_of
        self._down: dict[int, int] = {}

    def stroke(self, at: BootInstant, code: int, *, pressed: bool) -> KeyStroke:
        """Return the stroke of the key *code*."""
        if pressed:
            keysym = self._down[code] = self._keysym_of(code)
        else:
            known = self._down.pop(code, None)
            # Pressed before we were open: the best guess is what it would be now.
            keysym = self._keysym_of(code) if known is None else known
        return KeyStroke(at=at, code=code, keysym=keysym, pressed=pressed)
