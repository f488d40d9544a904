"""What a process and its children do with the network: as they ask for it, as the kernel has it.

Two witnesses that know nothing of each other.  `Recorder` puts an audit hook (PEP 578) into
every Python process that is started with its environment, so no connect, bind, sendto or name
lookup is too short to be seen.  `internet_sockets` reads the kernel's tables, so nothing is
missed that goes past Python.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LISTENS: Final = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix
TABLES: Final = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6")

_HOOK: Final = """
import json, os, sys

def _record(event, arguments, _fd=os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        if not isinstance(arguments[1], tuple):  # a path of this machine, or a connected socket
            return
        where = list(arguments[1][:2])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        where = [str(argument) for argument in arguments[:2]]
    elif event == "assent.begun":
        where = []
    else:
        return
    line = {{"event": event, "program": sys.orig_argv, "where": where}}
    os.write(_fd, json.dumps(line).encode() + b"\\n")

sys.addaudithook(_record)
sys.audit("assent.begun")
"""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Notes the network calls of the processes that get `env`, in a file below *folder*."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What has to be in a process's environment for it to be heard."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(_HOOK.format(path=str(self._file)))
        before = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join(filter(None, (str(self.folder), before)))}

    @property
    def programs(self) -> set[str]:
        """The modules (`python -m MODULE`) that were heard at all."""
        lines = [each["program"] for each in self._lines()]
        return {words[words.index("-m") + 1] for words in lines if "-m" in words}

    @property
    def reached(self) -> set[tuple[str, ...]]:
        """Where they wanted to go: host and port of every connect, send and name lookup."""
        begun_or_bound = ("assent.begun", "socket.bind")
        return {where(each) for each in self._lines() if each["event"] not in begun_or_bound}

    @property
    def bound(self) -> set[tuple[str, ...]]:
        """Which addresses they took for themselves; port 0 is any."""
        return {where(each) for each in self._lines() if each["event"] == "socket.bind"}

    @property
    def _file(self) -> Path:
        return self.folder / "calls.jsonl"

    def _lines(self) -> list[dict[str, Any]]:
        lines = self._file.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # of the last one, half may be written


def where(line: dict[str, Any]) -> tuple[str, ...]:
    """Return the address of a recorded call."""
    return tuple(map(str, line["where"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class InternetSocket:
    """A line of the kernel's tables: addresses in its hexadecimal, `state` 0A is listening."""

    table: str
    local: str
    remote: str
    state: str


def internet_sockets(pids: Iterable[int]) -> set[InternetSocket]:
    """Return the internet sockets that these processes hold now (for others' needs root)."""
    found = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            held = _sockets_of(pid)
            found |= {sock for inode, sock in _tables(pid) if inode in held}
    return found


def names_that_listen(pids: Iterable[int]) -> set[str]:
    """Return the names of the Unix sockets on which these processes wait for others.

    A name that begins with @ is an abstract one (unix(7)); it lies in no folder.
    """
    held: set[str] = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            held |= _sockets_of(pid)
    rows = (row.split() for row in Path("/proc/net/unix").read_text("ascii").splitlines()[1:])
    listening = [row for row in rows if int(row[3], 16) & LISTENS and row[6] in held]
    return {row[7] if len(row) > 7 else "" for row in listening}


def address(port: int) -> str:
    """Return 127.0.0.1 and *port* as the kernel's tables have them."""
    return f"0100007F:{port:04X}"


def _sockets_of(pid: int) -> set[str]:
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            kind, _, inode = str(descriptor.readlink()).partition(":")
            if kind == "socket":
                held.add(inode.strip("[]"))
    return held


def _tables(pid: int) -> Iterable[tuple[str, InternetSocket]]:
    for table in TABLES:
        with contextlib.suppress(FileNotFoundError):  # a kernel without that protocol
            lines = Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()
            for line in lines[1:]:
                columns = line.split()
                _number, local, remote, state = columns[:4]
                sock = InternetSocket(table=table, local=local, remote=remote, state=state)
                yield columns[9], sock
