"""A source whose events a test writes itself; it passes the contract suite of real sources."""

import os
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from agent.capture import SourceError
from wire.ids import BootInstant

T = TypeVar("T")


class ScriptedSource(Generic[T]):
    """Yields what `happen` was given, while it is open; `refuse` makes opening fail."""

    def __init__(self, *, refuse: str = "") -> None:
        self._refuse = refuse
        self._pipe: tuple[int, int] | None = None
        self._waiting: deque[T] = deque()
        self.failure = ""

    def open(self) -> None:
        if self._refuse:
            raise SourceError(self._refuse)
        self._pipe = os.pipe2(os.O_NONBLOCK)

    def happen(self, *events: T) -> None:
        """Let *events* happen; while closed they happen unseen."""
        if self._pipe is not None:
            self._waiting.extend(events)
            os.write(self._pipe[1], b"\0" * max(1, len(events)))

    def fail(self, why: str) -> None:
        """End as a source does whose platform went away."""
        self.failure = why
        if self._pipe is not None:
            os.write(self._pipe[1], b"\0")

    def fileno(self) -> int:
        return self._ends()[0]

    def due(self) -> BootInstant | None:
        return None

    def drain(self) -> Iterator[T]:
        reading, _ = self._ends()
        if self.failure:
            raise SourceError(self.failure)
        try:
            os.read(reading, 1 << 16)
        except BlockingIOError:
            return
        while self._waiting:
            yield self._waiting.popleft()

    def close(self) -> None:
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
        self._pipe = None
        self._waiting.clear()

    def _ends(self) -> tuple[int, int]:
        if self._pipe is None:
            raise SourceError("the scripted source is closed")
        return self._pipe
