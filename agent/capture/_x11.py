"""The connection to an X server, for all sources of this platform.

python-xlib's errors become `SourceError` here and nowhere else.  Errors about windows that
went away while we asked are answers, not failures.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from Xlib import error
from Xlib.display import Display

from agent.capture.source import SourceError

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
    try:
        display = Display(local)
    except (error.DisplayError, OSError) as exc:
        number = local.removeprefix("unix/")
        raise SourceError(f"display {number} does not answer; is an X11 session running?") from exc
    # Nobody waits for the answer to what is sent without a reply; a window may be gone by then.
    display.set_error_handler(_overhear)
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
    """Close the connection, whether or not the server is still there."""
    with suppress(error.ConnectionClosedError, OSError):
        display.close()


def _overhear(*_ignored: Any) -> None:  # noqa: ANN401 - python-xlib's own types, none of which we use
    """Do nothing: python-xlib would print."""
