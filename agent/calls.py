"""Stops and halts: what others call that closes the agent, and what lifts it.

A *stop* is one party's, for as long as a fault lasts, and lifts when that party says that
its cause is gone.  A *halt* is for everybody, and lifts only with another policy, which the
threshold of its signers has signed; then every consent is stale.  Both freeze uploads too.
Whoever speaks for these parties has been verified before anything of this is called.
"""

import logging
from typing import Final, Protocol

from agent.consent.entries import Entry, Halted, HaltLifted, StopLifted, Stopped
from agent.consent.facts import is_frozen
from agent.consent.ledger import LedgerError
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing
from wire.collector_http import State

_LOG: Final = logging.getLogger(__name__)
EVERYBODY: Final = "everybody"  # a halt is for all, whoever calls it
COLLECTOR: Final = "collector"
LOG: Final = "log"  # a party of its own: nobody can say that it is in order but what it shows
MOST_REASONS: Final = 8
"""Of one stop, each once: whoever gives another at each poll must not fill the disk with them."""


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
    """Closes at once, and writes down; what the disk does not take counts, and is tried again."""

    def __init__(self, host: Host) -> None:
        """Prepare."""
        self._host = host
        self._pending: dict[str, Halted | Stopped] = {}  # by who called
        self._refused = ""  # what the ledger said of them last
        self._told: dict[str, set[str]] = {}  # for which reasons each has called its stop

    @property
    def unwritten(self) -> bool:
        """Whether somebody has stopped or halted the programme, and the disk did not take it."""
        return bool(self._pending)

    @property
    def freeze(self) -> bool:
        """Whether somebody has, on the disk or not: then nothing is sent either."""
        return self.unwritten or is_frozen(self._host.standing)

    def hear(self, state: State) -> None:
        """Take the collector's word: a halt is kept, a stop ends when it no longer says so."""
        if state.halted:
            self.halt(state.why)
        if state.stopped:
            self.stop(COLLECTOR, state.stopped)
            return
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
            halted = Halted(policy=self._host.policy.digest or b"", why=why)
            self._close_by(EVERYBODY, self._pending.get(EVERYBODY, halted))

    def stop(self, by: str, why: str) -> None:
        """Close until *by* says that the cause is gone."""
        noted = self._host.standing.stopped.get(by)
        told = self._told.setdefault(by, set() if noted is None else {noted})
        if noted is None or (why not in told and len(told) < MOST_REASONS):
            told.add(why)
            self._close_by(by, Stopped(by=by, why=why))

    def lift_stop(self, by: str) -> None:
        """Note that the cause of the stop that *by* called is gone; others go on holding.

        Raises:
            LedgerError: It is not written down; the stop holds.

        """
        unwritten = self._pending.pop(by, None)
        self._told.pop(by, None)
        if by in self._host.standing.stopped:
            self._host.write_down(StopLifted(by=by))
            self._host.poke()
        elif unwritten is not None:
            self._host.poke()

    def keep_up(self) -> None:
        """Lift a halt if another policy is in force than the one under which it was called.

        A halt that came before any policy is bound to the first one: that is no new policy.
        What the disk refused is tried again before: that alone, and no silence, ends it.
        """
        self._write_pending()
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

    def _close_by(self, who: str, entry: Halted | Stopped) -> None:
        """Close; that counts from now on, until it is on the disk, and longer if that fails."""
        self._pending[who] = entry
        self._host.poke()
        self._write_pending()
        self._host.poke()

    def _write_pending(self) -> None:
        for who, entry in tuple(self._pending.items()):
            try:
                self._host.write_down(entry)
            except LedgerError as exc:
                if self._refused != str(exc):  # not each second
                    _LOG.error("%s", exc)
                self._refused = str(exc)
                return
            del self._pending[who]
        self._refused = ""
