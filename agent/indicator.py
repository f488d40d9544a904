"""Is the tray's icon really shown?  Asked of the desktop, never of the tray.

An icon is shown when a StatusNotifierWatcher is there, a host (a panel) is registered with
it, and an item of the tray's own process is registered and not passive
(freedesktop.org StatusNotifierItem).  Each change is a signal, so a panel that dies is
noticed within milliseconds.  Whatever cannot be asked counts as not shown.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

from agent.dbus import connected, either, end_of, owner_changed

_LOG: Final = logging.getLogger(__name__)

WATCHER: Final = "org.kde.StatusNotifierWatcher"
ITEM: Final = "org.kde.StatusNotifierItem"
_BUS: Final = "org.freedesktop.DBus"
_MATCHES: Final = (
    f"type='signal',sender='{_BUS}',member='NameOwnerChanged'",
    f"type='signal',interface='{WATCHER}'",
    f"type='signal',interface='{ITEM}',member='NewStatus'",
)
_CONNECTED_SECONDS: Final = 1.0  # a bus that takes longer is none
_ANSWER_SECONDS: Final = 1.0  # a panel that hangs shows nothing that can be relied on
_RETRY_SECONDS: Final = 2.0  # before a bus that is not there, or a panel that hangs, is tried again

NO_BUS: Final = "there is no D-Bus session bus; start the agent inside a desktop session"
NO_WATCHER: Final = "no panel of this desktop shows tray icons; add a status or tray plugin to it"
NO_HOST: Final = "the desktop's tray has no panel that shows it; add a status or tray plugin"
NO_ITEM: Final = "the icon is not in the tray yet; it comes within a second, or the tray restarts"
PASSIVE: Final = "the tray hides the icon; show it in the panel's settings"
NO_ANSWER: Final = "the desktop's tray does not answer; restart the panel"


class IndicatorWatch:
    """Tells whenever the icon of one process is shown or no more."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """*say* gets "" when the icon is shown, else in one line why it is not."""
        self._say = say

    async def run(self, tray_pid: int) -> None:
        """Watch until cancelled; the desktop may come and go meanwhile."""
        try:
            while True:
                try:
                    await self._session(tray_pid)
                except (OSError, EOFError, DBusError, ValueError, TypeError, AttributeError) as exc:
                    # The last two: a watcher that answers with something else than it should.
                    _LOG.debug("the session bus ended: %s", type(exc).__name__)
                self._say(NO_BUS)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._say(NO_ITEM)

    async def _session(self, tray_pid: int) -> None:
        async with connected(MessageBus(bus_type=BusType.SESSION)) as bus:
            changed = asyncio.Event()
            bus.add_message_handler(lambda message: self._on_signal(message, changed))
            for rule in _MATCHES:
                await _ask_bus(bus, "AddMatch", rule)
            # One wait for the whole session: dbus-fast's own future dies with who awaits it.
            end = asyncio.ensure_future(end_of(bus))
            while not end.done():
                changed.clear()  # before asking: what changes meanwhile is asked again
                hidden = await why_hidden(bus, tray_pid)
                self._say(hidden)
                # A panel that was only slow sends no signal when it answers again.
                again = _RETRY_SECONDS if hidden == NO_ANSWER else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(again):
                        await either(changed.wait(), end)

    def _on_signal(self, message: Message, changed: asyncio.Event) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if (change := owner_changed(message)) is not None:
            name, owner = change
            if name == WATCHER and not owner:
                self._say(NO_WATCHER)  # at once: asking would only cost time
            if name != WATCHER and owner:
                return  # somebody came; only who goes can take the icon along
        changed.set()  # whoever says so: the panel itself is asked


async def why_hidden(bus: MessageBus, tray_pid: int) -> str:
    """Return "" if an icon of *tray_pid* is shown, else in one line why not."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await _why_hidden(bus, tray_pid)
    except TimeoutError:
        return NO_ANSWER


async def why_no_tray() -> str:
    """Return "" if this desktop could show an icon, else in one line why not (for `doctor`)."""
    why = NO_BUS
    with contextlib.suppress(OSError, EOFError, DBusError, ValueError, TimeoutError):
        async with (
            asyncio.timeout(_CONNECTED_SECONDS) as patience,
            connected(MessageBus(bus_type=BusType.SESSION)) as bus,
        ):
            patience.reschedule(None)  # from here on `why_hidden` has its own
            why = await why_hidden(bus, 0)
    return "" if why == NO_ITEM else why


async def _why_hidden(bus: MessageBus, tray_pid: int) -> str:
    owned = await _ask_bus(bus, "NameHasOwner", WATCHER)
    if not owned:
        return NO_WATCHER
    if not await _get(bus, WATCHER, "/StatusNotifierWatcher", "IsStatusNotifierHostRegistered"):
        return NO_HOST
    items = await _get(bus, WATCHER, "/StatusNotifierWatcher", "RegisteredStatusNotifierItems")
    for item in items or ():
        name, slash, path = item.partition("/")
        if await _ask_bus(bus, "GetConnectionUnixProcessID", name) != tray_pid:
            continue
        status = await _get(bus, name, slash + path or "/StatusNotifierItem", "Status")
        return "" if status in ("Active", "NeedsAttention") else PASSIVE
    return NO_ITEM


async def _ask_bus(bus: MessageBus, member: str, argument: str) -> object:
    """Return what the bus itself answers, None for an error."""
    message = Message(
        destination=_BUS,
        path="/org/freedesktop/DBus",
        interface=_BUS,
        member=member,
        signature="s",
        body=[argument],
    )
    return _first_of(await bus.call(message))


async def _get(bus: MessageBus, name: str, path: str, prop: str) -> Any:  # noqa: ANN401 - a D-Bus variant
    """Return a property, None for an error."""
    message = Message(
        destination=name,
        path=path,
        interface=f"{_BUS}.Properties",
        member="Get",
        signature="ss",
        body=[WATCHER if name == WATCHER else ITEM, prop],
    )
    variant = _first_of(await bus.call(message))
    return getattr(variant, "value", None)


def _first_of(answer: Message | None) -> object:
    if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
        return None
    return answer.body[0] if answer.body else None
