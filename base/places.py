"""Places for bodies whose bytes are in memory: so many in all, and a part of them for one party.

Who waits for a place holds nothing: its body has not been asked for.  A device or reader that
sends many bodies slowly keeps itself waiting, and leaves the others room.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

SHARE: Final = 4  # of all places one party gets no more than a fourth


@dataclass(slots=True)
class _Mine:
    """What one party may take, as long as it has or wants any."""

    places: asyncio.Semaphore
    wanted: int = 0


class Places:
    """The places of one listener.  Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        """There are *most* in all, at least one."""
        self._all = asyncio.Semaphore(most)
        self._each = max(1, most // SHARE)
        self._of: dict[bytes, _Mine] = {}

    def __len__(self) -> int:
        """How many parties have a place or wait for one."""
        return len(self._of)

    @asynccontextmanager
    async def one(self, party: bytes) -> AsyncIterator[None]:
        """Take a place for a body of *party*, when there is one."""
        mine = self._of.setdefault(party, _Mine(asyncio.Semaphore(self._each)))
        mine.wanted += 1
        try:
            async with mine.places, self._all:
                yield
        finally:
            mine.wanted -= 1
            if not mine.wanted:
                del self._of[party]
