"""What is kept of each drill: a row, a leaf of the log, and, if it failed, the stop.

The leaf commits to what the row says, so an auditor sees that drills were held, when, how many
probes they made, and what they found; never about whom.
"""

from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, select

from collector import halt
from collector.drill.probes import Hole
from collector.index.tables import drills, stops
from collector.log import append
from wire.halting import LONGEST_WHY
from wire.ids import WallInstant
from wire.leaf import Kind as LeafKind
from wire.leaf import drill_payload

_LAST_PASSED: Final = (
    select(drills)
    .where(drills.c.passed.is_(True), drills.c.kind != "patrol")
    .order_by(drills.c.number.desc())
    .limit(1)
)
_STOPPED_AT: Final = select(stops.c.at).where(stops.c.cause == halt.Cause.DRILL_FAILED)


class Kind(StrEnum):
    """How much a drill tries."""

    PATROL = "patrol"  # every 20 s: what a hole for all of them would show
    SAMPLE = "sample"  # hourly, and by hand
    ALL = "all"  # by hand: every object


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a drill."""

    kind: Kind
    began_at: WallInstant
    ended_at: WallInstant
    probes: int
    objects: int
    left_out: tuple[str, ...] = ()  # what could not be tried, and is nobody's fault
    holes: tuple[str, ...] = ()
    batch: bytes | None = None  # that the first hole was about

    @property
    def passed(self) -> bool:
        """Whether every probe was made and refused."""
        return not self.holes and self.probes > 0


def write_down(connection: Connection, outcome: Outcome, server: bytes) -> int:
    """Keep *outcome* of a drill on *server*, with its leaf; return the number of that."""
    hole = outcome.holes[0][:LONGEST_WHY] if outcome.holes else ""
    payload = drill_payload(
        outcome.began_at, passed=outcome.passed, probes=outcome.probes, hole=hole
    )
    leaf = append(connection, LeafKind.DRILL, payload, outcome.ended_at)
    connection.execute(
        drills.insert().values(
            began_at=outcome.began_at,
            ended_at=outcome.ended_at,
            passed=outcome.passed,
            kind=outcome.kind,
            probes=outcome.probes,
            objects=outcome.objects,
            holes=len(outcome.holes),
            hole=hole,
            batch=outcome.batch,
            server=server,
            leaf=leaf,
        )
    )
    return leaf


def stop_for(connection: Connection, hole: Hole, now: WallInstant) -> bool:
    """Stop everybody because of *hole*; False if a drill has stopped them already."""
    why = f"a drill failed: {hole.line}"[:LONGEST_WHY]
    return halt.call_stop(connection, why, now, halt.Cause.DRILL_FAILED)


def has_passed(connection: Connection, server: bytes) -> bool:
    """Whether a whole drill has passed on this very server since it began."""
    query = _LAST_PASSED.where(drills.c.server == server)
    return connection.execute(query).first() is not None


def last_passed(connection: Connection) -> Row[tuple[object, ...]] | None:
    """Return the last whole drill that passed."""
    return connection.execute(_LAST_PASSED).one_or_none()


def go_on(connection: Connection, now: WallInstant) -> bool | None:
    """End the stop of a drill, if one has passed since; None where there is no such stop."""
    since = connection.execute(_STOPPED_AT).scalar()
    if since is None:
        return None
    passed = last_passed(connection)
    if passed is None or passed.began_at < since:
        return False
    return halt.go_on(connection, now, halt.Cause.DRILL_FAILED)
