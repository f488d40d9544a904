"""Own batches back, with the rights key: ordered, proved, and put down as age files.

1. the batches that are there, each proved by the log; those that the folder has already are left
2. an order for some of them; the answer's leaves are in a log that the witness cosigned
3. each frame, by its hash; its age header as the guard sealed it to the rights key's identity
4. header and body make one age file, in its place only once it is whole

Nothing here can look inside: what is written is as sealed as it was, to the person alone.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.own import Asker
from base import durable
from base.errors import RejectedError
from wire.category import Category
from wire.collector_http import decode
from wire.errors import WireError
from wire.frame import Core, batch_hash, core_hash, split
from wire.ids import BatchHash, CoreHash
from wire.me import LARGEST_ORDER, ReturnOrder, SignedReturn, sign_return
from wire.me_answers import GivenBack, OwnBatch, Returned, check_given
from wire.released import open_released
from wire.sealing import recipient_of

SUFFIX: Final = ".age"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which batches: of a category, of days (UTC, inclusive), of these hashes; empty is all."""

    category: Category | None = None
    first_day: str = ""
    last_day: str = "9999"
    batches: frozenset[bytes] = frozenset()

    def covers(self, batch: bytes, core: Core) -> bool:
        """Whether a batch is meant."""
        return (
            self.category in (None, core.category)
            and self.first_day <= core.day <= self.last_day
            and (not self.batches or batch in self.batches)
        )


@dataclass(kw_only=True)
class Tally:
    """What became of the batches that were wanted."""

    written: int = 0
    there: int = 0
    refused: dict[str, str] = field(default_factory=dict)  # hash, why


@dataclass(frozen=True, slots=True, kw_only=True)
class _One:
    batch: BatchHash
    digest: CoreHash
    path: Path


def get_back(
    asker: Asker,
    told: Iterable[tuple[OwnBatch, Core]],
    wanted: Wanted,
    folder: Path,
    progress: Progress = lambda _done, _of: None,
) -> Tally:
    """Write the batches of *told* that are *wanted* into *folder*, which may hold some already.

    Raises:
        AssentError: The collector refuses, is away, or answers what proves nothing; what was
            written stays, and the next time goes on from there.
        OSError: A file cannot be written.

    """
    if not folder.exists():  # one that is there is not ours to shut; the files are private anyway
        durable.private_folder(folder)
    tally, missing = Tally(), []
    for shown, core in told:
        if not wanted.covers(shown.batch_hash, core):
            continue
        name = f"{core.day}-{core.category}-{shown.batch_hash.hex()}{SUFFIX}"
        one = _One(
            batch=BatchHash(shown.batch_hash),
            digest=core_hash(shown.core),
            path=folder / name,
        )
        if one.path.exists():
            tally.there += 1
        else:
            missing.append(one)
    done = 0
    for start in range(0, len(missing), LARGEST_ORDER):
        some = missing[start : start + LARGEST_ORDER]
        for one, given in _ordered(asker, some):
            _put_down(asker, one, given, tally)
            done += 1
            progress(done, len(missing))
    return tally


def _ordered(asker: Asker, some: list[_One]) -> Iterator[tuple[_One, GivenBack]]:
    recipient = recipient_of(asker.card.identity)
    signed = _order(asker, recipient, tuple(one.batch for one in some))
    body = asker.patiently(lambda: asker.door.own("return", signed))
    try:
        answer = decode(body, Returned)
        head = asker.head(answer.checkpoint)
        if asker.believed.witness and not head.is_cosigned:
            raise RejectedError("the witness has not cosigned this release; do not believe it")
        if [given.batch_hash for given in answer.batches] != [one.batch for one in some]:
            raise RejectedError("the answer is about other batches; do not believe it")
        for one, given in zip(some, answer.batches, strict=True):
            if given.core_hash != one.digest:
                raise RejectedError("the answer is about other batches; do not believe it")
            check_given(given, signed, recipient, head)
    except WireError as exc:
        raise RejectedError(f"the answer proves nothing ({exc}); do not believe it") from exc
    yield from zip(some, answer.batches, strict=True)


def _order(asker: Asker, recipient: str, batches: tuple[bytes, ...]) -> SignedReturn:
    order = ReturnOrder(
        nonce=secrets.token_bytes(16),
        origin=asker.card.origin,
        subject=asker.believed.subject,
        recipient=recipient,
        batches=batches,
        made_at=asker.now(),
    )
    return sign_return(order, asker.speaker)


def _put_down(asker: Asker, one: _One, given: GivenBack, tally: Tally) -> None:
    name = one.batch.hex()
    if given.released is None:
        tally.refused[name] = f"the guard refused: {given.error or given.refused}"
        return
    try:
        header = open_released(given.released, asker.card.identity, one.digest)
        frame = asker.frame(one.batch)
        parts = split(frame)
        if batch_hash(frame) != one.batch or core_hash(parts.core) != one.digest:
            tally.refused[name] = "the collector gave other bytes than these"
            return
    except WireError as exc:
        tally.refused[name] = f"what came is not it: {exc}"
        return
    except RejectedError as exc:
        tally.refused[name] = str(exc)
        return
    # A crash here leaves the file out, or whole; the same order again finds the same leaf.
    durable.replace(one.path, header + parts.body)
    tally.written += 1
