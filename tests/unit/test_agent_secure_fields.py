"""Which kind of field has the focus, asked of a real bus; registry and program are ours."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import pytest
from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

from agent.capture._atspi import (
    OBJECT_EVENT,
    PASSWORD_TEXT,
    REGISTRY,
    ROLE_SECONDS,
    WINDOW_EVENT,
    SecureFields,
)
from agent.dbus import BUS, BUS_PATH
from agent.handover import HOLD_BACK_NANOSECONDS
from base.clock import NANOSECONDS
from tests.fakes import buses
from wire.control import SecretSeen

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")

ENTRY: Final = 79  # ATSPI_ROLE_ENTRY
FIELD: Final = "/org/a11y/atspi/accessible/1"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run one bus for session and accessibility."""
    with tempfile.TemporaryDirectory(prefix="assent-") as folder:
        for address in buses.bus(Path(folder), "bus"):
            monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
            yield address


class Program:
    """The registry, and a program with one field, which says its role when the test says so."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._asked = asyncio.Queue[Message]()

    async def __aenter__(self) -> Self:
        self._bus = await MessageBus(bus_address=self._address).connect()
        self._bus.add_message_handler(self._on_call)
        for name in ("org.a11y.Bus", REGISTRY):
            await self._bus.request_name(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._bus.disconnect()

    @property
    def name(self) -> str:
        """Its connection to the bus."""
        return str(self._bus.unique_name)

    async def has_focus(self) -> None:
        """Say that the field got the focus; return when somebody asks what it is."""
        body = ["focused", 1, 0, Variant("i", 0), {}]
        signal = Message.new_signal(FIELD, OBJECT_EVENT, "StateChanged", "siiva{sv}", body)
        await self._bus.send(signal)
        self._question = await self._asked.get()

    async def says(self, signature: str, *role: Any) -> None:  # noqa: ANN401 - D-Bus's own
        """Answer that question."""
        await self._bus.send(Message.new_method_return(self._question, signature, list(role)))

    def _on_call(self, message: Message) -> Message | bool | None:
        match message.member:
            case "GetAddress":
                return Message.new_method_return(message, "s", [self._address])
            case "RegisterEvent":
                return Message.new_method_return(message)
            case "GetChildren":
                return Message.new_method_return(message, "a(so)", [[]])
            case "GetRole":
                self._asked.put_nowait(message)
                return True  # taken, and not answered yet
            case _:
                return None


Found = Callable[[], Awaitable[SecretSeen]]


def play(address: str, story: Callable[[Program, Found], Awaitable[None]]) -> None:
    """Tell *story* with a program there, once nothing has the focus."""

    async def told() -> None:
        seen = asyncio.Queue[SecretSeen]()
        async with Program(address) as program:
            fields = SecureFields()
            fields.open()

            def drain() -> None:
                for each in fields.drain():
                    seen.put_nowait(each)

            asyncio.get_running_loop().add_reader(fields.fileno(), drain)
            try:
                while (await seen.get()).secret is not False:
                    pass
                await story(program, seen.get)
            finally:
                asyncio.get_running_loop().remove_reader(fields.fileno())
                fields.close()

    asyncio.run(asyncio.wait_for(told(), 30))


@pytest.mark.parametrize(("role", "secret"), [(PASSWORD_TEXT, True), (ENTRY, False)])
def test_a_field_that_is_slow_to_say_what_it_is_counts_as_unknown_until_it_has(
    address: str, role: int, *, secret: bool
) -> None:
    """The first keys of a password are judged before such an answer; unknown holds them back."""

    async def story(program: Program, found: Found) -> None:
        await program.has_focus()
        doubt = await found()
        assert doubt.secret is None
        await program.says("u", role)
        assert await found() == SecretSeen(at=doubt.at, secret=secret)

    play(address, story)


def test_what_is_unknown_is_said_before_the_first_key_is_judged() -> None:
    """With time left in which the word comes to the agent."""
    assert ROLE_SECONDS * NANOSECONDS <= HOLD_BACK_NANOSECONDS * 2 / 3


def test_a_field_that_says_at_once_what_it_is_was_never_unknown(address: str) -> None:
    """Nothing that is typed into ordinary fields is lost."""

    async def story(program: Program, found: Found) -> None:
        await program.has_focus()
        await program.says("u", PASSWORD_TEXT)
        assert (await found()).secret is True
        await program.has_focus()
        await program.says("u", ENTRY)
        assert (await found()).secret is False

    play(address, story)


@pytest.mark.parametrize("answer", [("",), ("s", "password"), ("uu", ENTRY, ENTRY)])
def test_a_field_that_answers_nonsense_is_unknown(address: str, answer: tuple[Any, ...]) -> None:
    """At once: no answer comes any more."""

    async def story(program: Program, found: Found) -> None:
        await program.has_focus()
        await program.says(*answer)
        assert (await found()).secret is None

    play(address, story)


def test_what_a_stranger_says_ends_no_field_for_secrets(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the name of the bus, and not by what is malformed."""

    async def story(program: Program, found: Found) -> None:
        await program.has_focus()
        await program.says("u", PASSWORD_TEXT)
        assert (await found()).secret is True
        gone = [program.name, program.name, ""]
        await buses.send_to_all(
            address,
            Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged", "sss", gone),
            Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged"),
            Message.new_signal(FIELD, OBJECT_EVENT, "StateChanged"),
            Message.new_signal(FIELD, OBJECT_EVENT, "StateChanged", "s", ["focused"]),
            Message.new_signal(FIELD, OBJECT_EVENT, "StateChanged", "sii", ["focused", 0, 0]),
            Message.new_signal(FIELD, WINDOW_EVENT, "Deactivate"),
        )
        await program.has_focus()
        await program.says("u", PASSWORD_TEXT)
        assert (await found()).secret is True  # and nothing else was found before

    play(address, story)
    assert caplog.records == []
