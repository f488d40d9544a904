"""Screen savers and lockers on the session bus: is one of them active?

Each desktop has its own name for the same interface.  A name that nobody owns cannot lock; one
that is owned and does not know the question (GNOME's stand-in for org.freedesktop.ScreenSaver)
is no locker; one that does not answer may have locked: unknown.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from agent.dbus import (
    BUS,
    ENDS,
    NoAnswerError,
    ask_bus,
    call,
    connected,
    either,
    end_of,
    owner_changed,
)

_LOG: Final = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2.0
LOCKERS: Final = {
    f"org.{desktop}.ScreenSaver": (f"/org/{desktop}/ScreenSaver", "/ScreenSaver", "/")
    for desktop in ("freedesktop", "gnome", "xfce", "mate", "cinnamon")
}
_ERROR: Final = f"{BUS}.Error."
_NO_SUCH: Final = frozenset(
    _ERROR + kind for kind in ("UnknownMethod", "UnknownObject", "UnknownInterface", "NotSupported")
)
_GONE: Final = frozenset(_ERROR + kind for kind in ("ServiceUnknown", "NameHasNoOwner"))
_MATCHES: Final = (
    f"type='signal',sender='{BUS}',member='NameOwnerChanged'",
    *(f"type='signal',interface='{name}',member='ActiveChanged'" for name in LOCKERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaverSeen:
    """Whether a screen saver is active; None: nobody can say.  `by`: who says so."""

    active: bool | None = None
    by: str = "the session bus does not answer"


class ScreenSavers:
    """Follows all of them."""

    def __init__(self, say: Callable[[SaverSeen], None]) -> None:
        """*say* gets what is known whenever it changes."""
        self._say = say
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow them until cancelled; bus and savers may come and go meanwhile."""
        while True:
            try:
                await self._connected()
            except ENDS as exc:
                _LOG.debug("the session bus ended: %s", type(exc).__name__)
            self._say(SaverSeen())
            await asyncio.sleep(RETRY_SECONDS)

    async def _connected(self) -> None:
        async with connected(MessageBus(bus_type=BusType.SESSION)) as bus:
            bus.add_message_handler(self._on_signal)
            for rule in _MATCHES:
                await ask_bus(bus, "AddMatch", rule)
            end = asyncio.ensure_future(end_of(bus))
            while not end.done():
                self._changed.clear()
                seen = await ask(bus)
                if not self._changed.is_set():  # else it may be older than what was told
                    self._say(seen)
                    await either(self._changed.wait(), end)

    def _on_signal(self, message: Message) -> None:
        change = owner_changed(message)
        if change is not None and change[0] in LOCKERS:
            self._changed.set()
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "ActiveChanged" and message.interface in LOCKERS:
            # At once if it locks; that it no longer does, only asking tells.  Whoever sent it:
            # a lie shuts until the saver itself has answered, and opens nothing.
            active = True if message.body[:1] != [False] else None
            self._say(SaverSeen(active=active, by=message.interface))
            self._changed.set()


async def ask(bus: MessageBus) -> SaverSeen:
    """Ask every saver that there is."""
    answered = []
    for name in LOCKERS:
        if not await ask_bus(bus, "NameHasOwner", name):
            continue
        active = await _is_active(bus, name)
        if isinstance(active, _NoLocker):
            continue
        if active is not False:
            return SaverSeen(active=active, by=name)
        answered.append(name)
    return SaverSeen(active=False, by=", ".join(answered))


class _NoLocker:
    """The answer of a name that is owned by something that locks nothing."""


_NO_LOCKER: Final = _NoLocker()


async def _is_active(bus: MessageBus, name: str) -> bool | _NoLocker | None:
    for path in LOCKERS[name]:
        try:
            answer = await call(bus, name, path, "GetActive", interface=name)
        except NoAnswerError as exc:
            if exc.type in _NO_SUCH:
                continue
            return _NO_LOCKER if exc.type in _GONE else None
        return answer.body[0] if answer.body[:1] in ([True], [False]) else None
    return _NO_LOCKER
