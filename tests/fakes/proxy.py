"""Proxies as IT has them: one that carries, and some that do not.  Each counts what it is given.

`relay` is a real CONNECT proxy on loopback: it connects, then carries bytes both ways.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from base.proxy import Proxy
from tests.fakes.tls import WAIT_SECONDS, Heard, Script, head, peer

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(kw_only=True)
class Carried:
    """What went through a proxy."""

    heads: list[bytes] = field(default_factory=list)
    up: bytearray = field(default_factory=bytearray)  # from the client
    asked: list[tuple[str, int]] = field(default_factory=list)


@contextlib.contextmanager
def relay(instead: tuple[str, int] | None = None) -> Iterator[tuple[Proxy, Carried]]:
    """Run a proxy that carries; with *instead*, it connects there whatever it is asked for."""
    carried = Carried()

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        asked = re.match(rb"CONNECT ([^:]+):(\d+) HTTP/1\.1\r\n", heard.heads[-1])
        assert asked, heard.heads[-1]
        carried.heads.append(heard.heads[-1])
        carried.asked.append((asked[1].decode(), int(asked[2])))
        with socket.create_connection(instead or carried.asked[-1], WAIT_SECONDS) as server:
            sock.sendall(ESTABLISHED)
            down = threading.Thread(target=_pump, args=(server, sock, bytearray()), daemon=True)
            down.start()
            _pump(sock, server, carried.up)
            down.join(WAIT_SECONDS)

    with proxying(script) as (proxy, _heard):
        yield proxy, carried


@contextlib.contextmanager
def proxying(script: Script) -> Iterator[tuple[Proxy, Heard]]:
    """Run *script* for each connection to a proxy."""
    with peer(script, None) as (origin, heard):
        host, _, port = origin.removeprefix("https://").partition(":")
        yield Proxy(host=host, port=int(port)), heard


def _pump(source: socket.socket, sink: socket.socket, seen: bytearray) -> None:
    with contextlib.suppress(OSError):
        while more := source.recv(65536):
            seen += more
            sink.sendall(more)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
