"""The session on Linux: logind, the screen savers and the X server, weighed by `combine`.

Where there is no logind, that itself is evidence, if it is proved: a machine that was not
started by systemd and has no login manager on its system bus has no second session to switch
to (docs/decisions/0030-whose-session.md).  A machine that should have one, and on which it does
not answer, is unknown; the one exception is an X server that hangs on no seat (Xvfb), at which
nobody can sit, lock or switch.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.session import Known, SessionHost, SessionSeen
from agent.session._display import DisplaySeen, look_at
from agent.session._logind import BOOTED, Logind, LogindSeen, LoginService
from agent.session._screensaver import SaverSeen, ScreenSavers

NO_MANAGER: Final = "no login manager on this machine"
SILENT: Final = "the login manager does not answer"
NO_SESSION: Final = "the login manager knows no session of ours"


class LinuxSession:
    """Puts together what the three sources say, and tells the host."""

    def __init__(
        self, host: SessionHost, environ: Mapping[str, str], booted: Path = BOOTED
    ) -> None:
        self._host = host
        self._environ = environ
        self._logind = LogindSeen()
        self._savers = SaverSeen()
        self._display = DisplaySeen()
        self._sources = (
            Logind(self._on_logind, host.hush, environ, booted),
            ScreenSavers(self._on_savers),
        )
        self._told: SessionSeen | None = None

    async def run(self) -> None:
        """Watch until cancelled; see `SessionWatch.run`."""
        self._display = look_at(self._environ)
        self._tell()
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(source.run())

    def _on_logind(self, seen: LogindSeen) -> None:
        self._logind = seen
        self._tell()

    def _on_savers(self, seen: SaverSeen) -> None:
        self._savers = seen
        self._tell()

    def _tell(self) -> None:
        seen = combine(self._logind, self._savers, self._display)
        if seen != self._told:
            self._told = seen
            self._host.on_session(seen)


def combine(logind: LogindSeen, savers: SaverSeen, display: DisplaySeen) -> SessionSeen:
    """Return what the three together prove.  Pure."""
    return SessionSeen(
        unlocked=_unlocked(logind, savers, display),
        awake=_by_manager(_opposite(logind.asleep), logind, display),
        in_front=_by_manager(logind.active, logind, display),
        local=_local(logind, display),
    )


def _unlocked(logind: LogindSeen, savers: SaverSeen, display: DisplaySeen) -> Known:
    told = _by_manager(_opposite(logind.locked), logind, display)
    if told.holds is False:
        return told
    if savers.active is not False:
        return Known(_opposite(savers.active), savers.by)
    return Known(told.holds, ", ".join(filter(None, (told.by, savers.by))))


def _by_manager(holds: bool | None, logind: LogindSeen, display: DisplaySeen) -> Known:  # noqa: FBT001 - unknown is the third value
    """Return *holds* if logind said it, else what its silence proves."""
    if holds is not None:
        return Known(holds, "logind")
    if logind.manager is LoginService.ABSENT:
        return Known(holds=True, by=NO_MANAGER)
    if display.virtual and not logind.knew_us:
        return Known(holds=True, by=f"{display.server} hangs on no seat")
    return Known(None, NO_SESSION if logind.manager is LoginService.THERE else SILENT)


def _local(logind: LogindSeen, display: DisplaySeen) -> Known:
    if display.remote:
        return Known(holds=False, by=display.remote)
    return _by_manager(_opposite(logind.remote), logind, display)


def _opposite(said: bool | None) -> bool | None:  # noqa: FBT001 - unknown is the third value
    return None if said is None else not said
