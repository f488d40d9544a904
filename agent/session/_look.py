"""One look at the session, for `doctor`: a watch that is ended as soon as it has spoken."""

import asyncio
from collections.abc import Callable
from typing import Final

from agent.session import SessionHost, SessionSeen, SessionWatch

LONGEST_SECONDS: Final = 5.0


class _Listener:
    def __init__(self) -> None:
        self.seen = SessionSeen()
        self.proved = asyncio.Event()

    def on_session(self, seen: SessionSeen) -> None:
        self.seen = seen
        if seen.ours() is not None:
            self.proved.set()

    async def hush(self) -> None:
        return


async def first_word(watch: Callable[[SessionHost], SessionWatch]) -> SessionSeen:
    """Return what *watch* says once it is sure, or what it says after all when it never is."""
    listener = _Listener()
    watching = asyncio.create_task(watch(listener).run())
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await listener.proved.wait()
    except TimeoutError:
        pass
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return listener.seen
