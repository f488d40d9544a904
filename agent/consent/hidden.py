"""When keys went to a field for secrets: the timeline by which each event is judged again.

Two sensors tell: the input sensor of keyboard grabs (password prompts, lockers), the context
sensor of secure fields.  The first may keep silent, for it drops such keys itself; without the
second's word nothing is known, and unknown is no.  Pure.
"""

from typing import Final

from agent.consent.scope import SETTLE_NANOSECONDS, FocusTimeline
from agent.handover import HOLD_BACK_NANOSECONDS

BACK_NANOSECONDS: Final = HOLD_BACK_NANOSECONDS
"""How far back of a secure field's recognition everything is dropped: the whole hold-back.

The field had the focus for an unknown time before anybody said so; 50 ms is the worst that
was measured, a stalled machine takes longer.
"""


class HiddenTimeline:
    """Who said when that keys go to a secret; `needed` are those whose word is needed."""

    def __init__(self, *needed: str) -> None:
        """Nobody has said anything yet."""
        self._open = {name: FocusTimeline() for name in needed}

    def note(self, who: str, at: int, secret: bool | None) -> None:  # noqa: FBT001 - unknown is the third value
        """Note what *who* says since *at*."""
        said = None if secret is None else not secret
        self._open.setdefault(who, FocusTimeline()).note(at, said)

    def current(self) -> bool | None:
        """Return whether keys go to a secret as far as anybody knows now."""
        now = [timeline.current() for timeline in self._open.values()]
        if False in now:
            return True
        return None if None in now else False

    def permits(self, at: int) -> bool:
        """Whether nothing secret had the keys at *at*, shortly before, or soon after."""
        since, until = at - SETTLE_NANOSECONDS, at + BACK_NANOSECONDS
        return all(each.is_inside_throughout(since, until) for each in self._open.values())
