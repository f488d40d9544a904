"""A session that cannot be followed by signals: asked again and again, often enough.

What the platform answers is told only when it changes; an answer that cannot be had is
unknown.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from agent.session import SessionHost, SessionSeen

EVERY_SECONDS: Final = 0.1  # a lock takes longer to come up than that
UNANSWERED: Final = SessionSeen()


class PolledSession:
    """Asks *ask* ten times a second."""

    def __init__(self, host: SessionHost, ask: Callable[[], SessionSeen]) -> None:
        self._host = host
        self._ask = ask
        self._told: SessionSeen | None = None

    async def run(self) -> None:
        """Watch until cancelled; see `SessionWatch.run`."""
        while True:
            try:
                seen = self._ask()
            except OSError:
                seen = UNANSWERED
            if seen != self._told:
                self._told = seen
                self._host.on_session(seen)
            await asyncio.sleep(EVERY_SECONDS)
