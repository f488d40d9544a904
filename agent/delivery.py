"""What goes on with the collector: uploads, deletions, consents, keys, halts.

The shell around `upload` (which decides) and `transport` (which talks): it reads the spool,
runs one request at a time in a worker thread, and carries out what the answer means.
Nothing of it can start capture; a halt that it hears of closes it.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from typing import Final, Protocol, assert_never

from agent.calls import Calls
from agent.consent.entries import Entry
from agent.consent.entries import Registered as RegisteredEntry
from agent.consent.entries import Told as ToldEntry
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing
from agent.doorway import Doorway, OpenDoor
from agent.enroll import Device
from agent.erasures import Erasures
from agent.guard_keys import GuardKeys
from agent.handover import Answered, NoAnswer, Outcome
from agent.knock import Knocks
from agent.log_seen import LogSeen
from agent.log_watch import LogWatch
from agent.spool import Spool
from agent.transport import Door
from agent.upkeep import Upkeep
from agent.upload import (
    Ack,
    Carried,
    Confirmed,
    Gone,
    Holds,
    Idle,
    Quarantine,
    Registered,
    Retry,
    Send,
    Step,
    Task,
    Tell,
    Told,
    Unknown,
    View,
    Wait,
    next_task,
    on_response,
    until,
)
from base.clock import NANOSECONDS, Clock
from base.errors import AssentError, RejectedError, SetupError
from wire.category import Category
from wire.collector_http import Logged, State, decode
from wire.errors import WireError
from wire.ids import GrantHash, WallInstant
from wire.policy import Policy
from wire.rights import SignedRequest

_LOG: Final = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0  # a halt has to close within 10 s, and the guard's takes 2.5 to get here
_CERTIFY_FIRST: Final = 401
UNCONFIRMED_SECONDS: Final = 30.0  # before the guard's half of an erasure is asked for again
LOOK_AGAIN_SECONDS: Final = 1.0  # for what nobody announces: a hold that ends


class Host(Protocol):
    """What the delivery needs to know and say; the service is it."""

    calls: Calls

    @property
    def standing(self) -> Standing:
        """Where consent stands."""

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""

    def write_down(self, entry: Entry) -> None:
        """Make an entry of the ledger durable; raises LedgerError."""

    def on_state(self, state: State) -> None:
        """Close, or go on after a stop, as the collector says."""

    async def on_demands(self, demands: tuple[SignedRequest, ...]) -> None:
        """Withdraw what the data subject has withdrawn elsewhere."""

    def on_log(self, why: str) -> None:
        """Close because of the log, or with an empty *why* go on."""

    def on_news(self) -> None:
        """Look again at what may be captured and at what to show."""


class Delivery:
    """Talks to the collector for as long as the agent runs."""

    def __init__(
        self,
        host: Host,
        device: Device,
        spool: Spool,
        erasures: Erasures,
        keys: GuardKeys,
        clock: Clock,
        open_door: OpenDoor | None = None,
    ) -> None:
        """Prepare; nothing is connected yet."""
        self._opened_by = open_door
        self._host = host
        self._spool = spool
        self._erasures = erasures
        self._keys = keys
        self._clock = clock
        self._view = View()
        self._failures = 0
        self._doorway = Doorway(self._new_door)
        self._knocks = Knocks(host, spool, erasures)
        self._log_watch = LogWatch(host, LogSeen(device.folder), clock, self._door)
        self._wake_up = asyncio.Event()
        self._ask_now = asyncio.Event()
        self._upload_error = ""
        self._reasons: dict[Task, str] = {}  # why single tasks wait
        self._poll_error = ""
        self._upkeep = Upkeep(
            device,
            clock,
            open_door=self._new_door,
            on_certificate=self._on_certificate,
            on_policy=self._on_policy,
            on_news=host.on_news,
        )
        self.last_receipt_at: WallInstant | None = None

    @property
    def last_error(self) -> str:
        """What is wrong with the collector, in one line; empty when all is well.

        First that this device is accepted no more, which explains the rest; last that there is
        a policy that will not do, for the one in force holds.
        """
        refused, policy = self._upkeep.certificate_error, self._upkeep.policy_error
        first = refused or self._keys.unkept or self._upload_error
        return first or self._poll_error or self._log_watch.trouble or self._upkeep.waits or policy

    def wake(self) -> None:
        """Look at once: there may be something to send, to delete or to ask for."""
        self._wake_up.set()
        self._ask_now.set()

    async def run(self) -> None:
        """Deliver and poll until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deliver())
                tasks.create_task(self._poll())
                tasks.create_task(self._upkeep.run())
                tasks.create_task(self._log_watch.run())
        finally:
            self._doorway.close()

    # --- uploads and deletions --------------------------------------------------------

    async def _deliver(self) -> None:
        while True:
            now = self._clock.now().boot
            self._view = self._look()
            self._forget_what_is_gone()
            match next_task(self._view, now):
                case Idle():
                    await self._rest(LOOK_AGAIN_SECONDS)
                case Wait(until=instant):
                    await self._rest(min(LOOK_AGAIN_SECONDS, (instant - now) / NANOSECONDS))
                case task:
                    await self._do(task)

    def _look(self) -> View:
        """Return what there is to do; without a valid policy only what takes data back."""
        policy, standing = self._host.policy, self._host.standing
        none = replace(self._view, deletions=(), erasures=(), unregistered=(), untold=(), ready=())
        if policy.reachable is None:
            return none
        deletions, erasures = self._spool.deletions(), self._erasures.outstanding()
        back = replace(none, deletions=tuple(deletions), erasures=tuple(erasures))
        if policy.policy is None:  # lapsed: it still says where the collector is
            return back
        ready = tuple(Send(name=b.name, grant=b.local.grant) for b in self._spool.ready())
        wanted = {grant.hash for grant in standing.grants.values()}
        wanted |= {send.grant for send in ready if send.grant in standing.evidence}
        # What became of a consent is told of all: also of one that was taken back offline.
        wanted |= {GrantHash(event.grant) for event in standing.untold}
        return replace(
            back,
            unregistered=tuple(sorted(wanted - standing.registered)),
            untold=tuple(Tell(grant=GrantHash(e.grant), state=e.state) for e in standing.untold),
            ready=ready,
            frozen=self._host.calls.freeze,
        )

    def _forget_what_is_gone(self) -> None:
        """Say no more why a batch waits, or was set aside, that is not here any more."""
        here = {spooled.name for spooled in self._spool.batches()} if self._reasons else set()
        for task in [t for t in self._reasons if isinstance(t, Send) and t.name not in here]:
            self._forget_reason(task)
            self._host.on_news()

    def _forget_reason(self, task: Task) -> None:
        if self._reasons.pop(task, None) == self._upload_error:
            self._upload_error = next(iter(self._reasons.values()), "")

    async def _do(self, task: Task) -> None:
        """Carry out one task and what its answer means."""
        try:
            policy = self._policy()
            knock = self._knocks.prepare(
                task, self._door(policy), policy.collector.log, self._upkeep.device.key
            )
        except (AssentError, WireError, OSError) as exc:
            _LOG.warning("cannot deliver: %s", exc)
            self._later(task, LOOK_AGAIN_SECONDS * 10, str(exc), holds=Holds.TASK)
            return
        outcome = await asyncio.to_thread(knock.call)
        if isinstance(task, Send) and isinstance(outcome, NoAnswer) and self._host.calls.freeze:
            return  # we cut it short; deletions go on, and it is sent when that is lifted
        outcome = await self._log_watch.judged(task, outcome, knock.door, policy)
        # In a thread: an answer of two MiB takes as long to verify when it proves nothing.
        step = await asyncio.to_thread(
            on_response,
            task,
            outcome,
            failures=self._failures,
            dice=random.random(),  # noqa: S311 - jitter, no secret
            check=knock.check,
        )
        if isinstance(outcome, Answered) and outcome.status == _CERTIFY_FIRST:
            self._upkeep.wake()
        if isinstance(task, Send) and not self._spool.has(task.name):
            self._forget_reason(task)
            return  # it was taken back meanwhile; its deletion is queued
        try:
            self._apply(task, step, outcome)
        except (AssentError, OSError) as exc:
            # What was not made durable is offered again.
            _LOG.warning("the collector's answer could not be noted: %s", exc)
            self._later(task, LOOK_AGAIN_SECONDS * 10, str(exc), holds=Holds.TASK)
        self._host.on_news()

    def _apply(self, task: Task, step: Step, outcome: Outcome) -> None:
        if isinstance(step, Retry):
            self._later(task, step.after_seconds, step.why, holds=step.holds)
            return
        self._failures = 0
        self._reasons.pop(task, None)
        self._upload_error = next(iter(self._reasons.values()), "")
        self._view = replace(
            self._view, later={t: at for t, at in self._view.later.items() if t != task}
        )
        match step:
            case Ack(name=name):
                self.last_receipt_at = WallInstant(self._clock.now().wall)
                self._spool.ack(name)
            case Confirmed(name=name):
                self._spool.deletion_confirmed(name)
            case Carried(name=name, body=body):
                self._carried(task, name, body)
            case Registered(grant=grant):
                logged = decode(outcome.body, Logged) if isinstance(outcome, Answered) else None
                self._host.write_down(RegisteredEntry(grant=grant, logged=logged))
                self._ask_now.set()  # the guard's keys are given only after this
            case Told(grant=grant, state=state):
                self._host.write_down(ToldEntry(grant=grant, state=state))
            case Unknown(grant=grant, after_seconds=after):
                self._unknown(grant, after)
            case Quarantine(name=name, why=why):
                self._upload_error = f"a batch is set aside for good: {why}"
                self._spool.quarantine(name, why)
                self._keys.doubt(why)
            case Gone(name=name):
                self._spool.drop(name)
            case _:
                assert_never(step)

    def _unknown(self, grant: GrantHash, after: float) -> None:
        self._host.write_down(RegisteredEntry(grant=grant, known=False))
        why = "the collector does not know a consent; it is told again"
        # All of this consent wait, or each would write two lines into the ledger.
        waiting: tuple[Tell | Send, ...] = (*self._view.untold, *self._view.ready)
        for task in waiting:
            if task.grant == grant:
                self._later(task, after, why, holds=Holds.TASK)

    def _carried(self, task: Task, name: str, body: bytes) -> None:
        if (asked := self._erasures.find(name)).collector_at is None:
            self._spool.erased(asked.request)
        key, now = self._policy().guard.signing_key, self._clock.now().wall
        if missing := self._erasures.carried(name, now, body, key):
            self._later(task, UNCONFIRMED_SECONDS, missing, holds=Holds.TASK)

    def _later(self, task: Task, seconds: float, why: str, *, holds: Holds) -> None:
        self._upload_error = why
        instant = until(self._clock.now().boot, seconds)
        match holds:
            case Holds.DOOR:
                self._failures += 1
                self._view = replace(self._view, door_opens=instant)
            case Holds.UPLOADS:
                self._failures += 1
                self._view = replace(self._view, uploads_open=instant)
            case Holds.TASK:
                self._reasons[task] = why
                self._view = replace(self._view, later={**self._view.later, task: instant})
            case _:
                assert_never(holds)
        self._host.on_news()

    async def _rest(self, seconds: float) -> None:
        self._wake_up.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.01)):
                await self._wake_up.wait()

    # --- halts, keys -----------------------------------------------------------------

    async def _poll(self) -> None:
        while True:
            self._ask_now.clear()
            try:
                await self._ask()
                self._poll_error = ""
            except (AssentError, WireError, OSError) as exc:
                if self._poll_error != str(exc):  # once; what is shown may be something else
                    _LOG.warning("cannot ask the collector: %s", exc)
                self._poll_error = str(exc)
            self._host.on_news()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._ask_now.wait()

    async def _ask(self) -> None:
        """Ask whether the programme is halted, and for the keys that are missing."""
        policy = self._policy()
        door = self._door(policy)
        state = await asyncio.to_thread(door.state)
        self._host.on_state(state)
        said = await asyncio.to_thread(door.rights)
        await self._host.on_demands(said.requests)
        shut = self._host.calls.freeze or self._host.policy.policy is None
        if shut and not (state.halted or state.stopped):
            self._upkeep.nudge()  # what lifts that is another policy, or a new lease
        self._keys.use_guard(self._policy().guard.signing_key)  # another may have come meanwhile
        # In a thread: what a collector makes up takes as long to refuse as what is true.
        orders = await asyncio.to_thread(self._keys.believed, said.orders, policy.collector.origin)
        for new in self._keys.obey(orders):
            self._host.on_news()  # shut before anything is deleted
            self._spool.forget(new.category, days=new.days, why="erased by the guard")
        self._keys.keep()
        standing = self._host.standing
        granted = [c for c, grant in standing.grants.items() if grant.hash in standing.registered]
        refused = ""
        for category, month in self._keys.missing(granted, self._clock.now()):
            try:
                await self._fetch_key(door, category, month)
            except RejectedError as exc:  # of one category; the others have their keys to get
                refused = str(exc)
        if refused:
            raise RejectedError(refused)

    async def _fetch_key(self, door: Door, category: Category, month: str) -> None:
        answer = await asyncio.to_thread(door.guard_key, category, month)
        # What was under way while another policy came is not verified by the key before it.
        self._keys.use_guard(self._policy().guard.signing_key)
        self._keys.add(category, month, answer)
        _LOG.info("the guard's key for %s of %s is here", category, month)
        self._host.on_news()

    def _on_certificate(self) -> None:
        self._doorway.close()
        self.wake()

    def _on_policy(self) -> None:
        self._host.on_news()
        self.wake()

    # --- the door ---------------------------------------------------------------------

    def _policy(self) -> Policy:
        policy = self._host.policy.reachable
        if policy is None:
            raise SetupError(self._host.policy.problem)
        return policy

    def _door(self, policy: Policy) -> Door:
        return self._doorway.to(policy, self._upkeep.device.enrolment)

    def _new_door(self, pins: tuple[str, ...]) -> Door:
        return (self._opened_by or self._upkeep.device.door)(pins)
