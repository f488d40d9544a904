"""Which platform's watch this is; the only module of this package that asks."""

import os
import sys

from agent.session import SessionHost, SessionSeen, SessionWatch


def watch(host: SessionHost) -> SessionWatch:
    """Return this platform's watch."""
    # Imported where it is used: each binds to libraries that only its own platform has.
    if sys.platform == "win32":
        from agent.session._win32 import WindowsSession  # noqa: PLC0415

        return WindowsSession(host)
    if sys.platform == "darwin":
        from agent.session._darwin import MacSession  # noqa: PLC0415

        return MacSession(host)
    from agent.session._linux import LinuxSession  # noqa: PLC0415

    return LinuxSession(host, os.environ)


async def look_once() -> SessionSeen:
    """Return what this platform's watch says first that is more than "nobody has said yet"."""
    from agent.session._look import first_word  # noqa: PLC0415 - a part of `doctor` only

    return await first_word(watch)
