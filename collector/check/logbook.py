"""Checks of the log: heads, tiles and proofs say one history, in which all of this stands."""

from typing import Final

from collector.check.verdicts import DeviationError, LeftOutError
from collector.check.visit import Visit, gives, refuses
from wire.collector_http import Consistency, decode
from wire.frame import batch_hash, core_hash, encode_core
from wire.leaf import Kind, batch_payload, entry
from wire.tile import WIDTH, Tile, decode_entries, tile_name, verified_entries
from wire.tlog import (
    Checkpoint,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
)

WHOLE: Final = 100_000  # leaves of a log that is read to its end


def head(visit: Visit) -> str:
    """Return the log's head now."""
    return gives(visit.ask("GET", "/v1/log/checkpoint"), 200).decode("utf-8", "replace")


def signed_head(visit: Visit) -> None:
    """The head of the log is signed by the key that the policy names."""
    log = visit.known(visit.policy, "the policy").collector.log
    note = head(visit)
    verify_checkpoint(note, log)
    visit.first_head = note


def goes_on(visit: Visit) -> None:
    """The head of before, those of receipts and the one of now are of one history."""
    log = visit.known(visit.policy, "the policy").collector.log
    before = visit.known(visit.first_head, "an earlier head")
    newest = verify_checkpoint(head(visit), log)
    seen = [before, *(kept.receipt.checkpoint for kept in visit.kept)]
    for note in seen:
        _continues(visit, verify_checkpoint(note, log), newest)


def _continues(visit: Visit, old: Checkpoint, new: Checkpoint) -> None:
    if old.size > new.size:
        raise DeviationError(f"the log had {old.size} leaves, and has {new.size} now")
    if old.size == 0:
        return
    path = f"/v1/log/consistency?old={old.size}&new={new.size}"
    proof = decode(gives(visit.ask("GET", path), 200), Consistency).proof
    verify_consistency(
        old=old.size, new=new.size, proof=proof, old_root=old.root, new_root=new.root
    )


def tiles(visit: Visit) -> None:
    """All tiles lead to the head; of a log that is very long, those of this visit are read."""
    log = visit.known(visit.policy, "the policy").collector.log
    newest = verify_checkpoint(head(visit), log)
    if newest.size > WHOLE:
        raise LeftOutError(f"the log has {newest.size} leaves; at most {WHOLE} are read")
    verified_entries(newest, lambda name: _tile(visit, name))


def leaves(visit: Visit) -> None:
    """What a receipt says is at its place in the log is there, as a salted commitment."""
    for kept in visit.known(visit.kept, "a batch"):
        receipt = kept.receipt
        size = verify_checkpoint(receipt.checkpoint, visit.known(visit.policy, "").collector.log)
        start = receipt.index // WIDTH
        width = min(WIDTH, size.size - start * WIDTH)
        found = decode_entries(_tile(visit, tile_name(Tile(level=None, index=start, width=width))))
        payload = batch_payload(batch_hash(kept.frame), core_hash(encode_core(kept.core)))
        if found[receipt.index % WIDTH] != entry(Kind.BATCH, payload, receipt.salt):
            raise DeviationError(f"leaf {receipt.index} is not the batch of its receipt")


def no_such_tile(visit: Visit) -> None:
    """A tile beyond the end of the log is 404."""
    refuses(visit.ask("GET", "/v1/log/tile/entries/x999/999"), 404, "not-found")


def witnessed(visit: Visit) -> None:
    """The head that a witness cosigned is by the witness of the policy, and of this history."""
    policy = visit.known(visit.policy, "the policy")
    answer = visit.ask("GET", "/v1/log/witnessed")
    if answer.status == 404:
        raise LeftOutError("no witness has cosigned this log yet")
    note = gives(answer, 200).decode("utf-8", "replace")
    verify_cosignature(note, policy.guard.witness)
    cosigned = verify_checkpoint(note, policy.collector.log)
    newest = verify_checkpoint(head(visit), policy.collector.log)
    _continues(visit, cosigned, newest)


def _tile(visit: Visit, name: str) -> bytes:
    return gives(visit.ask("GET", f"/v1/log/{name}"), 200)
