"""What each command does: those that restrict, and those that take a click in the tray.

A restriction counts from the moment it is asked for, is written down once everything is
silent, and is answered last.  What leads to more capture is written down first and counts
only then.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final, Protocol, assert_never

from agent.config import EVERYTHING
from agent.consent.clocks import PAUSE_NANOSECONDS, deadline_after
from agent.consent.entries import (
    ClickAwaited,
    ClockConfirmed,
    Entry,
    ErasureAsked,
    Granted,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    Resumed,
    Withdrawn,
)
from agent.consent.entries import Refused as RefusedEntry
from agent.consent.facts import Situation
from agent.consent.ledger import Ledger
from agent.consent.notice import Countdown
from agent.consent.policy import PolicyInForce
from agent.consent.seen import SeenClock
from agent.consent.standing import Standing, state_of_next
from agent.consent.states import Consent, Ending
from agent.delivery import Delivery
from agent.enroll import Device
from agent.handover import back
from agent.pipeline import Pipeline
from agent.programme import Programme
from agent.spool import Spool
from agent.status import notice_of, notice_text
from base.clock import NANOSECONDS, Clock, Now
from base.errors import AssentError
from wire.category import Category
from wire.consent_record import record_of
from wire.control import (
    Answer,
    AwaitClick,
    Command,
    ConfirmClock,
    Done,
    Erase,
    Forget,
    GetNotice,
    GetStatus,
    Grant,
    Heartbeat,
    NoticeInSight,
    OptIn,
    OptOut,
    Pause,
    Quit,
    Refused,
    Resume,
    Silent,
    Status,
    Withdraw,
)
from wire.errors import NotCoveredError
from wire.grant import SignedConsent, sign_consent
from wire.ids import BootInstant, PolicyDigest, WallInstant
from wire.linked import ConsentState
from wire.policy import Policy, words_sha256

_LOG: Final = logging.getLogger(__name__)

MOST_MINUTES: Final = 7 * 24 * 60  # more is "withdraw": it says what it means


class Host(Protocol):
    """What the commands need; the service is it."""

    clock: Clock
    device: Device
    ledger: Ledger
    spool: Spool
    pipeline: Pipeline
    programme: Programme
    delivery: Delivery
    seen: SeenClock
    making_pause: bool
    closing: set[Category]
    restrictions: int

    @property
    def policy(self) -> PolicyInForce:
        """The policy in force."""

    @property
    def outside(self) -> dict[str, frozenset[Category]]:
        """What other places opt out of, by place."""

    def situation(self, now: Now) -> Situation:
        """Return everything that has a say in what may be captured."""
        ...

    def status(self) -> Status:
        """Return the whole status as of now."""
        ...

    def poke(self) -> None:
        """Decide, and let sources and tray follow."""

    def enforce(self) -> int:
        """Delete what must not remain; return how many batches.  Raises OSError."""
        ...

    def stop(self) -> None:
        """End the agent."""

    async def restrict(
        self, entry: Callable[[Now], Entry], before_keeping: Callable[[], None] = ...
    ) -> Now:
        """Carry out a restriction that is counted already."""
        ...


class Commands:
    """Carries out commands, one answer each."""

    def __init__(self, host: Host) -> None:
        """Prepare."""
        self._host = host

    async def answer(self, command: Command) -> Answer:
        """Return the answer to *command*; what could not be done is `Refused`."""
        try:
            return await self._answer(command)
        except AssentError as exc:
            self._host.poke()
            return Refused(why=str(exc))
        except OSError as exc:
            self._host.poke()
            return Refused(why=f"not everything could be deleted ({exc.strerror}); try again")

    async def _answer(  # noqa: C901, PLR0911, PLR0912 - one case for each command
        self, command: Command
    ) -> Answer:
        match command:
            case GetStatus() | Heartbeat() | NoticeInSight():
                return self._host.status()
            case GetNotice():
                return self._notice()
            case Pause(forget_minutes=minutes):
                return await self._pause(minutes)
            case OptOut(category=category):
                entry = OptedOut(category=category)
                return await self._end(category, entry)
            case Withdraw(category=category, erase=erase):
                return await self._end(category, self._withdrawal(category, erase=erase))
            case Forget(minutes=minutes):
                return self._forget(minutes)
            case Erase():
                return self._erase(command)
            case Quit():
                self._host.stop()
                return Done(detail="capture stops; the agent ends")
            case Grant() | OptIn() | Resume() if self._host.restrictions:
                # A click that crosses a "stop" must not open what that is just closing.
                return Refused(why="something is being stopped at this moment; click again")
            case Grant():
                return self._grant(command)
            case OptIn(category=category):
                return self._opt_in(category)
            case Resume():
                return self._resume()
            case AwaitClick():
                return self._await_click()
            case ConfirmClock():
                return self._confirm_clock()
            case _:
                assert_never(command)

    async def adopt(self, place: str, categories: frozenset[Category]) -> None:
        """Raise the flags that another place than the tray asks for."""
        for category in (None,) if categories == EVERYTHING else sorted(categories):
            try:
                await self._end(category, OptedOut(category=category, by=place))
            except (AssentError, OSError) as exc:
                _LOG.warning("an opt-out of the %s holds but is not written down: %s", place, exc)

    # --- restrictions -----------------------------------------------------------------

    async def _pause(self, minutes: int) -> Answer:
        host = self._host
        _check_minutes(minutes, least=0)
        asked_at = host.clock.now()

        def forget() -> None:
            self._forget_memory(asked_at, minutes)

        host.making_pause = True
        at = await host.restrict(_paused, forget)
        host.making_pause = False
        if minutes:
            host.spool.forget(since=back(asked_at, minutes * 60 * NANOSECONDS))
        return self._silent(at)

    async def _end(self, category: Category | None, entry: Entry) -> Answer:
        """Opt out or withdraw: silence, then the record, then what must not remain."""
        host = self._host
        categories = EVERYTHING if category is None else frozenset({category})
        host.closing |= categories
        at = await host.restrict(lambda _now: entry)
        host.closing -= categories
        for each in categories:
            host.pipeline.discard(each)
        host.enforce()
        if isinstance(entry, Withdrawn):
            # What is agreed to later is sealed to new keys: an erasure may have these.
            host.programme.keys.forget(categories)
        return self._silent(at)

    def _withdrawal(self, category: Category | None, *, erase: bool) -> Entry:
        """Return what a withdrawal writes down: of what was never agreed to, a signed no."""
        policy, digest = self._host.policy.policy, self._host.policy.digest
        known = category and self._host.ledger.standing.consents[category] is not Consent.UNKNOWN
        if category is None or known or erase or policy is None or digest is None:
            return Withdrawn(category=category, erase=erase)
        if policy.rule(category) is None:
            return Withdrawn(category=category)
        signed = self._signed(policy, digest, category, ConsentState.REFUSED)
        words = policy.words(category)
        return RefusedEntry(signed=signed, words=words, notice=notice_text(policy))

    def _signed(
        self, policy: Policy, digest: PolicyDigest, category: Category, state: ConsentState
    ) -> SignedConsent:
        """Return the record of a decision of this moment, signed."""
        device = self._host.device
        record = record_of(
            policy,
            digest,
            category,
            record_id=str(uuid.uuid4()),
            subject=device.subject,
            device=device.id,
            given_at=_after_erasures(self._host.ledger.standing, self._host.clock.now()),
            state=state,
        )
        return sign_consent(record, device.key)

    def _forget(self, minutes: int) -> Answer:
        _check_minutes(minutes, least=1)
        now = self._host.clock.now()
        self._forget_memory(now, minutes)
        batches = self._host.spool.forget(since=back(now, minutes * 60 * NANOSECONDS))
        self._host.delivery.wake()
        return Done(
            detail=f"what was recorded in the last {minutes} minutes is deleted here, "
            f"with {batches} sealed batches; what was on its way is asked back"
        )

    def _erase(self, command: Erase) -> Answer:
        host = self._host
        now = host.clock.now()
        host.ledger.append(erasure_of_days(command, now), now)
        batches = host.enforce()
        host.delivery.wake()
        return Done(detail=f"asked for; {batches} batches of it were still here and are deleted")

    def _forget_memory(self, now: Now, minutes: int) -> None:
        if minutes:
            self._host.pipeline.forget_since(back(now, minutes * 60 * NANOSECONDS), now)

    def _silent(self, at: Now) -> Silent:
        self._host.delivery.wake()
        asyncio.get_running_loop().call_soon(self._host.poke)  # the answer first, then the status
        return Silent(at=BootInstant(at.boot), wall=WallInstant(at.wall))

    # --- what takes a click -----------------------------------------------------------

    def _notice(self) -> Answer:
        policy = self._host.policy.policy
        if policy is None:
            return Refused(why=self._host.policy.problem)
        return notice_of(policy, self._host.situation(self._host.clock.now()))

    def _grant(self, command: Grant) -> Answer:
        host = self._host
        policy, digest, now = host.policy.policy, host.policy.digest, host.clock.now()
        if policy is None or digest is None:
            return Refused(why=host.policy.problem)
        try:
            words = words_sha256(policy, command.category)
        except NotCoveredError as exc:
            return Refused(why=str(exc))
        if command.words_sha256 != words:
            return Refused(why="the policy has changed since this was shown; look at it again")
        # Of what was withdrawn nothing may come back.
        host.enforce()
        state = state_of_next(host.ledger.standing, command.category)
        granted = Granted(
            signed=self._signed(policy, digest, command.category, state),
            words=policy.words(command.category),
            notice=notice_text(policy),
        )
        host.ledger.append(granted, now)
        host.closing.discard(command.category)
        return self._done(f"your consent for {command.category} is on record")

    def _opt_in(self, category: Category | None) -> Answer:
        host = self._host
        categories = EVERYTHING if category is None else frozenset({category})
        for place, closed in host.outside.items():
            if categories & closed:
                return Refused(why=f"the {place} opts out of this too; change that first")
        host.enforce()
        host.ledger.append(OptedIn(category=category), host.clock.now())
        host.closing -= categories
        return self._done("the opt-out is lowered")

    def _resume(self) -> Answer:
        self._host.ledger.append(Resumed(), self._host.clock.now())
        self._host.making_pause = False
        return self._done("resumed")

    def see_notice(self, seen: Countdown) -> None:
        """End the pause whose notice was *seen* for its whole time.

        Raises:
            AssentError: It is not written down, or no such pause is over; nothing changes.

        """
        seconds = seen.counted // NANOSECONDS
        entry = NoticeSeen(seconds=seconds, since=seen.begun or 0)
        self._host.ledger.append(entry, self._host.clock.now())
        self._done("resumed")

    def _await_click(self) -> Answer:
        if self._host.ledger.standing.ending is not Ending.CLICK:
            self._host.ledger.append(ClickAwaited(), self._host.clock.now())
        return self._done("it waits for your click")

    def _confirm_clock(self) -> Answer:
        now = self._host.clock.now()
        self._host.ledger.append(ClockConfirmed(), now)
        self._host.seen.believe(now)
        return self._done("the clock is trusted again")

    def _done(self, detail: str) -> Done:
        self._host.delivery.wake()
        self._host.poke()
        return Done(detail=detail)


def _after_erasures(standing: Standing, now: Now) -> WallInstant:
    """Return *now*, but after what was to be erased before: a clock may have been set back.

    An erasure covers what was agreed to until then, and this is agreed to afterwards.
    """
    return WallInstant(max(now.wall, *(e.wall + 1 for e in standing.erasing if e.days is None), 0))


def erasure_of_days(command: Erase, now: Now) -> Entry:
    """Return what to write down for an erasure of past days.

    Raises:
        AssentError: These are no days, or not past yet.

    """
    days = (command.first_day, command.last_day)
    try:
        first, last = (date.fromisoformat(day) for day in days)
    except ValueError:
        raise AssentError("a day is written as in 2027-03-15") from None
    if (first.isoformat(), last.isoformat()) != days or last < first:
        raise AssentError("the first day comes first, each written as in 2027-03-15")
    if last >= datetime.fromtimestamp(now.wall // NANOSECONDS, UTC).date():
        # More of today may come under the same consent, and must not be refused as erased.
        raise AssentError("only past days (UTC) can be erased; of today use forget, or withdraw")
    return ErasureAsked(category=command.category, first_day=days[0], last_day=days[1])


def _paused(now: Now) -> Entry:
    until = deadline_after(now, PAUSE_NANOSECONDS)
    return Paused(until_wall=until.wall, until_boot=until.boot)


def _check_minutes(minutes: int, *, least: int) -> None:
    if not least <= minutes <= MOST_MINUTES:
        raise AssentError(f"{minutes} minutes cannot be forgotten; from {least} to {MOST_MINUTES}")
