"""Which version's tables an index has: made where there are none, refused where they differ.

The version is one number, kept by the back end (`Changeable.version`).  A server or command
works on the tables of its own version only; `collector.index.migration` changes older ones.
"""

from sqlalchemy import Connection

from base.errors import SetupError
from base.stored import newer
from collector.index import Changeable
from collector.index.tables import SCHEMA_VERSION, metadata


class OlderError(SetupError):
    """The tables are an earlier version's; nothing was changed."""


def create(index: Changeable, connection: Connection) -> None:
    """Make all tables in an index that has none."""
    metadata.create_all(connection)
    index.note_version(connection, SCHEMA_VERSION)


def require_current(index: Changeable, connection: Connection) -> None:
    """Go on only with the tables of this version.

    Raises:
        OlderError: They are older; a migration brings them here.
        NewerError: They are of a later version of this program.
        SetupError: There are none.

    """
    check(index.version(connection), index.place)


def check(found: int, place: str) -> None:
    """Do that for a version that was read already.

    Raises:
        OlderError: See `require_current`, as for the others.
        NewerError: See there.
        SetupError: See there.

    """
    if found == SCHEMA_VERSION:
        return
    if found > SCHEMA_VERSION:
        raise newer(place)
    if found == 0:
        raise SetupError(f"{place} holds no index; nothing was changed: restore the newest copy")
    raise OlderError(
        f"{place} was written by an earlier version of this program; run assent-collector migrate"
    )
