"""Stops and halts: what others call that closes the agent, and what lifts it.

A *stop* is one party's, for as long as a fault lasts, and lifts when that party says that
its cause is gone.  A *halt* is for everybody, and lifts only with another policy, which the
threshold of its signers has signed; then every consent is stale.  Both freeze uploads too.
Whoever speaks for these parties has been verified before anything of this is called.
"""

import logging
from typing import Final, Protocol

from agent.consent.entries import Entry, Halted, HaltLifted, StopLifted, Stopped
from agent.consent.ledger import LedgerError
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing
from wire.collector_http import State

_LOG: Final = logging.getLogger(__name__)
COLLECTOR: Final = "collector"
LOG: Final = "log"  # a party of its own: nobody can say that it is in order but what it shows


class Host(Protocol):
    """What the calls need; the service is it."""

    @property
    def standing(self) -> Standing:
        """Where consent stands."""

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""

    def write_down(self, entry: Entry) -> None:
        """Make an entry of the ledger durable; raises LedgerError."""

    def poke(self) -> None:
        """Decide, and let sources and tray follow."""


class Calls:
    """Closes at once, and writes down; `unwritten` counts what the disk did not take."""

    def __init__(self, host: Host) -> None:
        """Prepare."""
        self._host = host
        self.unwritten = False

    def hear(self, state: State) -> None:
        """Take the collector's word: a halt is kept, a stop ends when it no longer says so."""
        if state.halted:
            self.halt(state.why)
        if state.stopped:
            self.stop(COLLECTOR, state.stopped)
            return
        if not state.halted:
            self.unwritten = False
        try:
            self.lift_stop(COLLECTOR)
        except LedgerError as exc:
            _LOG.error("%s", exc)

    def doubt_log(self, why: str) -> None:
        """Close because of what the collector's log shows, or with an empty *why* go on."""
        if why:
            self.stop(LOG, why)
            return
        try:
            self.lift_stop(LOG)
        except LedgerError as exc:
            _LOG.error("%s", exc)

    def halt(self, why: str) -> None:
        """Close until another policy is in force."""
        if self._host.standing.halted is None:
            self._close_by(Halted(policy=self._host.policy.digest or b"", why=why))

    def stop(self, by: str, why: str) -> None:
        """Close until *by* says that the cause is gone."""
        if self._host.standing.stopped.get(by) != why:
            self._close_by(Stopped(by=by, why=why))

    def lift_stop(self, by: str) -> None:
        """Note that the cause of the stop that *by* called is gone; others go on holding.

        Raises:
            LedgerError: It is not written down; the stop holds.

        """
        if by in self._host.standing.stopped:
            self._host.write_down(StopLifted(by=by))
            self._host.poke()

    def keep_up(self) -> None:
        """Lift a halt if another policy is in force than the one under which it was called.

        A halt that came before any policy is bound to the first one: that is no new policy.
        """
        halted, digest = self._host.standing.halted, self._host.policy.digest
        if halted is None or digest is None or self._host.policy.policy is None:
            return
        try:
            if not halted.policy:
                self._host.write_down(Halted(policy=digest, why=halted.why))
            elif halted.policy != digest:
                self._host.write_down(HaltLifted(policy=digest))
        except LedgerError as exc:
            _LOG.error("%s", exc)

    def _close_by(self, entry: Halted | Stopped) -> None:
        """Close; that counts from now on, until it is on the disk, and longer if that fails."""
        self.unwritten = True
        self._host.poke()
        try:
            self._host.write_down(entry)
            self.unwritten = False
        except LedgerError as exc:
            _LOG.error("%s", exc)
        self._host.poke()
