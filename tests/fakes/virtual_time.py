"""An event loop in whose time nothing waits: when all that is to be done is done, the next is due.

What runs in it is real, timers, time-outs and polls included; ten thousand agents go through
half a minute in as long as their work takes.  What would go to a worker thread is done at once.
"""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

from base.clock import NANOSECONDS, Now


class _Passing(selectors.DefaultSelector):
    """Lets the loop's time pass instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is left that could ever happen"
            self.passed += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `time` begins at 0."""

    def __init__(self) -> None:
        self._passing = _Passing()
        super().__init__(self._passing)

    def time(self) -> float:
        return self._passing.passed

    def run_in_executor(
        self, executor: object, func: Callable[..., Any], *args: object
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - whatever it is, the one who waits gets it
            future.set_exception(exc)
        return future


class VirtualClock:
    """The clocks of a machine on which a virtual loop runs; the wall clock begins now."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._began = time.time_ns()

    def now(self) -> Now:
        passed = int(self._loop.time() * NANOSECONDS)
        return Now(boot=1_000 * NANOSECONDS + passed, wall=self._began + passed, boot_id="one")
