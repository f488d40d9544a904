"""The one door to Gtk and pystray; importing it fails with one clear line where there is no tray.

pystray picks its back end at import, and without gi falls back in silence to one that
cannot show a menu; so the AppIndicator one is named here, before pystray is imported.
Nothing else in the tray imports `gi` or `pystray`.
"""

import os

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

__all__ = ["GLib", "Gdk", "GdkPixbuf", "Gtk", "Pango", "monotonic_ms", "pystray", "server_time"]


def server_time(window: "Gdk.Window") -> int:
    """Return the display server's time in milliseconds, the clock that stamps its events."""
    try:
        gi.require_version("GdkX11", "3.0")
        from gi.repository import GdkX11  # noqa: PLC0415 - absent where Gtk knows no X11
    except (ImportError, ValueError):
        return monotonic_ms()
    if isinstance(window, GdkX11.X11Window):
        return int(GdkX11.x11_get_server_time(window))
    return monotonic_ms()


def monotonic_ms() -> int:
    """Return milliseconds of a clock that nobody sets; in practice Wayland stamps it on events."""
    return int(GLib.get_monotonic_time()) // 1000
