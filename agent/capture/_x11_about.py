"""What one window is: whose, called what, where.

Whose it is: the process that made it, and the class that it gave itself.
The server itself says which process made a window (X-Resource 1.2, from the credentials of
its connection).  Only where it cannot, `_NET_WM_PID` is believed, which any client may set
to what it likes.  The process is named by its executable, which the kernel knows;
unreadable means unknown.
"""

import re
from pathlib import Path
from typing import Any, Final

from Xlib import X, Xatom
from Xlib.display import Display
from Xlib.ext import res

from agent.capture import _x11
from agent.capture.window import Window
from agent.geometry import Box
from wire.policy import Application

TITLE_WORDS: Final = 256  # of 4 bytes; longer titles are cut
FRAME_DEPTH: Final = 3  # the frame itself, and a client at most two windows deep in it


def describe(display: Display, window: Any, *, titles: bool) -> Window | None:  # noqa: ANN401
    """Return what is known of *window*; None if it is gone or hidden."""
    try:
        if window.get_attributes().map_state == X.IsUnmapped:
            return None
        return Window(
            application=owner_of(display, window),
            title=_title(display, window) if titles else "",
            box=_content(display, window),
        )
    except _x11.GONE:
        return None


def bounds_of(display: Display, window: Any) -> Box:  # noqa: ANN401
    """Return where *window* is on the desktop, without its border."""
    shape = window.get_geometry()
    corner = display.screen().root.translate_coords(window, 0, 0)
    return Box(int(corner.x), int(corner.y), int(shape.width), int(shape.height))


def owner_of(display: Display, window: Any) -> Application | None:  # noqa: ANN401
    """Return the application that made *window*; None if that cannot be known.

    Not to be remembered for long: the number of a closed window may soon be another's.
    """
    named = window.get_wm_class()
    process = executable(_process_id(display, window))
    if named is None or not process:
        return None
    return Application(process=process, window_class=named[1])


def client_in(display: Display, top: int) -> Any:  # noqa: ANN401 - python-xlib's Window
    """Return the client that a window manager's frame *top* holds, or *top* if it is none.

    A client has the property WM_STATE (ICCCM 4.1.3.1); menus and the like, which no window
    manager frames, have not.
    """
    marker = display.get_atom("WM_STATE")
    itself = display.create_resource_object("window", top)
    level = [itself]
    for _ in range(FRAME_DEPTH):
        for each in level:
            if each.get_property(marker, X.AnyPropertyType, 0, 1) is not None:
                return each
        level = [child for each in level for child in each.query_tree().children]
    return itself


def executable(process_id: int) -> str:
    """Return the file name of the program that a process runs; empty if it may not be known."""
    if process_id <= 0:
        return ""
    try:
        target = Path(f"/proc/{process_id}/exe").readlink()
    except OSError:
        return ""
    # What was replaced by an update while it ran is still the same program.
    return re.sub(r" \(deleted\)$", "", target.name)


def _process_id(display: Display, window: Any) -> int:  # noqa: ANN401 - python-xlib's Window
    if display.has_extension(res.extname):
        asked = [{"client": window.id, "mask": res.LocalClientPIDMask}]
        for answer in display.res_query_client_ids(asked).ids:
            if answer.spec.mask == res.LocalClientPIDMask and len(answer.value):
                return int(answer.value[0])
        return 0  # not a process of this machine
    found = window.get_full_property(display.get_atom("_NET_WM_PID"), Xatom.CARDINAL)
    return int(found.value[0]) if found is not None and len(found.value) else 0


def _title(display: Display, window: Any) -> str:  # noqa: ANN401
    for atom in (display.get_atom("_NET_WM_NAME"), Xatom.WM_NAME):
        found = window.get_property(atom, X.AnyPropertyType, 0, TITLE_WORDS)
        if found is not None and isinstance(found.value, bytes):
            encoding = "latin-1" if found.property_type == Xatom.STRING else "utf-8"
            return found.value.decode(encoding, "replace")
    return ""


def _content(display: Display, window: Any) -> Box:  # noqa: ANN401
    """Return where the content of *window* is, without the shadow that GTK draws around it."""
    box = bounds_of(display, window)
    found = window.get_full_property(display.get_atom("_GTK_FRAME_EXTENTS"), Xatom.CARDINAL)
    margins = [int(value) for value in found.value] if found is not None else []
    left, right, top, bottom = margins if len(margins) == 4 else (0, 0, 0, 0)
    return Box(box.x + left, box.y + top, box.width - left - right, box.height - top - bottom)
