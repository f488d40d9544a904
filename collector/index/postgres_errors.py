"""What PostgreSQL says goes wrong, as the errors that the rest of the collector knows.

By SQLSTATE, class or whole (PostgreSQL's manual, appendix A).  What stands in neither table is a
defect of ours and stays what it is.
"""

from types import MappingProxyType
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

from base.errors import AssentError, RetryableError, SetupError
from collector.index import FullError

_FULL: Final = "53100"
_TRY_LATER: Final = MappingProxyType(
    {
        "08": "the connection broke; look whether the server runs",
        "25006": "it takes no writes; is it a standby?",
        "25P03": "this collector hung within a transaction, which the server ended",
        "40": "somebody else was in the way",
        "53": "the server lacks memory or connections",
        "55P03": "somebody else kept it for too long",
        "57": "the server ended it; look whether it is being stopped",
        "58": "its disk fails; look into the server's log",
        "XX000": "the server made a mistake; look into its log",
    }
)
_MEND: Final = MappingProxyType(
    {
        "0A000": "the server cannot do that; is it PostgreSQL, in a version that is still kept up?",
        "28": "the server does not let us in; check user, certificate and pg_hba.conf",
        "3D000": "there is no such database; create it",
        "42501": "our user may not do that; it has to own the tables",
        "42703": "it has not the tables of this version; run assent-collector migrate",
        "42P01": "it has not the tables of this version; run assent-collector migrate",
        "XX001": "it is damaged; restore the newest copy",
        "XX002": "it is damaged; restore the newest copy",
    }
)


def error_of(exc: DBAPIError, place: str) -> AssentError | None:
    """Return what to raise in the place of *exc*; None if it is a defect of ours."""
    orig = exc.orig
    if not isinstance(orig, psycopg.Error):
        return None
    state = orig.sqlstate or ""
    # The first line alone: what stands below it can name ids.
    said = (orig.diag.message_primary or str(orig)).partition("\n")[0].strip()
    if not state and isinstance(orig, psycopg.OperationalError):  # no server to say one
        return RetryableError(f"{place} cannot be used now: {said}; look whether it runs")
    if state == _FULL:
        return FullError(f"{place}: the disk of the server is full; make room on it")
    for table, kind in ((_TRY_LATER, RetryableError), (_MEND, SetupError)):
        todo = table.get(state) or table.get(state[:2])
        if todo is not None:
            return kind(f"{place} cannot be used now: {said}; {todo}")
    return None


def no_connection(place: str) -> RetryableError:
    """Return what to raise where all our connections are in use for too long."""
    return RetryableError(f"{place} cannot be used now: all our connections are busy")
