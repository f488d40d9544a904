"""A collector that gives a reader what it wants to hear, and logs nothing of it.

It has all that a collector has: its index, and the key of its log.  What it lacks is the
witness's word.
"""

import base64
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Final

import msgspec

from reader.fetch import Collector
from tests.fakes.organisation import WITNESS_NAME, ed25519
from tests.fakes.second_lock import SecondLock
from wire.collector_http import LoggedRelease, ReleaseList, ReleaseOrder
from wire.frame import core_hash, split
from wire.grant import access_digest, decode_request
from wire.ids import BatchHash
from wire.leaf import Kind, entry, release_payload
from wire.tlog import Checkpoint, Tree, cosign, leaf_hash, sign_checkpoint


class Liar(Collector):
    """Lies about releases, in one way at a time; *honest* are those of another grant."""

    def __init__(
        self, lock: SecondLock, stored: dict[BatchHash, bytes], honest: ReleaseList, lie: str
    ) -> None:
        super().__init__(lock.premises)
        self.lock = lock
        self.stored = stored
        self.honest = honest
        self._lie: Callable[[ReleaseOrder], ReleaseList] = getattr(self, lie)

    def releases(self, order: ReleaseOrder) -> ReleaseList:
        return self._lie(order)

    def a_leaf_that_is_not_there(self, order: ReleaseOrder) -> ReleaseList:
        """The right entries, with the proof of another, under a head that was cosigned."""
        proof = self.honest.releases[0]
        made = [
            msgspec.structs.replace(one, index=proof.index, proof=proof.proof)
            for one in self._made_up(order)
        ]
        return ReleaseList(checkpoint=self.honest.checkpoint, releases=tuple(made))

    def the_release_of_another_grant(self, order: ReleaseOrder) -> ReleaseList:
        """Logged, cosigned, and proved; but not for this grant."""
        before = {one.batch_hash: one for one in self.honest.releases}
        releases = tuple(before[batch] for batch in order.batches)
        return ReleaseList(checkpoint=self.honest.checkpoint, releases=releases)

    def a_head_without_a_witness(self, order: ReleaseOrder) -> ReleaseList:
        """The leaves are in a tree that the log signed and showed to nobody else."""
        return self._under(order, lambda note: note)

    def a_witness_of_its_own(self, order: ReleaseOrder) -> ReleaseList:
        """The same, signed by a witness of that name with another key."""
        return self._under(order, lambda note: note + cosign(note, WITNESS_NAME, ed25519(), 1))

    def a_cosignature_of_another_head(self, order: ReleaseOrder) -> ReleaseList:
        """The same, with the line that the witness gave for another head."""
        line = self.honest.checkpoint.rstrip("\n").rpartition("\n")[2]
        return self._under(order, lambda note: f"{note}{line}\n")

    def a_second_history(self, order: ReleaseOrder) -> ReleaseList:
        """A tree in which another leaf was different, offered to the witness, who refuses."""

        def offered(note: str) -> str:
            log = self.lock.collector_now.log
            seen = self.lock.witnessed()
            proof = log.consistency(seen, log.take_up())
            lines = [f"old {seen}", *(base64.b64encode(step).decode() for step in proof)]
            asked = ("\n".join(lines) + "\n\n" + note).encode()
            answer = self.lock.to_witness("POST", "/add-checkpoint", asked)
            assert answer.status == 422, "the witness took a second history"
            return note

        return self._under(order, offered, forked=True)

    def _under(
        self, order: ReleaseOrder, finish: Callable[[str], str], *, forked: bool = False
    ) -> ReleaseList:
        log, key = self.lock.collector_now.log, self.lock.site.premises.log_key()
        log.take_up()
        leaves = [leaf_hash(one) for one in self._entries()]
        if forked:
            leaves[self.lock.witnessed() // 2] = secrets.token_bytes(32)
        tree, made = Tree(leaves), self._made_up(order)
        numbers = [tree.append(leaf_hash(one.entry)) for one in made]
        head = Checkpoint(origin=log.name, size=tree.size, root=tree.root())
        note = finish(sign_checkpoint(head, key))
        proved = [
            msgspec.structs.replace(one, index=number, proof=tree.inclusion(number, tree.size))
            for one, number in zip(made, numbers, strict=True)
        ]
        return ReleaseList(checkpoint=note, releases=tuple(proved))

    def _entries(self) -> list[bytes]:
        with closing(sqlite3.connect(self.lock.site.premises.index_file)) as index:
            rows = index.execute("SELECT entry FROM leaves ORDER BY number").fetchall()
        return [row[0] for row in rows]

    def _made_up(self, order: ReleaseOrder) -> list[LoggedRelease]:
        recipient, made = decode_request(order.grant.request).recipient, []
        for batch in map(BatchHash, order.batches):
            core = core_hash(split(self.stored[batch]).core)
            payload = release_payload(batch, core, access_digest(order.grant), recipient)
            salt = secrets.token_bytes(16)
            leaf = entry(Kind.RELEASE, payload, salt)
            made.append(LoggedRelease(batch_hash=batch, entry=leaf, salt=salt, index=0, proof=()))
        return made


LIES: Final = [name for name in vars(Liar) if name.startswith(("a_", "the_"))]
