"""A system bus and a session bus of a test's own, with logind and a screen saver on them.

logind is python-dbusmock's (Debian: python3-dbusmock), with what its template lacks; a saver
is ours.  Nothing of the machine's own buses is touched.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

from agent.dbus import BUS, BUS_PATH, PROPERTIES, NoAnswerError, call
from agent.session._logind import MANAGER, NAME, PATH, SESSION

MOCK: Final = "org.freedesktop.DBus.Mock"
SYSTEM_PYTHON: Final = "/usr/bin/python3"  # Debian's own, for which python3-dbusmock is
START_SECONDS: Final = 30.0
OUR_SESSION: Final = "c7"
OUR_PATH: Final = f"{PATH}/session/{OUR_SESSION}"


def missing() -> str:
    """Return what these buses need and is not here; empty when all is."""
    if shutil.which("dbus-daemon") is None:
        return "needs dbus-daemon (Debian: dbus-daemon)"
    command = [SYSTEM_PYTHON, "-c", "import dbusmock"]
    found = Path(SYSTEM_PYTHON).exists() and not subprocess.run(command, check=False).returncode
    return "" if found else "needs python-dbusmock (Debian: python3-dbusmock)"


def bus(folder: Path, name: str) -> Iterator[str]:
    """Run a bus below *folder*; yield its address."""
    address = f"unix:path={folder / name}"
    command = ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address={address}"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    daemon.stdout.readline()
    yield address
    daemon.terminate()
    daemon.wait()
    daemon.stdout.close()


async def send_to_all(address: str, *signals: Message) -> None:
    """Send *signals* to each connection of a bus by name, as a stranger on it may.

    Returns when the bus has passed them on.
    """
    bus = await MessageBus(bus_address=address).connect()
    try:
        names = (await _of_bus(bus, "ListNames")).body[0]
        for name in names:
            for signal in signals if name.startswith(":") else ():
                signal.destination, signal.serial = name, 0
                await bus.send(signal)
        await _of_bus(bus, "GetId")
    finally:
        bus.disconnect()


async def _of_bus(bus: MessageBus, member: str) -> Message:
    return await call(bus, BUS, BUS_PATH, member, interface=BUS)


class Logind:
    """logind with one session of ours, unlocked, in front and local."""

    def __init__(self, address: str) -> None:
        self.address = address
        env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
        command = [SYSTEM_PYTHON, "-m", "dbusmock", "--system", "--template", "logind"]
        self._process = subprocess.Popen(command, env=env)

    async def __aenter__(self) -> Self:
        self.bus = await MessageBus(bus_address=self.address).connect()
        deadline = time.monotonic() + START_SECONDS
        while not await self._is_there():
            assert time.monotonic() < deadline, "the mocked logind did not start"
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.bus.disconnect()
        self.kill()

    def kill(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    async def log_in(self, user: int | None = None) -> None:
        """Add our session."""
        owner = os.getuid() if user is None else user
        body = [OUR_SESSION, "seat0", owner, "a-person", True]
        await self.mock(PATH, "AddSession", "ssusb", body)
        named = [Variant("s", OUR_SESSION), Variant("o", OUR_PATH)]
        await self.mock(PATH, "EmitSignal", "sssav", [MANAGER, "SessionNew", "so", named])

    async def mock(self, path: str, member: str, signature: str, body: list[Any]) -> Message:
        """Tell the mock what to do."""
        return await call(
            self.bus, NAME, path, member, interface=MOCK, signature=signature, body=body
        )

    async def change(self, **properties: bool) -> None:
        """Change properties of our session; the change is signalled."""
        variants = {key: Variant("b", value) for key, value in properties.items()}
        await self.mock(OUR_PATH, "UpdateProperties", "sa{sv}", [SESSION, variants])

    async def tell(self, member: str) -> None:
        """Send a signal of our session: Lock or Unlock."""
        await self.mock(OUR_PATH, "EmitSignal", "sssav", [SESSION, member, "", []])

    async def sleep(self, *, begins: bool) -> None:
        """Say that the machine goes to sleep, or has woken up."""
        value = [Variant("b", begins)]
        asleep = {"PreparingForSleep": Variant("b", begins)}
        await self.mock(PATH, "UpdateProperties", "sa{sv}", [MANAGER, asleep])
        await self.mock(PATH, "EmitSignal", "sssav", [MANAGER, "PrepareForSleep", "b", value])

    async def tell_nonsense(self) -> None:
        """Say that the machine goes to sleep, or not, without saying which."""
        await self.mock(PATH, "EmitSignal", "sssav", [MANAGER, "PrepareForSleep", "", []])

    async def inhibitors(self) -> list[Any]:
        """Return who holds sleep up."""
        answer = await call(self.bus, NAME, PATH, "ListInhibitors", interface=MANAGER)
        return list(answer.body[0])

    async def _is_there(self) -> bool:
        body = [MANAGER, "PreparingForSleep"]
        try:
            await call(self.bus, NAME, PATH, "Get", interface=PROPERTIES, signature="ss", body=body)
        except NoAnswerError:
            return False
        return True


class Saver:
    """A screen saver on the session bus; `answer` is what it says when asked."""

    def __init__(self, name: str = "org.xfce.ScreenSaver") -> None:
        self.name = name
        self.path = "/" + name.replace(".", "/")
        self.answer: bool | str | None = False  # a name of an error, or None for silence

    async def __aenter__(self) -> Self:
        self.bus = await MessageBus().connect()
        self.bus.add_message_handler(self._on_call)
        await self.bus.request_name(self.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.bus.disconnect()

    async def becomes(self, *, active: bool) -> None:
        """Begin or end, and say so."""
        self.answer = active
        message = Message.new_signal(self.path, self.name, "ActiveChanged", "b", [active])
        await self.bus.send(message)

    def _on_call(self, message: Message) -> Message | bool | None:
        if message.member != "GetActive":
            return None
        if self.answer is None:
            return True  # taken, and never answered
        if isinstance(self.answer, str):
            return Message.new_error(message, self.answer, "no")
        return Message.new_method_return(message, "b", [self.answer])
