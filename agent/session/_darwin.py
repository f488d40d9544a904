"""The session on macOS: what the window server says of it (CGSessionCopyCurrentDictionary).

`kCGSSessionOnConsoleKey` is true while the session has screen and keyboard,
`CGSSessionScreenIsLocked` is there, and true, while it is locked.  Without a dictionary there is
no session on a screen (ssh, a daemon): unknown.  A session on the console can be shown elsewhere
too (screen sharing); macOS tells of that nowhere, so `local` rests on how we were started.

Source: Apple, Quartz Display Services (CGSession.h).
"""

import ctypes
import os
from collections.abc import Mapping
from typing import Any, Final, Protocol

from agent.session import Known, SessionHost, SessionSeen
from agent.session._polled import PolledSession

GRAPHICS: Final = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
FOUNDATION: Final = "/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation"
ON_CONSOLE: Final = b"kCGSSessionOnConsoleKey"
IS_LOCKED: Final = b"CGSSessionScreenIsLocked"
UTF8: Final = 0x08000100  # kCFStringEncodingUTF8
BY: Final = "CGSessionCopyCurrentDictionary"
SSH: Final = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")


class System(Protocol):
    """The one call; tests answer it."""

    def session(self) -> Mapping[bytes, bool] | None:
        """Return which of the two keys are there and what they say, None for no session."""
        ...


class MacSession(PolledSession):
    """Asks the window server."""

    def __init__(
        self,
        host: SessionHost,
        system: System | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        asked = system or Frameworks()
        super().__init__(host, lambda: seen(asked, environ))


def seen(system: System, environ: Mapping[str, str]) -> SessionSeen:
    """Return what macOS says now."""
    session = system.session()
    if session is None:
        return SessionSeen()
    remote = next((name for name in SSH if environ.get(name)), "")
    return SessionSeen(
        unlocked=Known(not session.get(IS_LOCKED, False), BY),
        awake=Known(holds=True, by="we run"),
        in_front=Known(session.get(ON_CONSOLE), BY),
        local=Known(not remote, f"{remote} is set" if remote else "not started through ssh"),
    )


class Frameworks:
    """The call itself."""

    def __init__(self) -> None:
        self._graphics: Any = ctypes.CDLL(GRAPHICS)
        self._foundation: Any = ctypes.CDLL(FOUNDATION)
        pointer = ctypes.c_void_p
        self._graphics.CGSessionCopyCurrentDictionary.restype = pointer
        self._foundation.CFStringCreateWithCString.restype = pointer
        self._foundation.CFStringCreateWithCString.argtypes = (
            pointer, ctypes.c_char_p, ctypes.c_uint32,
        )  # fmt: skip
        self._foundation.CFDictionaryGetValue.restype = pointer
        self._foundation.CFDictionaryGetValue.argtypes = (pointer, pointer)
        self._foundation.CFBooleanGetValue.restype = ctypes.c_ubyte
        self._foundation.CFBooleanGetValue.argtypes = (pointer,)
        self._foundation.CFRelease.argtypes = (pointer,)

    def session(self) -> Mapping[bytes, bool] | None:
        """See `System`."""
        found = self._graphics.CGSessionCopyCurrentDictionary()
        if not found:
            return None
        try:
            said = {name: self._value(found, name) for name in (ON_CONSOLE, IS_LOCKED)}
        finally:
            self._foundation.CFRelease(found)
        return {name: value for name, value in said.items() if value is not None}

    def _value(self, found: object, name: bytes) -> bool | None:
        key = self._foundation.CFStringCreateWithCString(None, name, UTF8)
        try:
            value = self._foundation.CFDictionaryGetValue(found, key)
            return bool(self._foundation.CFBooleanGetValue(value)) if value else None
        finally:
            self._foundation.CFRelease(key)
