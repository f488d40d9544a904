"""Numbers that never repeat on this device: of events in each category, and of batches.

`numbers.json` says what may have been used.  Event numbers are reserved in blocks, because
one write for each event would be too many; a crash skips the rest of a block, and a gap in
the numbers says no more than that.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.disk import Disk
from base import durable
from base.errors import SetupError
from base.stored import Versioned, refuse_newer
from wire.category import Category
from wire.errors import UNREADABLE

FILE_NAME: Final = "numbers.json"
# No device comes near it; a number beyond it comes from a damaged file, and fits in no frame.
LARGEST_NUMBER: Final = 1 << 62
BLOCK: Final = 4096  # at 1,000 events a second one write each 4 s


class _Reserved(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first number of each kind that has not been reserved yet."""

    events: dict[Category, Annotated[int, msgspec.Meta(ge=1, le=LARGEST_NUMBER)]]
    batch: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_NUMBER)]


class Numbers:
    """Hands out numbers; reserves before it hands out."""

    def __init__(self, folder: Path, disk: Disk = durable) -> None:
        """Read what was reserved before.

        Raises:
            SetupError: The file is there and cannot be read: starting over would repeat
                numbers.

        """
        self._path = folder / FILE_NAME
        self._disk = disk
        self._reserved = self._read()
        # What was left of the last blocks may have been used before a crash.
        self._next = {c: self._reserved.events.get(c, 1) for c in Category}

    def event(self, category: Category) -> int:
        """Return the next number of an event of *category*.

        Raises:
            OSError: A block could not be reserved.

        """
        number = self._next[category]
        if number >= self._reserved.events.get(category, 1):
            self._write(events={**self._reserved.events, category: number + BLOCK})
        self._next[category] = number + 1
        return number

    def next_batch(self) -> int:
        """Return the number that the next batch will have; `batch_taken` moves on."""
        return self._reserved.batch

    def batch_taken(self, number: int) -> None:
        """Make durable that *number* belongs to a batch and never to another.

        Raises:
            OSError: It is not durable; the number must not be used.

        """
        if number >= self._reserved.batch:
            self._write(batch=number + 1)

    def _read(self) -> _Reserved:
        try:
            data = self._path.read_bytes()
            refuse_newer(data, self._path)
            return msgspec.json.decode(data, type=_Reserved)
        except FileNotFoundError:
            return _Reserved(events={}, batch=1)
        except (OSError, *UNREADABLE) as exc:
            raise SetupError(
                f"{self._path} cannot be read; without it event numbers could repeat: "
                "restore it, or enrol this device anew"
            ) from exc

    def _write(
        self, *, events: dict[Category, int] | None = None, batch: int | None = None
    ) -> None:
        after = _Reserved(
            events=self._reserved.events if events is None else events,
            batch=self._reserved.batch if batch is None else batch,
        )
        # A crash before the rename leaves numbers unreserved that nobody was given yet.
        self._disk.replace(self._path, msgspec.json.encode(after))
        self._reserved = after
