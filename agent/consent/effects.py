"""What each reason of the gate means for what was recorded, for uploads, and for the way back.

Which sources are open under it follows from `gate` itself, and what is shown from the tray.
The page docs/states.md is drawn from all three.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from wire.control import Reason


class Kept(Enum):
    """What becomes of what was recorded before, and is still on this computer."""

    SEALED = "what is open is sealed, and stays"
    DELETED = "deleted: what is open, held, or set aside"
    DELETED_IF_WITHDRAWN = "after a withdrawal deleted: what is open, held, or set aside"
    GOES_ON = "what is recorded"


class Sent(Enum):
    """What leaves meanwhile; deletions that the data subject asked for always do."""

    WAITING = "what waits goes on its way"
    WAITING_IF_POLICY = "what waits goes on its way, if there is a policy"
    NOTHING = "nothing"
    NONE_OF_IT = "nothing of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One row of the page."""

    kept: Kept
    sent: Sent
    ends: str  # what ends it, in the words of the page


def _shut(ends: str) -> Effect:
    return Effect(kept=Kept.SEALED, sent=Sent.WAITING, ends=ends)


EFFECTS: Final[Mapping[Reason, Effect]] = MappingProxyType(
    {
        Reason.HALTED_BY_ORG: Effect(
            kept=Kept.SEALED,
            sent=Sent.NOTHING,
            ends="a stop: its cause is gone. A halt: a new policy, and then your new yes",
        ),
        Reason.OPTED_OUT: Effect(
            kept=Kept.DELETED,
            sent=Sent.NONE_OF_IT,
            ends="your click in the opt-in window; for a flag set outside the tray, its end first",
        ),
        Reason.NOT_CONSENTED: Effect(
            kept=Kept.DELETED_IF_WITHDRAWN,
            sent=Sent.NONE_OF_IT,
            ends="your click in the consent window",
        ),
        Reason.CONSENT_STALE: Effect(
            kept=Kept.SEALED,
            sent=Sent.WAITING_IF_POLICY,
            ends="your click in the consent window, on what is asked now",
        ),
        Reason.POLICY_INVALID: Effect(
            kept=Kept.SEALED,
            sent=Sent.NOTHING,
            ends="a valid policy from the organisation; where only its lease is over, a new one"
            " from collector and guard",
        ),
        Reason.CLOCK_UNTRUSTED: _shut("your click that the clock is right"),
        Reason.INDICATOR_MISSING: _shut("the icon is shown again"),
        Reason.SESSION_BLOCKED: _shut("you are back in your session"),
        Reason.PAUSED_UNTIL: _shut("your click on Resume; its time leads to resume-pending"),
        Reason.RESUME_PENDING: _shut(
            "your click on Resume, or its notice, seen by you for 60 s (not after a crash, nor"
            " once you have closed it)"
        ),
        Reason.OUTSIDE_SCOPE: _shut(
            "a program on the list comes to the front; outside the policy's hours, when no source"
            " is open either, their begin"
        ),
        Reason.SENSITIVE: _shut("the field for secrets is left"),
        Reason.REDACTOR_DOWN: _shut("redaction works again"),
        Reason.STORAGE_BLOCKED: _shut("there is room on the disk, and the guard's key"),
        Reason.ACTIVE: Effect(
            kept=Kept.GOES_ON, sent=Sent.WAITING, ends="any of the reasons above"
        ),
    }
)
