"""Somebody who sits at the desktop: looks for things on the screen and clicks on them.

Positions come from where a person would see them: windows by their title, buttons by their
label, the tray's icon by its place on the panel, rows of its menu by the lines of text on
the screen.  All clicks are mouse clicks (xdotool); no program is ever asked to act by
itself.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from Xlib.display import Display

from agent.capture import screen
from agent.geometry import Box
from demo import tray_icon
from demo.accessible import CHECKED, SENSITIVE, Accessibility, Thing
from demo.bus import BusError
from demo.desktop import DesktopError, wait_until
from demo.tray_icon import Row

WHEEL_DOWN: Final = "5"
WHEEL_UP: Final = "4"
MOST_TURNS: Final = 30
PATIENCE_SECONDS: Final = 30.0  # for whatever should be there at once, on a busy machine
TURN_SECONDS: Final = 0.05  # a toolkit needs to draw before it knows where things are
STILL_SECONDS: Final = 0.2  # for turns that it has not looked at yet, on a busy machine

Choice = tuple[tuple[Row, ...], Row]
"""The rows of a menu, and the one of them to click on."""


class Person:
    """A person at the desktop with the environment *env*.

    *take_the_mouse* is entered for each click and all that leads to it; whoever else moves
    the pointer must keep still meanwhile.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        take_the_mouse: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._env = dict(env)
        self._take_the_mouse = take_the_mouse

    # --- windows ----------------------------------------------------------------------

    def find_window(self, title: str) -> int | None:
        """Return the number of the visible window with exactly this title."""
        pattern = f"^{re.escape(title)}$"
        found = self._xdotool("search", "--onlyvisible", "--name", pattern, check=False).split()
        return int(found[-1]) if found else None

    def wait_for_window(self, title: str, seconds: float = PATIENCE_SECONDS) -> int:
        """Return the number of that window as soon as it is there."""
        return wait_until(f"the window {title!r}", lambda: self.find_window(title), seconds)

    def wait_until_gone(self, title: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when no visible window has this title."""
        what = f"the end of the window {title!r}"
        wait_until(what, lambda: self.find_window(title) is None, seconds)

    def activate(self, title: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Bring a window to the front and give it the focus."""
        number = str(self.wait_for_window(title, seconds))
        self._xdotool("windowactivate", "--sync", number)

    def close_window(self, title: str) -> None:
        """Close a window by the keys that do so everywhere."""
        self.activate(title)
        self.press("alt+F4")

    def box(self, title: str) -> Box:
        """Return where the content of a window is on the screen."""
        display = Display(self._env["DISPLAY"])
        try:  # xdotool itself counts the frame twice
            window = display.create_resource_object("window", self.wait_for_window(title))
            shape = window.get_geometry()
            corner = display.screen().root.translate_coords(window, 0, 0)
            return Box(int(corner.x), int(corner.y), int(shape.width), int(shape.height))
        finally:
            display.close()

    # --- what is in them --------------------------------------------------------------

    def click(self, title: str, label: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Click on the button, switch or box *label* in the window *title*."""
        with self._take_the_mouse(), Accessibility(self._env) as seen:
            self.activate(title, seconds)
            thing = wait_until(f"{label!r} in {title!r}", lambda: seen.find(title, label), seconds)
            takes_clicks = partial(seen.has_state, thing, SENSITIVE)
            wait_until(f"{label!r} in {title!r} to take clicks", takes_clicks, seconds)
            self.click_at(*_middle(self._bring_into_view(seen, title, thing)))

    def is_on(self, title: str, label: str) -> bool:
        """Whether the switch or box *label* in the window *title* is on."""
        return self._has_state(title, label, CHECKED)

    def can_click(self, title: str, label: str) -> bool:
        """Whether *label* in the window *title* takes clicks."""
        return self._has_state(title, label, SENSITIVE)

    def texts(self, title: str) -> list[str]:
        """Return all that is written in the window *title*."""
        with Accessibility(self._env) as seen:
            return seen.texts(title)

    # --- the tray ---------------------------------------------------------------------

    def wait_for_tray(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when the panel shows the icon."""
        wait_until("the tray's icon", self.sees_tray, seconds)

    def sees_tray(self) -> bool:
        """Whether the panel shows the icon now."""
        try:
            tray_icon.icon_box(self._env)
        except (BusError, DesktopError):
            return False
        return True

    def tray_menu(self) -> tuple[Row, ...]:
        """Return the rows that the menu of the tray's icon has now."""
        return tray_icon.menu_rows(self._env)

    def tray_title(self) -> str:
        """Return the title of the tray's icon, which is its tooltip."""
        return tray_icon.title(self._env)

    def click_tray(
        self, *labels: str, screenshot: Path | None = None, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Open the menu of the tray's icon and click on a row; more labels lead into submenus.

        The menu follows what happens a moment later, so the row is waited for.  *screenshot*
        keeps a picture of the opened menu, before the first row is clicked.
        """
        with self._take_the_mouse():
            self._click_tray(self._way(labels, seconds), screenshot)

    # --- mouse and keys ---------------------------------------------------------------

    def click_at(self, x: int, y: int) -> None:
        """Move the pointer to (x, y) and click with the left button."""
        with self._take_the_mouse():
            self._xdotool("mousemove", str(x), str(y), "click", "1")

    def press(self, *keys: str) -> None:
        """Press keys by their X names: `Return`, `ctrl+a`, ..."""
        self._xdotool("key", "--clearmodifiers", *keys)

    # --- how --------------------------------------------------------------------------

    def _way(self, labels: Sequence[str], seconds: float) -> list[Choice]:
        """Return which row of which rows to click on, level by level, once all take clicks.

        All of them before the first click: a menu left open grabs clicks.
        """
        deadline = time.monotonic() + seconds
        while True:
            rows = self.tray_menu()
            way: list[Choice] = []
            for label in labels:
                chosen = next((row for row in rows if row.label == label and row.enabled), None)
                if chosen is None:
                    break
                way.append((rows, chosen))
                rows = chosen.rows
            else:
                return way
            if time.monotonic() > deadline:
                has = [row.label for row in rows if row.enabled]
                raise DesktopError(f"the menu has no {label!r} to click on: {has}")

    def _click_tray(self, way: Sequence[Choice], screenshot: Path | None) -> None:
        before = known = tray_icon.popups(self._env)
        self.click_at(*_middle(tray_icon.icon_box(self._env)))
        for shown, chosen in way:
            ((_number, box),) = wait_until("a menu", partial(self._new_popups, known))
            known = tray_icon.popups(self._env)
            look = partial(tray_icon.row_place, self._env, box, shown, chosen)
            place = wait_until(f"{chosen.label!r} in the menu", look)
            if screenshot is not None:
                screen.save_png(screenshot, display=self._env["DISPLAY"])
                screenshot = None
            self.click_at(*_middle(place))
        wait_until("the menu's end", lambda: tray_icon.popups(self._env) <= before)

    def _new_popups(self, known: frozenset[tuple[int, Box]]) -> frozenset[tuple[int, Box]]:
        return tray_icon.popups(self._env) - known

    def _has_state(self, title: str, label: str, state: int) -> bool:
        with Accessibility(self._env) as seen:
            thing = seen.find(title, label)
            if thing is None:
                raise DesktopError(f"there is no {label!r} in {title!r}")
            return seen.has_state(thing, state)

    def _bring_into_view(self, seen: Accessibility, title: str, thing: Thing) -> Box:
        """Turn the wheel over the window until *thing* can be clicked; return where it is.

        What is out of sight has no place, so look downwards first, then upwards.
        """
        pane = self.box(title)
        inner = seen.viewport(thing)
        pane = pane if inner is None else pane.intersection(inner)
        for wheel in [WHEEL_DOWN] * MOST_TURNS + [WHEEL_UP] * 2 * MOST_TURNS:
            place = seen.extents(thing)
            if pane.y <= place.y and place.bottom <= pane.bottom:
                time.sleep(STILL_SECONDS)  # what still moves must not be clicked on
                if seen.extents(thing) == place:
                    return place.intersection(pane)
                continue
            x, y = _middle(pane)
            self._xdotool("mousemove", str(x), str(y), "click", wheel)
            time.sleep(TURN_SECONDS)
        raise DesktopError(f"it cannot be scrolled into view in {title!r}")

    def _xdotool(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["xdotool", *arguments],  # noqa: S607 - found on PATH, as all of the desktop
            env=self._env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if check and done.returncode != 0:
            raise DesktopError(f"xdotool {json.dumps(arguments)}: {done.stderr.strip()}")
        return done.stdout


def _middle(box: Box) -> tuple[int, int]:
    return box.x + box.width // 2, box.y + box.height // 2
