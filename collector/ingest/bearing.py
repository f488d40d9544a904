"""What the index says that bears on a group of uploads, asked for in a few statements.

To ask for one upload costs as much as for fifty, so `receive` asks for all that are in a
group, and judges each by what is here.  Everything is of one transaction.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select, and_, bindparam, select

from collector.index.prepared import Asking, Found
from collector.index.tables import (
    batches,
    consent_events,
    consents,
    devices,
    guard_keys,
    tombstones,
)
from collector.ingest.taken_back import OF_SUBJECTS, ORDERS, Ordered, Request
from collector.jurisdiction import served_now
from collector.policies import when
from wire.days import InForce
from wire.frame import Core
from wire.ids import BatchHash, DeviceId, PolicyDigest
from wire.linked import ConsentState
from wire.policy import Policy

Key: TypeAlias = tuple[BatchHash, DeviceId]  # of a batch: another device's is another one


def _of_several(query: Select[Any], column: Any) -> Asking:  # noqa: ANN401 - a column of any type
    return Asking(query.where(column.in_(bindparam("these", expanding=True))))


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
        consents.c.received_at,
        consents.c.ended_at,
        consent_events.c.leaf.label("withdrawn"),  # NULL: it is not
    ).outerjoin(
        consent_events,
        and_(
            consent_events.c.grant == consents.c.grant,
            consent_events.c.state == ConsentState.WITHDRAWN.value,
        ),
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
        these = sorted(set(named))
        rows = {(row.batch, row.device): row for row in _KEPT.all(connection, these=these)}
        entombed = _ENTOMBED.all(connection, these=these)
        gone = frozenset((row.batch, row.device) for row in entombed)
        return cls(rows, gone)


@dataclass(frozen=True, slots=True)
class Bearing:
    """Consent records, guard keys, what was taken back, policies, and where devices are."""

    consents: Mapping[bytes, Found]  # by grant
    guard_keys: Mapping[tuple[bytes, str, str], bytes]  # by subject, category, month
    requests: Mapping[bytes, Sequence[Request]]  # by subject
    orders: Mapping[bytes, Sequence[Ordered]]  # by subject
    published: Callable[[PolicyDigest], tuple[Policy, InForce]]  # raises RefusedError: never
    places: Mapping[bytes, str]  # the jurisdiction of each device
    served: frozenset[str]  # jurisdictions, under the policy in force

    @classmethod
    def of(
        cls, connection: Connection, cores: Sequence[Core], jurisdictions: Iterable[str] = ()
    ) -> "Bearing":
        """Return all that bears on frames with these cores; *jurisdictions* of config.toml."""
        subjects = sorted({core.subject for core in cores})
        months = sorted({core.day[:7] for core in cores})
        grants = sorted({core.grant for core in cores})
        senders = sorted({core.device for core in cores})
        demanded: dict[bytes, list[Request]] = defaultdict(list)
        for row in OF_SUBJECTS.all(connection, subjects=subjects):
            demanded[row.subject].append(row)
        ordered: dict[bytes, list[Ordered]] = defaultdict(list)
        for order in ORDERS.all(connection, subjects=subjects):
            ordered[order.subject].append(order)
        return cls(
            consents={row.grant: row for row in _CONSENTS.all(connection, these=grants)},
            guard_keys={
                (row.subject, row.category, row.month): row.key_id
                for row in _GUARD_KEYS.all(connection, these=subjects, months=months)
            },
            requests=demanded,
            orders=ordered,
            published=cache(lambda digest: when(connection, digest)),
            places={row.device: row.jurisdiction for row in _PLACES.all(connection, these=senders)},
            served=served_now(connection, jurisdictions),
        )

    def policy(self, digest: PolicyDigest) -> Policy:
        """Return the policy of this digest.

        Raises:
            RefusedError: It was never published here.

        """
        return self.published(digest)[0]
