"""The one door to Gtk and pystray; importing it fails with one clear line where there is no tray.

pystray picks its back end at import, and without gi falls back in silence to one that
cannot show a menu; so the AppIndicator one is named here, before pystray is imported.
Nothing else in the tray imports `gi` or `pystray`.
"""

import os
from typing import Any

from base.errors import SetupError

os.environ["PYSTRAY_BACKEND"] = "appindicator"
try:
    import gi

    gi.require_version("Gdk", "3.0")
    gi.require_version("GdkPixbuf", "2.0")
    gi.require_version("Gtk", "3.0")
    import pystray
    from gi.repository import Gdk, GdkPixbuf, GLib, Gtk, Pango
except (ImportError, ValueError) as exc:  # ValueError: gi, for a missing typelib
    why = str(exc).removeprefix("this platform is not supported: ")  # pystray's, and too general
    raise SetupError(
        f"no icon can be shown, so nothing will be recorded: {why}; needed are a display,"
        " python3-gi, gir1.2-gtk-3.0 and gir1.2-ayatanaappindicator3-0.1"
    ) from exc

__all__ = [
    "GLib",
    "Gdk",
    "GdkPixbuf",
    "Gtk",
    "Pango",
    "monotonic_ms",
    "pystray",
    "server_time",
    "window_number",
]


def server_time(window: "Gdk.Window") -> int:
    """Return the display server's time in milliseconds, the clock that stamps its events."""
    x11 = _x11()
    if x11 is not None and isinstance(window, x11.X11Window):
        return int(x11.x11_get_server_time(window))
    return monotonic_ms()


def window_number(window: "Gdk.Window") -> int | None:
    """Return the number by which an X server knows *window*; None where there is no X server."""
    x11 = _x11()
    return int(window.get_xid()) if x11 and isinstance(window, x11.X11Window) else None


def _x11() -> Any:  # noqa: ANN401 - a module of gi
    """Return the part of Gdk that knows X11; None where Gtk has none."""
    try:
        gi.require_version("GdkX11", "3.0")
        from gi.repository import GdkX11  # noqa: PLC0415 - absent where Gtk knows no X11
    except (ImportError, ValueError):
        return None
    return GdkX11


def monotonic_ms() -> int:
    """Return milliseconds of a clock that nobody sets; in practice Wayland stamps it on events."""
    return int(GLib.get_monotonic_time()) // 1000
