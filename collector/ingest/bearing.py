"""What the index says that bears on a group of uploads, asked for in a few statements.

To ask for one upload costs as much as for fifty, so `receive` asks for all that are in a
group, and judges each by what is here.  Everything is of one transaction.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, Select, bindparam, select

from collector.index.tables import batches, consents, devices, guard_keys, tombstones
from collector.ingest.taken_back import OF_SUBJECTS, ORDERS, Ordered, Request
from collector.jurisdiction import served_now
from collector.policies import known
from wire.frame import Core
from wire.ids import BatchHash, DeviceId, PolicyDigest
from wire.policy import Policy

Found: TypeAlias = Row[tuple[Any, ...]]
Key: TypeAlias = tuple[BatchHash, DeviceId]  # of a batch: another device's is another one


def _of_several(query: Select[tuple[Any, ...]], column: Any) -> Select[tuple[Any, ...]]:  # noqa: ANN401 - a column of any type
    return query.where(column.in_(bindparam("these", expanding=True)))


# Built once: to build a statement costs more than to execute it.
_ENTOMBED: Final = _of_several(select(tombstones.c.batch, tombstones.c.device), tombstones.c.batch)
_KEPT: Final = _of_several(
    select(
        batches.c.batch,
        batches.c.device,
        batches.c.core_hash,
        batches.c.received_at,
        batches.c.leaf,
    ),
    batches.c.batch,
)
_CONSENTS: Final = _of_several(
    select(
        consents.c.grant,
        consents.c.device,
        consents.c.subject,
        consents.c.category,
        consents.c.policy,
        consents.c.given_at,
    ),
    consents.c.grant,
)
_PLACES: Final = _of_several(select(devices.c.device, devices.c.jurisdiction), devices.c.device)
_GUARD_KEYS: Final = _of_several(
    select(
        guard_keys.c.subject, guard_keys.c.category, guard_keys.c.month, guard_keys.c.key_id
    ).where(guard_keys.c.month.in_(bindparam("months", expanding=True))),
    guard_keys.c.subject,
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which batches are here, by batch and device, and which were deleted by whom."""

    rows: Mapping[Key, Found]
    entombed: frozenset[Key]

    @classmethod
    def of(cls, connection: Connection, named: Iterable[BatchHash]) -> "Kept":
        """Return what is known of batches of these names."""
        these = {"these": sorted(set(named))}
        rows = {(row.batch, row.device): row for row in connection.execute(_KEPT, these)}
        gone = frozenset((row.batch, row.device) for row in connection.execute(_ENTOMBED, these))
        return cls(rows, gone)


@dataclass(frozen=True, slots=True)
class Bearing:
    """Consent records, guard keys, what was taken back, policies, and where devices are."""

    consents: Mapping[bytes, Found]  # by grant
    guard_keys: Mapping[tuple[bytes, str, str], bytes]  # by subject, category, month
    requests: Mapping[bytes, Sequence[Request]]  # by subject
    orders: Mapping[bytes, Sequence[Ordered]]  # by subject
    policy: Callable[[PolicyDigest], Policy]  # raises RefusedError: never published here
    places: Mapping[bytes, str]  # the jurisdiction of each device
    served: frozenset[str]  # jurisdictions, under the policy in force

    @classmethod
    def of(
        cls, connection: Connection, cores: Sequence[Core], jurisdictions: Iterable[str] = ()
    ) -> "Bearing":
        """Return all that bears on frames with these cores; *jurisdictions* of config.toml."""
        subjects = sorted({core.subject for core in cores})
        months = sorted({core.day[:7] for core in cores})
        grants = {"these": sorted({core.grant for core in cores})}
        senders = {"these": sorted({core.device for core in cores})}
        demanded: dict[bytes, list[Request]] = defaultdict(list)
        for row in connection.execute(OF_SUBJECTS, {"subjects": subjects}):
            demanded[row.subject].append(row)
        ordered: dict[bytes, list[Ordered]] = defaultdict(list)
        for order in connection.execute(ORDERS, {"subjects": subjects}):
            ordered[order.subject].append(order)
        return cls(
            consents={row.grant: row for row in connection.execute(_CONSENTS, grants)},
            guard_keys={
                (row.subject, row.category, row.month): row.key_id
                for row in connection.execute(_GUARD_KEYS, {"these": subjects, "months": months})
            },
            requests=demanded,
            orders=ordered,
            policy=cache(lambda digest: known(connection, digest)),
            places={row.device: row.jurisdiction for row in connection.execute(_PLACES, senders)},
            served=served_now(connection, jurisdictions),
        )
