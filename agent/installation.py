"""Whether the agent's installation was replaced below it, as an upgrade does.

What an old agent imports late, and each child that it starts again, would be of the new
version.  So it begins anew: at a moment at which nothing is captured, and by the way of
every start, on which nothing is captured before consent, policy and icon are proved again.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

from agent.service import Service
from base.clock import NANOSECONDS, Now

_LOG: Final = logging.getLogger(__name__)

MARK: Final = Path(sys.prefix) / "pyvenv.cfg"  # comes with each installation, after its modules
LOOK_SECONDS: Final = 1.0
SETTLED_NANOSECONDS: Final = 30 * NANOSECONDS
"""For how long the new files have to be there; until then somebody may still unpack them."""


class Installation:
    """The installation that this process was started from."""

    def __init__(self, mark: Path = MARK) -> None:
        """Remember it; a *mark* that is not there is never replaced."""
        self._mark = mark
        self._began = self._newest = _identity(mark)
        self._newest_since = 0

    def was_replaced(self, now: Now) -> bool:
        """Whether another one lies in its place, and has for a while."""
        found = _identity(self._mark)
        if found != self._newest:
            self._newest, self._newest_since = found, now.boot
        settled = now.boot - self._newest_since >= SETTLED_NANOSECONDS
        return None not in (found, self._began) and found != self._began and settled


async def run_until_replaced(service: Service, installation: Installation) -> bool:
    """Run the agent; return whether it ended for another version to take over."""
    replaced = asyncio.create_task(stop_when_replaced(service, installation))
    try:
        await service.run()
    finally:
        replaced.cancel()
        await asyncio.wait({replaced})
    return not replaced.cancelled() and replaced.result() is None


async def stop_when_replaced(service: Service, installation: Installation) -> None:
    """Wait until the installation was replaced and nothing is captured, then stop *service*."""
    while not (  # noqa: ASYNC110 - a file has no event
        installation.was_replaced(service.clock.now()) and _is_quiet(service)
    ):
        await asyncio.sleep(LOOK_SECONDS)
    _LOG.info("another version was installed; it takes over now, as nothing is recorded")
    service.stop()


def begin_anew() -> None:
    """Replace this process by what its own command line starts now; the process id stays."""
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - no shell, our own words


def _is_quiet(service: Service) -> bool:
    """Whether nothing is captured, nobody is about to decide on it, and nothing would be lost."""
    pipeline = service.pipeline
    captures = pipeline.permits() or pipeline.being_shut() or service.restrictions
    return not (captures or pipeline.is_blocked or service.tray.window_open)


def _identity(mark: Path) -> tuple[int, int, int] | None:
    """Return what no other file that takes this one's place has in common with it."""
    try:
        found = mark.stat()
    except OSError:
        return None  # removed, or in the middle of an upgrade
    return found.st_dev, found.st_ino, found.st_ctime_ns
