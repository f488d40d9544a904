"""The gate before ingest: no batch is taken before the first drill of this process has passed.

A server begins with it shut; what the devices hand in meanwhile waits on the devices.
"""

import threading
from typing import Final

from collector.refusal import RefusedError, Why

SOON_SECONDS: Final = 15  # a first drill takes a few; then the devices may come


class Gate:
    """Shut until `open`; never shut again: from then on a drill that fails is a stop."""

    def __init__(self, *, is_open: bool = False) -> None:
        """Begin shut, as a server does, or open, where nobody else can connect."""
        self._opened = threading.Event()
        if is_open:
            self._opened.set()

    def open(self) -> None:
        """Let batches in: a drill has passed."""
        self._opened.set()

    @property
    def is_open(self) -> bool:
        """Whether batches are let in."""
        return self._opened.is_set()

    def check(self) -> None:
        """Check that batches are let in.

        Raises:
            RefusedError: No drill has passed yet since this process began.

        """
        if not self.is_open:
            raise RefusedError(
                Why.UNDRILLED,
                "the first drill of this start has not passed yet; nothing is lost",
                retry_after_seconds=SOON_SECONDS,
            )
