"""What a drill is answered: whether, and how much, never what.

Stands around the application.  A request of a drill is one with its mark, or one whose
certificate turned out to be a drill's.  If anything but a refusal comes back, the bytes stay here.
"""

import threading
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.metrics import UNCOUNTED
from collector.drill.identities import MARK, is_marked
from collector.index import Index
from wire.ids import WallInstant

DRILL: Final = UNCOUNTED  # in the scope of a drill's request
_MARK: Final = MARK.encode()
_REFUSALS: Final = range(400, 600)
_KEPT: Final = 64  # marks that were looked up


class Muted:
    """Takes the body out of what *app* answers to a drill."""

    def __init__(self, app: ASGIApp, index: Index, now: Callable[[], WallInstant]) -> None:
        """Stand around *app*; marks are those that *index* knows."""
        self._app, self._index, self._now = app, index, now
        self._lock = threading.Lock()
        self._known: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let *app* answer."""
        mark = next((value for name, value in scope["headers"] if name == _MARK), None)
        if mark is not None and await self._is_ours(mark.decode("latin-1")):
            scope[DRILL] = True
        taken = 0
        start: Message | None = None

        async def muted(message: Message) -> None:
            nonlocal taken, start
            if message["type"] == "http.response.start" and _is_answered(scope, message):
                start = message
                return
            if start is None:
                await send(message)
                return
            taken += len(message.get("body", b""))
            if not message.get("more_body"):
                await send(_without(start, taken))
                await send({"type": "http.response.body", "body": b""})

        await self._app(scope, receive, muted)

    async def _is_ours(self, mark: str) -> bool:
        if mark in self._known:
            return True
        if not await run_in_threadpool(self._look, mark):
            return False
        with self._lock:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known.add(mark)
        return True

    def _look(self, mark: str) -> bool:
        with self._index.reading() as connection:
            return is_marked(connection, mark, self._now())


def _is_answered(scope: Scope, message: Message) -> bool:
    return bool(scope.get(DRILL)) and message["status"] not in _REFUSALS


def _without(start: Message, taken: int) -> Message:
    """Return the head of an answer whose *taken* bytes were taken out."""
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers += [(b"content-length", b"0"), (_MARK, str(taken).encode())]
    return {**start, "headers": headers}
