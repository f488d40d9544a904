"""Where sealed batches lie, by their hash, written once.

`BodyStore` is what `receive`, `forget` and `frames` know; behind it is `files`, the default, or
`s3`; `opening` chooses.  What every store has to keep (tests/contracts holds each to it):

- `put` is create-only and durable when it returns; putting the same bytes again changes
  nothing, and two at the same time are one;
- between `put` and `settle` a batch is *unsettled*: a crash leaves it in `unsettled`, and
  the next start decides by the index whether it stays;
- deciding that takes nothing away that somebody else, on the same store, is just taking in;
- `remove` is durable, and removing what is not there is no error.

What comes out of `get` is checked against its hash by the reader, who verifies the frame; a
store of somebody else's is no more trusted than the collector is.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from wire.ids import BatchHash
from wire.tlog import HASH_BYTES


def batch_named(text: str) -> BatchHash | None:
    """Return the batch of that name, or None: somebody else may have put anything there."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return BatchHash(digest) if len(digest) == HASH_BYTES and digest.hex() == text else None


class BodyStore(Protocol):
    """Keeps frames; knows nothing of what they are."""

    def put(self, batch: BatchHash, frame: bytes) -> "Unsettled":
        """Store *frame* durably.

        Raises:
            OSError: Not stored, or stored without being sure of it; the disk may be full.
            AssentError: The same, because the store is away or does not let us in.

        """
        ...

    def free_bytes(self) -> int | None:
        """Return how much more can be stored, or None where nobody can tell."""
        ...

    def get(self, batch: BatchHash) -> bytes | None:
        """Return the frame, or None when it is not here.

        Raises:
            AssentError: The store is away or does not let us in, so nobody knows.

        """
        ...

    def remove(self, batch: BatchHash) -> None:
        """Remove the frame, durably, if it is here.

        Raises:
            AssentError: It may still be here.

        """
        ...

    def unsettled(self) -> Iterable["Unsettled"]:
        """Return what is between `put` and `settle` now, or was when a process was killed."""
        ...


@runtime_checkable
class PutsTogether(Protocol):
    """A store for which several frames at once are less work than one after the other."""

    def put_all(self, frames: Sequence[tuple[BatchHash, bytes]]) -> "Sequence[Unsettled | OSError]":
        """Do what `put` does for each; an error is of that one alone."""
        ...

    def marked(self, name: str) -> "Unsettled":
        """Return the mark of that name, which another process of this collector made."""
        ...


class Marked(Protocol):
    """A frame that has just been stored; the index may not know of it yet."""

    @property
    def batch(self) -> BatchHash:
        """Whose mark this is."""
        ...

    @property
    def name(self) -> str:
        """What tells it from the other marks of its batch."""
        ...

    def settle(self) -> None:
        """Take the mark away: the index knows the frame, or the frame is gone.

        A mark that cannot be taken away is settled by the next start.
        """
        ...


class Unsettled(Marked, Protocol):
    """The same, found again: whoever stored it may be dead."""

    def resolve(self, known: Callable[[BatchHash], bool]) -> bool:
        """Remove the frame unless the index *knows* it, then settle; return whether it is gone.

        Raises:
            AssentError: Nobody knows whether it is gone; the mark stays.

        """
        ...
