"""How soon a child that ended is started again: in virtual time, nothing waits."""

import asyncio
import socket
from collections.abc import Iterable

from agent.children import BACK_OFF_SECONDS, STEADY_SECONDS, Started, Supervised
from tests.fakes.virtual_time import VirtualLoop


def waits(lives: Iterable[float]) -> list[float]:
    """Return how long after each end of a child that lived so long the next one was started."""
    started: list[float] = []
    ended: list[float] = []

    async def story() -> None:
        loop, left, over = asyncio.get_running_loop(), list(lives), asyncio.Event()

        async def start(module: str) -> Started:
            started.append(loop.time())
            ours, theirs = socket.socketpair()
            theirs.close()
            end: asyncio.Future[int] = loop.create_future()
            if left:
                loop.call_later(left.pop(0), end.set_result, 1)
            else:
                over.set()
            return Started(channel=ours, pid=1, ended=end, kill=lambda: end.set_result(-9))

        def on_end(child: Started) -> None:
            ended.append(loop.time())
            child.channel.close()

        child = Supervised("tray", start)
        child.begin(lambda _child: None, on_end)
        await over.wait()
        await child.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())
    return [round(after - end, 6) for end, after in zip(ended, started[1:], strict=True)]


def test_a_child_that_keeps_ending_is_started_later_each_time() -> None:
    """As far as the longest wait, which is then the wait for ever."""
    assert waits([0.0] * 8) == [*BACK_OFF_SECONDS, BACK_OFF_SECONDS[-1], BACK_OFF_SECONDS[-1]]


def test_after_a_steady_life_the_waits_begin_anew() -> None:
    """The first end after hours of work is no reason for half a minute without a light."""
    steady = STEADY_SECONDS + 1
    assert waits([steady, 0.0, 0.0, steady, steady]) == [0.5, 1.0, 2.0, 0.5, 0.5]
