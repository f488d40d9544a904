"""Where sealed batches lie, by their hash, written once.

`BodyStore` is what `receive`, `forget` and `frames` know; `files` is the default behind it.
What every store has to keep (tests/contracts holds each to it):

- `put` is create-only and durable when it returns; putting the same bytes again changes
  nothing, and two at the same time are one;
- between `put` and `settle` a batch is *unsettled*: a crash leaves it in `unsettled`, and
  the next start decides by the index whether it stays;
- `remove` is durable, and removing what is not there is no error.
"""

from collections.abc import Iterable
from typing import Protocol

from wire.ids import BatchHash


class BodyStore(Protocol):
    """Keeps frames; knows nothing of what they are."""

    def put(self, batch: BatchHash, frame: bytes) -> "Unsettled":
        """Store *frame* durably.

        Raises:
            OSError: Not stored, or stored without being sure of it; the disk may be full.

        """
        ...

    def free_bytes(self) -> int | None:
        """Return how much more can be stored, or None where nobody can tell."""
        ...

    def get(self, batch: BatchHash) -> bytes | None:
        """Return the frame, or None when it is not here."""
        ...

    def remove(self, batch: BatchHash) -> None:
        """Remove the frame, durably, if it is here."""
        ...

    def unsettled(self) -> Iterable["Unsettled"]:
        """Return what a crash left between `put` and `settle`; asked at start only."""
        ...


class Unsettled(Protocol):
    """A stored frame of which the index may not know yet."""

    @property
    def batch(self) -> BatchHash:
        """Whose mark this is."""
        ...

    def settle(self) -> None:
        """Take the mark away: the index knows the frame, or the frame is gone."""
        ...
