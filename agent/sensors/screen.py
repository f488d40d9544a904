"""The screen sensor: pictures of permitted windows while they have the focus.

One look goes: who has the focus and what lies above it, and has that been so for a while?
Grab that part of the screen.  Is it still so?  Blank what is another's.  Encode.  If anything
moved in between, the picture is dropped: it may show what the geometry does not say.

It looks when something was drawn, as often as the policy allows, and now and then without
that; where the platform does not tell of drawing, as often as the policy allows.  Which
picture was on the screen when, and for how long, goes along as `Still`.
"""

import os
from collections.abc import Callable, Iterator
from typing import Final

from agent import capture
from agent.capture import SourceError, WindowSource, permission
from agent.capture.frames import FrameEncoder, TooLargeError
from agent.capture.screen import Grabber, is_black
from agent.capture.stills import Stills
from agent.capture.window import Scene
from agent.redact import pixels, proof
from agent.redact.pixels import View
from agent.sensors import _loop
from base.clock import NANOSECONDS, boot_ns
from wire.control import ScreenSettings, Settings
from wire.event import Frame, Still
from wire.ids import BootInstant

SETTLE: Final = 120_000_000
"""ns without a change of any window before a look.

When a window goes, its pixels stay until the one below has drawn itself again, which takes
programs some 50 ms; until then they would be recorded as that one's.
"""

PAINTING: Final = 20_000_000
"""ns from the first drawing to a look: programs draw in steps, and the first shows half of it."""

IDLE: Final = NANOSECONDS
"""Time between looks while nothing is drawn: they show that the platform's word can be believed."""


class ScreenFeed:
    """Frames of permitted windows, blanked outside them, only when they have changed."""

    def __init__(
        self,
        settings: ScreenSettings,
        windows: WindowSource,
        grabber: Grabber,
        clock: Callable[[], int] = boot_ns,
    ) -> None:
        self._permitted = frozenset(settings.applications)
        self._interval = round(NANOSECONDS / settings.rate_hz)
        self._windows = windows
        self._grabber = grabber
        self._clock = clock
        self._encoder = FrameEncoder()
        self._stills = Stills()
        self._look_at: BootInstant | None = None
        self._looked_at = BootInstant(0)
        self._steady_since = BootInstant(0)  # what it was at the last look that was kept
        self._watching = False  # nothing was missed since that look
        self._believed = True  # that the platform tells of all that is drawn
        self._suppressed = 0
        self._inside = False  # a permitted program has the focus
        self._proved = False  # that this display shows anything at all

    def open(self) -> None:
        """Follow the windows and connect to the screen."""
        permission.require(os.environ)
        self._windows.open()
        try:
            self._grabber.open()
        except SourceError:
            self._windows.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor on which windows report changes."""
        return self._windows.fileno()

    def due(self) -> BootInstant | None:
        """Return when the next look is; None while no permitted window has the focus."""
        return self._windows.due() or self._look_at

    def collect(self, *, room: bool) -> Iterator[Frame | Still]:
        """Yield a frame if it is time to look, there is something to see, and it changed."""
        for sighting in self._windows.drain():
            window = sighting.window
            self._inside = window is not None and window.application in self._permitted
            # Events around a change of focus may be dropped by the agent: end before it.
            self._lasted(BootInstant(sighting.at - SETTLE), self._windows.drawn_at())
        if not self._inside:
            # So may frames: start afresh.
            self._encoder.restart()
            self._look_at = None
            yield from self._stills.end()
            return
        now = BootInstant(self._clock())
        since = self._windows.steady_since()
        self._look_at = self._next_look(since)
        if now < self._look_at:
            return
        self._looked_at = now
        if room:
            yield from self._look(since)
        else:
            self._suppressed += 1
        self._look_at = self._next_look(since)

    def suppressed(self) -> int:
        """Return how many pictures were left out since the last time."""
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed

    def lost(self) -> None:
        """Begin again with a key frame: what follows a lost frame could not be drawn."""
        self._encoder.restart()
        self._stills.end()
        self._watching = False

    def close(self) -> None:
        """Disconnect from the screen and from the windows."""
        self._grabber.close()
        self._windows.close()

    def _view(self, scene: Scene) -> View | None:
        focused = scene.focused
        return pixels.permitted_view(
            desktop=scene.desktop,
            focused=None if focused is None else (focused.application, focused.box),
            above=scene.above,
            permitted=self._permitted,
        )

    def _next_look(self, since: BootInstant) -> BootInstant:
        """Return when to look, with no window changed *since*."""
        earliest = max(since + SETTLE, self._looked_at + self._interval)
        drawn = self._windows.drawn_at()
        if not self._tells() or not self._watching or since != self._steady_since:
            return BootInstant(earliest)
        if drawn is None:
            return BootInstant(max(earliest, self._looked_at + IDLE))
        return BootInstant(max(earliest, drawn + PAINTING))

    def _tells(self) -> bool:
        return self._believed and self._windows.follows_drawing()

    def _lasted(self, latest: BootInstant, drawn: BootInstant | None) -> None:
        """Note how long the last picture was there: until *drawn*, at most until *latest*."""
        if self._watching and self._tells():
            self._stills.lasted(latest if drawn is None else min(latest, drawn))
        self._watching = False

    def _look(self, since: BootInstant) -> Iterator[Frame | Still]:
        scene = self._windows.scene()
        view = self._view(scene)
        if view is None:
            self._encoder.restart()
            self._lasted(since, self._windows.drawn_at())
            yield from self._stills.end()
            return
        asked = BootInstant(self._clock())
        drawn = self._windows.watch_drawing()
        # A window that came, went or moved is another picture, whatever was drawn.
        latest = asked if since == self._steady_since else min(asked, since)
        if self._grabber.desktop() != scene.desktop:  # a monitor came, went or turned
            self._grabber.close()
            self._grabber.open()
        grabbed = self._grabber.grab(view.box)
        at = BootInstant(self._clock())
        if self._windows.steady_since() != since or self._windows.scene() != scene:
            self._suppressed += 1
            self._lasted(latest, drawn)
            return
        self._prove(scene, grabbed)
        try:
            frame = self._encoder.encode(at, scene.desktop, view.box, pixels.blank(grabbed, view))
        except TooLargeError:
            self._suppressed += 1
            self._watching = False
            yield from self._stills.end()
            return
        self._doubt(frame, since, drawn)
        self._lasted(latest, drawn)
        self._watching, self._steady_since = True, since
        if frame is None:
            yield from self._stills.same(at)
        else:
            yield from self._stills.picture(at)
            yield frame

    def _doubt(self, frame: Frame | None, since: BootInstant, drawn: BootInstant | None) -> None:
        """Stop believing a platform that did not tell of what was drawn."""
        changed = frame is not None and not frame.key and since == self._steady_since
        untold = drawn is None and self._windows.drawn_at() is None
        if changed and untold and self._watching:
            self._believed = False
            self._stills.end()  # how long it was there rested on that word

    def _prove(self, scene: Scene, grabbed: pixels.Pixels) -> None:
        """Refuse a display that shows nothing but black, as bridges to other systems do.

        Raises:
            SourceError: Not only the window is black, everything is.

        """
        if self._proved or not is_black(grabbed):
            self._proved = True
        elif is_black(self._grabber.grab(scene.desktop)):
            raise SourceError("this display gives black pictures only; screens are not recorded")


def feed(settings: Settings) -> ScreenFeed:
    """Return a closed feed with these settings.

    Raises:
        SourceError: They are another sensor's, or allow no look at all.

    """
    if not isinstance(settings, ScreenSettings):
        raise SourceError("the screen sensor was given another sensor's settings")
    if settings.rate_hz <= 0:
        raise SourceError("the policy allows no pictures at all (rate 0)")
    windows = capture.window_source(titles=False, stack=True)
    return ScreenFeed(settings, windows, Grabber())


if __name__ == "__main__":
    _loop.main("screen", feed, proof.prove_pixels)
