"""Every request of a process, counted; and one of them broken, at the socket or by an answer.

The requests are real, over TLS, to whoever really listens.  Only those of the main thread are
counted: that is the agent in still time; a collector in a thread of the test asks its guard.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any, Final, cast

import pytest
from urllib3.util import connection

from base.https import OneDoor, Response
from tests.fakes.disk import CrashError
from tests.fakes.syscalls import Syscalls


class Break(StrEnum):
    """What happens to the request that breaks."""

    REFUSED = auto()  # nobody listens
    CUT_BEFORE = auto()  # the connection ends before a byte of the request
    CUT_WITHIN = auto()  # half of its body has left, or half of its head where it has none
    ANSWER_LOST = auto()  # it was carried out, and the answer never comes
    HALF_ANSWER = auto()  # it was carried out, and the answer ends in its middle
    SAYS_500 = auto()
    SAYS_500_BUT_DID = auto()
    SAYS_503 = auto()
    SAYS_507 = auto()
    SAYS_429 = auto()
    CRASH_AFTER = auto()  # the answer is here, and the process is dead


_SAYS: Final = {
    Break.SAYS_500: (500, {}),
    Break.SAYS_503: (503, {"retry-after": "7"}),
    Break.SAYS_507: (507, {}),
    Break.SAYS_429: (429, {"retry-after": "7"}),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the method, and the path without what changes each time."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Network:
    """Counts requests; breaks number *at*."""

    def __init__(self, disk: Syscalls) -> None:
        self.asked: list[Asked] = []
        self.broke: Asked | None = None
        self.put: list[bytes] = []  # every body that was handed to a PUT
        self.renewals = 0
        self.loses_answers = False  # of every PUT
        self._disk = disk
        self._at = -1
        self._how = Break.REFUSED
        self._armed: Break | None = None
        self._sends = 0
        self._has_body = False
        self._over = False

    def break_at(self, at: int, how: Break) -> None:
        """Break request number *at*, counted from 0 over all lives of the process."""
        self._at, self._how = at, how

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between this thread and its network, until *patch* is undone."""
        patch.setattr(OneDoor, "request", self._on_request(OneDoor.request))
        patch.setattr(ssl.SSLSocket, "sendall", self._on_send(ssl.SSLSocket.sendall))
        patch.setattr(ssl.SSLSocket, "recv_into", self._on_receive(ssl.SSLSocket.recv_into))
        patch.setattr(
            connection, "create_connection", self._on_connect(connection.create_connection)
        )

    def _on_request(self, real: Callable[..., Response]) -> Callable[..., Response]:
        def request(
            door: OneDoor, method: str, path: str, body: bytes | None = None, *args: object
        ) -> Response:
            if threading.current_thread() is not threading.main_thread():
                return real(door, method, path, body, *args)
            if self._disk.dead:
                raise CrashError
            asked = Asked(method, path_of(path))
            number = len(self.asked)
            self.asked.append(asked)
            if method == "PUT":
                # The door takes a frame in slices; all it asks for is length and bytes.
                self.put.append(b"".join(cast("Iterable[bytes]", body)))
            self._has_body = body is not None
            how = self._how if number == self._at else None
            if how is not None:
                self.broke = asked
            elif method == "PUT" and self.loses_answers:
                how = Break.ANSWER_LOST
            answer = self._carry_out(how, door, lambda: real(door, method, path, body, *args))
            self.renewals += path == "/v1/renew" and answer.status == 200
            return answer

        return request

    def _carry_out(self, how: Break | None, door: OneDoor, ask: Callable[[], Response]) -> Response:
        if how in _SAYS:
            status, headers = _SAYS[how]
            return Response(status=status, headers=headers, body=b'{"error":"busy: come later"}')
        if how is Break.REFUSED:
            door.close()  # or no connection would be made
        self._armed, self._sends, self._over = how, 0, False
        try:
            answer = ask()
        finally:
            self._armed = None
        if how is Break.CRASH_AFTER:
            self._disk.kill()
            raise CrashError
        if how is Break.SAYS_500_BUT_DID:
            return Response(status=500, headers={}, body=b"{}")
        return answer

    def _on_connect(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: object, **options: object) -> Any:  # noqa: ANN401 - a socket
            if self._is_armed(Break.REFUSED):
                raise ConnectionRefusedError
            return real(*args, **options)

        return connect

    def _on_send(self, real: Callable[..., None]) -> Callable[..., None]:
        def sendall(sock: ssl.SSLSocket, data: Any, flags: int = 0) -> None:  # noqa: ANN401 - any buffer
            self._sends += threading.current_thread() is threading.main_thread()
            if self._is_armed(Break.CUT_BEFORE):
                end(sock)
                raise ConnectionResetError
            if self._is_armed(Break.CUT_WITHIN) and self._sends == 1 + self._has_body:
                real(sock, memoryview(data)[: len(data) // 2], flags)
                end(sock)
                raise ConnectionResetError
            real(sock, data, flags)

        return sendall

    def _on_receive(self, real: Callable[..., int]) -> Callable[..., int]:
        def recv_into(sock: ssl.SSLSocket, buffer: Any, *args: int) -> int:  # noqa: ANN401 - any buffer
            if self._over and self._is_armed(Break.HALF_ANSWER):
                return 0
            count = real(sock, buffer, *args)
            if self._is_armed(Break.ANSWER_LOST):
                end(sock)
                raise ConnectionResetError
            if self._is_armed(Break.HALF_ANSWER):
                self._over = True
                return count // 2
            return count

        return recv_into

    def _is_armed(self, how: Break) -> bool:
        return self._armed is how and threading.current_thread() is threading.main_thread()


def end(sock: ssl.SSLSocket) -> None:
    """End a connection as a network does: without a word of TLS."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def path_of(path: str) -> str:
    """Return the first two steps of a path, which say what is asked."""
    return "/".join(path.partition("?")[0].split("/")[:3])
