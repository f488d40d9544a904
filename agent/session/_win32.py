"""The session on Windows: the terminal services' word on our session, and its input desktop.

Locked, switched away and remote come from WTSQuerySessionInformation and GetSystemMetrics; the
secure desktop (locker, UAC prompt) is another desktop than "Default", which OpenInputDesktop
may not even open.  A machine on its way to sleep is asked for too late by polling, so `awake` is
proved only by the clocks: more than a second between two looks was a sleep, and it is over.

Source: Microsoft, Remote Desktop Services API (WTSINFOEX_LEVEL1_W, SessionFlags).
"""

import ctypes
from ctypes import wintypes
from typing import Any, Final, Protocol

from agent.session import Known, SessionHost, SessionSeen
from agent.session._polled import PolledSession

WTS_CURRENT_SERVER: Final = None
WTS_CURRENT_SESSION: Final = 0xFFFFFFFF
WTS_SESSION_INFO_EX: Final = 25
WTS_ACTIVE: Final = 0  # WTS_CONNECTSTATE_CLASS
LOCKED, UNLOCKED = 0, 1  # WTS_SESSIONSTATE_*: since Windows 8 (on 7 they are the other way round)
SM_REMOTESESSION: Final = 0x1000
DESKTOP_READOBJECTS: Final = 0x0001


class InfoLevel1(ctypes.Structure):
    """The head of WTSINFOEX_LEVEL1_W; names and times behind it are not read."""

    _fields_ = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("SessionId", ctypes.c_uint32),
        ("SessionState", ctypes.c_int32),
        ("SessionFlags", ctypes.c_int32),
    ]


class InfoEx(ctypes.Structure):
    """WTSINFOEXW; its union begins at a multiple of eight, for it holds 64-bit times."""

    _fields_ = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("Level", ctypes.c_uint32),
        ("_align", ctypes.c_uint32),
        ("Data", InfoLevel1),
    ]


class System(Protocol):
    """The three calls; tests answer them."""

    def session_info(self) -> tuple[int, int]:
        """Return state and flags of our session; raises OSError."""
        ...

    def is_remote(self) -> bool:
        """Whether the session is shown on another machine."""
        ...

    def has_input_desktop(self) -> bool:
        """Whether the desktop that gets input is one that we may open."""
        ...


class WindowsSession(PolledSession):
    """Asks Windows."""

    def __init__(self, host: SessionHost, system: System | None = None) -> None:
        asked = system or Dlls()
        super().__init__(host, lambda: seen(asked))


def seen(system: System) -> SessionSeen:
    """Return what Windows says now."""
    state, flags = system.session_info()
    by = "WTSQuerySessionInformation"
    locked = {LOCKED: True, UNLOCKED: False}.get(flags)
    unlocked = Known(None if locked is None else not locked, by)
    if unlocked.holds and not system.has_input_desktop():
        unlocked = Known(holds=False, by="the secure desktop has the input")
    return SessionSeen(
        unlocked=unlocked,
        awake=Known(holds=True, by="we run"),
        in_front=Known(state == WTS_ACTIVE, by),
        local=Known(not system.is_remote(), "SM_REMOTESESSION"),
    )


class Dlls:
    """The calls themselves."""

    def __init__(self) -> None:
        windll: Any = ctypes.windll  # type: ignore[attr-defined]  # Windows only
        self._wts, self._user = windll.wtsapi32, windll.user32

    def session_info(self) -> tuple[int, int]:
        """See `System`."""
        buffer, size = ctypes.c_void_p(), wintypes.DWORD()
        if not self._wts.WTSQuerySessionInformationW(
            WTS_CURRENT_SERVER,
            WTS_CURRENT_SESSION,
            WTS_SESSION_INFO_EX,
            ctypes.byref(buffer),
            ctypes.byref(size),
        ):
            raise OSError("WTSQuerySessionInformationW failed")
        try:
            found = ctypes.cast(buffer, ctypes.POINTER(InfoEx)).contents
            if found.Level != 1:
                raise OSError(f"WTSINFOEX of level {found.Level}")
            return int(found.Data.SessionState), int(found.Data.SessionFlags)
        finally:
            self._wts.WTSFreeMemory(buffer)

    def is_remote(self) -> bool:
        """See `System`."""
        return bool(self._user.GetSystemMetrics(SM_REMOTESESSION))

    def has_input_desktop(self) -> bool:
        """See `System`."""
        desktop = self._user.OpenInputDesktop(0, False, DESKTOP_READOBJECTS)  # noqa: FBT003 - BOOL fInherit
        if not desktop:
            return False
        self._user.CloseDesktop(desktop)
        return True
