"""What was taken not long ago, so that the owner need not be asked twice.

A device sends batch after batch under one consent, policy and guard key.  For the first of
them step 6 of an upload (`collector.ingest.receive`) comes before the store, as for all where there
are no workers; the others are stored at once, and the transaction that keeps them judges all
of it anyhow.  So this decides when an upload that is to be refused is refused: never whether.
"""

from collections import OrderedDict
from typing import Final

from wire.frame import Core

MOST: Final = 16_384  # devices times categories of a day; beyond that, who was longest away


class Belonging:
    """Remembers cores by all that they say but their nonce."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: OrderedDict[int, None] = OrderedDict()

    def has(self, core: Core) -> bool:
        """Whether one that says the same was taken."""
        key = _key(core)
        if key not in self._known:
            return False
        self._known.move_to_end(key)
        return True

    def note(self, core: Core) -> None:
        """Remember that this one was."""
        self._known[_key(core)] = None
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def forget(self, core: Core) -> None:
        """Forget it: one like it was refused."""
        self._known.pop(_key(core), None)


def _key(core: Core) -> int:
    # Two that share a hash by chance are told apart where it counts, in the transaction.
    said = (core.origin, core.tenant, core.programme, core.purpose, core.category)
    keys = (core.device, core.subject, core.policy, core.grant, core.guard_key)
    return hash((said, keys, core.day, core.expires))
