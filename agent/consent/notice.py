"""The notice of a pause that has run out: how long it was seen by somebody who is there.  Pure.

A pause that is over does not end by itself.  The tray shows a notice ("Pause again",
"Resume now"), and only a notice that was in sight for 60 seconds while the data subject was
there ends it without a click: `Countdown.is_over`.  The time counts as long as

    nothing but the pause is in the way    the session is unlocked, the icon shown, the clock
                                           trusted; otherwise it begins anew
    the notice is in sight as a whole      the tray says so each second; otherwise it begins
                                           anew, for it will appear anew
    the data subject is there              input since it appeared, and no longer ago than
                                           15 s; otherwise it stands still

What is not known is no.  Nobody who is away, and no time that merely passes, gets through.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from agent.consent.gate import Fact, Verdict
from agent.consent.standing import Standing
from agent.consent.states import Ending
from base.clock import NANOSECONDS
from wire.control import NoticeInSight, Reason

NOTICE_NANOSECONDS: Final = 60 * NANOSECONDS
AWAY_NANOSECONDS: Final = 15 * NANOSECONDS
"""After so long without input the data subject may have left: a quarter of the notice's time."""
LATEST_NANOSECONDS: Final = 3 * NANOSECONDS
"""The tray says each second that the notice is in sight; what lies between two of its words
that are further apart is not known."""
_MS: Final = 1_000_000

Resuming: TypeAlias = Literal["notice", "click"]
"""The data subject's own setting: may the notice end a pause, or always a click alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """How long the notice has been seen; `begun` when it appeared, None while there is none."""

    begun: int | None = None  # boot clock
    counted: int = 0  # ns
    present: Fact = Fact.UNKNOWN  # present_since_notice, at the last report
    _at: int = 0  # of the last report
    _in_sight: int = 0  # ns, as it said

    @property
    def is_over(self) -> bool:
        """Whether it was seen for as long as it takes."""
        return self.counted >= NOTICE_NANOSECONDS

    @property
    def seconds_left(self) -> int:
        """Return what is left of it, rounded up."""
        return -((self.counted - NOTICE_NANOSECONDS) // NANOSECONDS)

    def after(self, report: NoticeInSight, now: int) -> "Countdown":
        """Return the countdown after *report*, which came at *now* (boot clock)."""
        in_sight, present = report.for_ms * _MS, present_since_notice(report)
        passed = min(now - self._at, in_sight - self._in_sight)
        if self.begun is None or now - self._at > LATEST_NANOSECONDS or passed < 0:
            return Countdown(begun=now - in_sight, present=present, _at=now, _in_sight=in_sight)
        return Countdown(
            begun=self.begun,
            counted=self.counted + (passed if present is Fact.YES else 0),
            present=present,
            _at=now,
            _in_sight=in_sight,
        )

    def is_running(self, now: int) -> bool:
        """Whether time counts at *now*."""
        return (
            self.begun is not None
            and now - self._at <= LATEST_NANOSECONDS
            and self.present is Fact.YES
        )


NOT_SHOWN: Final = Countdown()


def present_since_notice(report: NoticeInSight) -> Fact:
    """Return whether input shows that the data subject has been there since the notice appeared.

    Where nobody can tell (everywhere but on X11) it is UNKNOWN, and the notice waits.
    """
    if report.input_ms is None:
        return Fact.UNKNOWN
    return Fact.of(report.input_ms <= report.for_ms and report.input_ms * _MS <= AWAY_NANOSECONDS)


def may_count(verdict: Verdict, standing: Standing, resuming: Resuming) -> bool:
    """Whether a notice may end the pause: nothing else is in the way, and no click is needed."""
    return (
        verdict.shown is Reason.RESUME_PENDING
        and standing.ending is Ending.NOTICE
        and resuming == "notice"
    )
