"""What an operator may know of a collector: counts and states, nothing about one person.

People are counted in tens, and what they sent is not counted here at all: in a small company
every batch more would say that somebody is at work.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, Table, func, select

from base.crowd import in_tens, things_in_words
from collector import halt
from collector.index.tables import (
    checkpoints,
    consents,
    devices,
    leaves,
    policies,
    readers,
    releases,
)
from collector.policies import latest
from collector.rights.notices import untold
from wire.ids import WallInstant

_COUNTED: Final = {
    "readers": readers,
    "policies": policies,
    "leaves": leaves,  # how long the log is, everybody who has a certificate may ask
}
_IN_TENS: Final = {
    "devices": devices,
    "consents": consents,
}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Who this collector is: what policies, guard and readers have to be told."""

    origin: str
    tenant: str
    tls_pin: str
    log_key: str
    lease_key: str
    ca_pem: str  # the file of the authority that certifies devices and readers
    guard: str  # its origin, or empty
    witnesses: str = ""  # the origins of those beside the guard's own, with commas between


class Status(Card, frozen=True, kw_only=True):
    """The facts of `assent-collector status`."""

    halted: bool
    why: str
    stopped: str
    policy: str  # digest of the one in force, hexadecimal, or empty
    policy_version: int
    counts: dict[str, int]
    in_tens: dict[str, int]  # rounded down: 0 is fewer than ten
    releases: str  # of batches, in thousands
    notices_wait: bool  # one that is not delivered means that nobody delivers them
    witnessed: int  # leaves that a witness has cosigned


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled device: whether it may come, not what it sent."""

    device: str
    enrolled_at: WallInstant
    certified_until: WallInstant
    revoked_at: WallInstant | None
    jurisdiction: str


def status(connection: Connection, card: Card) -> Status:
    """Return the facts of this moment."""
    state, policy = halt.state(connection), latest(connection)
    counts = {name: _count(connection, table) for name, table in _COUNTED.items()}
    witnessed = connection.execute(
        select(func.coalesce(func.max(checkpoints.c.size), 0))
    ).scalar_one()
    return Status(
        **msgspec.structs.asdict(card),
        halted=state.halted,
        why=state.why,
        stopped=state.stopped,
        policy=policy.digest.hex() if policy else "",
        policy_version=policy.policy.version if policy else 0,
        counts=counts,
        in_tens={name: in_tens(_count(connection, table)) for name, table in _IN_TENS.items()},
        releases=things_in_words(_count(connection, releases)),
        notices_wait=bool(untold(connection)),
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
            jurisdiction=row.jurisdiction,
        )
        for row in rows
    ]


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
