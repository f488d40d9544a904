"""The input sensor: keys and pointer, keys redacted to the level that the policy allows."""

import os
from collections.abc import Iterator

from agent import capture
from agent.capture import KeyStroke, Source, SourceError, permission
from agent.redact import keys, proof
from agent.sensors import _loop
from wire.control import InputSettings, SecretSeen, Settings
from wire.event import Button, Key, Move, Scroll
from wire.ids import BootInstant


class InputFeed:
    """What is typed and pointed at, redacted."""

    def __init__(
        self,
        settings: InputSettings,
        source: Source[KeyStroke | Move | Button | Scroll | SecretSeen],
    ) -> None:
        self._level = settings.key_level
        self._source = source
        self._secret: SecretSeen | None = None  # what was last told of a grab of the keyboard
        self._untold = False

    def open(self) -> None:
        """Hook in."""
        permission.require(os.environ)
        self._source.open()

    def fileno(self) -> int:
        """Return the source's descriptor."""
        return self._source.fileno()

    def due(self) -> BootInstant | None:
        """Return when the source has something held back to give."""
        return self._source.due()

    def collect(self, *, room: bool) -> Iterator[Key | Move | Button | Scroll | SecretSeen]:
        """Yield what was typed and pointed at."""
        del room  # events are read in any case, so that the X server need not keep them
        if self._untold and self._secret is not None:
            self._untold = False
            yield self._secret
        for event in self._source.drain():
            if isinstance(event, SecretSeen):
                self._secret = event
            if isinstance(event, KeyStroke):
                yield keys.key(
                    at=event.at,
                    code=event.code,
                    keysym=event.keysym,
                    pressed=event.pressed,
                    level=self._level,
                )
            else:
                yield event

    def suppressed(self) -> int:
        """Return 0: nothing is held back here."""
        return 0

    def lost(self) -> None:
        """Tell of a grab again: each event stands by itself, but that must not be missed."""
        self._untold = True

    def close(self) -> None:
        """Unhook."""
        self._source.close()


def feed(settings: Settings) -> InputFeed:
    """Return a closed feed with these settings.

    Raises:
        SourceError: They are another sensor's, or ask for nothing.

    """
    if not isinstance(settings, InputSettings):
        raise SourceError("the input sensor was given another sensor's settings")
    if not (settings.keys or settings.pointer):
        raise SourceError("neither keys nor pointer may be watched")
    if settings.pointer and settings.move_hz <= 0:
        raise SourceError("the policy allows no moves at all (rate 0)")
    source = capture.input_source(
        keys=settings.keys,
        pointer=settings.pointer,
        move_hz=settings.move_hz,
        which=settings.source,
    )
    return InputFeed(settings, source)


if __name__ == "__main__":
    _loop.main("input", feed, proof.prove_keys)
