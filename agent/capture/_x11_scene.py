"""What can be seen of the focused window: the stacking order of the top-level windows.

Windows above the focused one may hide it, whatever their kind: dialogs, menus, panels,
notifications.  Each is named by the application whose window it shows, or by nobody's.
(A compositor's overlay is not among them: the server leaves it out of the tree.)

Known gaps: a window that lets others shine through (translucent terminals under a
compositor) counts as opaque; a shaped window counts as its bounding rectangle.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from Xlib import X
from Xlib.display import Display
from Xlib.protocol import request

from agent.capture import _x11
from agent.capture._x11_about import bounds_of, client_in, describe, owner_of
from agent.capture.window import Scene, Window
from agent.geometry import Box
from wire.policy import Application

LARGEST_DEPTH: Final = 16  # windows inside windows, from a client up to the root


class Stack:
    """Reads scenes from one connection; remembers whose window each top-level window shows."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._shown: dict[int, Application | None] = {}

    def forget(self) -> None:
        """Drop what is remembered: a top-level window came, went or got another frame."""
        self._shown.clear()

    def empty(self) -> Scene:
        """Return the scene in which nobody has the focus."""
        size = self._display.screen().root.get_geometry()
        desktop = Box(0, 0, int(size.width), int(size.height))
        return Scene(desktop=desktop, focused=None, above=())

    def read(self, focused: Any, *, titles: bool) -> Scene:  # noqa: ANN401 - python-xlib's Window
        """Return the scene in which the window *focused* has the focus."""
        nothing = self.empty()
        if focused is None:
            return nothing
        known = describe(self._display, focused, titles=titles)
        if known is None:
            return nothing
        try:
            if focused.get_attributes().map_state != X.IsViewable:
                return nothing
            top, bounds = self._frame(focused)
        except _x11.GONE:
            return nothing
        stack = [int(each.id) for each in self._display.screen().root.query_tree().children]
        if top not in stack:
            return nothing
        box = known.box.intersection(bounds).intersection(nothing.desktop)
        return Scene(
            desktop=nothing.desktop,
            focused=Window(application=known.application, title=known.title, box=box),
            above=tuple(self._covering(box, stack[stack.index(top) + 1 :])),
        )

    def _frame(self, window: Any) -> tuple[int, Box]:  # noqa: ANN401
        """Return the top-level window that holds *window*, and what it lets be seen of it.

        A window manager may show less than the whole client: a shaded window is rolled up.
        """
        root = self._display.screen().root.id
        bounds = bounds_of(self._display, window)
        for _ in range(LARGEST_DEPTH):
            parent = window.query_tree().parent
            if parent == 0 or parent.id == root:
                return int(window.id), bounds
            window = parent
            bounds = bounds.intersection(bounds_of(self._display, window))
        return 0, bounds

    def _covering(
        self, target: Box, above: Sequence[int]
    ) -> Iterator[tuple[Application | None, Box]]:
        """Yield whose and where those of the windows *above* are that meet *target*."""
        raw = self._display.display
        # All questions first, then all answers: one journey instead of two for each window.
        asked = [
            (
                each,
                request.GetWindowAttributes(display=raw, defer=True, window=each),
                request.GetGeometry(display=raw, defer=True, drawable=each),
            )
            for each in above
        ]
        for identifier, attributes, geometry in asked:
            try:
                attributes.reply()
                geometry.reply()
            except _x11.GONE:
                continue  # destroyed meanwhile: an event will say so, and we look again
            if attributes.map_state != X.IsViewable or attributes.win_class != X.InputOutput:
                continue
            border = 2 * int(geometry.border_width)
            width, height = int(geometry.width) + border, int(geometry.height) + border
            box = Box(int(geometry.x), int(geometry.y), width, height)
            if not box.intersection(target).empty:
                yield self._shown_by(identifier), box

    def _shown_by(self, top: int) -> Application | None:
        """Return the application whose window the top-level window *top* shows."""
        if top not in self._shown:
            try:
                self._shown[top] = owner_of(self._display, client_in(self._display, top))
            except _x11.GONE:
                return None
        return self._shown[top]
