"""What the gate decided, and when: the last changes of its verdict, in memory.

For whoever has to explain afterwards why something was, or was not, captured.  Says when
and why, never what was on the screen.
"""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from agent.consent.gate import Verdict
from base.clock import Now
from wire.category import Category
from wire.control import Reason

_LOG: Final = logging.getLogger(__name__)

KEPT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One change of the verdict."""

    at: int
    reason: Reason
    categories: frozenset[Category]


class Decisions:
    """The last changes, the newest last."""

    def __init__(self) -> None:
        self.last: deque[Decision] = deque(maxlen=KEPT)

    def note(self, verdict: Verdict, now: Now) -> None:
        """Keep that the verdict is *verdict* since *now*."""
        decision = Decision(at=now.boot, reason=verdict.reason, categories=verdict.categories)
        self.last.append(decision)
        _LOG.debug("verdict: %s %s", verdict.reason, ", ".join(sorted(verdict.categories)))
