"""Spans of leaves, looked at side by side: one process for each processor, results in order."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from governance.audit.reading import Bundle
from wire import audit

G = TypeVar("G")
R = TypeVar("R")
Progress: TypeAlias = Callable[[str, int, int], None]  # what, how many leaves, of how many
_OURS: Final[list[Any]] = []  # of a child: what to do, the bundle, the size, what is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Looks at the spans of one bundle; with one process, or one span, in this process."""

    bundle: Bundle
    processes: int
    progress: Progress

    def over(
        self, what: str, look: Callable[[Bundle, int, int, G], R], size: int, given: G
    ) -> Iterator[R]:
        """Yield what *look* says of each span of *size* leaves, in order; *what* is for a person.

        Processes are new for each call, since *given* can be large: each is told it once.
        """
        spans = -(-size // audit.SPAN)
        processes = min(self.processes, spans)
        if processes <= 1:
            seen = (look(self.bundle, span, size, given) for span in range(spans))
            yield from self._counted(what, seen, size)
            return
        with ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(look, self.bundle, size, given),
        ) as pool:
            yield from self._counted(what, pool.map(_one, range(spans)), size)

    def _counted(self, what: str, seen: Iterator[R], size: int) -> Iterator[R]:
        self.progress(what, 0, size)
        for number, each in enumerate(seen, 1):
            yield each
            self.progress(what, min(number * audit.SPAN, size), size)


def _begin(*ours: object) -> None:
    _OURS[:] = ours


def _one(span: int) -> Any:  # noqa: ANN401 - what the look returns
    look, bundle, size, given = _OURS
    return look(bundle, span, size, given)
