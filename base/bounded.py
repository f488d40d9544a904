"""Reads of a socket that end in time, however slowly the other side drips.

A time-out for each read alone lets a server hold a caller for days, byte by byte; here each
read has its patience, and all of them together an end.  The socket is given: nothing here
connects to anybody.
"""

import contextlib
import io
import socket
import time
from collections.abc import Iterator
from typing import Any


class BoundedAnswer:
    """A socket whose answer has to be there in time; bytes that were read before come first."""

    def __init__(self, first: bytes, sock: socket.socket, until: float) -> None:
        """*until* is on the monotonic clock."""
        self._first = first
        self._sock = sock
        self._until = until

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a file of the read bytes and all that follow."""
        rest = self._sock.makefile(mode, buffering=0)  # type: ignore[call-overload]  # bytes
        return io.BufferedReader(_Chained(self._first, rest, self._sock, self._until))


class _Chained(io.RawIOBase):
    """Bytes, then what a socket says until its time is over."""

    def __init__(self, first: bytes, rest: io.RawIOBase, sock: socket.socket, until: float) -> None:
        self._first = memoryview(first)
        self._rest = rest
        self._sock = sock
        self._patience = sock.gettimeout()
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - collections.abc.Buffer comes with 3.12
        if not self._first:
            with hurried(self._sock, self._patience, self._until):
                return self._rest.readinto(buffer)
        count = min(len(buffer), len(self._first))
        buffer[:count] = self._first[:count]
        self._first = self._first[count:]
        return count

    def close(self) -> None:
        self._rest.close()
        super().close()


@contextlib.contextmanager
def hurried(sock: socket.socket, patience: float | None, until: float) -> Iterator[None]:
    """Let one read of *sock* last for *patience*, but not beyond *until*."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer does not end")
    sock.settimeout(left if patience is None else min(left, patience))
    try:
        yield
    finally:
        sock.settimeout(patience)


def read_head(sock: socket.socket, patience: float | None, until: float, largest: int) -> bytes:
    """Return the head of an HTTP answer, to the byte, or what there was when it ended.

    Byte by byte: a buffered reader would swallow the beginning of what follows.  A head that
    does not end within *largest* bytes is returned as far as it goes.

    Raises:
        TimeoutError: It did not come in time.
        OSError: The connection broke.

    """
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")) and len(head) < largest:
        with hurried(sock, patience, until):
            byte = sock.recv(1)
        if not byte:
            break
        head += byte
    return bytes(head)


def is_whole(head: bytes) -> bool:
    """Whether a head that `read_head` returned is a whole one."""
    return head.endswith((b"\r\n\r\n", b"\n\n"))
