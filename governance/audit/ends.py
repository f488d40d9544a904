"""The ends of batches: each that is not here any more has its tombstone, and has it in time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from governance.audit.batches import Live
from governance.audit.findings import Finding, Rule
from governance.audit.history import History
from governance.audit.reading import FoundError
from governance.audit.times import GRACE, HOUR, Times
from wire import audit
from wire.days import end_of
from wire.ids import BatchHash
from wire.leaf import Kind, deletion_payload, expiry_payload


@dataclass(kw_only=True)
class Ends:
    """Tombstones as they are read; `dead` has the leaf of each batch that was here."""

    history: History
    dead: dict[bytes, int] = field(default_factory=dict)
    _expiries: list[tuple[int, str]] = field(default_factory=list)

    def tombstone(self, line: audit.TombstoneLine) -> None:
        """Take up a deletion by a device.

        Raises:
            FoundError: It is not in the log.

        """
        payload = deletion_payload(BatchHash(line.batch))
        self.history.open(line.leaf, Kind.TOMBSTONE, payload, line.salt)
        if line.stored:
            self._bury(line.batch, line.leaf)

    def expiry(self, line: audit.ExpiryLine) -> None:
        """Take up the end of a batch whose last day was over.

        Raises:
            FoundError: It is not in the log.

        """
        payload = expiry_payload(BatchHash(line.batch), line.expires)
        self.history.open(line.leaf, Kind.EXPIRY, payload, line.salt)
        self._bury(line.batch, line.leaf)
        self._expiries.append((line.leaf, line.expires))

    def erased(self, line: audit.ErasedLine, demands: frozenset[int]) -> None:
        """Take up a batch that was erased; *demands* are leaves of erasures.

        A data subject demanded them, or the guard ordered them by its own hand.

        Raises:
            FoundError: Nobody demanded an erasure there.

        """
        if line.leaf not in demands:
            what = f"batch {line.batch.hex()} is said to be erased here, and nobody demanded it"
            raise FoundError(Rule.WRONG_LEAF, line.leaf, what)
        self._bury(line.batch, line.leaf)

    def _bury(self, batch: bytes, leaf: int) -> None:
        self.dead[batch] = min(leaf, self.dead.get(batch, leaf))

    def late(self, times: Times) -> Iterator[Finding]:
        """Yield the batches that were kept for longer than they might be."""
        for leaf, expires in self._expiries:
            over = times.by(leaf) - end_of(expires)
            if over > GRACE:
                what = f"a batch whose last day was {expires} was gone {over // HOUR} hours later"
                yield Finding(rule=Rule.DELETED_LATE, leaf=leaf, what=what)


def unburied(erased: Sequence[int], dead: Sequence[int]) -> Iterator[Finding]:
    """Yield what is wrong with the number of tombstones.

    The log does not say which of the *erased* leaves (of batches that no record opens) a
    tombstone is for, since that went with the salt.  Yet each has its own, later one: the first
    n tombstones bury n batches from before them.
    """
    ends = sorted(dead)
    missing = len(erased) - len(ends)
    if missing > 0:
        named = ", ".join(map(str, erased[:10]))
        what = f"{missing} batches are neither shown nor have tombstones; not shown: leaf {named}"
        yield Finding(rule=Rule.NO_TOMBSTONE, leaf=erased[0], what=what)
    if missing < 0:
        what = f"{-missing} tombstones are of batches that were never in the log"
        yield Finding(rule=Rule.NO_TOMBSTONE, what=what)
    for batch, end in zip(sorted(erased), ends, strict=False):
        if end < batch:
            what = "a batch that is not shown any more, and has no later tombstone"
            yield Finding(rule=Rule.NO_TOMBSTONE, leaf=batch, what=what)
            return


def undead(dead: dict[bytes, int], live: dict[bytes, Live]) -> Iterator[Finding]:
    """Yield the batches that are said to be gone, and are here."""
    for batch in sorted(dead.keys() & live.keys()):
        what = f"batch {batch.hex()} has a tombstone (leaf {dead[batch]}), and is still here"
        yield Finding(rule=Rule.NOT_DELETED, leaf=live[batch].leaf, what=what)
