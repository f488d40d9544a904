"""Many requests, one transaction: group commit.

A sync of the disk, or a question to the index, costs the same for one upload as for fifty.
`Grouped` lets those that come while a group is under way wait for the next one; where there
is only one, it waits for nobody.  Once there were several, the next group waits for a moment
for more: a machine that is busy does less work then, and one that is not has time for that.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar

from base.errors import AssentError

Q = TypeVar("Q")
A = TypeVar("A")

MOST: Final = 64  # so that nobody waits for long behind one group
GATHERING_SECONDS: Final = 0.003  # less than the sync of a disk

Outcome: TypeAlias = A | AssentError
"""What becomes of one of a group; an error is of that one alone."""


@dataclass(slots=True)
class _Waiting(Generic[Q, A]):
    question: Q
    answer: asyncio.Future[A]


@dataclass(kw_only=True)
class Grouped(Generic[Q, A]):
    """Puts questions to *act*, several at a time, in a thread.  Belongs to one event loop.

    What *act* raises is everybody's when it is said of ours (the disk is full); a defect is
    looked for alone: each of the group is then asked by itself, so that only who has it fails.
    """

    act: Callable[[Sequence[Q]], Sequence[Outcome[A]]]
    most: int = MOST
    gathering_seconds: float = GATHERING_SECONDS
    _waiting: list[_Waiting[Q, A]] = field(default_factory=list)
    _task: "asyncio.Task[None] | None" = None
    _last: int = 0  # how many there were in the group before
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "group"))

    async def ask(self, question: Q) -> A:
        """Return the answer to *question*.

        Raises:
            AssentError: What became of it.

        """
        one: _Waiting[Q, A] = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._task is None:
            self._task = asyncio.create_task(self._go_on())
        return await one.answer

    def close(self) -> None:
        """Wait for the group that is under way; there is no next one."""
        self._thread.shutdown()

    async def _go_on(self) -> None:
        try:
            while self._waiting:
                if self._last > 1 and len(self._waiting) < self.most:
                    await asyncio.sleep(self.gathering_seconds)
                group, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
                self._last = len(group)
                await self._answer(group)
        finally:
            self._task = None

    async def _answer(self, group: Sequence[_Waiting[Q, A]]) -> None:
        try:
            questions = [one.question for one in group]
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._thread, self.act, questions)
        except AssentError as exc:
            outcomes = [exc] * len(group)
        except Exception as exc:  # noqa: BLE001 - each is told; a defect is raised again there
            if len(group) > 1:
                for one in group:
                    await self._answer([one])
                return
            _tell(group[0], exc)
            return
        for one, outcome in zip(group, outcomes, strict=True):
            _tell(one, outcome)


def _tell(one: _Waiting[Q, A], outcome: A | Exception) -> None:
    if one.answer.done():  # who asked is gone
        return
    if isinstance(outcome, Exception):
        one.answer.set_exception(outcome)
    else:
        one.answer.set_result(outcome)
