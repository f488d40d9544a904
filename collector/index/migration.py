"""From the tables of one version to those of the next, on both back ends.

Each step is a function in a module of its own (`migrations`), with alembic's operations.  All that
are needed run in one transaction, in which nobody else writes; a crash or an error in between
leaves everything as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from base.stored import newer
from collector.index import Changeable, FrameOf
from collector.index.migrations import version_2
from collector.index.tables import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Step:
    """How the tables become those of `version`, and what of that a person wants to know."""

    version: int
    says: str
    change: Callable[[Operations, FrameOf], tuple[str, ...]]


STEPS: Final = (Step(2, version_2.SAYS, version_2.change),)


def pending(index: Changeable, connection: Connection) -> tuple[Step, ...]:
    """Return the steps that are still to be taken.

    Raises:
        NewerError: The tables are of a later version of this program.

    """
    found = index.version(connection)
    if found > SCHEMA_VERSION:
        raise newer(index.place)
    return tuple(step for step in STEPS if step.version > found)


def migrate(index: Changeable, frame_of: FrameOf) -> tuple[str, ...]:
    """Take all steps that are to be taken; return what is worth knowing afterwards.

    Raises:
        AssentError: It was not possible; nothing was changed.

    """
    remarks: list[str] = []
    with index.changing() as connection:
        operations = Operations(MigrationContext.configure(connection))
        for step in pending(index, connection):
            remarks += step.change(operations, frame_of)
            index.note_version(connection, step.version)
    return tuple(remarks)
