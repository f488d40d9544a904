"""The owner's end: a request that a worker holds, as an ASGI application sees it.

`Tunnel` is one worker.  Each request that it opens runs through the application like any
other; the body of an upload is not read by the application, but taken in by the worker
(`Elsewhere`), which the endpoint finds in the scope.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Scope

from base.errors import RetryableError
from base.logs import TRACE
from collector.ingest.intake import EXTENSION, Account, Ahead, Bounds
from collector.refusal import RefusedError, Why
from collector.workers.line import Line
from collector.workers.messages import (
    Answer,
    Begin,
    Chunk,
    Done,
    Failed,
    Gone,
    Headers,
    Later,
    Logged,
    More,
    Opened,
    Part,
    Pong,
    Refused,
    Store,
    Stored,
    Take,
    Taken,
    TooSlow,
    Whole,
    Word,
)
from wire.ids import BatchHash

_log = logging.getLogger(__name__)


class Tunnel:
    """What one worker holds open."""

    def __init__(self, app: ASGIApp, ended: Callable[[], None]) -> None:
        """*ended* is called once, when the worker is gone."""
        self._app = app
        self._ended = ended
        self._open: dict[int, _Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.words = 0  # that were heard from it
        self.line: Line[Word] = Line(Word, self._heard, self._lost)

    def _heard(self, word: Word) -> None:
        self.words += 1
        match word:
            case Opened():
                request = _Request(self.line, word.number)
                self._open[word.number] = request
                task = asyncio.create_task(self._run(request, _scope(word, request)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case Pong():
                pass  # it was counted
            case Logged():
                log, more = logging.getLogger(word.where), {TRACE: word.trace}
                log.log(word.level, word.message, *word.values, extra=more)
            case _:
                if (known := self._open.get(word.number)) is not None:
                    known.answered(word)

    def _lost(self) -> None:
        """Let whoever waits for this worker know that nothing comes."""
        for number, request in self._open.items():
            request.answered(Gone(number))
        self._ended()

    async def _run(self, request: "_Request", scope: Scope) -> None:
        try:
            await self._app(scope, request.receive, request.send)
        except ClientDisconnect:
            pass
        except Exception:  # noqa: BLE001 - whatever it was, it is of this request alone
            _log.exception("a request failed")
        finally:
            request.finish()
            del self._open[request.number]


def _intake(request: "_Request", taken: Taken | None) -> "Elsewhere":
    if taken is None:
        return Elsewhere(request)
    ahead = Ahead(taken.account, taken.began, taken.key)
    size = taken.account.size_bytes
    return Elsewhere(request, ahead, size_bytes=size, belonged=True, mark=taken.mark)


def _scope(opened: Opened, request: "_Request") -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": opened.http_version,
        "method": opened.method,
        "scheme": "https",
        "path": opened.path,
        "raw_path": opened.raw_path,
        "query_string": opened.query,
        "root_path": "",
        "headers": opened.headers,
        "client": opened.client,
        "server": opened.server,
        "state": {"client_cert": opened.certificate},
        EXTENSION: _intake(request, opened.taken),
    }


class _Request:
    """One request: asks the worker one thing at a time."""

    def __init__(self, line: Line[Word], number: int) -> None:
        self.line = line
        self.number = number
        self._waits: asyncio.Future[Answer] | None = None
        self._head: tuple[int, Headers] = (HTTPStatus.INTERNAL_SERVER_ERROR, [])
        self._begun = self._ended = False
        self._is_gone = False
        self.settle = self.ahead = False  # said with the answer

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, Gone):
            self._is_gone = True
        if self._waits is not None and not self._waits.done():
            self._waits.set_result(answer)

    async def ask(self, order: More | Take | Store) -> Answer:
        if self._is_gone:
            return Gone(self.number)
        self._waits = asyncio.get_running_loop().create_future()
        self.line.say(order)
        try:
            return await self._waits
        finally:
            self._waits = None

    async def receive(self) -> Message:
        match await self.ask(More(self.number)):
            case Chunk(body=body, more=more):
                return {"type": "http.request", "body": body, "more_body": more}
            case TooSlow():
                raise TimeoutError
            case _:
                return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = message["status"], list(message["headers"])
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._begun:
            self.line.say(Part(self.number, body, more))
        elif more:
            self._begun = True
            self.line.say(Begin(self.number, *self._head))
            self.line.say(Part(self.number, body, more))
        else:
            self._say_whole(body)
            self._ended = True

    def finish(self) -> None:
        """Let the worker forget it; a defect before the first word of an answer is said."""
        if self._ended:
            return
        if self._begun:
            self.line.say(Done(self.number))
        else:
            self._say_whole(b"")

    def _say_whole(self, body: bytes) -> None:
        self.line.say(Whole(self.number, *self._head, body, self.settle, self.ahead))


@dataclass(slots=True)
class Elsewhere:
    """Takes the frame of a request in, at the worker that holds the connection."""

    _request: _Request
    ahead: Ahead | None = None
    size_bytes: int = 0
    belonged: bool = False
    mark: str = ""

    async def taken(self, key: Ed25519PublicKey, batch: BatchHash, bounds: Bounds) -> Account:
        """Steps 3 to 5."""
        number, raw = self._request.number, key.public_bytes_raw()
        answer = await self._request.ask(Take(number=number, key=raw, batch=batch, bounds=bounds))
        if isinstance(answer, Taken):
            self.size_bytes, self.mark = answer.account.size_bytes, answer.mark
            self.belonged = answer.stored
            return answer.account
        raise self._why_not(answer)

    async def store_it(self) -> None:
        """Put it into the store."""
        if not self.belonged:
            answer = await self._request.ask(Store(self._request.number))
            if not isinstance(answer, Stored):
                raise self._why_not(answer)
            self.mark = answer.mark

    async def settle(self, *, ahead: bool = False) -> None:
        """Say so with the answer; if the worker is gone, the mark stays until marks are looked at.

        A worker that was not asked for the key takes nothing in ahead of being asked.
        """
        self._request.settle, self._request.ahead = True, ahead

    def _why_not(self, answer: Answer) -> Exception:
        match answer:
            case Refused(why=why, line=line, size_bytes=size_bytes):
                self.size_bytes = size_bytes
                return RefusedError(Why[why], line)
            case Later(line=line, size_bytes=size_bytes):
                self.size_bytes = size_bytes
                return RetryableError(line)
            case TooSlow():
                return TimeoutError()
            case Failed(size_bytes=size_bytes):
                self.size_bytes = size_bytes
                return RuntimeError("a worker failed; its trace stands above")
            case _:
                return ClientDisconnect()
