"""The connection to an X server, for all sources of this platform.

python-xlib's errors become `SourceError` here and nowhere else.  Errors about windows that
went away while we asked are answers, not failures.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from Xlib import error
from Xlib.display import Display

from agent.capture.source import SourceError

GENERIC_EVENT: Final = 35  # the event code under which XInput2 events travel

GONE: Final = (error.BadWindow, error.BadDrawable, error.BadMatch, error.BadValue)
"""What the server answers about a window that no longer exists."""


def connect(name: str | None) -> Display:
    """Connect to the display *name* (None: the session's own).

    Raises:
        SourceError: Nothing answers there, or it does not let us in.

    """
    try:
        display = Display(name)
    except (error.DisplayError, OSError) as exc:
        where = "the display of this session" if name is None else f"display {name}"
        raise SourceError(f"{where} cannot be reached; is an X11 session running?") from exc
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
