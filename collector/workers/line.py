"""The socket between owner and worker: messages, as many in a write as there are."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from base.ipc import LARGEST_BYTES, LENGTH, GarbledError

T = TypeVar("T")

_ENCODER: Final = msgspec.msgpack.Encoder()


class Line(asyncio.Protocol, Generic[T]):
    """One end.  Belongs to one event loop.

    It is never held up: what is under way is bounded by how many requests are, and an answer
    by what a message may be.
    """

    def __init__(
        self,
        expect: Any,  # noqa: ANN401 - a type expression, unions too
        heard: Callable[[T], None],
        ended: Callable[[], None],
    ) -> None:
        """*heard* is called with each message, *ended* once when the other end is gone."""
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(expect)
        self._heard = heard
        self._ended = ended
        self._buffer = bytearray()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def say(self, message: msgspec.Struct) -> None:
        """Send *message* with whatever else is said in this turn of the loop; none to nobody.

        Raises:
            GarbledError: It is larger than the other end would read.

        """
        body = _ENCODER.encode(message)
        if len(body) > LARGEST_BYTES:
            raise GarbledError(f"a message of {len(body)} bytes is too large to be sent")
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (LENGTH.pack(len(body)), body)

    def close(self) -> None:
        """Hang up, after what was said."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None:
            self._transport.write(b"".join(unsent))

    # --- asyncio's words --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment]  # it is a Transport

    def connection_lost(self, _exc: Exception | None) -> None:
        """Say that the other end is gone."""
        self._transport = None
        self._ended()

    def data_received(self, data: bytes) -> None:
        """Cut what came into messages."""
        self._buffer += data
        at, end = 0, len(self._buffer)
        while end - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, at)
            if length > LARGEST_BYTES:
                raise GarbledError(f"a message of {length} bytes was announced; closing")
            if end - at < LENGTH.size + length:
                break
            at += LENGTH.size
            with memoryview(self._buffer) as view, view[at : at + length] as body:
                message = self._decoder.decode(body)
            at += length
            self._heard(message)
        del self._buffer[:at]
