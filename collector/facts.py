"""What an operator may know of a collector: counts and states, nothing about one person."""

from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from collector import halt
from collector.index.tables import (
    batches,
    checkpoints,
    consents,
    devices,
    leaves,
    policies,
    readers,
    releases,
    tombstones,
)
from collector.notices import untold
from collector.policies import latest
from wire.ids import WallInstant

_COUNTED: Final = {
    "devices": devices,
    "readers": readers,
    "policies": policies,
    "consents": consents,
    "batches": batches,
    "tombstones": tombstones,
    "releases": releases,
    "leaves": leaves,
}


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of `assent-collector status`."""

    origin: str
    tenant: str
    log_key: str
    tls_pin: str
    guard: str  # its origin, or empty
    halted: bool
    why: str
    stopped: str
    policy: str  # digest of the one in force, hexadecimal, or empty
    policy_version: int
    counts: dict[str, int]
    stored_bytes: int
    witnessed: int  # leaves that a witness has cosigned


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled device: whether it may come, not what it sent."""

    device: str
    enrolled_at: WallInstant
    certified_until: WallInstant
    revoked_at: WallInstant | None


def status(
    connection: Connection, *, origin: str, tenant: str, log_key: str, tls_pin: str, guard: str
) -> Status:
    """Return the facts of this moment."""
    state, policy = halt.state(connection), latest(connection)
    counts = {
        name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for name, table in _COUNTED.items()
    }
    counts["notices not delivered"] = untold(connection)
    stored = connection.execute(select(func.coalesce(func.sum(batches.c.bytes), 0))).scalar_one()
    witnessed = connection.execute(
        select(func.coalesce(func.max(checkpoints.c.size), 0))
    ).scalar_one()
    return Status(
        origin=origin,
        tenant=tenant,
        log_key=log_key,
        tls_pin=tls_pin,
        guard=guard,
        halted=state.halted,
        why=state.why,
        stopped=state.stopped,
        policy=policy.digest.hex() if policy else "",
        policy_version=policy.policy.version if policy else 0,
        counts=counts,
        stored_bytes=int(stored),
        witnessed=int(witnessed),
    )


def all_devices(connection: Connection) -> list[DeviceFacts]:
    """Return every device that was ever enrolled, the oldest first."""
    rows = connection.execute(select(devices).order_by(devices.c.enrolled_at)).all()
    return [
        DeviceFacts(
            device=row.device.hex(),
            enrolled_at=row.enrolled_at,
            certified_until=row.certified_until,
            revoked_at=row.revoked_at,
        )
        for row in rows
    ]
