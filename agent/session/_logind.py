"""logind: lock, sleep, user switch and remote use, as the login manager tells of them.

A signal that restricts counts at once; then, and after any other, everything is asked again,
so that nothing is permitted by a signal alone.  An answer during which another signal came is
thrown away: it may be older.  A signal counts if logind itself sent it.  A delay lock holds
sleep up until the host is silent.

Source: org.freedesktop.login1(5).
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus

from agent.dbus import (
    BUS,
    ENDS,
    NO_OWNER,
    PROPERTIES,
    NoAnswerError,
    ask_bus,
    call,
    connected,
    either,
    end_of,
    owner_changed,
    owner_of,
    properties,
)

_LOG: Final = logging.getLogger(__name__)

NAME: Final = "org.freedesktop.login1"
PATH: Final = "/org/freedesktop/login1"
MANAGER: Final = "org.freedesktop.login1.Manager"
SESSION: Final = "org.freedesktop.login1.Session"
USER: Final = "org.freedesktop.login1.User"
BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3): there if systemd is the init
RETRY_SECONDS: Final = 2.0
_NOT_THERE: Final = frozenset({f"{BUS}.Error.ServiceUnknown", NO_OWNER})
_MATCHES: Final = (
    f"type='signal',sender='{NAME}'",
    f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{NAME}'",
)
_BODIES: Final = {"PrepareForSleep": "b", "PropertiesChanged": "sa{sv}as"}


class LoginService(Enum):
    """Whether there is a login manager at all."""

    UNKNOWN = auto()  # it should be there, and does not answer
    ABSENT = auto()  # this machine has none: nobody logs in beside us, or switches
    THERE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogindSeen:
    """What logind says; None where it says nothing."""

    manager: LoginService = LoginService.UNKNOWN
    asleep: bool | None = None
    # Of our session:
    locked: bool | None = None
    active: bool | None = None
    remote: bool | None = None
    knew_us: bool = False  # it once named a session of ours


class Logind:
    """Follows logind on the system bus."""

    def __init__(
        self,
        say: Callable[[LogindSeen], None],
        hush: Callable[[], Awaitable[None]],
        environ: Mapping[str, str],
        booted: Path = BOOTED,
    ) -> None:
        """*say* gets what is known whenever it changes; *hush* returns when all is silent."""
        self._say = say
        self._hush = hush
        self._environ = environ
        self._booted = booted
        self._answer = LogindSeen()
        self._lock_asked = False  # by the Lock signal, which not every locker confirms
        self._sleeping = False
        self._met = False  # it was there once
        self._knew_us = False
        self._ours = ""  # the path of our session
        self._owner: str | None = None  # the connection that is logind; None: not asked yet
        self._delay: int | None = None  # the descriptor that holds sleep up
        self._falling_asleep: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follow it until cancelled; it may come and go meanwhile."""
        try:
            while True:
                try:
                    await self._connected()
                except ENDS as exc:
                    _LOG.debug("the system bus ended: %s", type(exc).__name__)
                    self._take(LogindSeen(manager=self._without(exc)))
                else:
                    self._take(LogindSeen())
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._let_sleep()

    def _without(self, why: BaseException) -> LoginService:
        """Return what it means that there is no system bus to be asked."""
        # A machine that never had a bus has no socket of one; a socket where nobody answers
        # is a bus that has ended, and whoever was on it may be there still.
        return self._absent() if isinstance(why, FileNotFoundError) else LoginService.UNKNOWN

    def _absent(self) -> LoginService:
        """Return what it means that no login manager is found: one that was there is gone."""
        return LoginService.UNKNOWN if self._met or self._booted.exists() else LoginService.ABSENT

    async def _connected(self) -> None:
        async with connected(MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True)) as bus:
            self._sleeping = False  # whether it is on its way to sleep is asked first of all
            try:
                await self._listen(bus)
            finally:
                self._let_sleep()

    async def _listen(self, bus: MessageBus) -> None:
        """Ask again at each change, until the bus ends."""
        bus.add_message_handler(self._on_signal)
        for rule in _MATCHES:
            await ask_bus(bus, "AddMatch", rule)
        await self._meet(bus)
        end = asyncio.ensure_future(end_of(bus))
        while not end.done():
            self._changed.clear()
            answer = await self._ask(bus)
            if self._changed.is_set():
                continue
            self._take(answer)
            if answer.manager is LoginService.THERE and not self._sleeping:
                await self._hold_sleep_up(bus)
            await either(self._changed.wait(), end)

    async def _meet(self, bus: MessageBus) -> None:
        """Ask who is logind; what it signalled before is asked of it anyway."""
        self._owner = None
        owner = await owner_of(bus, NAME)
        if self._owner is None:  # else the bus told of another one meanwhile
            self._owner = owner

    # --- asking -----------------------------------------------------------------------

    async def _ask(self, bus: MessageBus) -> LogindSeen:
        try:
            manager = await properties(bus, NAME, PATH, MANAGER)
        except NoAnswerError as exc:
            there = exc.type not in _NOT_THERE
            return LogindSeen(manager=LoginService.UNKNOWN if there else self._absent())
        self._met = True
        asleep = _truth(manager.get("PreparingForSleep"))
        session: dict[str, Any] = {}
        with contextlib.suppress(NoAnswerError):
            self._ours = await self._our_session(bus)
            session = await properties(bus, NAME, self._ours, SESSION)
        if session.get("User", [None])[0] != os.getuid():
            session = {}  # somebody else's says nothing of ours
        self._knew_us |= bool(session)
        return LogindSeen(
            manager=LoginService.THERE,
            asleep=asleep,
            locked=_truth(session.get("LockedHint")),
            active=_truth(session.get("Active")),
            remote=_truth(session.get("Remote")),
        )

    async def _our_session(self, bus: MessageBus) -> str:
        """Return the path of the session that this process belongs to, or works in.

        The kernel's word first (our control group), then what the login left in the
        environment, then the session in which logind says that this user has a screen:
        services of the user, as which we may have been started, belong to none.
        """
        with contextlib.suppress(NoAnswerError):
            return await self._path(bus, "GetSessionByPID", "u", os.getpid())
        if named := self._environ.get("XDG_SESSION_ID"):
            with contextlib.suppress(NoAnswerError):
                return await self._path(bus, "GetSession", "s", named)
        user = await self._path(bus, "GetUser", "u", os.getuid())
        shown = (await properties(bus, NAME, user, USER)).get("Display", ["", "/"])
        return str(shown[1])

    async def _path(self, bus: MessageBus, member: str, signature: str, argument: object) -> str:
        answer = await call(
            bus, NAME, PATH, member, interface=MANAGER, signature=signature, body=[argument]
        )
        return str(answer.body[0])

    # --- being told -------------------------------------------------------------------

    def _on_signal(self, message: Message) -> None:
        change = owner_changed(message)
        if change is not None and change[0] == NAME:
            self._owner = change[1]
            self._answer = LogindSeen()
        elif not (self._is_from_logind(message) and self._on_word(message)):
            return
        self._changed.set()
        self._tell()

    def _is_from_logind(self, message: Message) -> bool:
        if message.message_type is not MessageType.SIGNAL or not self._owner:
            return False
        return message.sender == self._owner

    def _on_word(self, message: Message) -> bool:
        """Take what logind says; whether that may change anything here."""
        if message.signature != _BODIES.get(message.member or "", message.signature):
            _LOG.warning("logind's %s is malformed, and is dropped", message.member)
            return False
        of_manager = (message.path, message.interface) == (PATH, MANAGER)
        of_ours = message.path == self._ours
        match message.member:
            case "Lock" if of_ours and message.interface == SESSION:
                self._lock_asked = True
            case "Unlock" if of_ours and message.interface == SESSION:
                self._lock_asked = False
                self._answer = LogindSeen(manager=self._answer.manager)  # until asked again
            case "PrepareForSleep" if of_manager:
                self._on_sleep(begins=message.body[0])
            case "PropertiesChanged" if of_ours and message.interface == PROPERTIES:
                self._on_properties({k: v.value for k, v in message.body[1].items()})
            case "SessionNew" | "SessionRemoved" | "UserNew" | "UserRemoved" if of_manager:
                pass  # ours may have come or gone
            case _:
                return False
        return True

    def _on_properties(self, changed: Mapping[str, Any]) -> None:
        if changed.get("LockedHint") is False:
            self._lock_asked = False
        if changed.get("LockedHint") is True:
            self._answer = LogindSeen(manager=LoginService.THERE, locked=True)
        elif changed.get("Active") is False:
            self._answer = LogindSeen(manager=LoginService.THERE, active=False)

    def _on_sleep(self, *, begins: bool) -> None:
        self._sleeping = begins
        if not begins:
            self._answer = LogindSeen()  # much may have happened: all of it is asked anew
        elif self._falling_asleep is None or self._falling_asleep.done():
            self._falling_asleep = asyncio.create_task(self._fall_silent())

    async def _fall_silent(self) -> None:
        try:
            await self._hush()
        finally:
            self._let_sleep()

    def _take(self, answer: LogindSeen) -> None:
        self._answer = answer
        self._tell()

    def _tell(self) -> None:
        seen = self._answer
        self._say(
            LogindSeen(
                manager=seen.manager,
                asleep=True if self._sleeping else seen.asleep,
                locked=True if self._lock_asked else seen.locked,
                active=seen.active,
                remote=seen.remote,
                knew_us=self._knew_us,
            )
        )

    # --- sleep ------------------------------------------------------------------------

    async def _hold_sleep_up(self, bus: MessageBus) -> None:
        if self._delay is not None:
            return
        words = ["sleep", "Assent", "Recording stops before this machine sleeps", "delay"]
        try:
            answer = await call(
                bus, NAME, PATH, "Inhibit", interface=MANAGER, signature="ssss", body=words
            )
        except NoAnswerError as exc:
            # Then the signal comes when it comes; capture still closes at it.
            _LOG.warning("sleep cannot be held up until recording has stopped: %s", exc.text)
            return
        if answer.unix_fds:
            self._delay = answer.unix_fds[0]

    def _let_sleep(self) -> None:
        if self._delay is not None:
            os.close(self._delay)
            self._delay = None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
