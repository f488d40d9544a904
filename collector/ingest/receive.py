"""A batch comes in.

The order, as in docs/spec/collector-http-v1.md, "PUT, in this order":

1. the caller is an enrolled device (`auth`); the programme is not halted
2. deleted before: refused; stored before: the receipt of then; too little room: refused
3. the body, bounded while it comes (`intake`)
4. its hash is the path's (`intake`)
5. it is a frame, whole and canonical, signed by the key that this device enrolled (`intake`)
6. its core is within the scope of this collector, its policy, its consent, its guard key
7. file (`intake`), then index row and leaf in one transaction that asks 2 again
8. the receipt

Everything is judged from the outside: nothing here could look into a batch.  What asks the
index (1 and 2, 6, 7) does so for several uploads at a time, each judged by itself (`grouped`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from base.clock import NANOSECONDS, Clock, SystemClock
from base.errors import AssentError, RetryableError
from collector.auth import Caller, Reader, callers
from collector.halt import check_running
from collector.index import Index
from collector.index.prepared import Adding, Found
from collector.index.tables import batches
from collector.ingest.bearing import Bearing, Kept, Key
from collector.ingest.grouped import Outcome
from collector.ingest.intake import Account
from collector.ingest.scope import (
    check_belongs,
    check_consent,
    check_dates,
    check_guard_key,
    check_place,
    check_policy,
)
from collector.log import Leaf, Log, append_all
from collector.refusal import RefusedError, Why
from collector.store import BodyStore
from wire.frame import Core
from wire.ids import BatchHash, CoreHash, DeviceId, WallInstant
from wire.leaf import Kind, batch_payload
from wire.receipt import Receipt

_log = logging.getLogger(__name__)

_BATCH: Final = Adding(batches.insert())
KEEP_SECONDS: Final = 600  # a mark is taken for a dead collector's when it is an hour old


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """Somebody says that a batch is to come."""

    certificate: bytes | None  # DER
    batch: BatchHash
    now: WallInstant


@dataclass(frozen=True, slots=True, kw_only=True)
class Knocked:
    """Who it is, and what is to be said before there is a body; nothing: send it."""

    caller: Caller
    refusal: RefusedError | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A frame that is what it says, by the device that sent it."""

    device: DeviceId
    account: Account
    now: WallInstant
    shown: bytes | None = None  # the certificate of who came ahead of step 1, to be looked up now

    @property
    def batch(self) -> BatchHash:
        """The hash that names it."""
        return self.account.batch

    @property
    def key(self) -> Key:
        """The row that is its own."""
        return self.batch, self.device

    @property
    def core(self) -> Core:
        """What it says of itself in the clear."""
        return self.account.core


@dataclass(frozen=True, slots=True)
class Stored:
    """An upload whose frame is in the store; its row is still to be written."""

    upload: Upload
    began: int  # boot instant, before the frame was put there


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index has of a batch, as far as its receipt says it."""

    core_hash: CoreHash
    received_at: WallInstant
    leaf: Leaf


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes batches for one origin and tenant."""

    origin: str
    tenant: str
    index: Index
    store: BodyStore
    log: Log
    jurisdictions: tuple[str, ...] = ()  # that config.toml names; none: those of the policy
    spare_bytes: int = 0  # of the store; kept free, so that deletions and the log go on
    clock: Clock = SystemClock()  # noqa: RUF009 - has no state

    # --- 1 and 2: before the body -----------------------------------------------------

    def knocked(self, knocks: Sequence[Knock]) -> list[Outcome[Knocked]]:
        """Return who knocks, and what is to be said before their bodies: steps 1 and 2.

        An outcome is a RefusedError where nobody is known who could be told more.
        """
        with self.index.reading() as connection:
            who = callers(
                connection, [(knock.certificate, knock.now) for knock in knocks], self.tenant
            )
            still = _standstill(connection)
            kept = Kept.of(connection, [knock.batch for knock in knocks])
            entries = {key: self._entry(connection, row) for key, row in kept.rows.items()}
        full = self._why_full()
        outcomes: list[Outcome[Knocked]] = []
        for knock, caller in zip(knocks, who, strict=True):
            if isinstance(caller, RefusedError):
                outcomes.append(caller)
                continue
            key = None if isinstance(caller, Reader) else (knock.batch, caller.id)
            if key is None or still is not None:
                outcomes.append(Knocked(caller=caller, refusal=still))
            elif key in kept.entombed:
                outcomes.append(Knocked(caller=caller, refusal=_deleted()))
            elif key in entries:
                receipt = self._receipt(knock.batch, entries[key])
                outcomes.append(Knocked(caller=caller, receipt=receipt))
            else:
                outcomes.append(Knocked(caller=caller, refusal=full))
        return outcomes

    def _why_full(self) -> RefusedError | None:
        free = self.store.free_bytes()
        if free is None or free >= self.spare_bytes:
            return None
        _log.error("no room: %d bytes are free, uploads wait until %d are", free, self.spare_bytes)
        return RefusedError(Why.STORAGE_FULL, "the collector's disk is full; nothing is lost")

    # --- 6: does it belong here -------------------------------------------------------

    def in_scope(self, uploads: Sequence[Upload]) -> list[Outcome[Upload]]:
        """Return those that belong here, a RefusedError for each that does not: step 6."""
        with self.index.reading() as connection:
            bearing = self._bearing(connection, uploads)
            return [self._judged(upload, bearing) for upload in uploads]

    def _judged(self, upload: Upload, bearing: Bearing) -> Outcome[Upload]:
        try:
            self._check_scope(upload, bearing)
        except RefusedError as exc:
            return exc
        return upload

    def _bearing(self, connection: Connection, uploads: Sequence[Upload]) -> Bearing:
        cores = [upload.core for upload in uploads]
        return Bearing.of(connection, cores, self.jurisdictions)

    def _check_scope(self, upload: Upload, bearing: Bearing) -> None:
        core = upload.core
        check_belongs(core, self.origin, self.tenant, upload.device)
        check_place(core, bearing)
        policy = bearing.policy(core.policy)
        check_policy(core, policy)
        check_consent(core, bearing)
        check_guard_key(core, bearing)
        check_dates(core, bearing, upload.now)

    # --- 7 and 8: keep ----------------------------------------------------------------

    def keep(self, group: Sequence[Stored]) -> list[Outcome[tuple[Receipt, bool]]]:
        """Write rows and leaves; return receipts, and whether each batch is new: steps 7 and 8.

        The marks are whoever's who stored: one that stays because of a failure is looked at by
        the next start, which removes mark and file, or, if only our knowledge of the commit was
        lost, keeps the file for its row.
        """
        uploads = [one.upload for one in group]
        full = self._why_full() if any(upload.shown for upload in uploads) else None
        with self.index.writing() as connection:
            check_running(connection)
            strangers = self._strangers(connection, uploads)
            kept = Kept.of(connection, [upload.batch for upload in uploads])
            bearing = self._bearing(connection, uploads)
            now = self.clock.now().boot
            refusals = [
                strangers.get(one.upload.shown) or self._why_not(one, now, kept, bearing, full)
                for one in group
            ]
            entries = {key: self._entry(connection, row) for key, row in kept.rows.items()}
            new: dict[Key, Upload] = {}
            for upload, refusal in zip(uploads, refusals, strict=True):
                if refusal is None and upload.key not in entries:
                    new.setdefault(upload.key, upload)  # the same one twice is one
            entries |= _insert(connection, new)
        self.log.committed([entries[key].leaf for key in new])
        return [
            refusal
            or (self._receipt(upload.batch, entries[upload.key]), new.get(upload.key) is upload)
            for upload, refusal in zip(uploads, refusals, strict=True)
        ]

    def _strangers(
        self, connection: Connection, uploads: Sequence[Upload]
    ) -> dict[bytes | None, RefusedError]:
        """Return the certificates of those who came ahead of step 1 and are nobody any more."""
        shown = [(upload.shown, upload.now) for upload in uploads if upload.shown is not None]
        found = callers(connection, shown, self.tenant)
        refused: dict[bytes | None, RefusedError] = {}
        for (certificate, _now), caller in zip(shown, found, strict=True):
            if isinstance(caller, RefusedError):
                refused[certificate] = caller
            elif isinstance(caller, Reader) or caller.drill:  # whoever gave them leave was wrong
                refused[certificate] = RefusedError(Why.WRONG_ROLE, "only a device may do this")
        return refused

    def _why_not(
        self,
        one: Stored,
        now: int,
        kept: Kept,
        bearing: Bearing,
        full: RefusedError | None,
    ) -> AssentError | None:
        """Return what speaks against it by now: too late, deleted meanwhile, or out of scope."""
        # Who hung for so long can be taken for dead, and then the frame is gone: no row for it.
        if now - one.began > KEEP_SECONDS * NANOSECONDS:
            return RetryableError("this upload took too long between its file and its row")
        if one.upload.key in kept.entombed:
            return _deleted()
        if one.upload.key in kept.rows:  # judged when it came first: it has the receipt of then
            return None
        if full is not None and one.upload.shown is not None:
            return full
        try:
            self._check_scope(one.upload, bearing)
        except RefusedError as exc:
            return exc
        return None

    def take_back(self, batch: BatchHash) -> None:
        """Remove a frame whose row was refused because its device deleted it meanwhile.

        Nobody else can have committed what this device deleted.
        """
        self.store.remove(batch)

    # --- receipts ---------------------------------------------------------------------

    def receipt(self, batch: BatchHash) -> Receipt | None:
        """Return the receipt of a stored batch, always the same one; None: it is not here."""
        with self.index.reading() as connection:
            rows = Kept.of(connection, [batch]).rows.values()
            entries = [self._entry(connection, row) for row in rows]
        return self._receipt(batch, entries[0]) if entries else None

    def _entry(self, connection: Connection, row: Found) -> Entry:
        return Entry(row.core_hash, row.received_at, self.log.leaf(connection, row.leaf))

    def _receipt(self, batch: BatchHash, entry: Entry) -> Receipt:
        logged = self.log.logged(entry.leaf)
        return Receipt(
            batch_hash=batch,
            core_hash=entry.core_hash,
            received_at=entry.received_at,
            salt=logged.salt,
            index=logged.index,
            proof=logged.proof,
            checkpoint=logged.checkpoint,
        )


def _standstill(connection: Connection) -> RefusedError | None:
    try:
        check_running(connection)
    except RefusedError as exc:
        return exc
    return None


def _deleted() -> RefusedError:
    return RefusedError(Why.ERASED, "this batch was deleted")


def _insert(connection: Connection, new: Mapping[Key, Upload]) -> dict[Key, Entry]:
    """Write a row and a leaf for each; return the entries."""
    if not new:
        return {}
    leaves = append_all(
        connection,
        Kind.BATCH,
        [
            (batch_payload(upload.batch, upload.account.core_hash), upload.now)
            for upload in new.values()
        ],
    )
    pairs = list(zip(new.values(), leaves, strict=True))
    _BATCH.all(connection, [_row(upload, leaf) for upload, leaf in pairs])
    return {upload.key: Entry(upload.account.core_hash, upload.now, leaf) for upload, leaf in pairs}


def _row(upload: Upload, leaf: Leaf) -> dict[str, object]:
    core, account = upload.core, upload.account
    return {
        "batch": upload.batch,
        "core_hash": account.core_hash,
        "device": core.device,
        "subject": core.subject,
        "programme": core.programme,
        "purpose": core.purpose,
        "category": core.category,
        "day": core.day,
        "expires": core.expires,
        "policy": core.policy,
        "grant": core.grant,
        "bytes": account.size_bytes,
        "sequence": str(account.sequence),
        "core": account.core_bytes,
        "sealed_sha256": account.sealed_sha256,
        "signature": account.signature,
        "received_at": upload.now,
        "leaf": leaf.number,
    }
