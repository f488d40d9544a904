"""Writes the audit bundle (`wire.audit`): what the index can prove, as plain files.

Of one moment: everything is read from one state of the index, under a checkpoint of just its
leaves.  Bodies are not looked at: nothing in a bundle opens a batch, and of persons it holds
pseudonyms.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, select

from base.errors import SetupError
from collector.halt import halt_payload
from collector.index.tables import (
    approvals,
    batches,
    checkpoints,
    consent_events,
    consents,
    devices,
    drills,
    expiries,
    halts,
    leaves,
    orders,
    policies,
    policy_files,
    releases,
    requests,
    returns,
    salts,
    tombstones,
)
from wire import audit
from wire.guard_order import SignedOrder
from wire.leaf import Kind
from wire.me import SignedReturn
from wire.rights import SignedErasure, SignedRequest
from wire.tlog import HASH_BYTES, unsigned_checkpoint

_AT_ONCE: Final = 1_000  # rows held in memory


@dataclass(kw_only=True)
class Writer:
    """Writes the files of one bundle, and remembers their digests."""

    folder: Path
    sums: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write *pieces* as the whole of the file *name*."""
        path, digest = self.folder / name, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
        self.sums[name] = digest.hexdigest()

    def lines(self, name: str, lines: Iterable[audit.Line]) -> None:
        """Write *lines*, each in the one way to write it."""
        self.write(name, (audit.encode_line(line) + b"\n" for line in lines))

    def finish(self) -> str:
        """Write SHA256SUMS, last; return its own digest, which names the bundle."""
        data = audit.encode_sums(self.sums)
        (self.folder / audit.SUMS).write_bytes(data)
        return hashlib.sha256(data).hexdigest()


def export(
    connection: Connection,
    head: str,
    folder: Path,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> str:
    """Write the bundle under the cosigned checkpoint *head* into *folder*; return its digest.

    *connection* sees the state of the index whose leaves are those under *head*.

    Raises:
        SetupError: *folder* is there already.

    """
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as exc:
        raise SetupError(f"{folder} is there already; a bundle goes into a new folder") from exc
    size = unsigned_checkpoint(head).size
    writer = Writer(folder=folder)
    writer.write(audit.STAMP, (audit.FORMAT,))
    writer.write(audit.HEAD, (head.encode(),))
    writer.lines(audit.CHECKPOINTS, _notes(connection, size))
    for name, lines in _singles(connection, size):
        writer.lines(name, lines)
    for start in range(0, size, audit.TILE):
        end = min(start + audit.TILE, size)
        name = audit.tile_name(start // audit.TILE, end - start)
        writer.write(name, (audit.encode_entries(_entries(connection, start, end)),))
    for span in range(-(-size // audit.SPAN)):
        _write_span(writer, connection, span, size)
        progress(min((span + 1) * audit.SPAN, size), size)
    return writer.finish()


def _write_span(writer: Writer, connection: Connection, span: int, size: int) -> None:
    start, end = span * audit.SPAN, min((span + 1) * audit.SPAN, size)
    stored = _rows(connection, _with_salt(batches), start, end)
    released = _rows(connection, _with_salt(releases), start, end)
    writer.lines(audit.batches_name(span), (_batch(row) for row in stored))
    writer.lines(audit.releases_name(span), (_release(row) for row in released))


def _singles(connection: Connection, size: int) -> Iterator[tuple[str, Iterable[audit.Line]]]:
    def rows(query: Select[Any]) -> Iterator[Row[Any]]:
        return _rows(connection, query, 0, size)

    yield audit.ROOTS, _roots(connection)
    yield audit.POLICIES, _policies(connection, size)
    yield audit.CONSENTS, (_consent(row) for row in rows(_consents()))
    yield audit.EVENTS, (_event(row) for row in rows(_with_salt(consent_events)))
    yield audit.DEMANDS, (_demand(row) for row in rows(_with_salt(requests)))
    yield audit.ORDERS, (_order(row) for row in rows(_with_salt(orders)))
    yield audit.ERASED, (_erased(row) for row in rows(_buried(Kind.DELETION)))
    yield audit.TOMBSTONES, (_tombstone(row) for row in rows(_buried(Kind.TOMBSTONE)))
    yield audit.EXPIRIES, (_expiry(row) for row in rows(_with_salt(expiries)))
    yield audit.ACCESSES, _accesses(connection)
    yield audit.RETURNS, _returns(connection)
    yield audit.HALTS, (_halt(row) for row in rows(_with_salt(halts)))
    yield audit.DRILLS, (_drill(row) for row in rows(_with_salt(drills)))


# --- rows -------------------------------------------------------------------------------


def _with_salt(table: Any) -> Select[Any]:  # noqa: ANN401 - any table that has a leaf
    joined = table.join(salts, salts.c.leaf == table.c.leaf)
    return select(table, salts.c.salt).select_from(joined).order_by(table.c.leaf)


def _consents() -> Select[Any]:
    return (
        select(consents, devices.c.public_key, salts.c.salt)
        .join(devices, devices.c.device == consents.c.device)
        .join(salts, salts.c.leaf == consents.c.leaf)
        .order_by(consents.c.leaf)
    )


def _buried(kind: Kind) -> Select[Any]:
    of_kind = leaves.c.number == tombstones.c.leaf, leaves.c.kind == kind
    return (
        select(tombstones, salts.c.salt)
        .join(leaves, of_kind[0])
        .join(salts, salts.c.leaf == tombstones.c.leaf)
        .where(of_kind[1])
        .order_by(tombstones.c.leaf, tombstones.c.batch)
    )


def _rows(connection: Connection, query: Select[Any], start: int, end: int) -> Iterator[Row[Any]]:
    """Yield the rows of *query* whose leaf lies from *start* to before *end*."""
    leaf = query.selected_columns["leaf"]
    asked = query.where(leaf >= start, leaf < end)
    yield from connection.execution_options(yield_per=_AT_ONCE).execute(asked)


def _entries(connection: Connection, start: int, end: int) -> Iterable[bytes]:
    asked = select(leaves.c.entry).where(leaves.c.number >= start, leaves.c.number < end)
    return connection.execute(asked.order_by(leaves.c.number)).scalars().all()


# --- lines ------------------------------------------------------------------------------


def _notes(connection: Connection, size: int) -> Iterator[audit.Note]:
    asked = select(checkpoints.c.note).where(checkpoints.c.size < size)
    for note in connection.execute(asked.order_by(checkpoints.c.size)).scalars():
        yield audit.Note(note=note)


def _roots(connection: Connection) -> Iterator[audit.RootLine]:
    asked = select(policy_files).where(policy_files.c.name.like("%.root.json"))
    named = {row.name.partition(".")[0]: row.content for row in connection.execute(asked)}
    numbered = {int(name): root for name, root in named.items() if len(name) < 64}
    for _number, root in sorted(numbered.items()):
        yield audit.RootLine(root=root)


def _policies(connection: Connection, size: int) -> Iterator[audit.PolicyLine]:
    for row in _rows(connection, _with_salt(policies), 0, size):
        yield audit.PolicyLine(
            leaf=row.leaf,
            salt=row.salt,
            root=row.root,
            snapshot=row.snapshot,
            targets=row.targets,
            policy=row.policy,
        )


def _consent(row: Row[Any]) -> audit.ConsentLine:
    return audit.ConsentLine(
        leaf=row.leaf,
        salt=row.salt,
        record=row.record,
        signature=row.signature,
        device_key=row.public_key,
    )


def _event(row: Row[Any]) -> audit.EventLine:
    return audit.EventLine(leaf=row.leaf, salt=row.salt, event=row.event, signature=row.signature)


def _demand(row: Row[Any]) -> audit.DemandLine:
    word = None if row.guard is None else msgspec.json.decode(row.guard, type=SignedErasure)
    signed = msgspec.json.decode(row.signed, type=SignedRequest)
    return audit.DemandLine(leaf=row.leaf, salt=row.salt, signed=signed, guard=word)


def _order(row: Row[Any]) -> audit.OrderLine:
    signed = msgspec.json.decode(row.signed, type=SignedOrder)
    return audit.OrderLine(leaf=row.leaf, salt=row.salt, signed=signed)


def _erased(row: Row[Any]) -> audit.ErasedLine:
    return audit.ErasedLine(leaf=row.leaf, batch=row.batch)


def _tombstone(row: Row[Any]) -> audit.TombstoneLine:
    return audit.TombstoneLine(leaf=row.leaf, salt=row.salt, batch=row.batch, stored=row.stored)


def _expiry(row: Row[Any]) -> audit.ExpiryLine:
    return audit.ExpiryLine(leaf=row.leaf, salt=row.salt, batch=row.batch, expires=row.expires)


def _accesses(connection: Connection) -> Iterator[audit.AccessLine]:
    order = approvals.c.access, approvals.c.approver, approvals.c.signature
    for row in connection.execute(select(approvals).order_by(*order)):
        yield audit.AccessLine(request=row.request, approver=row.approver, signature=row.signature)


def _returns(connection: Connection) -> Iterator[audit.ReturnLine]:
    for row in connection.execute(select(returns).order_by(returns.c.access)):
        yield audit.ReturnLine(signed=msgspec.json.decode(row.signed, type=SignedReturn))


def _halt(row: Row[Any]) -> audit.HaltLine:
    payload = halt_payload("halt", row.why, row.at, row.policy.hex())
    return audit.HaltLine(leaf=row.leaf, salt=row.salt, payload=payload)


def _drill(row: Row[Any]) -> audit.DrillLine:
    return audit.DrillLine(
        leaf=row.leaf,
        salt=row.salt,
        began_at=row.began_at,
        passed=row.passed,
        probes=row.probes,
        hole=row.hole,
    )


def _release(row: Row[Any]) -> audit.ReleaseLine:
    return audit.ReleaseLine(
        leaf=row.leaf,
        salt=row.salt,
        batch=row.batch,
        core_hash=row.core_hash,
        access=row.access,
    )


def _batch(row: Row[Any]) -> audit.BatchLine:
    return audit.BatchLine(
        leaf=row.leaf,
        salt=row.salt,
        batch=row.batch,
        core=row.core,
        shelf_sha256=row.sealed_sha256[:HASH_BYTES],
        body_sha256=row.sealed_sha256[HASH_BYTES:],
        sequence=int(row.sequence),
        signature=row.signature,
    )
