"""The receipt: a collector's proof that it stored a batch and that its log says so.

The agent deletes its own copy only after `verify_receipt` returned: the entry commits to
exactly these bytes, and it is in the tree whose root the log signed.
"""

import msgspec

from wire.errors import UNREADABLE, ForgedError, MalformedError
from wire.ids import BatchHash, CoreHash, WallInstant
from wire.leaf import Kind, batch_payload, entry
from wire.tlog import leaf_hash, verify_checkpoint, verify_inclusion


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a collector answers to a stored batch; `checkpoint` is a C2SP signed note.

    What a later collector says besides proves nothing, and is not looked at.
    """

    batch_hash: BatchHash
    core_hash: CoreHash
    received_at: WallInstant
    salt: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str


def encode_receipt(receipt: Receipt) -> bytes:
    """Return *receipt* as JSON."""
    return msgspec.json.encode(receipt)


def decode_receipt(data: bytes) -> Receipt:
    """Return the receipt in *data*, unverified.

    Raises:
        MalformedError: Not a receipt.

    """
    try:
        return msgspec.json.decode(data, type=Receipt)
    except UNREADABLE as exc:
        raise MalformedError(f"the receipt cannot be read: {exc}") from exc


def verify_receipt(receipt: Receipt, batch: BatchHash, core: CoreHash, log_key: str) -> None:
    """Check that *receipt* is for this batch and stands in the log of *log_key*.

    *log_key* is the C2SP verifier key that the policy names.

    Raises:
        ForgedError: For another batch, not signed by that log, or not in its tree.
        MalformedError: The checkpoint is no signed note.

    """
    if receipt.batch_hash != batch or receipt.core_hash != core:
        raise ForgedError("the receipt is for another batch")
    checkpoint = verify_checkpoint(receipt.checkpoint, log_key)
    leaf = leaf_hash(entry(Kind.BATCH, batch_payload(batch, core), receipt.salt))
    verify_inclusion(
        leaf=leaf,
        index=receipt.index,
        size=checkpoint.size,
        proof=receipt.proof,
        root=checkpoint.root,
    )
