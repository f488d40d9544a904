"""Messages between processes: whole, typed, bounded, or refused."""

import asyncio
import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from base.ipc import (
    LARGEST_BYTES,
    LENGTH,
    GarbledError,
    Inbox,
    encode,
    peer_uid,
    read,
    send,
    send_with_descriptor,
    write,
)


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message of the conversation under test."""

    number: int


class Other(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message of another conversation."""

    text: bytes


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    """Several in one read are cut apart."""
    ours, theirs = pair
    for number in range(3):
        send(ours, Ping(number=number))
    inbox: Inbox[Ping] = Inbox(Ping)

    assert inbox.receive(theirs)
    assert [m.number for m in inbox.messages()] == [0, 1, 2]
    ours.close()
    assert not inbox.receive(theirs)


def test_a_message_may_arrive_byte_by_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    """Nothing is yielded before the message is whole."""
    ours, theirs = pair
    inbox: Inbox[Ping] = Inbox(Ping)
    data = encode(Ping(number=7))
    for at, byte in enumerate(data):
        assert list(inbox.messages()) == [], at
        ours.send(bytes([byte]))
        inbox.receive(theirs)
    assert list(inbox.messages()) == [Ping(number=7)]


def test_a_descriptor_travels_with_its_message(pair: tuple[socket.socket, socket.socket]) -> None:
    """The other process gets its own descriptor of the same pipe."""
    ours, theirs = pair
    outlet, inlet = os.pipe()
    send_with_descriptor(ours, Ping(number=1), inlet)
    os.close(inlet)
    inbox: Inbox[Ping] = Inbox(Ping)
    inbox.receive(theirs)
    (received,) = inbox.descriptors
    os.write(received, b"through")
    os.close(received)

    assert list(inbox.messages()) == [Ping(number=1)]
    assert os.read(outlet, 100) == b"through"
    os.close(outlet)


@pytest.mark.parametrize(
    "data",
    [
        encode(Other(text=b"x")),
        LENGTH.pack(3) + b"\xff\xff\xff",
        LENGTH.pack(LARGEST_BYTES + 1),
        b"\x80\x04\x95\x00" + b"\0" * 8,  # a pickle
    ],
    ids=["another conversation", "no msgpack", "too large", "pickle"],
)
def test_what_is_no_message_of_the_conversation_is_refused(
    pair: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    """For blocking and asyncio readers alike; nothing of it is interpreted."""
    ours, theirs = pair
    ours.sendall(data)
    inbox: Inbox[Ping] = Inbox(Ping)
    inbox.receive(theirs)
    with pytest.raises(GarbledError):
        list(inbox.messages())

    async def reading() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        with pytest.raises(GarbledError):
            await read(reader, msgspec.msgpack.Decoder(Ping))

    asyncio.run(reading())


def test_a_message_that_is_too_large_is_not_sent() -> None:
    """The sender finds out, not the receiver."""
    with pytest.raises(GarbledError, match="too large to send"):
        encode(Other(text=bytes(LARGEST_BYTES)))


def test_asyncio_reads_what_asyncio_wrote_and_tells_the_end(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """None at end-of-file, also in the middle of a message."""

    async def conversation() -> None:
        _, out = await asyncio.open_connection(sock=pair[0].dup())
        reader, back = await asyncio.open_connection(sock=pair[1].dup())
        decoder: msgspec.msgpack.Decoder[Ping] = msgspec.msgpack.Decoder(Ping)
        await write(out, Ping(number=3))
        assert await read(reader, decoder) == Ping(number=3)
        out.write(encode(Ping(number=4))[:-1])
        out.close()
        pair[0].close()
        await out.wait_closed()
        assert await read(reader, decoder) is None
        back.close()
        await back.wait_closed()

    asyncio.run(conversation())


def test_the_peer_of_a_socket_is_known_by_its_user(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """SO_PEERCRED: the kernel's word, not the peer's."""
    assert peer_uid(pair[0]) == os.getuid()
