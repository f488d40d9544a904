"""Every order in which the steps of several parties can come, one after the other.

A party is a function that runs in a thread of its own and says `comes` before each of its
steps; then it waits for its turn.  `every_order` runs the parties again and again, until each
order has been taken once.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

Party: TypeAlias = Callable[[Callable[[], None]], None]

PATIENCE_SECONDS = 60.0


class Turns:
    """One run, in the order that begins with these choices."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order
        self.taken: list[int] = []
        self.options: list[int] = []
        self.errors: list[BaseException] = []
        self._ours = threading.Semaphore(0)

    def run(self, parties: Sequence[Party]) -> None:
        """Let the parties run to their ends."""
        theirs = [threading.Semaphore(0) for _ in parties]
        alive = list(range(len(parties)))

        def live(number: int) -> None:
            def comes() -> None:
                self._ours.release()
                assert theirs[number].acquire(timeout=PATIENCE_SECONDS)

            try:
                assert theirs[number].acquire(timeout=PATIENCE_SECONDS)
                parties[number](comes)
            except BaseException as exc:  # noqa: BLE001 - raised again by who runs us
                self.errors.append(exc)
            alive.remove(number)
            self._ours.release()

        threads = [threading.Thread(target=live, args=(number,)) for number in alive]
        for thread in threads:
            thread.start()
        while alive:
            at = len(self.taken)
            choice = self._order[at] if at < len(self._order) else 0
            self.options.append(len(alive))
            self.taken.append(choice)
            theirs[alive[choice]].release()
            assert self._ours.acquire(timeout=PATIENCE_SECONDS)
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        if self.errors:
            raise self.errors[0]


def every_order(begin: Callable[[], Sequence[Party]]) -> Iterator[list[int]]:
    """Yield after each run the order that was taken; *begin* lays out a new one."""
    order: list[int] | None = []
    while order is not None:
        turns = Turns(order)
        turns.run(begin())
        yield turns.taken
        order = None
        for at in range(len(turns.taken) - 1, -1, -1):
            if turns.taken[at] + 1 < turns.options[at]:
                order = [*turns.taken[:at], turns.taken[at] + 1]
                break
