"""Asking on a D-Bus: a connection, one call and its answer, and the end.

Whoever asks decides what silence means; here it is only told apart from an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
NO_OWNER: Final = f"{BUS}.Error.NameHasNoOwner"
ANSWER_SECONDS: Final = 1.0  # what takes longer hangs, and can prove nothing

ENDS: Final = (OSError, EOFError, DBusError, ValueError, TypeError, AttributeError)
"""How a connection ends; the last two: somebody answers with something else than he should."""


class NoAnswerError(DBusError):
    """Somebody answered with an error; `type` is its name."""


@asynccontextmanager
async def connected(bus: MessageBus) -> AsyncIterator[MessageBus]:
    """Connect *bus*; when that ends, in whatever way, its descriptors are closed.

    By itself dbus-fast closes them in a round of the event loop after `disconnect`, and not at
    all if `connect` is cancelled. A loop that ends meanwhile would leave them to the garbage
    collector, which nothing wakes in a process that is paused.
    """
    try:
        yield await bus.connect()
    finally:
        bus.disconnect()
        if bus._sock is not None and not bus._disconnected:  # noqa: SLF001 - there is no other word for it
            bus._finalize(None)  # noqa: SLF001


async def call(
    bus: MessageBus,
    name: str,
    path: str,
    member: str,
    *,
    interface: str,
    signature: str = "",
    body: Sequence[Any] = (),
) -> Message:
    """Return the answer to a method call.

    Raises:
        NoAnswerError: It is an error, or there is none within `ANSWER_SECONDS`.

    """
    message = Message(
        destination=name,
        path=path,
        interface=interface,
        member=member,
        signature=signature,
        body=list(body),
    )
    try:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes with the answer.
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await bus.call(message)
    except TimeoutError:
        raise NoAnswerError(f"{BUS}.Error.NoReply", f"{name} does not answer") from None
    if answer.message_type is not MessageType.METHOD_RETURN:
        raise NoAnswerError(answer.error_name or f"{BUS}.Error", f"{name} refuses {member}")
    return answer


async def ask_bus(bus: MessageBus, member: str, argument: str) -> Any:  # noqa: ANN401 - D-Bus's own
    """Return what the bus itself answers to a question about *argument*; None for nothing."""
    answer = await call(bus, BUS, BUS_PATH, member, interface=BUS, signature="s", body=[argument])
    return answer.body[0] if answer.body else None


async def properties(bus: MessageBus, name: str, path: str, interface: str) -> dict[str, Any]:
    """Return all properties of one interface."""
    answer = await call(
        bus, name, path, "GetAll", interface=PROPERTIES, signature="s", body=[interface]
    )
    return {key: variant.value for key, variant in answer.body[0].items()}


async def owner_of(bus: MessageBus, name: str) -> str:
    """Return the connection that owns *name*; "" if none does.

    Raises:
        NoAnswerError: The bus does not say.

    """
    try:
        return str(await ask_bus(bus, "GetNameOwner", name))
    except NoAnswerError as exc:
        if exc.type != NO_OWNER:
            raise
        return ""


def owner_changed(message: Message) -> tuple[str, str] | None:
    """Return a name and who owns it now, if *message* is the bus's own word that this changed.

    A match rule is no wall: anybody on a bus can send a signal of any name to one connection
    alone.  Who sent it, the bus says, and nobody else can.
    """
    who = (message.message_type, message.sender, message.path, message.interface)
    if who != (MessageType.SIGNAL, BUS, BUS_PATH, BUS):
        return None
    if (message.member, message.signature) != ("NameOwnerChanged", "sss"):
        return None
    name, _before, owner = message.body
    return name, owner


async def end_of(bus: MessageBus) -> None:
    """Return when the connection has ended."""
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast leaves it open


async def either(wait: Coroutine[Any, Any, object], end: "asyncio.Future[None]") -> None:
    """Return as soon as one of them does; raise what it raised.  *end* goes on if it has not."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(wait)
    try:
        await asyncio.wait([waiting, end], return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            end.result()
    finally:
        waiting.cancel()
