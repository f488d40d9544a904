"""What the X server tells of where its user sits: who runs it, and how we got to it.

The process behind the server's socket is the kernel's word (SO_PEERCRED), its name is what
it was started as.  Nothing is asked of the server itself.
"""

import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SSH: Final = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
OTHERS: Final = ("XRDP_SESSION", "VNCDESKTOP", "X2GO_SESSION", "XPRA_SERVER_SOCKET")
REMOTE_SERVERS: Final = re.compile(r"(Xvnc|X\w*vnc|nxagent|x2goagent|Xrdp|xpra|Xwinvnc)", re.ASCII)
VIRTUAL: Final = frozenset({"Xvfb"})
"""Servers without a screen or a keyboard: nobody sits there, and they hang on no seat."""

_SOCKETS: Final = "/tmp/.X11-unix/X"  # noqa: S108 - X's own place
_PEER: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplaySeen:
    """What is known of the display; empty words where nothing is."""

    remote: str = ""  # what shows that it is used from another machine
    server: str = ""  # the name of the X server's program
    virtual: bool = False


def look_at(environ: Mapping[str, str]) -> DisplaySeen:
    """Return what is known of the display of a session with these variables."""
    words = server_words(environ.get("DISPLAY", ""))
    name = Path(words[0]).name if words else ""
    remote = _remote_by(environ, name, words)
    return DisplaySeen(remote=remote, server=name, virtual=name in VIRTUAL)


def _remote_by(environ: Mapping[str, str], name: str, words: list[str]) -> str:
    for variable in (*SSH, *OTHERS):
        if environ.get(variable):
            return f"{variable} is set"
    host = environ.get("DISPLAY", "").rpartition(":")[0]
    if host not in ("", "unix"):
        return "DISPLAY names another machine"
    if REMOTE_SERVERS.match(name):
        return f"the X server is {name}"
    if any("xrdp" in word for word in words):
        return "the X server is xrdp's"
    return ""


def server_words(display: str) -> list[str]:
    """Return the command line of the X server of *display*; empty where nobody can say."""
    number = display.rpartition(":")[2].partition(".")[0]
    if not number.isdigit():
        return []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            path = _SOCKETS + number
            sock.connect(path if Path(path).exists() else f"\0{path}")
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            line = Path(f"/proc/{_PEER.unpack(peer)[0]}/cmdline").read_bytes()
        except OSError:
            return []
    return [word.decode("utf-8", "replace") for word in line.split(b"\0") if word]
