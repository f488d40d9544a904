"""The second lock, for the data subject themself: the rules under which own batches go back.

`give_back` is the whole rule, pure.  What the person asks for comes by way of the collector,
which is believed nothing: the order is signed by the rights key, the rights key says whose
pseudonym it is, and the order names the one key to which anything is sealed.  So a collector
that asks in somebody's name, or for another key, gets nothing that it could open.

No approvals are needed, for nobody but the person can read what comes of it; a log entry is,
as for everybody.  Neither a halt nor the end of a policy ends this: they stop who reads others.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime

from guard.release import HASH_BYTES, FindKey, Outcome, Refusal, Refused, unlock
from wire.age import decode_recipient
from wire.errors import MalformedError, WireError
from wire.frame import Core, core_hash, decode_core
from wire.guard_http import LoggedBatch, ReturnRequest
from wire.ids import BatchHash, CoreHash, WallInstant, key_id
from wire.leaf import SALT_BYTES, Kind, entry, release_payload
from wire.me import ORDER_SECONDS, ReturnOrder, check_fresh, verify_return
from wire.policy import Policy
from wire.quorum import verify_quorum
from wire.tlog import (
    Checkpoint,
    verify_checkpoint,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Permit:
    """What checks 1 and 2 established, for all batches of one order."""

    policy: Policy
    order: ReturnOrder
    digest: bytes
    own_key: bytes
    readers: frozenset[bytes]  # ids of the keys that the policy names
    checkpoint: Checkpoint
    today: date


def give_back(
    asked: ReturnRequest, *, policy: Policy, find_key: FindKey, now: WallInstant
) -> tuple[Outcome, ...] | Refused:
    """Return what becomes of each batch, or why the order as a whole is refused.

    *policy* is the one installed here; whether it has expired does not matter.

    For the order:

    1. the rights key signed it, for the policy's collector, at most a day ago;
    2. the checkpoint is signed by the policy's log and cosigned by this guard, and by as many
       of the policy's witnesses as it asks for.

    For each batch:

    3. its core is well formed;
    4. it is the order's: named in it, of the rights key's own data subject and this tenant,
       sealed to the order's key as the data subject's, and still to be kept;
    5. the log entry commits to this batch, core, order and key;
    6. that entry is in the tree of the checkpoint;
    7. the guard's key that the core names is still there;
    8. the shelf opens with that key and this core; only then is it sealed to the order's key.
    """
    try:
        order = verify_return(asked.order, policy.collector.origin)  # 1
        check_fresh(order.made_at, now, ORDER_SECONDS)
        own_key = decode_recipient(order.recipient)
        readers = frozenset(key_id(decode_recipient(each.key)) for each in policy.recipients)
    except WireError as exc:
        return Refused(refusal=Refusal.ORDER_REFUSED, why=str(exc))
    try:
        checkpoint = verify_checkpoint(asked.checkpoint, policy.collector.log)  # 2
        verify_quorum(asked.checkpoint, policy)
    except WireError as exc:
        return Refused(refusal=Refusal.CHECKPOINT_FOREIGN, why=str(exc))
    permit = _Permit(
        policy=policy,
        order=order,
        digest=asked.order.digest,
        own_key=own_key,
        readers=readers,
        checkpoint=checkpoint,
        today=datetime.fromtimestamp(now / 1e9, UTC).date(),
    )
    return tuple(_give_back_one(batch, permit, find_key) for batch in asked.batches)


def _give_back_one(batch: LoggedBatch, permit: _Permit, find_key: FindKey) -> Outcome:
    try:
        core = decode_core(batch.core)  # 3
    except MalformedError as exc:
        return Refused(refusal=Refusal.CORE_MALFORMED, why=str(exc))
    if why := _not_the_orders(batch, core, permit):  # 4
        return Refused(refusal=Refusal.NOT_COVERED, why=why)
    digest = core_hash(batch.core)
    if not _commits(batch, digest, permit):  # 5
        why = "the log entry is not of this batch, order and key"
        return Refused(refusal=Refusal.LEAF_OF_ANOTHER, why=why)
    # 6, 7, 8
    return unlock(batch, core, permit.checkpoint, find_key, permit.own_key)


def _not_the_orders(batch: LoggedBatch, core: Core, permit: _Permit) -> str:
    """Return in what *core* is not what the order may have; empty when all is well."""
    own, policy = key_id(permit.own_key), permit.policy
    said = {
        "the order does not name this batch": batch.batch_hash in permit.order.batches,
        "the batch is of another data subject": core.subject == permit.order.subject,
        f"the batch is of tenant {core.tenant}": core.tenant == policy.collector.tenant,
        # Devices seal to the data subject last (docs/spec/frame-v1.md).
        "the order's key is not the data subject's": own == core.recipients[-1],
        "the order's key is a reader's": own not in permit.readers,
        f"the batch was to be kept until {core.expires}": permit.today.isoformat() <= core.expires,
    }
    return next((what for what, holds in said.items() if not holds), "")


def _commits(batch: LoggedBatch, digest: CoreHash, permit: _Permit) -> bool:
    """Whether the entry is the one entry that announces this."""
    if len(batch.batch_hash) != HASH_BYTES or len(batch.salt) != SALT_BYTES:
        return False
    payload = release_payload(
        BatchHash(batch.batch_hash), digest, permit.digest, permit.order.recipient
    )
    return batch.entry == entry(Kind.RELEASE, payload, batch.salt)
