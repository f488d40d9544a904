"""Opening the second lock: the rules under which an age header goes to a reader.

`release` is the whole rule, pure, and the place to start.  Everything that it believes it
has checked itself: the reader's word counts for nothing, nor does the collector's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, TypeAlias

from guard.keys import Found, Missing
from guard.trust import PolicySet
from wire.age import decode_recipient
from wire.category import Category
from wire.errors import ForgedError, MalformedError, WireError
from wire.frame import Core, core_hash, decode_core
from wire.grant import AccessRequest, access_digest, verify_access
from wire.guard_http import LoggedBatch, ReleaseRequest
from wire.ids import BatchHash, CoreHash, SubjectId, WallInstant, key_id
from wire.leaf import SALT_BYTES, Kind, entry, release_payload
from wire.policy import Policy
from wire.quorum import verify_quorum
from wire.shelf import reseal, unshelve
from wire.tlog import (
    Checkpoint,
    leaf_hash,
    verify_checkpoint,
    verify_inclusion,
)

HASH_BYTES: Final = 32

FindKey: TypeAlias = Callable[[SubjectId, Category, str], Found | Missing]


class Refusal(StrEnum):
    """Why nothing is released; the numbers are those of `release`."""

    POLICY_INVALID = "policy-invalid"  # 1
    GRANT_REFUSED = "grant-refused"  # 2
    WRONG_READER = "wrong-reader"  # 3
    ORDER_REFUSED = "order-refused"  # of `guard.returning`
    CHECKPOINT_FOREIGN = "checkpoint-foreign"  # 4
    CORE_MALFORMED = "core-malformed"  # 5
    NOT_COVERED = "not-covered"  # 6
    LEAF_OF_ANOTHER = "leaf-of-another"  # 7
    NOT_IN_LOG = "not-in-log"  # 8
    KEY_ERASED = "key-erased"  # 9
    KEY_UNKNOWN = "key-unknown"  # 9
    SHELF_FORGED = "shelf-forged"  # 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The age header of one batch, sealed to the reader of the grant."""

    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing left; `why` is one line for the reader."""

    refusal: Refusal
    why: str


Outcome: TypeAlias = Released | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Permit:
    """What checks 1 to 4 established, for all batches of one request."""

    policy: Policy
    request: AccessRequest
    digest: bytes
    reader_key: bytes
    checkpoint: Checkpoint
    today: date


def release(
    asked: ReleaseRequest,
    *,
    caller: str,
    policy_set: PolicySet,
    find_key: FindKey,
    now: WallInstant,
) -> tuple[Outcome, ...] | Refused:
    """Return what becomes of each batch, or why the request as a whole is refused.

    For the request:

    1. the installed policy has its signatures and has not expired;
    2. the grant has enough approvals, is in force, and fits the policy;
    3. the caller (as its certificate names it) is the grant's reader;
    4. the checkpoint is signed by the policy's log and cosigned by this guard, and by as many
       of the policy's witnesses as it asks for.

    For each batch:

    5. its core is well formed;
    6. the grant covers it: tenant, programme, purpose, category, day, recipient, retention;
    7. the log entry commits to this batch, core, grant and recipient;
    8. that entry is in the tree of the checkpoint;
    9. the key that the core names is still there;
    10. the shelf opens with that key and this core; only then is it sealed to the reader.
    """
    permit = _permit(asked, caller, policy_set, now)
    if isinstance(permit, Refused):
        return permit
    return tuple(_release_one(batch, permit, find_key) for batch in asked.batches)


def _permit(
    asked: ReleaseRequest, caller: str, policy_set: PolicySet, now: WallInstant
) -> _Permit | Refused:
    moment = datetime.fromtimestamp(now / 1e9, UTC)
    try:
        policy = policy_set.verified(moment)  # 1
    except WireError as exc:
        return Refused(refusal=Refusal.POLICY_INVALID, why=str(exc))
    try:
        request = verify_access(asked.grant, policy, now)  # 2
        reader_key = decode_recipient(request.recipient)
        _days(request)
    except WireError as exc:
        return Refused(refusal=Refusal.GRANT_REFUSED, why=str(exc))
    if caller != request.reader:  # 3
        why = f"the grant is for {request.reader}, the certificate is of {caller}"
        return Refused(refusal=Refusal.WRONG_READER, why=why)
    try:
        checkpoint = verify_checkpoint(asked.checkpoint, policy.collector.log)  # 4
        verify_quorum(asked.checkpoint, policy)
    except WireError as exc:
        return Refused(refusal=Refusal.CHECKPOINT_FOREIGN, why=str(exc))
    return _Permit(
        policy=policy,
        request=request,
        digest=access_digest(asked.grant),
        reader_key=reader_key,
        checkpoint=checkpoint,
        today=moment.date(),
    )


def _release_one(batch: LoggedBatch, permit: _Permit, find_key: FindKey) -> Outcome:
    try:
        core = decode_core(batch.core)  # 5
        uncovered = _not_covered(core, permit)  # 6
    except MalformedError as exc:
        return Refused(refusal=Refusal.CORE_MALFORMED, why=str(exc))
    if uncovered:
        return Refused(refusal=Refusal.NOT_COVERED, why=uncovered)
    digest = core_hash(batch.core)
    if not _commits(batch, digest, permit):  # 7
        why = "the log entry is not of this batch, grant and reader"
        return Refused(refusal=Refusal.LEAF_OF_ANOTHER, why=why)
    return unlock(batch, core, permit.checkpoint, find_key, permit.reader_key)


def unlock(
    batch: LoggedBatch, core: Core, checkpoint: Checkpoint, find_key: FindKey, to: bytes
) -> Outcome:
    """Take checks 8 to 10 of `release`, the same for whoever may have it; then seal to *to*."""
    digest = core_hash(batch.core)
    try:
        verify_inclusion(  # 8
            leaf=leaf_hash(batch.entry),
            index=batch.index,
            size=checkpoint.size,
            proof=batch.proof,
            root=checkpoint.root,
        )
    except ForgedError as exc:
        return Refused(refusal=Refusal.NOT_IN_LOG, why=str(exc))
    match find_key(core.subject, core.category, core.day[:7]):  # 9
        case Missing.ERASED:
            return Refused(refusal=Refusal.KEY_ERASED, why="the guard's key was erased, finally")
        case Found(seed=seed, key_id=name) if name == core.guard_key:
            return _reseal(batch, seed, digest, to)
        case Found() | Missing.NEVER_MADE:
            return Refused(refusal=Refusal.KEY_UNKNOWN, why="no key of this guard is on that core")


def _reseal(batch: LoggedBatch, seed: bytes, digest: CoreHash, to: bytes) -> Outcome:
    try:
        header = unshelve(batch.shelf, seed, digest)  # 10
    except WireError as exc:
        return Refused(refusal=Refusal.SHELF_FORGED, why=f"the shelf does not open: {exc}")
    return Released(sealed=reseal(header, to, digest))


def _not_covered(core: Core, permit: _Permit) -> str:
    """Return what of *core* the grant or the policy does not cover; empty when all is well."""
    request, policy = permit.request, permit.policy
    first, last = _days(request)
    day = _day(core.day)
    said = {
        f"the batch is of tenant {core.tenant}": core.tenant == policy.collector.tenant,
        f"the batch is of programme {core.programme}": core.programme == request.programme,
        f"the batch is for {core.purpose}": core.purpose == request.purpose,
        f"the grant does not cover {core.category}": core.category in request.categories,
        f"the grant covers {first} to {last}, not {day}": first <= day <= last,
        "the batch is not sealed to the grant's reader": key_id(permit.reader_key)
        in core.recipients,
        f"the batch was to be kept until {core.expires}": permit.today <= _day(core.expires),
    }
    return next((what for what, covered in said.items() if not covered), "")


def _commits(batch: LoggedBatch, digest: CoreHash, permit: _Permit) -> bool:
    """Whether the entry is the one entry that announces this release."""
    if len(batch.batch_hash) != HASH_BYTES or len(batch.salt) != SALT_BYTES:
        return False
    payload = release_payload(
        BatchHash(batch.batch_hash), digest, permit.digest, permit.request.recipient
    )
    return batch.entry == entry(Kind.RELEASE, payload, batch.salt)


def _days(request: AccessRequest) -> tuple[date, date]:
    return _day(request.first_day), _day(request.last_day)


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise MalformedError(f"{text!r} is no day as in 2027-03-31") from None
    if day.isoformat() != text:  # 20270331 is ISO 8601 too, but not the one way to write it
        raise MalformedError(f"{text!r} is no day as in 2027-03-31")
    return day
