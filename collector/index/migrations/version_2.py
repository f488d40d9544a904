"""Version 2: what an audit needs of batches and releases, and what several collectors share.

What the device signed of a batch is taken from its stored frame, as it is taken at receipt.  What
cannot be had any more (a frame that is missing, the core of a batch that was erased after its
release) stays empty, and is counted.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import sqlalchemy as sa
from alembic.operations import Operations
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from collector.index import FrameOf
from wire.consent_event import EventBody, event_in
from wire.errors import WireError
from wire.frame import Verified, verify
from wire.linked import decode_linked
from wire.metadata import signed_until
from wire.policy import decode_policy
from wire.tlog import verify_cosignature

SAYS: Final = (
    "batches get what their devices signed, read from the stored frames, devices and tokens "
    "their jurisdiction; releases, approvals, orders of data subjects, ends of batches, drills, "
    "and what several collectors share get their tables"
)
_NUMBER: Final = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_AT_ONCE: Final = 1_000

_batches: Final = sa.table(
    "batches",
    *(sa.column(name) for name in ("batch", "core_hash", "device")),
    *(sa.column(name, sa.LargeBinary) for name in ("core", "sealed_sha256", "signature")),
)
_policies: Final = sa.table(
    "policies",
    *(sa.column(name, sa.LargeBinary) for name in ("snapshot", "targets", "policy")),
    *(sa.column(name) for name in ("number", "expires", "leaf")),
)
_checkpoints: Final = sa.table(
    "checkpoints", *(sa.column(name) for name in ("size", "note", "cosigned_at", "witnessed_at"))
)
_consents: Final = sa.table(
    "consents", sa.column("grant", sa.LargeBinary), sa.column("ended_at", sa.BigInteger)
)
_events: Final = sa.table(
    "consent_events", *(sa.column(name, sa.LargeBinary) for name in ("grant", "event"))
)
_devices: Final = sa.table("devices", sa.column("device"), sa.column("public_key"))
_releases: Final = sa.table("releases", sa.column("batch"), sa.column("core_hash", sa.LargeBinary))


def change(operations: Operations, frame_of: FrameOf) -> tuple[str, ...]:
    """Change the tables of version 1; return what is worth knowing."""
    _add_tables(operations)
    operations.drop_index("requests_of_subject", "requests")
    whole = ["subject", "category", "first_day", "last_day", "made_at", "received_at"]
    operations.create_index("requests_of_subject", "requests", whole)
    unsigned = sa.text("guard IS NULL")
    operations.create_index(
        "requests_outstanding",
        "requests",
        ["demand", "leaf", "subject", "guard"],
        sqlite_where=unsigned,
        postgresql_where=unsigned,
    )
    operations.create_index("batches_of_subject", "batches", ["subject"])
    operations.create_index("tombstones_swept", "tombstones", ["swept_at"])
    operations.create_index("tombstones_of_device", "tombstones", ["device"])
    operations.create_index("tombstones_of_leaf", "tombstones", ["leaf"])
    operations.add_column("guard_keys", sa.Column("also", sa.LargeBinary))
    connection = operations.get_bind()
    _change_policies(operations, connection)
    _change_checkpoints(operations, connection)
    _change_consents(operations, connection)
    missing = _fill_batches(operations, connection, frame_of)
    unknown = _fill_releases(operations, connection)
    nowhere = _fill_places(operations, connection)
    remarks = []
    if nowhere:
        remarks.append(
            f"{nowhere} devices are in one of several jurisdictions, and nothing of them is taken "
            "until you say in which: assent-collector jurisdiction"
        )
    if missing:
        remarks.append(f"{missing} batches have no sound frame in the store: an audit names them")
    if unknown:
        remarks.append(f"{unknown} releases are of batches erased since: an audit names them")
    return tuple(remarks)


def _add_tables(operations: Operations) -> None:
    operations.create_table(
        "expiries",
        sa.Column("batch", sa.LargeBinary(32), primary_key=True),
        sa.Column("expires", _TEXT, nullable=False),
        sa.Column("leaf", _NUMBER, sa.ForeignKey("leaves.number"), nullable=False, unique=True),
    )
    operations.create_table(
        "approvals",
        sa.Column("access", sa.LargeBinary(32), primary_key=True),
        sa.Column("approver", _TEXT, primary_key=True),
        sa.Column("signature", sa.LargeBinary(64), primary_key=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
    )
    operations.create_table(
        "returns",
        sa.Column("access", sa.LargeBinary(32), primary_key=True),
        sa.Column("subject", sa.LargeBinary(16), nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
    )
    operations.create_table(
        "asked",
        sa.Column("nonce", sa.LargeBinary(16), primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    operations.create_index("asked_until", "asked", ["until"])
    operations.create_table(
        "lease",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
    )
    operations.create_table(
        "heard",
        sa.Column("from", _TEXT, primary_key=True),
        sa.Column("times", sa.BigInteger, nullable=False),
    )
    _add_orders(operations)
    _add_drills(operations)


def _add_orders(operations: Operations) -> None:
    operations.create_table(
        "orders",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("subject", sa.LargeBinary(16), nullable=False),
        sa.Column("category", _TEXT),
        sa.Column("month", _TEXT, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
        sa.Column("erased", _NUMBER, nullable=False),
        sa.Column("leaf", _NUMBER, sa.ForeignKey("leaves.number"), nullable=False, unique=True),
        sa.Column("signed_by", _TEXT, nullable=False),
        sa.Column("signed_anew", sa.LargeBinary),
    )
    operations.create_index("orders_of_subject", "orders", ["subject"])


def _add_drills(operations: Operations) -> None:
    operations.create_table(
        "drill_identities",
        sa.Column("spki_sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("role", _TEXT, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    operations.create_table(
        "drill_marks",
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    operations.create_table(
        "planted",
        sa.Column("batch", sa.LargeBinary(32), primary_key=True),
        sa.Column("core_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("programme", _TEXT, nullable=False),
        sa.Column("purpose", _TEXT, nullable=False),
        sa.Column("category", _TEXT, nullable=False, unique=True),
        sa.Column("day", _TEXT, nullable=False),
        sa.Column("expires", _TEXT, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
    )
    operations.create_table(
        "drills",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        *(sa.Column(name, _NUMBER, nullable=False) for name in ("probes", "objects", "holes")),
        sa.Column("hole", _TEXT, nullable=False),
        sa.Column("batch", sa.LargeBinary(32)),
        sa.Column("server", sa.LargeBinary(16), nullable=False),
        sa.Column("leaf", _NUMBER, sa.ForeignKey("leaves.number"), nullable=False, unique=True),
    )


def _change_policies(operations: Operations, connection: sa.Connection) -> None:
    """Each gets its leaf, which the order of both tells, and the end of its signatures."""
    with operations.batch_alter_table("policies") as table:
        table.add_column(sa.Column("expires", sa.BigInteger))
        table.add_column(sa.Column("leaf", _NUMBER))
    leaves = sa.text("SELECT number FROM leaves WHERE kind = 'policy' ORDER BY number")
    query = sa.select(_policies).order_by(_policies.c.number)
    numbers, rows = connection.execute(leaves).scalars().all(), connection.execute(query).all()
    for leaf, row in zip(numbers, rows, strict=True):
        values = {"leaf": leaf, "expires": signed_until(row.snapshot, row.targets)}
        connection.execute(
            _policies.update().where(_policies.c.number == row.number).values(**values)
        )
    with operations.batch_alter_table("policies") as table:
        table.alter_column("expires", existing_type=sa.BigInteger(), nullable=False)
        table.alter_column("leaf", existing_type=_NUMBER, nullable=False)
        table.create_foreign_key("policies_leaf", "leaves", ["leaf"], ["number"])
    operations.create_index("policies_of_leaf", "policies", ["leaf"], unique=True)


def _change_consents(operations: Operations, connection: sa.Connection) -> None:
    operations.add_column("consents", sa.Column("ended_at", sa.BigInteger))
    ends: dict[bytes, int] = {}
    for row in connection.execute(sa.select(_events)).all():
        event = event_in(decode_linked(row.event, EventBody, "what became of a consent"))
        ends[row.grant] = min(event.at, ends.get(row.grant, event.at))
    for grant, at in ends.items():
        connection.execute(_consents.update().where(_consents.c.grant == grant).values(ended_at=at))


def _change_checkpoints(operations: Operations, connection: sa.Connection) -> None:
    operations.add_column("checkpoints", sa.Column("witnessed_at", sa.BigInteger))
    witnesses = set[str]()
    for policy in connection.execute(sa.select(_policies.c.policy)).scalars():
        with suppress(WireError):
            witnesses.add(decode_policy(bytes(policy)).guard.witness)
    for row in connection.execute(sa.select(_checkpoints)).all():
        # Of one that nobody cosigned, as an audit finds, our own clock has to do.
        at = _cosigned_at(row.note, witnesses) or row.cosigned_at // 1_000_000_000
        connection.execute(
            _checkpoints.update().where(_checkpoints.c.size == row.size).values(witnessed_at=at)
        )
    operations.add_column("checkpoints", sa.Column("last_note", _TEXT))
    operations.add_column("checkpoints", sa.Column("last_at", sa.BigInteger))
    operations.execute("UPDATE checkpoints SET last_note = note, last_at = cosigned_at")
    with operations.batch_alter_table("checkpoints") as table:
        table.alter_column("last_note", existing_type=_TEXT, nullable=False)
        table.alter_column("last_at", existing_type=sa.BigInteger(), nullable=False)
        table.drop_column("cosigned_at")


def _cosigned_at(note: str, witnesses: Iterable[str]) -> int:
    for witness in witnesses:
        with suppress(WireError):
            return verify_cosignature(note, witness)
    return 0


def _fill_places(operations: Operations, connection: sa.Connection) -> int:
    """Where the policy names one jurisdiction, all are there; else nobody knows: count them."""
    for name in ("devices", "tokens"):
        operations.add_column(name, sa.Column("jurisdiction", _TEXT))
        table = sa.table(name, sa.column("jurisdiction"))
        connection.execute(table.update().values(jurisdiction=_only_one(connection)))
        with operations.batch_alter_table(name) as changed:
            changed.alter_column("jurisdiction", existing_type=_TEXT, nullable=False)
    query = sa.select(sa.func.count()).select_from(_devices)
    return 0 if _only_one(connection) else int(connection.execute(query).scalar_one())


def _only_one(connection: sa.Connection) -> str:
    text = connection.execute(sa.text("SELECT policy FROM policies ORDER BY number DESC LIMIT 1"))
    newest = text.scalar()
    try:
        named = () if newest is None else decode_policy(bytes(newest)).jurisdictions
    except WireError:
        return ""
    return named[0] if len(named) == 1 else ""


def _fill_batches(operations: Operations, connection: sa.Connection, frame_of: FrameOf) -> int:
    names = {"core": None, "sealed_sha256": 64, "signature": 64}
    for name, length in names.items():
        operations.add_column("batches", sa.Column(name, sa.LargeBinary(length)))
    missing = 0
    while rows := connection.execute(_unfilled()).all():
        for row in rows:
            verified = _verified(frame_of(row.batch), row.public_key)
            values = {"core": b"", "sealed_sha256": b"", "signature": b""}
            if verified is None or verified.core_hash != row.core_hash:
                missing += 1
            else:
                values = {
                    "core": verified.parts.core,
                    "sealed_sha256": verified.sealed_sha256,
                    "signature": verified.parts.signature,
                }
            connection.execute(
                _batches.update().where(_batches.c.batch == row.batch).values(**values)
            )
    with operations.batch_alter_table("batches") as table:
        for name, length in names.items():
            table.alter_column(name, existing_type=sa.LargeBinary(length), nullable=False)
    return missing


def _unfilled() -> sa.Select[tuple[bytes, bytes, bytes]]:
    return (
        sa.select(_batches.c.batch, _batches.c.core_hash, _devices.c.public_key)
        .join(_devices, _devices.c.device == _batches.c.device)
        .where(_batches.c.core.is_(None))
        .limit(_AT_ONCE)
    )


def _verified(frame: bytes | None, public_key: bytes) -> Verified | None:
    if not frame:
        return None
    try:
        return verify(frame, Ed25519PublicKey.from_public_bytes(public_key))
    except (WireError, ValueError):
        return None


def _fill_releases(operations: Operations, connection: sa.Connection) -> int:
    operations.add_column("releases", sa.Column("core_hash", sa.LargeBinary(32)))
    known = (
        sa.select(_batches.c.core_hash)
        .where(_batches.c.batch == _releases.c.batch)
        .scalar_subquery()
    )
    connection.execute(_releases.update().values(core_hash=known))
    unknown = connection.execute(
        _releases.update().where(_releases.c.core_hash.is_(None)).values(core_hash=b"")
    ).rowcount
    with operations.batch_alter_table("releases") as table:
        table.alter_column("core_hash", existing_type=sa.LargeBinary(32), nullable=False)
    return unknown
