"""The context sensor: which permitted program has the focus; of any other only that it has."""

import os
from collections.abc import Iterator

import msgspec

from agent import capture
from agent.capture import SourceError, WindowSource, permission
from agent.capture.window import Sighting
from agent.sensors import _loop
from wire.control import ContextSettings, FocusSeen, Settings
from wire.ids import BootInstant


class ContextFeed:
    """Changes of focus, without a word about programs that are not on the list."""

    def __init__(self, settings: ContextSettings, source: WindowSource) -> None:
        self._titles = settings.titles
        self._permitted = frozenset(settings.applications)
        self._source = source
        self._last: FocusSeen | None = None

    def open(self) -> None:
        """Hook in."""
        permission.require(os.environ)
        self._source.open()

    def fileno(self) -> int:
        """Return the source's descriptor."""
        return self._source.fileno()

    def due(self) -> BootInstant | None:
        """Return when the source has something to give."""
        return self._source.due()

    def collect(self, *, room: bool) -> Iterator[FocusSeen]:
        """Yield who has the focus, whenever that is something new; first of all at once."""
        del room  # scope is judged by these: they are never left out
        for sighting in self._source.drain():
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

    def close(self) -> None:
        """Unhook."""
        self._source.close()

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
    return ContextFeed(settings, source)


if __name__ == "__main__":
    _loop.main("context", feed)
