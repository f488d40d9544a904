"""The collector's log: leaves in the index, their tree in memory, checkpoints by its key.

A leaf is written in the same transaction as what it records (`append`); only after the
commit does the tree take it up and a checkpoint say so.  A checkpoint of any size follows
from leaves and key alone (Ed25519 is deterministic), so it needs no storing: the receipt
for leaf *i* is made from the tree of size *i* + 1, today as on the first day.
"""

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, func, select

from base.errors import SetupError
from collector.index import Index
from collector.index.prepared import Adding, Asking
from collector.index.tables import checkpoints, leaves, salts
from wire.collector_http import Logged
from wire.ids import WallInstant
from wire.leaf import SALT_BYTES, Kind, entry
from wire.signatures import QuickKey
from wire.tile import WIDTH, Tile, encode_entries, encode_hashes
from wire.tlog import (
    ALGORITHM_ED25519,
    Checkpoint,
    Tree,
    leaf_hash,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
)

_CHUNK: Final = 10_000  # leaves taken up at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One leaf with what opens its commitment; `salt` is None once it was erased."""

    number: int
    entry: bytes
    salt: bytes | None


_NEXT: Final = Asking(select(func.coalesce(func.max(leaves.c.number) + 1, 0).label("number")))
_LEAF: Final = (
    select(leaves.c.entry, salts.c.salt)
    .join_from(leaves, salts, isouter=True)
    .where(leaves.c.number == bindparam("number"))
)
_ENTRIES: Final = (
    select(leaves.c.entry)
    .where(leaves.c.number >= bindparam("start"), leaves.c.number < bindparam("end"))
    .order_by(leaves.c.number)
)
_NEW_LEAF: Final = Adding(leaves.insert())
_NEW_SALT: Final = Adding(salts.insert())


def append(connection: Connection, kind: Kind, payload: bytes, at: WallInstant) -> int:
    """Add a leaf in the caller's writing transaction; return its number."""
    return append_all(connection, kind, [(payload, at)])[0].number


def append_all(
    connection: Connection, kind: Kind, payloads: Sequence[tuple[bytes, WallInstant]]
) -> list[Leaf]:
    """Add a leaf for each payload, with its time, in the caller's writing transaction.

    Nobody else can be adding one: the transaction has the index to itself.
    """
    (next_one,) = _NEXT.all(connection)
    new, rows = [], []
    for number, (payload, at) in enumerate(payloads, next_one.number):
        salt = secrets.token_bytes(SALT_BYTES)
        data = entry(kind, payload, salt)
        new.append(Leaf(number=number, entry=data, salt=salt))
        rows.append({"number": number, "kind": kind, "entry": data, "at": at})
    _NEW_LEAF.all(connection, rows)
    _NEW_SALT.all(connection, [{"leaf": leaf.number, "salt": leaf.salt} for leaf in new])
    return new


class Log:
    """The tree over all committed leaves.  May be used by several threads."""

    def __init__(self, index: Index, key: Ed25519PrivateKey, name: str) -> None:
        """Take up all leaves of *index*.

        Raises:
            SetupError: The index lacks leaves for which a witness has cosigned already.

        """
        self._index = index
        self._key = QuickKey(key)
        self._name = name
        self._tree = Tree()
        self._lock = threading.RLock()
        self.take_up()
        self._check_not_shortened()

    @property
    def name(self) -> str:
        """The name of the log, which is the origin of its checkpoints."""
        return self._name

    @property
    def verifier_key(self) -> str:
        """The C2SP verifier key by which policies name this log."""
        return verifier_key(
            self._name, ALGORITHM_ED25519, self._key.public_key().public_bytes_raw()
        )

    def take_up(self) -> int:
        """Take committed leaves into the tree; return its size."""
        with self._lock:
            while True:
                with self._index.reading() as connection:
                    rows = connection.execute(
                        select(leaves.c.number, leaves.c.entry)
                        .where(leaves.c.number >= self._tree.size)
                        .order_by(leaves.c.number)
                        .limit(_CHUNK)
                    ).all()
                for number, data in rows:
                    if number != self._tree.size:
                        raise SetupError(f"leaf {self._tree.size} of the log is missing; restore")
                    self._tree.append(leaf_hash(data))
                if len(rows) < _CHUNK:
                    return self._tree.size

    def committed(self, new: Sequence[Leaf]) -> None:
        """Take up leaves that the caller has just committed, one after the other.

        Where others came in between, they are read like those of any other process.
        """
        with self._lock:
            for leaf in new:
                if leaf.number == self._tree.size:
                    self._tree.append(leaf_hash(leaf.entry))

    def checkpoint(self, size: int | None = None) -> str:
        """Return the signed note over the first *size* leaves, all by default."""
        with self._lock:
            size = self.take_up() if size is None else self._reached(size)
            root = self._tree.root(size)
        return self._signed(Checkpoint(origin=self._name, size=size, root=root))

    def inclusion(self, number: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that leaf *number* is among the first *size*.

        Raises:
            ValueError: It is not.

        """
        with self._lock:
            return self._tree.inclusion(number, self._reached(size))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the first *old* leaves are a prefix of the first *new*.

        Raises:
            ValueError: The log has not so many.

        """
        with self._lock:
            return self._tree.consistency(old, self._reached(new))

    def tile(self, tile: Tile) -> bytes:
        """Return the content of *tile*, which never changes.

        Raises:
            ValueError: The log has not so many leaves.

        """
        if tile.level is None:
            return encode_entries(self._entries(tile.start, tile.width))
        with self._lock:
            self._reached((tile.start + tile.width) * WIDTH**tile.level)
            return encode_hashes(self._tree.subtrees(tile.level, tile.start, tile.width))

    def _entries(self, start: int, count: int) -> list[bytes]:
        with self._index.reading() as connection:
            asked = {"start": start, "end": start + count}
            found = list(connection.execute(_ENTRIES, asked).scalars())
        if len(found) != count:
            raise ValueError(f"the log has fewer than {start + count} leaves")
        return found

    def leaf(self, connection: Connection, number: int) -> Leaf:
        """Return a committed leaf."""
        row = connection.execute(_LEAF, {"number": number}).one()
        return Leaf(number=number, entry=row.entry, salt=row.salt)

    def logged(self, leaf: Leaf) -> Logged:
        """Return the proof of *leaf* in the tree that it was the last leaf of.

        Raises:
            ValueError: Its salt was erased.

        """
        if leaf.salt is None:
            raise ValueError("the salt of this leaf was erased")
        size = leaf.number + 1
        with self._lock:
            proof, root = self._tree.of_last(self._reached(size))
        return Logged(
            salt=leaf.salt,
            index=leaf.number,
            proof=proof,
            checkpoint=self._signed(Checkpoint(origin=self._name, size=size, root=root)),
        )

    def _signed(self, checkpoint: Checkpoint) -> str:
        return sign_checkpoint(checkpoint, self._key)

    def _reached(self, size: int) -> int:
        if self._tree.size < size:
            self.take_up()
        return size

    def _check_not_shortened(self) -> None:
        # An index restored from an old backup would sign a second history: better no start.
        with self._index.reading() as connection:
            note = connection.execute(
                select(checkpoints.c.note).order_by(checkpoints.c.size.desc()).limit(1)
            ).scalar()
        if note is None:
            return
        seen = verify_checkpoint(note, self.verifier_key)
        if seen.size > self._tree.size or self._tree.root(seen.size) != seen.root:
            raise SetupError(
                f"the log does not continue the {seen.size} leaves that a witness cosigned; "
                "restore the newest copy of the index"
            )
