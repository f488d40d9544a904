"""Blocking calls on a D-Bus, for scripts that look at a desktop from outside.

One connection, one call at a time.  Not for use inside a running asyncio loop.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from base.errors import AssentError

PROPERTIES: Final = "org.freedesktop.DBus.Properties"
CALL_SECONDS: Final = 5.0  # a desktop that takes longer to answer hangs


class BusError(AssentError):
    """The other side answered with an error, or not at all."""


class Bus:
    """A connection to the bus at one address."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._bus = self._loop.run_until_complete(_connected(address))
        except OSError as exc:
            self._loop.close()
            raise BusError(f"no bus at {address}: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(
        self,
        destination: str,
        path: str,
        member: str,
        *,
        interface: str,
        signature: str = "",
        body: Sequence[Any] = (),
    ) -> list[Any]:
        """Call a method and return what it answered.

        Raises:
            BusError: It answered with an error, or not in time.

        """
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            answer = self._loop.run_until_complete(self._answer(message))
        except (TimeoutError, EOFError, OSError) as exc:
            raise BusError(f"{member} got no answer from {destination}") from exc
        if answer.message_type is MessageType.ERROR:
            raise BusError(f"{member} failed at {destination}: {answer.body}")
        return list(answer.body)

    async def _answer(self, message: Message) -> Message:
        async with asyncio.timeout(CALL_SECONDS):
            return await self._bus.call(message)

    def get(self, destination: str, path: str, interface: str, name: str) -> Any:  # noqa: ANN401
        """Return the value of one property, of whatever type it has.

        Raises:
            BusError: No such object or property.

        """
        body = [interface, name]
        (value,) = self.call(
            destination, path, "Get", interface=PROPERTIES, signature="ss", body=body
        )
        return value.value

    def close(self) -> None:
        """Hang up."""
        self._bus.disconnect()
        # One turn of the loop lets the transport close its socket.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


async def _connected(address: str) -> MessageBus:
    return await MessageBus(bus_address=address).connect()
