"""The end of a pause that ran out: hears that its notice is in sight, and ends it when due.

How that is counted stands in `consent.notice`.  Here it is begun anew whenever something
else than the pause comes between, and written down before anything opens.
"""

import logging
from typing import Final, Protocol

from agent.commands import Commands
from agent.config import Config
from agent.consent.gate import Verdict
from agent.consent.notice import NOT_SHOWN, Countdown, may_count
from agent.consent.standing import Standing
from base.clock import Clock, Now
from base.errors import AssentError
from wire.control import NoticeInSight

_LOG: Final = logging.getLogger(__name__)


class Host(Protocol):
    """What this needs; the service is it."""

    clock: Clock
    config: Config
    commands: Commands
    verdict: Verdict
    restrictions: int

    @property
    def standing(self) -> Standing:
        """Where consent stands."""

    def decide(self) -> None:
        """Ask the gate; shut at once what it no longer permits."""


class Resuming:
    """Counts for how long the notice has been seen."""

    def __init__(self, host: Host) -> None:
        """Prepare."""
        self._host = host
        self._seen = NOT_SHOWN

    def on_sight(self, report: NoticeInSight) -> None:
        """Count on; end the pause when the notice has been seen for its whole time."""
        self._host.decide()
        if not self._may_count():
            return
        self._seen = self._seen.after(report, self._host.clock.now().boot)
        if self._seen.is_over:
            self._end(self._seen)

    def follow(self) -> None:
        """Begin anew if the pause is not, or not alone, what keeps recording shut."""
        if not self._may_count():
            self._seen = NOT_SHOWN

    def seconds_left(self) -> int | None:
        """Return what is left of the notice's time; None where it takes a click."""
        return self._seen.seconds_left if self._may_count() else None

    def is_counting(self, now: Now) -> bool:
        """Whether that time runs."""
        return self._seen.is_running(now.boot)

    def _may_count(self) -> bool:
        host = self._host
        # What crosses a restriction must not open what that is just closing.
        return not host.restrictions and may_count(host.verdict, host.standing, host.config.resume)

    def _end(self, seen: Countdown) -> None:
        self._seen = NOT_SHOWN
        try:
            self._host.commands.see_notice(seen)
        except AssentError as exc:
            _LOG.error("%s", exc)
