"""The tray's icon and its menu, as somebody at the screen finds them.

Which rows the menu has comes over D-Bus (StatusNotifierItem and com.canonical.dbusmenu);
where they are is read off the screen, because the panel draws the menu and tells nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from Xlib import X, error
from Xlib.display import Display

from agent.capture.screen import Grabber, Pixels
from agent.geometry import Box
from demo.bus import Bus, BusError
from demo.desktop import WATCHER, WATCHER_PATH, DesktopError

ITEM: Final = "org.kde.StatusNotifierItem"
MENU: Final = "com.canonical.dbusmenu"
PLUGIN_CLASS: Final = "Wrapper-2.0"  # xfce4-panel runs its tray in such a process
SMALLEST_MENU: Final = 40  # pixels; tooltips and drag handles are smaller
BORDER: Final = 3  # pixels around a menu that belong to no row
LINE_PIXELS: Final = 5  # a line of text is at least as high, a separator is not
GAP_PIXELS: Final = 3  # between two lines of text there is at least this much


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One visible row of the menu."""

    label: str
    enabled: bool
    checked: bool
    separator: bool
    rows: tuple["Row", ...]


def menu_rows(env: Mapping[str, str]) -> tuple[Row, ...]:
    """Return what the menu of the one icon shows now.

    Raises:
        DesktopError: There is no icon, or more than one.
        BusError: Its program does not answer.

    """
    with Bus(env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
        program, path = _item(bus)
        menu = bus.get(program, path, ITEM, "Menu")
        bus.call(program, menu, "AboutToShow", interface=MENU, signature="i", body=[0])
        everything = [0, -1, []]
        _revision, (_number, _properties, children) = bus.call(
            program, menu, "GetLayout", interface=MENU, signature="iias", body=everything
        )
    return _rows(children)


def title(env: Mapping[str, str]) -> str:
    """Return the title of the one icon, which the panel shows as its tooltip."""
    with Bus(env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
        return str(bus.get(*_item(bus), ITEM, "Title"))


def icon_box(env: Mapping[str, str]) -> Box:
    """Return where the one icon is on the panel.

    Raises:
        DesktopError: The panel shows none, or more than one.

    """
    with Bus(env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
        _item(bus)
    display = Display(env["DISPLAY"])
    try:
        boxes = list(_plugin_windows(display, display.screen().root))
    finally:
        display.close()
    if len(boxes) != 1:
        raise DesktopError(f"the panel has {len(boxes)} trays")
    return boxes[0]


def popups(env: Mapping[str, str]) -> frozenset[tuple[int, Box]]:
    """Return number and place of the menus that are open."""
    display = Display(env["DISPLAY"])
    try:
        found = set()
        for window in display.screen().root.query_tree().children:
            try:
                attributes = window.get_attributes()
                shape = window.get_geometry()
            except (error.BadWindow, error.BadDrawable):
                continue
            shown = attributes.map_state == X.IsViewable and attributes.win_class == X.InputOutput
            large = min(shape.width, shape.height) >= SMALLEST_MENU
            if attributes.override_redirect and shown and large:
                box = Box(int(shape.x), int(shape.y), int(shape.width), int(shape.height))
                found.add((int(window.id), box))
        return frozenset(found)
    finally:
        display.close()


def row_place(env: Mapping[str, str], menu: Box, rows: Sequence[Row], row: Row) -> Box | None:
    """Return where *row* is in the open menu at *menu*; None while it is being drawn."""
    grabber = Grabber(display=env["DISPLAY"])
    grabber.open()
    try:
        lines = text_lines(grabber.grab(menu.intersection(grabber.desktop())))
    finally:
        grabber.close()
    readable = [each for each in rows if not each.separator]
    if len(lines) != len(readable):
        return None
    top, bottom = lines[readable.index(row)]
    return Box(menu.x, menu.y + top, menu.width, bottom - top)


def text_lines(picture: Pixels) -> list[tuple[int, int]]:
    """Return first and last row of pixels of each line of text in a picture of a menu."""
    inner = picture[BORDER:-BORDER, BORDER:-BORDER, :3].astype(np.int16)
    colours, counts = np.unique(inner.reshape(-1, 3), axis=0, return_counts=True)
    background = colours[counts.argmax()]
    inked = np.flatnonzero((np.abs(inner - background).max(axis=2) > 24).any(axis=1))
    if not len(inked):
        return []
    breaks = np.flatnonzero(np.diff(inked) > GAP_PIXELS)
    tops = inked[np.concatenate(([0], breaks + 1))] + BORDER
    bottoms = inked[np.concatenate((breaks, [len(inked) - 1]))] + BORDER + 1
    return [
        (int(top), int(bottom))
        for top, bottom in zip(tops, bottoms, strict=True)
        if bottom - top >= LINE_PIXELS
    ]


def _item(bus: Bus) -> tuple[str, str]:
    try:
        items = bus.get(WATCHER, WATCHER_PATH, WATCHER, "RegisteredStatusNotifierItems")
    except BusError as exc:
        raise DesktopError("nobody hosts icons on this desktop") from exc
    if len(items) != 1:
        raise DesktopError(f"the tray has {len(items)} icons, not one")
    program, slash, path = items[0].partition("/")
    return program, slash + path if slash else "/StatusNotifierItem"


def _rows(children: Sequence[Any]) -> tuple[Row, ...]:
    rows = []
    for child in children:
        _number, wrapped, below = child.value
        properties = {name: each.value for name, each in wrapped.items()}
        if not properties.get("visible", True):
            continue
        row = Row(
            label=_plain(properties.get("label", "")),
            enabled=properties.get("enabled", True),
            checked=properties.get("toggle-state", 0) == 1,
            separator=properties.get("type") == "separator",
            rows=_rows(below),
        )
        rows.append(row)
    return tuple(rows)


def _plain(label: str) -> str:
    """Return a label without its marks for keyboard access: `_Quit`, `a__b`."""
    return "_".join(part.replace("_", "") for part in label.split("__"))


def _plugin_windows(display: Display, window: Any) -> "list[Box]":  # noqa: ANN401 - python-xlib's
    found = []
    for child in window.query_tree().children:
        try:
            named = child.get_wm_class()
            if named is not None and named[1] == PLUGIN_CLASS:
                shape = child.get_geometry()
                corner = display.screen().root.translate_coords(child, 0, 0)
                attributes = child.get_attributes()
                viewable = attributes.map_state == X.IsViewable
                floats = attributes.override_redirect  # a menu, or the tooltip under the pointer
                if viewable and not floats and shape.width >= BORDER:
                    found.append(
                        Box(int(corner.x), int(corner.y), int(shape.width), int(shape.height))
                    )
            else:
                found += _plugin_windows(display, child)
        except (error.BadWindow, error.BadDrawable):
            continue
    return found
