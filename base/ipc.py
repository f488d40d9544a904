"""Messages on Unix stream sockets: a 4-byte big-endian length, then msgpack.

Three users: blocking (`send`, `Inbox`) for the single-threaded sensors and the command
line, asyncio (`read`, `write`) for the agent, and `peer_uid` for everybody who accepts.
Never pickle: what arrives is decoded into a named type or refused.
"""

import asyncio
import socket
import struct
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from base.errors import AssentError

LENGTH: Final = struct.Struct(">I")
LARGEST_BYTES: Final = 16 << 20  # a 4K key frame of noise compresses to less

T = TypeVar("T")


class GarbledError(AssentError):
    """The other process sent something that is no message of this conversation."""


def encode(message: msgspec.Struct) -> bytes:
    """Return *message* with its length before it."""
    body = msgspec.msgpack.encode(message)
    if len(body) > LARGEST_BYTES:
        raise GarbledError(f"a message of {len(body)} bytes is too large to send")
    return LENGTH.pack(len(body)) + body


def send(sock: socket.socket, message: msgspec.Struct) -> None:
    """Send one message and wait until the kernel has taken all of it."""
    sock.sendall(encode(message))


def send_with_descriptor(sock: socket.socket, message: msgspec.Struct, descriptor: int) -> None:
    """Send one small message together with a file descriptor."""
    data = encode(message)
    sent = socket.send_fds(sock, [data], [descriptor])
    if sent != len(data):
        raise GarbledError("the other process does not read its channel")


class Inbox(Generic[T]):
    """Cuts what arrives on a socket into messages of one type, descriptors beside them."""

    def __init__(self, expect: Any) -> None:  # noqa: ANN401 - a type expression, unions too
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(expect)
        self._buffer = bytearray()
        self.descriptors: list[int] = []

    def receive(self, sock: socket.socket) -> bool:
        """Take what the socket has; False at end-of-file."""
        data, descriptors, _flags, _address = socket.recv_fds(sock, 1 << 18, 4)
        self.descriptors.extend(descriptors)
        self._buffer += data
        return bool(data)

    def messages(self) -> Iterator[T]:
        """Yield each complete message that has arrived.

        Raises:
            GarbledError: Not a message of the expected type.

        """
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > LARGEST_BYTES:
                raise GarbledError(f"a message of {length} bytes was announced; closing")
            end = LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield _decode(self._decoder, body)


async def read(reader: asyncio.StreamReader, decoder: "msgspec.msgpack.Decoder[T]") -> T | None:
    """Return the next message, or None at end-of-file.

    Raises:
        GarbledError: Not a message of the expected type.

    """
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > LARGEST_BYTES:
            raise GarbledError(f"a message of {length} bytes was announced; closing")
        return _decode(decoder, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def write(writer: asyncio.StreamWriter, message: msgspec.Struct) -> None:
    """Send one message and wait until it is out of this process's buffer."""
    writer.write(encode(message))
    await writer.drain()


def peer_uid(sock: socket.socket) -> int:
    """Return the user id of the process at the other end (SO_PEERCRED)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", raw)
    return int(uid)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise GarbledError(f"an unknown message arrived: {exc}") from exc
