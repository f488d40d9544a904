"""The connection to an X server, for all sources of this platform.

python-xlib's errors become `SourceError` here and nowhere else.  Errors about windows that
went away while we asked are answers, not failures.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from Xlib import error
from Xlib.display import Display

from agent.capture.source import SourceError

SOCKETS: Final = "/tmp/.X11-unix"  # noqa: S108 - where X servers listen, by convention
GENERIC_EVENT: Final = 35  # the event code under which XInput2 events travel

GONE: Final = (error.BadWindow, error.BadDrawable, error.BadMatch, error.BadValue)
"""What the server answers about a window that no longer exists."""


def local_name(name: str | None) -> str:
    """Return how to call the display *name* (None: the session's own) by its local socket only.

    Left to themselves, the X libraries go on to try the network.

    Raises:
        SourceError: There is no such name, or the display is another machine's.

    """
    name = os.environ.get("DISPLAY", "") if name is None else name
    host, colon, number = name.removeprefix("unix/").rpartition(":")
    if not colon:
        raise SourceError("there is no display (DISPLAY is not set): start in an X11 session")
    if host not in {"", "unix"}:
        raise SourceError("the display is another machine's; recording works on this one only")
    return f"unix/:{number}"


def connect(name: str | None) -> Display:
    """Connect to the display *name* (None: the session's own).

    Raises:
        SourceError: Nothing answers there, or it does not let us in.

    """
    local = local_name(name)
    number = local.removeprefix("unix/")
    try:
        _knock(number)
        display = Display(local)
    except (error.DisplayError, OSError) as exc:
        raise SourceError(f"display {number} does not answer; is an X11 session running?") from exc
    # python-xlib keeps one table for all connections of a process: the next one to be made
    # would take our own event classes out of it.  Its randr puts names that are no errors in
    # the places of BadRequest and BadValue, which then cannot be read.
    display.display.event_classes = dict(display.display.event_classes)
    display.display.error_classes = display.display.error_classes | error.xerror_class
    # Nobody waits for the answer to what is sent without a reply; a window may be gone by then.
    display.set_error_handler(overhear)
    return display


@contextmanager
def watched() -> Iterator[None]:
    """Turn the loss of the connection, or a refusal, into a `SourceError`."""
    try:
        yield
    except (error.ConnectionClosedError, OSError) as exc:
        raise SourceError("the X server has gone; capture starts again with the session") from exc
    except error.XError as exc:
        kind = type(exc).__name__
        raise SourceError(f"the X server refused a request ({kind}); run `doctor`") from exc


def disconnect(display: Display) -> None:
    """Drop what has arrived and close the connection, whether or not the server is still there."""
    if display.display.event_queue is not None:  # None once the server has gone
        display.display.event_queue.clear()
    with suppress(error.ConnectionClosedError, OSError):
        display.close()


def _knock(number: str) -> None:
    """Find out whether anybody listens; python-xlib leaves a socket open when nobody does."""
    address = f"{SOCKETS}/X{number.removeprefix(':').partition('.')[0]}"
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(address if Path(address).exists() else f"\0{address}")


def overhear(*_ignored: Any) -> None:  # noqa: ANN401 - python-xlib's own types, none of which we use
    """Do nothing: python-xlib would print."""
