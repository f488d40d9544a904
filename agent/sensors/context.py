"""The context sensor: which permitted program has the focus; of any other only that it has.

And whether a field for secrets has it, in whatever program.
"""

import os
import select
from collections.abc import Iterator

import msgspec

from agent import capture
from agent.capture import SecretSource, SourceError, WindowSource, permission
from agent.capture.window import Sighting
from agent.sensors import _loop
from wire.control import ContextSettings, FocusSeen, SecretSeen, Settings
from wire.ids import BootInstant


class ContextFeed:
    """Changes of focus, without a word about programs that are not on the list."""

    def __init__(
        self, settings: ContextSettings, source: WindowSource, fields: SecretSource
    ) -> None:
        self._titles = settings.titles
        self._permitted = frozenset(settings.applications)
        self._source = source
        self._fields = fields
        self._both = select.epoll()  # the loop waits for one descriptor
        self._last: FocusSeen | None = None
        self._secret: SecretSeen | None = None

    def open(self) -> None:
        """Hook in."""
        permission.require(os.environ)
        self._source.open()
        self._fields.open()
        for each in (self._source, self._fields):
            self._both.register(each.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Return the descriptor of both sources together."""
        return self._both.fileno()

    def due(self) -> BootInstant | None:
        """Return when the source has something to give."""
        return self._source.due()

    def collect(self, *, room: bool) -> Iterator[FocusSeen | SecretSeen]:
        """Yield who has the focus, whenever that is something new; first of all at once."""
        del room  # scope is judged by these: they are never left out
        for told in self._fields.drain():
            if self._secret is None or told.secret is not self._secret.secret:
                self._secret = told
                yield told
        for sighting in self._source.drain():
            self._fields.look()
            seen = self._seen(sighting)
            if self._last is None or msgspec.structs.replace(seen, at=self._last.at) != self._last:
                self._last = seen
                yield seen

    def suppressed(self) -> int:
        """Return 0: nothing is held back here."""
        return 0

    def lost(self) -> None:
        """Say everything again next time: an agent that missed a change must not guess."""
        self._last = None
        self._secret = None

    def close(self) -> None:
        """Unhook."""
        self._source.close()
        self._fields.close()
        self._both.close()

    def _seen(self, sighting: Sighting) -> FocusSeen:
        window = sighting.window
        if window is None or window.application not in self._permitted:
            return FocusSeen(at=sighting.at, inside=False)
        return FocusSeen(
            at=sighting.at,
            inside=True,
            process=window.application.process,
            window_class=window.application.window_class,
            title=window.title if self._titles else "",
            x=window.box.x,
            y=window.box.y,
            width=window.box.width,
            height=window.box.height,
        )


def feed(settings: Settings) -> ContextFeed:
    """Return a closed feed with these settings.

    Raises:
        SourceError: They are another sensor's.

    """
    if not isinstance(settings, ContextSettings):
        raise SourceError("the context sensor was given another sensor's settings")
    source = capture.window_source(titles=settings.titles, stack=False)
    return ContextFeed(settings, source, capture.secret_source())


if __name__ == "__main__":
    _loop.main("context", feed)
