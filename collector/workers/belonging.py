"""What was taken not long ago, so that the owner need not be asked twice.

A device sends batch after batch under one consent, policy and guard key.  For the first of
them step 6 of an upload (`collector.ingest.receive`) comes before the store, as for all where there
are no workers; the others are stored at once, and the transaction that keeps them judges all
of it anyhow.  So `Belonging` decides when an upload that is to be refused is refused: never
whether.

Of who was taken not long ago a small frame is taken in and stored before the owner hears of
it, which saves asking twice: `Leaves` says whose.  The owner gives leave with each answer that
is a yes, and it is good for one frame: over however many connections a device sends, one of its
frames at a time is stored here before it is asked about, and nobody fills the disk with what is
refused.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from collector.ingest.intake import Bounds
from wire.frame import Core

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST: Final = 16_384  # devices times categories of a day; beyond that, who was longest away


class Recent(Generic[K, V]):
    """The newest of what was noted."""

    def __init__(self) -> None:
        """Nothing was noted yet."""
        self._known: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return what was noted of *key*."""
        if key not in self._known:
            return None
        self._known.move_to_end(key)
        return self._known[key]

    def note(self, key: K, value: V) -> None:
        """Note *value* of *key*."""
        self._known[key] = value
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def take(self, key: K) -> V | None:
        """Return what was noted of *key*, and forget it."""
        return self._known.pop(key, None)

    def forget(self, key: K) -> None:
        """Forget what was noted of *key*."""
        self._known.pop(key, None)


class Belonging:
    """Remembers cores by all that they say but their nonce."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: Recent[int, bool] = Recent()

    def has(self, core: Core) -> bool:
        """Whether one that says the same was taken."""
        return self._known.get(_key(core)) is not None

    def note(self, core: Core) -> None:
        """Remember that this one was."""
        self._known.note(_key(core), True)  # noqa: FBT003 - it was

    def forget(self, core: Core) -> None:
        """Forget it: one like it was refused."""
        self._known.forget(_key(core))


@dataclass(frozen=True, slots=True)
class Leave:
    """What the owner said of the last frame of a client, and would say of the next one."""

    key: bytes
    bounds: Bounds


Leaves = Recent[bytes, Leave]
"""By the certificate, in DER, that a client shows."""


def _key(core: Core) -> int:
    # Two that share a hash by chance are told apart where it counts, in the transaction.
    said = (core.origin, core.tenant, core.programme, core.purpose, core.category)
    keys = (core.device, core.subject, core.policy, core.grant, core.guard_key)
    return hash((said, keys, core.day, core.expires))
