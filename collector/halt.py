"""Halt: the programme stands still, whoever called it; uploads and releases are frozen.

Agents ask `GET /v1/state` and close their sources.  Deleting and reading one's own state
go on, because a halt must never keep anybody's data alive.
"""

from typing import Final

from sqlalchemy import Connection, func, select

from collector.index.tables import halts
from collector.log import append
from collector.refusal import RefusedError, Why
from wire.collector_http import State
from wire.ids import WallInstant
from wire.leaf import Kind

_NEWEST: Final = select(halts).where(
    halts.c.number == select(func.max(halts.c.number)).scalar_subquery()
)


def state(connection: Connection) -> State:
    """Return whether the programme is halted, and why."""
    row = connection.execute(_NEWEST).one_or_none()
    if row is None or not row.halted:
        return State(halted=False, why="")
    return State(halted=True, why=row.why)


def set_state(connection: Connection, wanted: State, now: WallInstant) -> bool:
    """Halt or lift a halt, with a leaf that says so; return False when it is so already."""
    if state(connection).halted == wanted.halted:
        return False
    leaf = append(connection, Kind.HALT, halt_payload(wanted, now), now)
    connection.execute(
        halts.insert().values(halted=wanted.halted, why=wanted.why, at=now, leaf=leaf)
    )
    return True


def halt_payload(wanted: State, now: WallInstant) -> bytes:
    """Return what the leaf commits to: which way, when, and the reason given."""
    return f"{'halt' if wanted.halted else 'unhalt'}\n{now}\n{wanted.why}\n".encode()


def check_running(connection: Connection) -> None:
    """Check that the programme is not halted.

    Raises:
        RefusedError: It is; the line says why.

    """
    now = state(connection)
    if now.halted:
        raise RefusedError(Why.HALTED, f"the programme is halted: {now.why}")
