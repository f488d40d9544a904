"""Opening everything that is here, in memory only: what it is, and what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import TypeAlias

from reader.keys import recipients_of
from reader.library import Library
from reader.opening import Fault, FaultError, Opened, open_batch
from wire.age import decode_identity
from wire.category import Category
from wire.errors import WireError
from wire.frame import decode_core, split
from wire.ids import BatchHash, GrantHash, KeyId, key_id
from wire.xwing import public_key_of

Result: TypeAlias = Opened | FaultError


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Opens batches of one library as of one day, each with the identity that its core names.

    `older` are identities of before; a batch that names none of ours is tried with the newest,
    which says what is wrong with it.
    """

    library: Library
    identity: str
    today: date
    older: tuple[str, ...] = ()

    def open(self, batch: BatchHash) -> Opened:
        """Return the batch in the clear.

        Raises:
            FaultError: It does not satisfy `open_batch`.
            SpoiltFileError: A file of it cannot be read.

        """
        frame = self.library.frame(batch)
        kept = self.library.release(batch)
        return open_batch(
            frame,
            batch,
            self.library.consent(_grant(frame)),
            kept.released if kept is not None else None,
            identity=self._identity(frame),
            today=self.today,
            policy_of=self.library.policy,
        )

    def _identity(self, frame: bytes) -> str:
        sealed_to = recipients_of(frame)
        mine = (i for i in (self.identity, *self.older) if _key_id(i) in sealed_to)
        return next(mine, self.identity)

    def each(self) -> Iterator[tuple[BatchHash, Result]]:
        """Yield every batch here, opened, or with what is wrong with it."""
        for batch in self.library.batches():
            try:
                yield batch, self.open(batch)
            except FaultError as exc:
                yield batch, exc


@dataclass(kw_only=True)
class Sum:
    """What was opened of one category; instants on the wall clock, nanoseconds."""

    batches: int = 0
    events: int = 0
    bytes: int = 0
    first: int | None = None
    last: int | None = None


@dataclass(kw_only=True)
class Report:
    """Everything that is here, in figures."""

    opened: dict[Category, Sum] = field(default_factory=dict)
    subjects: set[bytes] = field(default_factory=set)
    faults: dict[Fault, list[str]] = field(default_factory=dict)  # hexadecimal names

    @property
    def refused(self) -> int:
        """How many batches are not as they must be; what is only not released is not counted."""
        return sum(
            len(names) for fault, names in self.faults.items() if fault is not Fault.NOT_RELEASED
        )

    def add(self, batch: BatchHash, result: Result) -> None:
        """Count one batch."""
        if isinstance(result, FaultError):
            self.faults.setdefault(result.fault, []).append(batch.hex())
            return
        of = self.opened.setdefault(result.core.category, Sum())
        opening = result.batch.opening
        of.batches += 1
        of.events += len(result.batch.events)
        of.bytes += len(result.checked.verified.parts.body)
        self.subjects.add(result.core.subject)
        for event in result.batch.events:
            at = opening.wall + event.at - opening.boot
            of.first = at if of.first is None else min(of.first, at)
            of.last = at if of.last is None else max(of.last, at)


@lru_cache(maxsize=64)
def _key_id(identity: str) -> KeyId:
    return key_id(public_key_of(decode_identity(identity)))


def _grant(frame: bytes) -> GrantHash:
    try:
        return decode_core(split(frame).core).grant
    except WireError as exc:
        raise FaultError(Fault.NOT_SIGNED, str(exc)) from exc
