"""Halt and stop: the programme stands still; uploads and releases are frozen.

A *halt* is called by any one party (here, at the guard, or in a signed statement) and holds
for the policy that is in force: nothing but a policy with another digest ends it, and that
takes the signatures of the threshold.  A *stop* has a cause, and ends with it.

Agents ask `GET /v1/state` and close their sources.  Deleting and reading one's own state
go on, because neither must ever keep anybody's data alive.
"""

from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from collector.index.prepared import Asking
from collector.index.tables import halts, stops
from collector.log import append
from collector.policies import latest_digest
from collector.refusal import RefusedError, Why
from wire.collector_http import State
from wire.ids import WallInstant
from wire.leaf import Kind

_HALTED: Final = Asking(
    select(halts.c.why, halts.c.by)
    .where(halts.c.policy == bindparam("policy"))
    .order_by(halts.c.number)
    .limit(1)
)
_STOPPED: Final = Asking(select(stops.c.why).order_by(stops.c.at).limit(1))
OURS: Final = "the collector"


class Cause(StrEnum):
    """Why there is a stop; one ends without the other."""

    CALLED = "called"  # by a person; that person says when to go on
    GUARD_STOPPED = "guard-stopped"  # the guard's operator has, and says when to go on
    GUARD_AWAY = "guard-away"  # nobody could hear of a halt that the guard has called
    DRILL_FAILED = "drill-failed"  # who runs us says when to go on, after a drill that passed


def state(connection: Connection) -> State:
    """Return whether the programme stands still, and why."""
    stop = _STOPPED.first(connection)
    stopped = "" if stop is None else stop.why
    halt = _HALTED.first(connection, policy=latest_digest(connection))
    if halt is None:
        return State(halted=False, why="", stopped=stopped)
    return State(halted=True, why=f"{halt.why} (said by {halt.by})", stopped=stopped)


def call_halt(connection: Connection, why: str, now: WallInstant, by: str = OURS) -> bool:
    """Halt under the policy in force, with a leaf that says so; False if *by* did before."""
    policy = latest_digest(connection)
    before = select(halts.c.number).where(halts.c.policy == policy, halts.c.by == by)
    if connection.execute(before).first() is not None:
        return False
    leaf = append(connection, Kind.HALT, halt_payload("halt", why, now, policy.hex()), now)
    connection.execute(halts.insert().values(policy=policy, by=by, why=why, at=now, leaf=leaf))
    return True


def call_stop(connection: Connection, why: str, now: WallInstant, cause: Cause) -> bool:
    """Stop until *cause* is gone, with a leaf; False if that cause has stopped it already."""
    if connection.execute(select(stops.c.at).where(stops.c.cause == cause)).first() is not None:
        return False
    append(connection, Kind.HALT, halt_payload("stop", why, now), now)
    connection.execute(stops.insert().values(cause=cause, why=why, at=now))
    return True


def go_on(connection: Connection, now: WallInstant, cause: Cause) -> bool:
    """End the stop of *cause*, with a leaf; False if there is none.  A halt stays."""
    if connection.execute(delete(stops).where(stops.c.cause == cause)).rowcount == 0:
        return False
    append(connection, Kind.HALT, halt_payload("go-on", cause, now), now)
    return True


def halt_payload(what: str, why: str, now: WallInstant, policy: str = "") -> bytes:
    """Return what the leaf commits to: what, when, under which policy, and the reason given."""
    return f"{what}\n{now}\n{policy}\n{why}\n".encode()


def why_stopped(connection: Connection, cause: Cause) -> str:
    """Return the words of the stop of *cause*; empty if there is none."""
    return connection.execute(select(stops.c.why).where(stops.c.cause == cause)).scalar() or ""


def check_running(connection: Connection) -> None:
    """Check that the programme neither is halted nor has stopped.

    Raises:
        RefusedError: It is, or has; the line says why.

    """
    now = state(connection)
    if now.halted:
        raise RefusedError(Why.HALTED, f"the programme is halted: {now.why}")
    if now.stopped:
        raise RefusedError(Why.STOPPED, f"the programme stands still for now: {now.stopped}")
