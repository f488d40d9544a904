"""The way through a proxy: one CONNECT, and from then on the proxy only carries bytes.

Where IT lets workstations out only through a proxy, `tunnel` asks it for a connection to the
one origin (RFC 9110 section 9.3.6).  TLS 1.3 and the pin are checked inside, end to end, by
`base.https`; the proxy learns host, port and how much is sent, which whoever carries the
packets learns too.  It never gets a request: no absolute-form, no path, no header of ours.

A proxy that wants a login, redirects, or answers in the server's place has refused.  Which
proxy to use is configured; the environment is not asked, because any program can set it and
it differs between a terminal and the session that starts the agent.
"""

import re
import socket
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from base.bounded import is_whole, read_head
from base.door import ProxyRefusedError, UnreachableError
from base.errors import SetupError

LARGEST_HEAD_BYTES: Final = 16 << 10
LONGEST_ANSWER_SECONDS: Final = 30.0  # it may first look the host up, and connect
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where the proxy listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written in the configuration."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def proxy_at(text: str) -> Proxy:
    """Return the proxy at *text*, `http://host:port`.

    Raises:
        SetupError: Another scheme, a login, or more than scheme, host and port.

    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if "@" in parts.netloc:
        raise SetupError(
            "a proxy with a login in its address is not used: the login would travel in the "
            "clear; ask IT to let the collector's host through without one"
        )
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment)
    if parts.scheme != "http" or not parts.hostname or not port or not bare:
        raise SetupError(f"{text!r} is no proxy; write it as in http://proxy.example:3128")
    return Proxy(host=parts.hostname, port=port)


def tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Let *proxy*, to which *sock* is connected, connect it to *host* and *port*.

    Raises:
        ProxyRefusedError: It does not; the line says what it said and what to do.
        UnreachableError: It did not answer in time, or the connection broke.

    """
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
        until = time.monotonic() + LONGEST_ANSWER_SECONDS
        head = read_head(sock, sock.gettimeout(), until, LARGEST_HEAD_BYTES)
    except OSError as exc:
        raise UnreachableError(f"the proxy {proxy} did not answer; later it may work") from exc
    status = _STATUS.match(head) if is_whole(head) else None
    if status is None:
        raise ProxyRefusedError(f"{proxy} answers as no HTTP proxy does; nothing was sent; right?")
    if not status[1].startswith(b"2"):
        raise ProxyRefusedError(_refusal(proxy, target, int(status[1])))


def _refusal(proxy: Proxy, target: str, status: int) -> str:
    if status == 407:
        why, then = "asks for a login", f"ask IT to let {target} through without one"
    elif 300 <= status < 400:
        why, then = "answered with a redirect, which is refused", "check the address of the proxy"
    elif status >= 500:
        why, then = f"cannot reach {target}", "later it may work"
    else:
        why, then = f"does not let {target} through", "ask IT to allow CONNECT to it"
    return f"the proxy {proxy} {why} ({status}); nothing was sent; {then}"
