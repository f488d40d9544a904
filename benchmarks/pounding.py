"""A client that costs next to nothing: prepared frames over TLS connections that stay open.

Each connection has the certificate of one device and one request under way: head and frame are
written at once, the next one when the answer is here.  The frames of a device differ in their
number and signature only, so that a hundred thousand of them take no room; they are signed
before the clock runs.  One process does it for all connections, without a thread.
"""

import hashlib
import multiprocessing
import os
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.frame import ALGORITHM, LABEL, join_unsigned, trailer

READ_BYTES: Final = 64 << 10
SEND_BUFFER_BYTES: Final = 1 << 20  # a frame of 64 KiB leaves in one go
WAIT_SECONDS: Final = 120.0
PER_CENT: Final = 100


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Whose frames these are: certificate and key as files, what its frames have in common."""

    certificate: str
    key: str
    signing: bytes
    core: bytes
    shelf: bytes


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which server on this machine, by whose certificate."""

    port: int
    authority: str  # PEM


class Pounded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seconds: float
    done: int
    statuses: dict[int, int]
    client_cpu_seconds: float
    waits_ms: list[float]  # each percentile from the 0th to the 100th

    @property
    def rate(self) -> float:
        """Requests a second that were answered with 201."""
        return self.statuses.get(201, 0) / self.seconds


class Frames:
    """The frames of one device, numbered on."""

    def __init__(self, device: Device, size_bytes: int, first: int) -> None:
        body = os.urandom(size_bytes)
        self._unsigned = join_unsigned(device.core, device.shelf, body)
        self._key = Ed25519PrivateKey.from_private_bytes(device.signing)
        self._hash = hashlib.sha256(self._unsigned)
        parts = (device.core, device.shelf, body)
        self._digests = b"".join(hashlib.sha256(part).digest() for part in parts)
        self._number = first

    def next(self) -> tuple[bytes, bytes]:
        """Return name and trailer of a new frame."""
        message = LABEL + ALGORITHM + self._number.to_bytes(8) + self._digests
        tail = trailer(self._number, self._key.sign(message))
        self._number += 1
        whole = self._hash.copy()
        whole.update(tail)
        return whole.hexdigest().encode(), tail

    def request(self, name: bytes, tail: bytes) -> bytes:
        """Return all bytes of one request."""
        length = len(self._unsigned) + len(tail)
        head = b"PUT /v1/batches/%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
        return head % (name, length) + self._unsigned + tail


class _Line:
    """One connection."""

    def __init__(self, target: Target, device: Device, frames: Frames) -> None:
        context = ssl.create_default_context(cadata=target.authority)
        context.load_cert_chain(device.certificate, device.key)
        plain = socket.create_connection(("127.0.0.1", target.port), WAIT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.frames = frames
        self.prepared: list[tuple[bytes, bytes]] = []
        self.began = 0.0

    def send(self) -> None:
        name, tail = self.prepared.pop()
        self.began = time.perf_counter()
        self.socket.sendall(self.frames.request(name, tail))

    def answer(self) -> int:
        """Return the status of the answer, read to its end."""
        read = self.socket.recv(READ_BYTES)
        head, _, body = read.partition(b"\r\n\r\n")
        if not body and not read.endswith(b"\r\n\r\n"):
            raise RuntimeError(f"the server hung up, or said {read[:200]!r}")
        left = _length(head) - len(body)
        while left > 0:
            left -= len(self.socket.recv(left))
        return int(head[9:12])


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def pound(
    target: Target,
    devices: Sequence[Device],
    *,
    size_bytes: int,
    connections: int,
    requests: int,
    first: int,
    processes: int = 1,
) -> Pounded:
    """Send so many new frames, shared out among the connections; numbers begin with *first*."""
    context = multiprocessing.get_context("spawn")
    ends, children = [], []
    for number in range(processes):
        ours, theirs = context.Pipe()
        mine = [devices[at % len(devices)] for at in range(number, connections, processes)]
        many = requests // processes
        order = (target, mine, size_bytes, many, first + number * many)
        children.append(context.Process(target=_child, args=(theirs, *order)))
        children[-1].start()
        theirs.close()
        ends.append(ours)
    for end in ends:
        end.recv_bytes()  # all are prepared and connected
    for end in ends:
        end.send_bytes(b"go")
    found = [msgspec.json.decode(end.recv_bytes(), type=Pounded) for end in ends]
    for child in children:
        child.join(WAIT_SECONDS)
    return _together(found)


def _together(found: Sequence[Pounded]) -> Pounded:
    statuses: Counter[int] = Counter()
    for one in found:
        statuses.update(one.statuses)
    return Pounded(
        seconds=max(one.seconds for one in found),
        done=sum(one.done for one in found),
        statuses=dict(statuses),
        client_cpu_seconds=sum(one.client_cpu_seconds for one in found),
        waits_ms=[
            sum(at) / len(found) for at in zip(*(one.waits_ms for one in found), strict=True)
        ],
    )


def _child(
    parent: Connection,
    target: Target,
    devices: Sequence[Device],
    size_bytes: int,
    requests: int,
    first: int,
) -> None:
    frames: dict[Device, Frames] = {}
    for at, device in enumerate(dict.fromkeys(devices)):
        frames[device] = Frames(device, size_bytes, first + at * requests)
    lines = [_Line(target, device, frames[device]) for device in devices]
    for at in range(requests):
        line = lines[at % len(lines)]
        line.prepared.append(line.frames.next())
    parent.send_bytes(b"prepared")
    parent.recv_bytes()
    parent.send_bytes(msgspec.json.encode(_run(lines, requests)))
    for line in lines:
        line.socket.close()


def _run(lines: Sequence[_Line], requests: int) -> Pounded:
    statuses: Counter[int] = Counter()
    waits: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    for line in lines:
        if line.prepared:
            line.send()
    for line in _answered(lines, requests):
        statuses[line.answer()] += 1
        waits.append(time.perf_counter() - line.began)
        if line.prepared:
            line.send()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    waits.sort()
    last = len(waits) - 1
    return Pounded(
        seconds=seconds,
        done=len(waits),
        statuses=dict(statuses),
        client_cpu_seconds=cpu,
        waits_ms=[waits[last * at // PER_CENT] * 1e3 for at in range(PER_CENT + 1)],
    )


def _answered(lines: Sequence[_Line], requests: int) -> Iterator[_Line]:
    """Yield whichever connection has an answer, until there were so many."""
    found = {line.socket.fileno(): line for line in lines}
    left = requests
    with select.epoll() as poll:
        for number in found:
            poll.register(number, select.EPOLLIN)
        while left:
            ready = poll.poll(WAIT_SECONDS)
            if not ready:
                raise RuntimeError(f"no answer for {WAIT_SECONDS:.0f} s, {left} are missing")
            for number, _ in ready:
                left -= 1
                yield found[number]
