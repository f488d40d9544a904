"""Holds the collector's log to what it has shown before, for as long as the agent runs.

`judged` stands before every answer that carries a head of the log: one that does not continue
what was seen proves nothing, so nothing is deleted for it.  `run` compares with the witness
every few minutes.  Where something does not fit the host closes; it goes on when it fits.
"""

import asyncio
import contextlib
import logging
from typing import Final, Protocol, assert_never

from agent.calls import LOG
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing
from agent.handover import Answered, NoAnswer, Outcome
from agent.log_seen import LogSeen, SplitError
from agent.transport import Door
from agent.upload import Delete, Erase, Register, Send, Task, Tell
from base.clock import Clock
from base.errors import AssentError, RejectedError
from wire.collector_http import Carried, Deleted, Logged, decode
from wire.errors import WireError
from wire.lease import lease_seconds
from wire.policy import Policy
from wire.receipt import decode_receipt

_LOG: Final = logging.getLogger(__name__)

COMPARE_SECONDS: Final = 300.0  # as often as the collector has its log cosigned
DOUBT_SECONDS: Final = 30.0  # while capture is closed for it


class Host(Protocol):
    """What the watch needs to know and say; the service is it."""

    @property
    def standing(self) -> Standing:
        """Where consent stands, and who has stopped the programme."""

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""

    def on_log(self, why: str) -> None:
        """Close because of the log, or with an empty *why* go on."""


class OpenDoor(Protocol):
    """Leads to where a policy says."""

    def __call__(self, policy: Policy) -> Door:
        """Return the door; raises SetupError."""


class LogWatch:
    """One memory, asked about from uploads and by time."""

    def __init__(self, host: Host, seen: LogSeen, clock: Clock, door: OpenDoor) -> None:
        """Prepare; nothing is asked yet."""
        self._host = host
        self._seen = seen
        self._clock = clock
        self._door = door
        self._doubted = asyncio.Event()
        self._why = ""  # the last word to the host
        self.trouble = ""  # why the last comparison could not be made

    async def run(self) -> None:
        """Compare with the witness until cancelled."""
        self._why = self._host.standing.stopped.get(LOG, "")  # ends when it was looked at anew
        while True:
            self._say(await self._why_not())
            self._doubted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    DOUBT_SECONDS if self._why or self.trouble else COMPARE_SECONDS
                ):
                    await self._doubted.wait()

    async def judged(self, task: Task, outcome: Outcome, door: Door, policy: Policy) -> Outcome:
        """Return *outcome*, or no answer when its head does not continue what was seen."""
        if not isinstance(outcome, Answered) or outcome.status not in (200, 201):
            return outcome
        log, now = policy.collector.log, self._clock.now().wall
        try:
            note = head_in(task, outcome.body)
            await asyncio.to_thread(self._seen.follow, note, log, door.consistency, now)
        except WireError:
            return outcome  # whoever checks the answer says what is wrong with it
        except SplitError as exc:
            self._say(str(exc))
            self._doubted.set()
            return NoAnswer(why=str(exc))
        except AssentError as exc:
            # Who is not accepted any more gets no proof; an erasure has the guard's word, too.
            refused = isinstance(exc, RejectedError)
            return outcome if refused and isinstance(task, Erase) else NoAnswer(why=str(exc))
        return outcome

    def _say(self, why: str) -> None:
        if self._why != why:
            _LOG.log(logging.ERROR if why else logging.INFO, "%s", why or "the log fits again")
        self._why = why
        self._host.on_log(why)

    async def _why_not(self) -> str:
        """Compare once; return why the log is not to be trusted, empty when nothing says so."""
        self.trouble = ""
        policy = self._host.policy.reachable
        if policy is None:
            return self._why  # whether it fits can be asked of nobody
        try:
            await self._compare(policy)
        except SplitError as exc:
            return str(exc)
        except (AssentError, WireError) as exc:
            self.trouble = f"the collector's log cannot be looked at: {exc}"
            return self._why or await self._why_unwitnessed(policy)
        return await self._why_unwitnessed(policy)

    async def _compare(self, policy: Policy) -> None:
        door = self._door(policy)
        note = await asyncio.to_thread(door.witnessed)
        if note is not None:
            keys, now = (policy.collector.log, policy.guard.witness), self._clock.now().wall
            await asyncio.to_thread(self._seen.compare, note, keys, door.consistency, now)

    async def _why_unwitnessed(self, policy: Policy) -> str:
        if self._host.policy.policy is None:
            return ""  # the lease is over, which closes by itself
        try:
            lasts, now = lease_seconds(policy.lease_seconds), self._clock.now().wall
            await asyncio.to_thread(self._seen.check_witnessed, policy.collector.log, now, lasts)
        except SplitError as exc:
            return str(exc)
        return ""


def head_in(task: Task, body: bytes) -> str:
    """Return the signed head in the answer to *task*.

    Raises:
        WireError: It is no such answer.

    """
    match task:
        case Send():
            return decode_receipt(body).checkpoint
        case Delete():
            return decode(body, Deleted).tombstone.checkpoint
        case Erase():
            return decode(body, Carried).logged.checkpoint
        case Register() | Tell():
            return decode(body, Logged).checkpoint
        case _:
            assert_never(task)
