"""A batch comes in.

The order, as in docs/spec/collector-http-v1.md, "PUT, in this order":

1. the caller is an enrolled device (`auth`); the programme is not halted
2. deleted before: refused; stored before: the receipt of then; too little room: refused
3. the body, bounded while it comes (`app`)
4. its hash is the path's
5. it is a frame, whole and canonical, signed by the key that this device enrolled
6. its core is within the scope of this collector, its policy, its consent, its guard key
7. file, then index row and leaf in one transaction that asks 2 again
8. the receipt

Everything is judged from the outside: nothing here could look into a batch.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select

from base.clock import NANOSECONDS
from collector.auth import Device
from collector.consents import check_covers
from collector.forget import check_not_erased
from collector.halt import check_running
from collector.index import Index
from collector.index.tables import batches, consents, guard_keys
from collector.log import Log, append
from collector.policies import known
from collector.refusal import RefusedError, Why
from collector.store import BodyStore
from collector.taken_back import check_not_taken_back
from wire.errors import ForgedError, MalformedError, UnknownVersionError
from wire.frame import Core, Verified, verify
from wire.ids import BatchHash, CoreHash, PolicyDigest, WallInstant
from wire.leaf import Kind, batch_payload
from wire.policy import Policy
from wire.receipt import Receipt

_log = logging.getLogger(__name__)

# Built once: to build a statement costs more than to execute it, and each upload asks them all.
_LEAF: Final = select(batches.c.leaf).where(
    batches.c.batch == bindparam("batch"), batches.c.device == bindparam("device")
)
_RECEIVED: Final = select(batches.c.core_hash, batches.c.received_at, batches.c.leaf).where(
    batches.c.batch == bindparam("batch")
)
_CONSENT: Final = select(consents).where(consents.c.grant == bindparam("grant"))
_GUARD_KEY: Final = select(guard_keys.c.key_id).where(
    guard_keys.c.subject == bindparam("subject"),
    guard_keys.c.category == bindparam("category"),
    guard_keys.c.month == bindparam("month"),
)
_BATCH: Final = batches.insert()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Takes batches for one origin and tenant."""

    origin: str
    tenant: str
    index: Index
    store: BodyStore
    log: Log
    spare_bytes: int = 0  # of the store; kept free, so that deletions and the log go on

    def before_body(self, device: Device, batch: BatchHash) -> Receipt | None:
        """Return the receipt of a batch that is here already: steps 1 and 2.

        Raises:
            RefusedError: Halted, deleted before, or no room.

        """
        with self.index.reading() as connection:
            check_running(connection)
            check_not_erased(connection, device.id, batch)
            leaf = _leaf_of(connection, device, batch)
        if leaf is not None:
            return self.receipt(batch)
        self._check_room()
        return None

    def _check_room(self) -> None:
        free = self.store.free_bytes()
        if free is not None and free < self.spare_bytes:
            _log.error(
                "no room: %d bytes are free, uploads wait until %d are", free, self.spare_bytes
            )
            raise RefusedError(Why.STORAGE_FULL, "the collector's disk is full; nothing is lost")

    def take(
        self, device: Device, batch: BatchHash, frame: bytes, now: WallInstant
    ) -> tuple[Receipt, bool]:
        """Take *frame* in: steps 4 to 8.  Return its receipt and whether it is new.

        Raises:
            RefusedError: One of the steps; nothing was stored.

        """
        if hashlib.sha256(frame).digest() != batch:
            raise RefusedError(Why.WRONG_HASH, "these bytes have another SHA-256 than the path")
        verified = _verified(device, frame)
        with self.index.reading() as connection:
            self._check_scope(connection, device, verified.core, now)
        new = self._keep(device, verified, frame, now)
        return self.receipt(batch), new

    def receipt(self, batch: BatchHash) -> Receipt:
        """Return the receipt of a stored batch; always the same one.

        Raises:
            RefusedError: It was deleted meanwhile.

        """
        with self.index.reading() as connection:
            row = connection.execute(_RECEIVED, {"batch": batch}).one_or_none()
            leaf = None if row is None else self.log.leaf(connection, row.leaf)
        if row is None or leaf is None:
            raise RefusedError(Why.ERASED, "this batch was deleted by its device")
        logged = self.log.logged(leaf)
        return Receipt(
            batch_hash=batch,
            core_hash=CoreHash(row.core_hash),
            received_at=WallInstant(row.received_at),
            salt=logged.salt,
            index=logged.index,
            proof=logged.proof,
            checkpoint=logged.checkpoint,
        )

    # --- 6: scope ---------------------------------------------------------------------

    def _check_scope(
        self, connection: Connection, device: Device, core: Core, now: WallInstant
    ) -> None:
        if core.origin != self.origin:
            raise RefusedError(Why.NOT_THIS_ORIGIN, "the frame is for another collector")
        if core.tenant != self.tenant:
            raise RefusedError(Why.NOT_THIS_TENANT, "the frame is for another tenant")
        if core.device != device.id:
            raise RefusedError(Why.NOT_THIS_DEVICE, "the frame is of another device")
        policy = known(connection, core.policy)
        _check_policy(core, policy)
        _check_consent(connection, device, core)
        _check_guard_key(connection, core)
        _check_dates(core, policy, now)

    # --- 7: keep ----------------------------------------------------------------------

    def _keep(self, device: Device, verified: Verified, frame: bytes, now: WallInstant) -> bool:
        batch = verified.batch_hash
        try:
            mark = self.store.put(batch, frame)
        except OSError as exc:
            _log.error("a frame could not be stored: %s", exc.strerror)
            raise RefusedError(Why.STORAGE_FULL, "the frame cannot be stored now") from exc
        try:
            # A failure in here leaves the mark: the next start removes mark and file, or, if
            # only our knowledge of the commit was lost, keeps the file for its row.
            with self.index.writing() as connection:
                check_running(connection)
                check_not_erased(connection, device.id, batch)
                _check_consent(connection, device, verified.core)
                new = _leaf_of(connection, device, batch) is None
                if new:
                    _insert(connection, verified, len(frame), now)
        except RefusedError as exc:
            if exc.why is Why.ERASED:  # nobody else can have committed what this device deleted
                self.store.remove(batch)
                mark.settle()
            raise
        mark.settle()
        return new


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


def _leaf_of(connection: Connection, device: Device, batch: BatchHash) -> int | None:
    return connection.execute(_LEAF, {"batch": batch, "device": device.id}).scalar()


def _check_policy(core: Core, policy: Policy) -> None:
    if core.programme != policy.programme:
        raise RefusedError(Why.NOT_THIS_PROGRAMME, "the frame is of another programme")
    if core.purpose != policy.purpose:
        raise RefusedError(Why.CONSENT_MISMATCH, "the policy has another purpose")
    if policy.rule(core.category) is None:
        raise RefusedError(Why.CATEGORY_REFUSED, f"the policy does not ask for {core.category}")


def _check_consent(connection: Connection, device: Device, core: Core) -> None:
    consent = connection.execute(_CONSENT, {"grant": core.grant}).one_or_none()
    if consent is None:
        raise RefusedError(Why.CONSENT_UNKNOWN, "its consent record is not here; send it first")
    if consent.device != device.id:
        raise RefusedError(Why.NOT_THIS_DEVICE, "its consent record is of another device")
    if consent.subject != core.subject:
        raise RefusedError(Why.NOT_THIS_SUBJECT, "its consent record is of another data subject")
    if consent.category != core.category:
        raise RefusedError(Why.CONSENT_MISMATCH, f"the consent is not for {core.category}")
    check_covers(connection, PolicyDigest(consent.policy), core)
    given_at = WallInstant(consent.given_at)
    check_not_taken_back(connection, core.subject, core.category, core.day, given_at)


def _check_guard_key(connection: Connection, core: Core) -> None:
    asked = {"subject": core.subject, "category": core.category, "month": core.day[:7]}
    found = connection.execute(_GUARD_KEY, asked).scalar()
    if found != core.guard_key:
        raise RefusedError(
            Why.GUARD_KEY_UNKNOWN, "it is not sealed to the guard's key of its month; ask for that"
        )


def _check_dates(core: Core, policy: Policy, now: WallInstant) -> None:
    day, expires = _date(core.day), _date(core.expires)
    if expires < datetime.fromtimestamp(now / NANOSECONDS, UTC).date():
        raise RefusedError(Why.EXPIRED, f"the frame was to be kept until {core.expires} only")
    rule = policy.rule(core.category)
    if rule is not None and expires > day + timedelta(days=rule.retention_days):
        raise RefusedError(
            Why.KEPT_TOO_LONG, f"the policy keeps {core.category} for {rule.retention_days} days"
        )


def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as exc:
        raise RefusedError(Why.MALFORMED, "a date in the core is none") from exc
    if day.isoformat() != text:  # Python also reads forms that do not sort as text
        raise RefusedError(Why.MALFORMED, "a date in the core is not written as in 2027-03-15")
    return day


def _insert(connection: Connection, verified: Verified, size: int, now: WallInstant) -> None:
    core = verified.core
    payload = batch_payload(verified.batch_hash, verified.core_hash)
    connection.execute(
        _BATCH,
        {
            "batch": verified.batch_hash,
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
            "bytes": size,
            "sequence": str(verified.sequence),
            "core": verified.parts.core,
            "sealed_sha256": verified.sealed_sha256,
            "signature": verified.parts.signature,
            "received_at": now,
            "leaf": append(connection, Kind.BATCH, payload, now),
        },
    )
