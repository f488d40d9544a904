"""Restrictions while no agent runs: a no needs no running program.

The same order as in the running agent: written down first, then what must not remain is
deleted.  There is nothing to silence, since nothing of ours runs (the lock says so).
"""

from typing import TypeAlias

from agent.commands import erasure_of_days
from agent.consent.clocks import PAUSE_NANOSECONDS, deadline_after
from agent.consent.entries import Entry, OptedOut, Paused, Withdrawn
from agent.consent.ledger import Ledger
from agent.enroll import load_device
from agent.erasures import Erasures
from agent.guard_keys import GuardKeys
from agent.handover import back
from agent.lock import only_one
from agent.numbers import Numbers
from agent.spool import Spool
from agent.withdraw import enforce
from base.clock import NANOSECONDS, Clock, Now
from base.paths import Paths
from wire.control import Done, Erase, Forget, OptOut, Pause, Withdraw

Restriction: TypeAlias = OptOut | Withdraw | Pause | Forget | Erase
"""What a person may ask of an agent that does not run."""


def restrict(paths: Paths, command: Restriction, clock: Clock) -> Done:
    """Carry out *command* on the state of an agent that does not run.

    Raises:
        AssentError: Not enrolled, or an agent runs after all.
        OSError: Not everything could be written or deleted.

    """
    with only_one(paths.state):
        device, now = load_device(paths.state), clock.now()
        ledger = Ledger.open(paths.state, device.key.public_key(), now)
        spool = Spool(paths.state / "spool", device.key, Numbers(paths.state), None)
        entry = _entry(command, now)
        if entry is not None:
            ledger.append(entry, now)
        erasures = Erasures(paths.state, device.asker)
        keys = GuardKeys(paths.state, device.subject)
        deleted = enforce(ledger.standing, spool, erasures, keys) + _forget(command, spool, now)
    batches = "1 batch was" if deleted == 1 else f"{deleted} batches were"
    return Done(detail=f"it holds from the next start on; {batches} deleted here")


def _entry(command: Restriction, now: Now) -> Entry | None:
    match command:
        case OptOut(category=category):
            return OptedOut(category=category)
        case Withdraw(category=category, erase=erase):
            return Withdrawn(category=category, erase=erase)
        case Pause():
            until = deadline_after(now, PAUSE_NANOSECONDS)
            return Paused(until_wall=until.wall, until_boot=until.boot)
        case Erase():
            return erasure_of_days(command, now)
        case Forget():
            return None


def _forget(command: Restriction, spool: Spool, now: Now) -> int:
    match command:
        case Forget(minutes=minutes) | Pause(forget_minutes=minutes) if minutes:
            return spool.forget(since=back(now, minutes * 60 * NANOSECONDS))
        case _:
            return 0
