"""A screen that shows one colour after another, on a clock that a test moves.

`Desk` is the window source and the grabber of a `ScreenFeed` at once.  Each question takes
time, as it does on a real desktop, and the colour may change meanwhile.
"""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from agent.capture.screen import Grabber, Pixels
from agent.capture.window import Scene, Sighting, Window
from agent.geometry import Box
from wire.ids import BootInstant
from wire.policy import Application

DESKTOP = Box(0, 0, 8, 4)
WORK = Application(process="work", window_class="Work")
DIARY = Application(process="diary", window_class="Diary")


class Desk(Grabber):
    """Shows colour number n + 1 from the n-th of *changes* on; time goes by in steps of *cost*."""

    def __init__(self, changes: list[int], *, tells: bool = True, cost: int = 200_000) -> None:
        super().__init__()
        self.now = 0
        self.changes = sorted(changes)
        self.tells = tells
        self.looks = 0
        self._cost = cost
        self._watched_from = 0
        self._news = [Sighting(at=BootInstant(0), window=_window(WORK))]
        self._front: Application | None = WORK
        self._steady = 0

    def clock(self) -> int:
        return self.now

    def colour_at(self, at: int) -> int:
        return 1 + bisect_right(self.changes, at)

    def focus(self, application: Application | None) -> None:
        self._front, self._steady = application, self.now
        self._news.append(Sighting(at=BootInstant(self.now), window=_window(application)))

    # --- WindowSource ---------------------------------------------------------------------

    def fileno(self) -> int:
        return -1

    def due(self) -> BootInstant | None:
        return BootInstant(0) if self._news else None

    def drain(self) -> Iterator[Sighting]:
        while self._news:
            yield self._news.pop(0)

    def steady_since(self) -> BootInstant:
        self._ask()
        return BootInstant(self._steady)

    def scene(self) -> Scene:
        self._ask()
        return Scene(desktop=DESKTOP, focused=_window(self._front), above=())

    def watch_drawing(self) -> BootInstant | None:
        drawn = self.drawn_at()
        self._watched_from = self.now
        self._ask()
        return drawn

    def drawn_at(self) -> BootInstant | None:
        place = bisect_right(self.changes, self._watched_from)
        found = self.changes[place : place + 1]
        return BootInstant(found[0]) if self.tells and found and found[0] <= self.now else None

    def follows_drawing(self) -> bool:
        return True

    # --- Grabber --------------------------------------------------------------------------

    def desktop(self) -> Box:
        return DESKTOP

    def grab(self, box: Box) -> Pixels:
        self._ask()
        self.looks += 1
        colour = self.colour_at(self.now)
        self._ask()
        pixels = np.zeros((box.height, box.width, 4), np.uint8)
        pixels[:, :, 0], pixels[:, :, 1] = colour & 0xFF, colour >> 8
        return pixels

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _ask(self) -> None:
        self.now += self._cost


def _window(application: Application | None) -> Window | None:
    if application is None:
        return None
    return Window(application=application, title="", box=DESKTOP)
