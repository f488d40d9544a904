"""The agent process: facts in, verdict out, sources and gate moved accordingly.

Three things happen here, and each in one place:

- `decide` asks the gate.  What may no longer be captured is shut in the same call.
- `move` makes sources and permits follow: close, settle what was on its way, open.
- `restrict` is what pause, opt-out and withdrawal have in common, in the order that makes
  "silent" true: gate shut, sources closed, hold-back dropped, written down, answered.

What each command does stands in `commands`, what time brings in `rounds`; processes are in
`children`, the collector in `delivery`.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from agent import control
from agent.afar import believed, to_withdraw
from agent.calls import Calls
from agent.children import Starter, start_process
from agent.commands import Commands
from agent.config import Config, outside_opt_outs
from agent.consent.entries import Entry
from agent.consent.facts import Situation, facts_of
from agent.consent.gate import Facts, Verdict, decide
from agent.consent.ledger import Ledger
from agent.consent.policy import FOLDER as POLICY_FOLDER
from agent.consent.policy import PolicyInForce
from agent.consent.seen import SeenClock
from agent.consent.standing import Standing
from agent.counters import Counters
from agent.decisions import Decisions
from agent.delivery import Delivery
from agent.doorway import OpenDoor
from agent.enroll import Device
from agent.erasures import Erasures
from agent.follow import follow
from agent.heard import Heard
from agent.indicator import IndicatorWatch
from agent.lock import Lock
from agent.numbers import Numbers
from agent.pipeline import Pipeline
from agent.programme import Programme
from agent.receipts import Receipts
from agent.resuming import Resuming
from agent.rounds import Rounds
from agent.session import OpenSession, SessionSeen, open_watch
from agent.sources import Sources, plan
from agent.spare_room import SpareRoom
from agent.spool import Spool
from agent.status import Told, spool_status_of, status_of
from agent.tray import OpenWatch, Tray
from agent.withdraw import banned, enforce
from base import durable
from base.clock import NANOSECONDS, Clock, Now, SystemClock
from base.paths import Paths
from wire.category import Category
from wire.collector_http import State
from wire.control import (
    Answer,
    Command,
    NoticeInSight,
    Settings,
    Status,
    Withdraw,
)
from wire.rights import SignedRequest

_LOG: Final = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.1  # while something is captured: events leave the hold-back
IDLE_SECONDS: Final = 1.0
LOOK_NANOSECONDS: Final = round((IDLE_SECONDS - TICK_SECONDS / 2) * NANOSECONDS)
"""A timer may fire a little early; that must not put a look off for another second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watches:
    """What is asked of the desktop: is the icon shown, and is the session ours."""

    icon: OpenWatch = IndicatorWatch
    session: OpenSession = open_watch


THE_DESKTOP: Final = Watches()


class Service:
    """The agent.  `run` lasts until somebody stops it."""

    def __init__(
        self,
        paths: Paths,
        config: Config,
        device: Device,
        *,
        clock: Clock | None = None,
        start: Starter = start_process,
        watch: Watches = THE_DESKTOP,
        open_door: OpenDoor | None = None,
        opt_outs: Callable[[Config], dict[str, frozenset[Category]]] = outside_opt_outs,
    ) -> None:
        """Take the lock, read what is on the disk, and finish what a crash left undone.

        Raises:
            AssentError: Another agent runs, or state that must be readable is not.
            OSError: The same, or what was withdrawn could not be deleted.

        """
        self.paths = paths
        self.config = config
        self.device = device
        self.clock = clock or SystemClock()
        now = self.clock.now()
        self._lock = Lock(paths.state)  # before anything is read: reading mends and sweeps
        policy = paths.state / POLICY_FOLDER
        for folder in (paths.state, policy, policy / "root_history"):
            durable.sweep(folder)
        self.ledger = Ledger.open(paths.state, device.key.public_key(), now)
        self.seen = SeenClock(paths.state, self.standing, now)
        believed = not (self.seen.why_not(now) or self.ledger.standing.clock_doubt)
        numbers, disk = Numbers(paths.state), SpareRoom(paths.state)
        files, quota, then = paths.state / "spool", config.quota_bytes, now if believed else None
        self.spool = Spool(files, device.key, numbers, then, quota_bytes=quota, disk=disk)
        self.erasures = Erasures(paths.state, device.asker)
        self.receipts = Receipts(paths.state, device.key)
        self.programme = Programme(paths.state, device, now)
        self.enforce()
        self.counters = Counters()
        self.heard = Heard(self)
        self.pipeline = Pipeline(
            timeline=self.heard.timeline,
            hidden=self.heard.hidden,
            counters=self.counters,
            number=numbers.event,
            seal=self.programme.seal,
            spool=self.spool.put,
            why_not=lambda category: self.verdict.reasons[category],
        )
        self.verdict: Verdict = decide(Facts())
        self.sources = Sources(start, self.heard)
        self.tray = Tray(start, self, watch.icon)
        self._session, self._session_watch = SessionSeen(), watch.session(self)
        self.delivery = Delivery(
            self, device, self.spool, self.erasures, self.programme.keys, self.clock, open_door
        )
        self.commands = Commands(self)
        # Restrictions that count from when they are asked for until the disk has them, if ever.
        self.making_pause = False
        self.closing: set[Category] = set()
        self.restrictions = 0  # under way; what leads to more capture waits for their end
        self.calls = Calls(self)
        self.resuming = Resuming(self)
        self.decisions = Decisions()
        self._moving = asyncio.Lock()
        self._must_move = asyncio.Event()
        self._permitted = asyncio.Event()
        self._stop = asyncio.Event()
        self.rounds = Rounds(self, opt_outs)
        follow(self.programme, self.standing, self.pipeline, self.spool, self.write_down)
        self.decide()

    # --- what is known ----------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """Where consent stands."""
        return self.ledger.standing

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""
        return self.programme.in_force

    @property
    def outside(self) -> dict[str, frozenset[Category]]:
        """What other places opt out of, by place."""
        return self.rounds.outside

    def situation(self, now: Now) -> Situation:
        """Return everything that has a say in what may be captured."""
        return Situation(
            now=now,
            standing=self.standing,
            policy=self.policy,
            clock_doubt=self.rounds.clock_doubt,
            indicator_shown=not self.tray.why_hidden(now),
            session_ours=self._session.ours(),
            inside_scope=self.heard.timeline.current(),
            secret=self.heard.hidden.current(),
            within_hours=self.programme.within_hours(now),
            redacting=self.sources.redact(),
            outside_opt_outs=frozenset().union(*self.outside.values()),
            storable=MappingProxyType({c: not self._why_unstorable(c, now) for c in Category}),
            halting=self.calls.unwritten,
            making_pause=self.making_pause,
            closing=frozenset(self.closing),
        )

    def _why_unstorable(self, category: Category, now: Now) -> str:
        if self.pipeline.is_blocked:
            return "The disk takes no more; make room on it."
        if not self.spool.has_room:
            return f"{self.spool.quota_bytes >> 20} MiB wait to be sent; see `assent-agent doctor`."
        return self.programme.keys.why_not(category, now)

    def status(self) -> Status:
        """Return the whole status as of now."""
        now = self.clock.now()
        situation = self.situation(now)
        permits = self.pipeline.permits()
        unstorable = (self._why_unstorable(c, now) for c in self.standing.grants)
        told = Told(
            recording=self.verdict.categories & permits.keys() & self.sources.open_categories(),
            kept=dict(self.counters.kept),
            dropped=dict(self.counters.dropped),
            spool=spool_status_of(self.spool),
            last_receipt_at=self.delivery.last_receipt_at,
            last_error=self.rounds.trouble or self.delivery.last_error,
            indicator=self.tray.why_hidden(now),
            session=self._session.why_not(),
            storage=next(filter(None, unstorable), ""),
            unconfirmed=self.erasures.words(now.wall),
            erased=self.programme.keys.orders.words(),
            trouble=self.heard.trouble(),
            resumes_in=self.resuming.seconds_left(),
            counting=self.resuming.is_counting(now),
        )
        return status_of(situation, self.verdict, self.device, told)

    # --- decide and move --------------------------------------------------------------

    def decide(self) -> None:
        """Ask the gate; shut at once what it no longer permits."""
        now = self.clock.now()
        situation = self.situation(now)
        facts = facts_of(situation)
        self.verdict = decide(facts)
        self.decisions.note(situation, facts, self.verdict)
        self.resuming.follow()
        self.pipeline.shut_unless(self._wanted(), self.policy.digest, now.boot)

    def poke(self) -> None:
        """Decide, and let sources and tray follow."""
        self.decide()
        wanted = self._wanted()
        if wanted != self.pipeline.permits().keys() or self.sources.differ_from(self._plan()):
            self._must_move.set()
        self.tray.show(self.status)

    def _wanted(self) -> frozenset[Category]:
        """Return what may have its source open: permitted, asked for, and of use."""
        return self.verdict.sources & self.programme.asked_for(self.clock.now())

    def _plan(self) -> dict[str, Settings]:
        return plan(self._wanted(), self.policy.policy, self.config.input_source)

    async def move(self, before_keeping: Callable[[], None] = lambda: None) -> None:
        """Close what is not wanted, settle it, open what is; the caller holds `_moving`.

        *before_keeping* runs whenever everything is silent and before open batches are sealed.
        """
        while True:
            # Whoever waits for a source to close may find another policy, and another plan: what
            # is open by the one of before must not go on under a permit of the new one.
            while self.sources.are_open_unless(self._plan()):
                await self.sources.close_unless(self._plan())
            before_keeping()
            self._settle()
            self.decide()
            if not (self.pipeline.being_shut() or self.sources.are_open_unless(self._plan())):
                break
        now = self.clock.now()
        for category in self._wanted() - self.pipeline.permits().keys():
            permit = self.programme.permit(self.standing.grants[category], now)
            if permit is not None:
                self.pipeline.permit(permit)
                self._permitted.set()
                if category is Category.WINDOW:
                    # It came to the front before anybody might note it; it is there now.
                    self.pipeline.take(self.heard.in_front(permit.since), now)
        self.sources.open(self._plan(), self.heard.blocked(now))

    def _settle(self) -> None:
        now = self.clock.now()
        forbidden = self.programme.forbidden(self.pipeline.shut_under())
        gone = banned(self.standing) | self.closing | forbidden
        for category in self.pipeline.being_shut():
            self.pipeline.settle((category,), now, keep=category not in gone)

    async def restrict(
        self,
        entry: Callable[[Now], Entry],
        before_keeping: Callable[[], None] = lambda: None,
    ) -> Now:
        """Carry out a restriction that is counted already; return when everything is silent.

        1. the gate is shut; 2. sources are closed and all that was on its way has arrived;
        3. the hold-back is dropped, open batches are sealed or forgotten; 4. it is written
        down; 5. only then "silent" may be said, with the instant after all of this.

        Raises:
            LedgerError: It is not written down; everything stays shut all the same.

        """
        self.restrictions += 1
        try:
            with self.ledger.restriction():
                self.decide()
                async with self._moving:
                    await self.move(before_keeping)
                    now = self.clock.now()
                    self.ledger.append(entry(now), now)
            return self.clock.now()
        finally:
            self.restrictions -= 1

    # --- from the session -------------------------------------------------------------

    def on_session(self, seen: SessionSeen) -> None:
        """Take what is known of the session; the gate shuts at once where it is not ours."""
        if seen.ours() is not self._session.ours():
            _LOG.info("session: %s", seen.why_not() or "ours")
        self._session = seen
        self.poke()

    async def hush(self) -> None:
        """Return when the sources of all that is shut are closed."""
        async with self._moving:
            await self.move()

    # --- from the data subject --------------------------------------------------------

    async def answer(self, command: Command) -> Answer:
        """Carry out a command of the tray's own window."""
        return await self.commands.answer(command)

    def on_sight(self, report: NoticeInSight) -> None:
        """Count for how long the notice of a pause that ran out is seen."""
        self.resuming.on_sight(report)
        self.tray.show(self.status)

    # --- from the collector -----------------------------------------------------------

    def write_down(self, entry: Entry) -> None:
        """Make an entry of the ledger durable."""
        self.ledger.append(entry, self.clock.now())

    def on_log(self, why: str) -> None:
        """Close because of what the collector's log shows, or with an empty *why* go on."""
        self.calls.doubt_log(why)

    def on_news(self) -> None:
        """Look again at what may be captured and at what to show."""
        self.poke()

    def enforce(self) -> int:
        """Delete what must not remain; return how many batches.  Raises OSError."""
        return enforce(self.standing, self.spool, self.erasures, self.programme.keys)

    def on_state(self, state: State) -> None:
        """Close, or go on after a stop, as the collector says."""
        self.calls.hear(state)

    async def on_demands(self, demands: tuple[SignedRequest, ...]) -> None:
        """Withdraw what the data subject has withdrawn elsewhere, as a click here would."""
        requests = await asyncio.to_thread(believed, demands, self.device.asker)
        for each in sorted(to_withdraw(requests, self.standing)):
            await self.answer(Withdraw(category=each))

    # --- with time --------------------------------------------------------------------

    async def _tick(self) -> None:
        """Let time pass: events leave the hold-back, pauses run out, policies expire."""
        looked_at = 0
        while True:
            now = self.clock.now()
            self.pipeline.look(now)
            if now.boot - looked_at >= LOOK_NANOSECONDS or not looked_at:
                looked_at = now.boot
                await self.rounds.go(now)
            self._permitted.clear()
            if self.pipeline.permits():
                await asyncio.sleep(TICK_SECONDS)
            else:
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes together
                # with what it waits for, and then nobody could end this task.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await self._permitted.wait()

    # --- run --------------------------------------------------------------------------

    def stop(self) -> None:
        """End the agent: seal what is open, end the children."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`."""
        server = await control.serve(self.paths.runtime, self.answer)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        self.sources.begin()
        self.tray.begin()
        lasting = (
            self._tick(),
            self._follow(),
            self._session_watch.run(),
            self.delivery.run(),
            self._stop.wait(),
        )
        work = [asyncio.create_task(coroutine) for coroutine in lasting]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises for a defect of ours: it ends us, and all capture
        finally:
            server.close()
            await self._end(work)
            self._lock.release()

    async def _follow(self) -> None:
        """Move whenever the verdict asks for it."""
        while True:
            await self._must_move.wait()
            self._must_move.clear()
            async with self._moving:
                await self.move()
            self.tray.show(self.status)

    async def _end(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        for task in tasks:
            task.cancel()
        now = self.clock.now()
        self.pipeline.shut(tuple(Category), now.boot)
        await self.sources.stop()  # before any waiting for what only talks to others
        for category in self.pipeline.being_shut():
            self.pipeline.settle((category,), self.clock.now(), keep=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.tray.stop()
        self.seen.save(self.clock.now())
