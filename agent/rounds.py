"""What the agent looks at once a second, and what time brings.

A new policy, which may lift a halt, a new month, consents that the policy outgrew, receipts
to write, a clock that jumped, batches whose hold is over, categories that another place opts
out of.  Nothing here opens anything: it changes what is known, and the gate is asked.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from agent.calls import Calls
from agent.commands import Commands
from agent.config import Config
from agent.consent.entries import ClockDoubted, Entry
from agent.consent.ledger import Ledger, LedgerError
from agent.consent.policy import PolicyInForce
from agent.consent.seen import SeenClock
from agent.consent.standing import Standing
from agent.consent.states import Flag
from agent.follow import follow
from agent.pipeline import Pipeline
from agent.programme import Programme
from agent.receipts import Receipts
from agent.spool import Spool
from base.clock import Now
from wire.category import Category

_LOG: Final = logging.getLogger(__name__)

OptOuts = Callable[[Config], dict[str, frozenset[Category]]]


class Host(Protocol):
    """Whose rounds these are; the service is it."""

    config: Config
    seen: SeenClock
    ledger: Ledger
    receipts: Receipts
    spool: Spool
    programme: Programme
    pipeline: Pipeline
    commands: Commands
    calls: Calls

    @property
    def standing(self) -> Standing:
        """Where consent stands."""

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""

    def write_down(self, entry: Entry) -> None:
        """Make an entry of the ledger durable; raises LedgerError."""

    def enforce(self) -> int:
        """Delete what must not remain; return how many batches.  Raises OSError."""
        ...

    def poke(self) -> None:
        """Decide, and let sources and tray follow."""


class Rounds:
    """Goes round whenever it is told to, and keeps what it found."""

    def __init__(self, host: Host, opt_outs: OptOuts) -> None:
        """Look at what other places opt out of, before anything is decided."""
        self._host = host
        self._opt_outs = opt_outs
        self.clock_doubt = ""
        self.outside = opt_outs(host.config)  # by place: environment, machine, configuration
        self.trouble = ""  # why the spool is not moved on, in one line for a person

    async def go(self, now: Now) -> None:
        """Go round once."""
        host = self._host
        host.programme.keep_up(now)
        host.calls.keep_up()  # before receipts: a halt that is lifted makes consents stale
        self._watch_clock(now)
        host.receipts.keep_up(host.ledger, host.policy, now)
        host.pipeline.retry_spool(now)
        self._move_spool_on(now)
        self.outside = self._opt_outs(host.config)
        host.poke()
        await self._adopt_outside_opt_outs()

    def _move_spool_on(self, now: Now) -> None:
        host, policy = self._host, self._host.policy.policy
        before, self.trouble = self.trouble, ""
        try:
            host.enforce()
            follow(host.programme, host.standing, host.pipeline, host.spool, host.write_down)
            if policy is not None and not (self.clock_doubt or host.standing.clock_doubt):
                # By a clock that jumped, a hold would be over that has just begun.
                host.spool.leave_hold(now, policy.hold_seconds)
        except OSError as exc:
            self.trouble = f"the spool could not be moved on: {exc.strerror}"
            if self.trouble != before:  # not each second
                _LOG.warning("%s", self.trouble)

    def _watch_clock(self, now: Now) -> None:
        host = self._host
        self.clock_doubt = host.seen.doubt(now)
        if self.clock_doubt and not host.standing.clock_doubt:
            host.poke()
            try:
                host.write_down(ClockDoubted(why=self.clock_doubt))
            except LedgerError as exc:
                _LOG.error("%s", exc)

    async def _adopt_outside_opt_outs(self) -> None:
        """Raise the flag for what another place opts out of.

        So that it stays raised when that place changes its mind: nobody but the data
        subject may lower it.
        """
        for place, categories in self.outside.items():
            raised = {c for c in Category if self._host.standing.flags[c] is Flag.OPTED_OUT}
            if not categories <= raised:
                await self._host.commands.adopt(place, categories - raised)
