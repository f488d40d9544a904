"""One worker: serves what the owner's applications answer, and takes in frames by itself.

Started by `collector.workers.crew` as `python -m collector.workers.worker`, with a listening
socket and the socket to its owner.  It ends when it is told to, and at once when its owner
is gone: nobody could answer then.
"""

import asyncio
import gc
import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from base import structs
from base.clock import SystemClock
from base.errors import AssentError
from base.logs import trace_of
from base.process import die_with_parent
from base.protocols import BODY_AHEAD_BYTES
from base.serving import Clients, Credentials, Listener
from collector.ingest.grouped import Grouped
from collector.ingest.intake import account_of, bounded, put, put_all, settle
from collector.premises import our_premises
from collector.refusal import RefusedError
from collector.store import BodyStore, Marked, PutsTogether
from collector.store.opening import open_store
from collector.workers.belonging import Belonging, Leave, Leaves
from collector.workers.line import Line
from collector.workers.messages import (
    Answer,
    Begin,
    Chunk,
    Done,
    Failed,
    Gone,
    Later,
    Logged,
    More,
    Opened,
    Order,
    Part,
    Ping,
    Pong,
    Refused,
    Stop,
    Store,
    Stored,
    Take,
    Taken,
    TooSlow,
    Whole,
)
from wire.frame import Core
from wire.ids import BatchHash
from wire.signatures import Signer

_log = logging.getLogger(__name__)
T = TypeVar("T")

PUTTING: Final = 8  # threads that wait for a store, one frame each
TOGETHER: Final = 16  # frames that one thread puts into a store that likes several at once
SETTLING_SECONDS: Final = 0.05  # so many marks are taken away together
GARBAGE: Final = (50_000, 50, 100)  # instead of 700, 10, 10: a twentieth of an upload's time
_UPLOAD: Final = re.compile(rb"/v1/batches/([0-9a-f]{64})")
_SMALL: Final = re.compile(rb"[0-9]{1,6}")
INLINE_BYTES: Final = 256 << 10  # what is verified in less time than a thread takes to be asked


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is started with, as JSON on its command line."""

    owner: int  # process id
    run: str  # its `collector.store.opening.RUN`
    line: int  # descriptor of the socket to it
    listener: int  # descriptor of the listening socket
    certificate: str
    key: str
    client_authority: str
    clients: str  # the name of a `Clients`
    log_level: int


class Worker:
    """The application that it serves.  Belongs to one event loop."""

    def __init__(self, store: BodyStore, patience: float, stop: Callable[[], None]) -> None:
        """*stop* is called when the owner says so; *patience* is in seconds, for a body."""
        self._store = store
        self._patience = patience
        self._stop = stop
        self._held: dict[int, _Held] = {}
        self._marks: dict[int, Marked] = {}
        self._next = 0
        self._threads = ThreadPoolExecutor(PUTTING, thread_name_prefix="store")
        self._together: Grouped[tuple[BatchHash, bytes], Marked] | None = None
        if isinstance(store, PutsTogether):
            act = partial(put_all, store)
            self._together = Grouped(act=act, most=TOGETHER, gathering_seconds=0)
        self._belonging = Belonging()
        self._leaves = Leaves()
        self._settling: list[Marked] = []
        self._clock = SystemClock()
        self.line: Line[Order] = Line(Order, self._ordered, _orphaned)

    def _ordered(self, order: Order) -> None:
        match order:
            case Stop():
                self._stop()
            case Ping():
                self.line.say(Pong())
            case _:
                if (held := self._held.get(order.number)) is not None:
                    held.orders.put_nowait(order)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the owner answer one request."""
        self._next += 1
        held = _Held(number=self._next, scope=scope, receive=receive)
        self._held[held.number] = held
        try:
            self.line.say(_opened(held.number, scope, await self._take_ahead(held)))
            while True:
                match await held.orders.get():
                    case Whole(status=status, headers=headers, body=body) as whole:
                        self._learn(held, whole)
                        start = {"status": status, "headers": headers}
                        await send({"type": "http.response.start", **start})
                        await send({"type": "http.response.body", "body": body})
                        return
                    case Begin(status=status, headers=headers):
                        start = {"status": status, "headers": headers}
                        await send({"type": "http.response.start", **start})
                    case Part(body=body, more=more):
                        part = {"body": body, "more_body": more}
                        await send({"type": "http.response.body", **part})
                    case Done():
                        return
                    case More() | Take() | Store() as order:
                        self.line.say(await self._answer(held, order))
                    case Stop() | Ping():
                        pass  # not about a request that is under way; never put in here
        finally:
            del self._held[held.number]
            self._marks.pop(held.number, None)  # not settled: it stays on the disk

    async def _take_ahead(self, held: "_Held") -> Taken | None:
        """Take in and store a small frame of who has leave to come so.

        What is wrong with it is told when it is asked for; None, too, if there is no leave.
        """
        batch, leave = _frame_ahead(held.scope), self._leaves.get(held.certificate)
        if batch is None or leave is None:
            return None
        order = Take(number=held.number, key=leave.key, batch=batch, bounds=leave.bounds)
        answer = await self._answer(held, order)
        if isinstance(answer, Taken) and answer.stored:
            return answer
        held.early = answer
        return None

    async def _answer(self, held: "_Held", order: More | Take | Store) -> Answer:
        number = held.number
        try:
            return await self._did(held, order)
        except RefusedError as exc:
            line = str(exc).removeprefix(f"{exc.why.label}: ")
            return Refused(number, exc.why.name, line, held.size_bytes)
        except AssentError as exc:  # of the store
            return Later(number, str(exc), held.size_bytes)
        except TimeoutError:
            return TooSlow(number)
        except ClientDisconnect:
            return Gone(number)
        except Exception:  # noqa: BLE001 - whatever it was, it is of this request alone
            _log.exception("a frame could not be taken in")
            return Failed(number, held.size_bytes)

    async def _did(self, held: "_Held", order: More | Take | Store) -> Answer:
        number = held.number
        match order:
            case More():
                async with asyncio.timeout(self._patience):  # the owner waits no longer, either
                    message = await held.receive()
                if message["type"] == "http.disconnect":
                    return Gone(number)
                return Chunk(number, message.get("body", b""), message.get("more_body", False))
            case Take():
                return await self._take(held, order)
            case Store():
                return Stored(number, await self._put(held))

    async def _take(self, held: "_Held", order: Take) -> Answer:
        if held.early is not None:
            return held.early
        held.leave = Leave(order.key, order.bounds)
        headers = held.scope["headers"]
        held.frame = await bounded(headers, held.receive, order.bounds)
        held.batch, held.size_bytes = order.batch, len(held.frame)
        given = (held.frame, held.batch, _signer(order.key))
        short = len(held.frame) <= INLINE_BYTES
        account = account_of(*given) if short else await self._in_thread(account_of, *given)
        held.core = account.core
        began = self._clock.now().boot
        taken = Taken(held.number, account, order.key, began)
        if not self._belonging.has(account.core):
            return taken
        return msgspec.structs.replace(taken, stored=True, mark=await self._put(held))

    async def _put(self, held: "_Held") -> str:
        """Put the frame into the store; return what `Stored` says."""
        frame, held.frame = held.frame, b""
        if self._together is None:
            mark = await self._in_thread(put, self._store, held.batch, frame)
        else:
            mark = await self._together.ask((held.batch, frame))
        self._marks[held.number] = mark
        return "" if self._together is None else mark.name

    def _learn(self, held: "_Held", whole: Whole) -> None:
        """Remember what was taken, forget what was not; and settle it, if that was said."""
        if whole.settle and (mark := self._marks.pop(held.number, None)) is not None:
            self._settle(mark)
        taken = whole.status in (HTTPStatus.OK, HTTPStatus.CREATED)
        if held.leave is None:
            return
        if taken and whole.ahead and self._together is not None:
            self._leaves.note(held.certificate, held.leave)
        else:
            self._leaves.forget(held.certificate)
        if held.core is None:
            return
        if taken:
            self._belonging.note(held.core)
        else:
            self._belonging.forget(held.core)

    def _settle(self, mark: Marked) -> None:
        """Take *mark* away, with those that come meanwhile: nobody waits for it."""
        self._settling.append(mark)
        if len(self._settling) == 1:
            asyncio.get_running_loop().call_later(SETTLING_SECONDS, self._settle_all)

    def _settle_all(self) -> None:
        marks, self._settling = self._settling, []
        self._threads.submit(settle, marks)

    async def _in_thread(self, act: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act, *given)

    def close(self) -> None:
        """Finish what the threads do, then hang up."""
        settle(self._settling)
        self._threads.shutdown()
        self.line.close()


@dataclass(kw_only=True, eq=False)
class _Held:
    """A request, and the frame that came with it."""

    number: int
    scope: Scope
    receive: Receive
    orders: "asyncio.Queue[Order]" = field(default_factory=asyncio.Queue)
    frame: bytes = b""
    size_bytes: int = 0
    batch: BatchHash = field(default=BatchHash(b""))
    core: Core | None = None
    leave: Leave | None = None  # as the owner gave it, or would
    early: Answer | None = None  # to what is not asked yet

    @property
    def certificate(self) -> bytes:
        """What its client showed, in DER; nothing: none."""
        return self.scope["state"]["client_cert"] or b""


@lru_cache(maxsize=1024)
def _signer(key: bytes) -> Signer:
    return Signer(Ed25519PublicKey.from_public_bytes(key))


def _frame_ahead(scope: Scope) -> BatchHash | None:
    """Return the batch of an upload that is small enough to be read before it is asked for."""
    named = _UPLOAD.fullmatch(scope["raw_path"])
    if scope["method"] != "PUT" or named is None or scope["query_string"]:
        return None
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if not _SMALL.fullmatch(announced) or int(announced) > BODY_AHEAD_BYTES:
        return None
    return BatchHash(bytes.fromhex(named[1].decode()))


def _opened(number: int, scope: Scope, taken: Taken | None) -> Opened:
    return Opened(
        number=number,
        method=scope["method"],
        path=scope["path"],
        raw_path=scope["raw_path"],
        query=scope["query_string"],
        headers=scope["headers"],
        http_version=scope["http_version"],
        client=scope["client"],
        server=scope["server"],
        certificate=scope["state"]["client_cert"],
        taken=taken,
    )


def _orphaned() -> NoReturn:
    """End at once: nobody could answer who is still here, and nothing was promised to them."""
    os._exit(0)


# --- the process ------------------------------------------------------------------------


class _ToOwner(logging.Handler):
    """Has the owner write the log, for two processes cannot rotate one file."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line[Order]) -> None:
        super().__init__()
        self._loop, self._line = loop, line

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line; its trace, if there is one, with it."""
        message, values = str(record.msg), _plain(record.args)
        trace = trace_of(record.exc_info[1]) if record.exc_info else ""
        said = Logged(record.levelno, record.name, message, values, trace)
        self._loop.call_soon_threadsafe(self._line.say, said)


def _plain(args: object) -> list[str | int | float]:
    if not isinstance(args, tuple):
        return []
    return [each if isinstance(each, int | float) else str(each) for each in args]


async def work(told: Told) -> None:
    """Serve until the owner says that it is enough."""
    listener = Listener.inherited(told.listener)
    credentials = Credentials(
        certificate=Path(told.certificate),
        key=Path(told.key),
        client_authority=Path(told.client_authority),
        clients=Clients[told.clients],
    )
    premises = our_premises()
    config = premises.config()
    store = open_store(premises, config, told.run, secrets.token_hex(8))
    worker = Worker(store, config.limits.body_seconds, listener.stop)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: worker.line, sock=socket.socket(fileno=told.line))
    root = logging.getLogger()
    root.setLevel(told.log_level)
    root.addHandler(_ToOwner(loop, worker.line))
    look_seldom()
    await listener.serve(worker, credentials)
    worker.close()


def look_seldom() -> None:
    """Let the garbage collector look seldom: what a request leaves behind is no cycle."""
    gc.freeze()  # what is there now stays: no need to look through it again and again
    gc.set_threshold(*GARBAGE)


def main() -> None:
    """Do what the command line says, which the owner wrote."""
    told = msgspec.json.decode(sys.argv[1], type=Told)
    die_with_parent(told.owner)
    for number in (signal.SIGTERM, signal.SIGINT):  # a terminal tells everybody; the owner decides
        signal.signal(number, signal.SIG_IGN)
    structs.learn()
    asyncio.run(work(told))


if __name__ == "__main__":
    main()
