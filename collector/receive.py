"""A batch comes in.

The order, as in docs/spec/collector-http-v1.md, "PUT, in this order":

1. the caller is an enrolled device (`auth`); the programme is not halted
2. deleted before: refused; stored before: the receipt of then; too little room: refused
3. the body, bounded while it comes (`reached`)
4. its hash is the path's
5. it is a frame, whole and canonical, signed by the key that this device enrolled
6. its core is within the scope of this collector, its policy, its consent, its guard key
7. file, then index row and leaf in one transaction that asks 2 again
8. the receipt

Everything is judged from the outside: nothing here could look into a batch.  What asks the
index (1 and 2, 6, 7) does so for several uploads at a time, each judged by itself (`grouped`).
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from collector.auth import Caller, Device, Reader, callers
from collector.bearing import Bearing, Found, Kept, Key
from collector.grouped import Outcome
from collector.halt import check_running
from collector.index import Index
from collector.index.tables import batches
from collector.log import Leaf, Log, append_all
from collector.refusal import RefusedError, Why
from collector.scope import check_belongs, check_consent, check_dates, check_guard_key, check_policy
from collector.store import BodyStore, Unsettled
from wire.errors import ForgedError, MalformedError, UnknownVersionError
from wire.frame import Core, Verified, verify
from wire.ids import BatchHash, CoreHash, WallInstant
from wire.leaf import Kind, batch_payload
from wire.receipt import Receipt

_log = logging.getLogger(__name__)

_BATCH: Final = batches.insert()


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

    device: Device
    verified: Verified
    frame: bytes
    now: WallInstant

    @property
    def batch(self) -> BatchHash:
        """The hash that names it."""
        return self.verified.batch_hash

    @property
    def key(self) -> Key:
        """The row that is its own."""
        return self.batch, self.device.id

    @property
    def core(self) -> Core:
        """What it says of itself in the clear."""
        return self.verified.core


@dataclass(frozen=True, slots=True)
class Stored:
    """An upload whose frame is in the store; its row is still to be written."""

    upload: Upload
    mark: Unsettled


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
    spare_bytes: int = 0  # of the store; kept free, so that deletions and the log go on

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

    # --- 4 to 6: is it what it says, and does it belong here --------------------------

    def verified(self, device: Device, batch: BatchHash, frame: bytes, now: WallInstant) -> Upload:
        """Return *frame* as what it says: steps 4 and 5.

        Raises:
            RefusedError: It is not.

        """
        if hashlib.sha256(frame).digest() != batch:
            raise RefusedError(Why.WRONG_HASH, "these bytes have another SHA-256 than the path")
        return Upload(device=device, verified=_verified(device, frame), frame=frame, now=now)

    def in_scope(self, uploads: Sequence[Upload]) -> list[Outcome[Upload]]:
        """Return those that belong here, a RefusedError for each that does not: step 6."""
        with self.index.reading() as connection:
            bearing = Bearing.of(connection, [upload.core for upload in uploads])
            return [self._judged(upload, bearing) for upload in uploads]

    def _judged(self, upload: Upload, bearing: Bearing) -> Outcome[Upload]:
        core = upload.core
        try:
            check_belongs(core, self.origin, self.tenant, upload.device.id)
            policy = bearing.policy(core.policy)
            check_policy(core, policy)
            check_consent(core, bearing)
            check_guard_key(core, bearing)
            check_dates(core, policy, upload.now)
        except RefusedError as exc:
            return exc
        return upload

    # --- 7 and 8: keep ----------------------------------------------------------------

    def stored(self, upload: Upload) -> Stored:
        """Put the frame into the store: the first half of step 7.

        Raises:
            RefusedError: It cannot be stored now.

        """
        try:
            return Stored(upload, self.store.put(upload.batch, upload.frame))
        except OSError as exc:
            _log.error("a frame could not be stored: %s", exc.strerror)
            raise RefusedError(Why.STORAGE_FULL, "the frame cannot be stored now") from exc

    def keep(self, group: Sequence[Stored]) -> list[Outcome[tuple[Receipt, bool]]]:
        """Write rows and leaves; return receipts, and whether each batch is new: steps 7 and 8.

        A failure in here leaves the marks: the next start removes mark and file, or, if only
        our knowledge of the commit was lost, keeps the file for its row.
        """
        uploads = [one.upload for one in group]
        with self.index.writing() as connection:
            check_running(connection)
            kept = Kept.of(connection, [upload.batch for upload in uploads])
            refusals = _refusals(uploads, kept, Bearing.of(connection, [u.core for u in uploads]))
            entries = {key: self._entry(connection, row) for key, row in kept.rows.items()}
            new: dict[Key, Upload] = {}
            for upload, refusal in zip(uploads, refusals, strict=True):
                if refusal is None and upload.key not in entries:
                    new.setdefault(upload.key, upload)  # the same one twice is one
            entries |= _insert(connection, new)
        return [
            self._settled(one, refusal, entries, new)
            for one, refusal in zip(group, refusals, strict=True)
        ]

    def _settled(
        self,
        one: Stored,
        refusal: RefusedError | None,
        entries: Mapping[Key, Entry],
        new: Mapping[Key, Upload],
    ) -> Outcome[tuple[Receipt, bool]]:
        upload = one.upload
        if refusal is None:
            one.mark.settle()
            return self._receipt(upload.batch, entries[upload.key]), new.get(upload.key) is upload
        if refusal.why is Why.ERASED:  # nobody else can have committed what this device deleted
            self.store.remove(upload.batch)
            one.mark.settle()
        return refusal

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


def _verified(device: Device, frame: bytes) -> Verified:
    try:
        return verify(frame, device.key)
    except UnknownVersionError as exc:
        line = f"{exc}; the device is newer than this collector, which has to be upgraded"
        raise RefusedError(Why.VERSION_UNKNOWN, line) from exc
    except MalformedError as exc:
        raise RefusedError(Why.MALFORMED, str(exc)) from exc
    except ForgedError as exc:
        raise RefusedError(Why.FORGED, str(exc)) from exc


def _refusals(uploads: Sequence[Upload], kept: Kept, bearing: Bearing) -> list[RefusedError | None]:
    """Return what speaks against each by now: deleted meanwhile, or the consent is gone."""
    found: list[RefusedError | None] = []
    for upload in uploads:
        try:
            if upload.key in kept.entombed:
                raise _deleted()
            check_consent(upload.core, bearing)
        except RefusedError as exc:
            found.append(exc)
        else:
            found.append(None)
    return found


def _insert(connection: Connection, new: Mapping[Key, Upload]) -> dict[Key, Entry]:
    """Write a row and a leaf for each; return the entries."""
    if not new:
        return {}
    leaves = append_all(
        connection,
        Kind.BATCH,
        [
            (batch_payload(upload.batch, upload.verified.core_hash), upload.now)
            for upload in new.values()
        ],
    )
    pairs = list(zip(new.values(), leaves, strict=True))
    connection.execute(_BATCH, [_row(upload, leaf) for upload, leaf in pairs])
    return {
        upload.key: Entry(upload.verified.core_hash, upload.now, leaf) for upload, leaf in pairs
    }


def _row(upload: Upload, leaf: Leaf) -> dict[str, object]:
    core, verified = upload.core, upload.verified
    return {
        "batch": upload.batch,
        "core_hash": verified.core_hash,
        "device": core.device,
        "subject": core.subject,
        "programme": core.programme,
        "purpose": core.purpose,
        "category": core.category,
        "day": core.day,
        "expires": core.expires,
        "policy": core.policy,
        "grant": core.grant,
        "bytes": len(upload.frame),
        "sequence": str(verified.sequence),
        "core": verified.parts.core,
        "sealed_sha256": verified.sealed_sha256,
        "signature": verified.parts.signature,
        "received_at": upload.now,
        "leaf": leaf.number,
    }
