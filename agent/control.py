"""The named socket on which the command line speaks to the running agent.

It is in a folder that only its owner enters, is its owner's alone, and asks the kernel who
is at the other end.  What can lead to more capture is refused here, whoever asks: that takes
a click in the tray's own window.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from base.errors import RetryableError, SetupError
from base.ipc import GarbledError, Inbox, peer_uid, read, send, write
from wire.control import TRAY_ONLY, Answer, Command, Refused

_LOG: Final = logging.getLogger(__name__)

SOCKET: Final = "control.sock"
ANSWER_SECONDS: Final = 30.0  # sealing what is open may wait for a slow disk
ONLY_IN_THE_TRAY: Final = (
    "this can lead to recording, so it takes your click: use the menu of the tray icon; "
    "commands and scripts can only restrict"
)


async def serve(
    folder: Path, answer: Callable[[Command], Awaitable[Answer]]
) -> asyncio.AbstractServer:
    """Listen on the socket in *folder* and give each command to *answer*."""
    path = folder / SOCKET
    path.unlink(missing_ok=True)  # of an agent that was killed; the lock says that it is gone
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(umask)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(reader, writer, answer)
        except (ConnectionError, GarbledError) as exc:
            _LOG.warning("a caller on the control socket was dropped: %s", exc)
        finally:
            writer.close()

    return await asyncio.start_unix_server(converse, sock=listening)


async def _converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Command], Awaitable[Answer]],
) -> None:
    if peer_uid(writer.get_extra_info("socket")) != os.getuid():
        return
    decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
    while (command := await read(reader, decoder)) is not None:
        if isinstance(command, TRAY_ONLY):
            await write(writer, Refused(why=ONLY_IN_THE_TRAY))
        else:
            await write(writer, await answer(command))


def ask(folder: Path, command: Command) -> Answer | None:
    """Return the running agent's answer; None when no agent runs.

    Raises:
        RetryableError: It does not answer in time, or ended meanwhile.
        SetupError: Another user listens there.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        try:
            sock.connect(str(folder / SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as exc:
            raise SetupError(f"{folder} is not yours; ask as the agent's own user") from exc
        if peer_uid(sock) != os.getuid():
            # Nobody else may say "silent" in the agent's name.
            raise SetupError(f"{folder / SOCKET} belongs to somebody else; remove {folder}")
        try:
            send(sock, command)
            inbox: Inbox[Answer] = Inbox(Answer)
            while inbox.receive(sock):
                for answer in inbox.messages():
                    return answer
        except OSError as exc:
            raise RetryableError("the agent does not answer; try again in a moment") from exc
    raise RetryableError("the agent ended before it answered; try again in a moment")
