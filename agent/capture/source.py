"""What every source of events has in common, whatever it watches and on whatever platform.

A source is closed, then open, then closed again.  `close` is a real stop: when it returns,
the platform's hook is gone and nothing that it caught will be yielded any more.  The suite
in tests/contracts/test_sources.py is what each source must pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from base.errors import AssentError
from wire.ids import BootInstant

T_co = TypeVar("T_co", covariant=True)


class SourceError(AssentError):
    """A source cannot be opened, or ended by itself; one line says why and what to do."""


class Source(Protocol[T_co]):
    """Something that can be watched, and stopped."""

    def open(self) -> None:
        """Hook in; return when the platform has confirmed it.

        Raises:
            SourceError: It cannot be watched here; nothing is hooked.

        """
        ...

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is something to drain."""
        ...

    def due(self) -> BootInstant | None:
        """Return when `drain` has something to yield even if nothing more happens."""
        ...

    def drain(self) -> Iterator[T_co]:
        """Yield what has happened and return without waiting for more.

        Whoever stops in the middle loses the rest, so stop only in order to close.

        Raises:
            SourceError: The source has ended; close it.

        """
        ...

    def close(self) -> None:
        """Unhook, wait until the platform has confirmed it, drop what is left; never fails."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStroke:
    """A key went down or up: what the platform says of it, nothing redacted yet.

    `code` is the X keycode, `keysym` the X keysym that the keyboard's layout and modifiers
    made of it when it went down (0: none).
    """

    at: BootInstant
    code: int
    keysym: int
    pressed: bool
