"""The X server's clock: read at once, so that what comes later can be dated.

The server stamps the change of a property (ICCCM 2.1); a change of our own tells its time
between two looks at ours.  Without that, the first event that had to wait would set the clock.
"""

from collections.abc import Callable
from typing import Final

from Xlib import X, Xatom
from Xlib.display import Display

from agent.capture.stamp import ServerClock
from wire.ids import BootInstant

READINGS: Final = 5  # the machine may stop us during one


def server_clock(display: Display, clock: Callable[[], int]) -> ServerClock:
    """Return a clock that is set; *display* must not be asked for events of any kind yet."""
    server = ServerClock(BootInstant(clock()))
    window = display.screen().root.create_window(
        -1, -1, 1, 1, 0, X.CopyFromParent, X.InputOnly, event_mask=X.PropertyChangeMask
    )
    for _ in range(READINGS):
        window.change_property(Xatom.WM_NAME, Xatom.STRING, 8, b"", mode=X.PropModeAppend)
        event = display.next_event()
        while event.type != X.PropertyNotify:
            event = display.next_event()
        server.instant(int(event.time), BootInstant(clock()))
    window.destroy()
    display.sync()
    return server
