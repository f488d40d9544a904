"""Windows: which one has the focus, whose it is, and what lies above it.

`Sighting` is what the context sensor needs (who has the focus since when), `Scene` what the
screen sensor needs (what can be seen of that window, and since when nothing moved).

An application is named by the executable of the process that drew the window and by the
window's class, never by its title: titles lie.  Where the platform cannot say, the
application is None, and None is on nobody's list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from agent.geometry import Box
from wire.control import SecretSeen
from wire.ids import BootInstant
from wire.policy import Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of an application: where its content is, without the frame around it."""

    application: Application | None
    title: str  # empty unless the source was asked for titles
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Who has the focus since `at`; None: nobody, or nobody we can name."""

    at: BootInstant
    window: Window | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What lies where on the desktop.

    `above` are the windows that may hide a part of the focused one, whatever their kind.
    """

    desktop: Box
    focused: Window | None
    above: tuple[tuple[Application | None, Box], ...]


class WindowSource(Protocol):
    """A `Source[Sighting]` that can also describe the scene."""

    def open(self) -> None:
        """Hook in; see `Source.open`."""
        ...

    def fileno(self) -> int:
        """Return the descriptor to wait for; see `Source.fileno`."""
        ...

    def due(self) -> BootInstant | None:
        """Return when there is something to drain; see `Source.due`."""
        ...

    def drain(self) -> Iterator[Sighting]:
        """Yield the changes of focus; see `Source.drain`.  The first one comes at once."""
        ...

    def steady_since(self) -> BootInstant:
        """Return since when no window came, went, moved or changed its place in the stack.

        Raises:
            SourceError: The source has ended; close it.

        """
        ...

    def scene(self) -> Scene:
        """Return the scene as the platform has it now.  Dearer than `steady_since`.

        Raises:
            SourceError: The source has ended; close it.

        """
        ...

    def watch_drawing(self) -> BootInstant | None:
        """Return what `drawn_at` would, and watch for the next drawing from here on.

        When it returns, whatever is drawn will be told; something that is drawn just now may
        be told twice.
        """
        ...

    def drawn_at(self) -> BootInstant | None:
        """Return when something was first drawn, anywhere, since `watch_drawing`; None: never.

        As far as events have been read: `steady_since` reads all that there are.
        """
        ...

    def follows_drawing(self) -> bool:
        """Whether the platform tells of drawing at all; without it the two above say None."""
        ...

    def close(self) -> None:
        """Unhook; see `Source.close`."""
        ...


class SecretSource(Protocol):
    """Tells whether a field for secrets has the focus; unlike a `Source`, it never ends."""

    def open(self) -> None:
        """Begin to follow; where nothing can be asked, nothing is found."""

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        ...

    def drain(self) -> Iterator[SecretSeen]:
        """Yield what was found; never waits."""
        ...

    def look(self) -> None:
        """Look again, soon: another window has the focus, and nobody may have told of its field."""

    def close(self) -> None:
        """End; never fails."""
