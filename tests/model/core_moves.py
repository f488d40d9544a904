"""What the rules of `core_machine` are made of: acts, each noted in the books as it is made.

`Moves` has both hands on what is around the agent of a `Life`.
"""

import shutil
import time
from dataclasses import replace
from typing import Final, TypeAlias

from hypothesis import strategies as st

from agent.session import Known, SessionSeen
from tests.fakes.syscalls import Fault
from tests.fakes.workstation import OURS
from tests.model.core_life import SERVED_BY, Life
from tests.model.core_station import Edition
from tests.model.core_truth import (
    DAY,
    EVERYTHING,
    LATE,
    NOTICE,
    PAUSE,
    SECOND,
    ViolationError,
    id_of,
)
from wire.category import Category
from wire.control import (
    Command,
    ConfirmClock,
    Done,
    Grant,
    NoticeInSight,
    OptIn,
    OptOut,
    Pause,
    Reason,
    Refused,
    Resume,
    Silent,
    Withdraw,
)
from wire.errors import NotCoveredError
from wire.policy import words_sha256

Restriction: TypeAlias = Pause | OptOut | Withdraw

MS: Final = 1_000_000
DOUBTED: Final = 11 * SECOND // 2  # half a second more than the clocks may differ by
MOST_SECONDS_TO_RIGHT: Final = 60
MOST_IDLE: Final = 4  # steps without any recording; then the person puts things right
ZONES: Final = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
SPANS: Final = [1, 40, 600, 31 * 60, 5 * 3600, 2 * 86_400, 32 * 86_400]  # seconds of a suspend
SKEWS: Final = [0, 0, 0, -7_200, -60, 60, 1_800]
STEPS: Final = [-86_400, -3_600, -60, -6, -3, 3, 6, 60, 1_800, 86_400]  # seconds of a clock

some: Final = st.sampled_from(list(Category))
some_or_all: Final = st.one_of(st.none(), some)


def named(category: Category | None) -> frozenset[Category]:
    return EVERYTHING if category is None else frozenset({category})


class Moves(Life):
    """Everything that can be done to one agent, from its enrolment on."""

    def teardown(self) -> None:
        try:
            self._bring_to_an_end()
        finally:
            self.core.close()
            self.patch.undo()
            time.tzset()
            shutil.rmtree(self.folder)

    def _done(self) -> None:
        """After each rule the person goes on, and everything that is anywhere is judged."""
        self.tally.steps += 1
        self.steps += 1
        self.idle = 0 if self._records_anything() else self.idle + 1
        if self.idle > MOST_IDLE and self._put_right():
            self.tally.righted += 1
            self.idle = 0
        self._act()
        self._wait(0.05)
        self._act()
        self._wait((0.1, 0.2, 0.7)[self.steps % 3])
        if not self.core.lives:
            self._starts_again(0)
        if self.armed and self.core.disk.broke is not None:
            self.armed = False
            self.tally.faults += 1
        self._see_policy()
        self._judge()

    # --- commands -----------------------------------------------------------------------------

    def _restrict(
        self, command: Pause | OptOut | Withdraw, categories: frozenset[Category]
    ) -> None:
        kind = {Pause: "pause", OptOut: "opt-out", Withdraw: "no yes"}[type(command)]
        asked, lived = self.core.clock.true, self.core.lives
        # Whatever becomes of it: from now on, and as long as this agent lives, it is shut.
        if lived:
            self.truth.close(kind, categories, asked, sure=False)
        answer = self._say(command)
        if isinstance(answer, Silent):
            self.truth.close(kind, categories, asked)
            self._check_silent(command, categories, asked)
        elif lived and self.core.lives and not isinstance(answer, Refused):
            raise ViolationError(f"{command} is answered with {answer}")

    def _check_silent(
        self, command: Restriction, categories: frozenset[Category], asked: int
    ) -> None:
        """What was said to be silent is."""
        pipeline = self.core.running.pipeline
        self.truth.check_silence(pipeline, categories)
        self.truth.check_disk()
        match command:
            case Pause(forget_minutes=minutes):
                self.truth.open("unfinished", EVERYTHING, asked)
                self.truth.paused_at = asked
                self.paused_in = self.core.clock.boots, self.core.clock.skew
                if any(sensor.is_open for sensor in self._sensors()):
                    raise ViolationError("a source is open after 'silent'")
                if minutes:
                    self._check_forgotten(asked - minutes * 60 * SECOND, asked)
            case OptOut() | Withdraw():
                if left := self.truth.frames_of(categories):
                    raise ViolationError(f"{len(left)} batches are left of {categories}")
                if isinstance(command, Withdraw):
                    for category in categories:
                        self.truth.granted_at.pop(category, None)
                    if command.erase:
                        self.truth.erase(categories)

    def _check_forgotten(self, since: int, asked: int) -> None:
        """Nothing that happened from *since* until it was asked for is here any more."""
        self.truth.check_disk()
        if self.truth.clock_was_set:
            return  # the last minutes are counted on either clock: more may go
        for batch in self.core.running.pipeline._roll._open.values():  # noqa: SLF001
            for event in batch.events:
                if since < self.truth.happened[id_of(event)].true <= asked:
                    raise ViolationError(f"{event} was to be forgotten")
        if left := self.truth.frames_since(since):
            raise ViolationError(f"{len(left)} batches were to be forgotten")

    def _click(self, command: Command, closed_by: dict[str, frozenset[Category]]) -> bool:
        """Click what opens; whether it was done.  From a click on it is not closed for sure."""
        asked = self.core.clock.true
        if not self.core.lives or self._tray() is None:
            return False
        was = {
            (kind, sure): frozenset(
                c for c in EVERYTHING if self.truth.is_closed(kind, c, sure=sure)
            )
            for kind in closed_by
            for sure in (True, False)
        }
        for kind, categories in closed_by.items():
            self.truth.open(kind, categories, asked)
        answer = self._say(command)
        if isinstance(answer, Refused):
            healthy = self._is_healthy() and not self.core.disk.broke
            for (kind, sure), categories in was.items():
                self.truth.close(kind, categories & closed_by[kind], asked, sure=sure and healthy)
        return isinstance(answer, Done)

    def _resume(self) -> None:
        self._click(Resume(), {"pause": EVERYTHING, "unfinished": EVERYTHING})

    def _opt_in(self, category: Category | None) -> None:
        # What was refused holds in memory until a click asks for recording again.
        self.truth.lift_unsure("no yes", named(category), self.core.clock.true)
        self._click(OptIn(category=category), {"opt-out": named(category)})

    def _grant(self, category: Category) -> None:
        number = self.core.in_force() if self.core.lives else None
        if number is None or self._tray() is None:
            return
        edition, first = (
            self.core.grounds.editions[number],
            self.truth.is_closed("no yes", category),
        )
        try:
            words = words_sha256(edition.policy, category)
        except NotCoveredError:
            return
        closed_by = {"no yes": named(category), "stale": named(category)}
        if number != self.halted_under:
            closed_by["halt"] = named(category)
        asked = self.core.clock.true
        self.truth.lift_unsure("opt-out", named(category), asked)
        self.truth.granted_words[category] = edition.words
        if self._click(Grant(category=category, words_sha256=words), closed_by) and first:
            self.truth.granted_at[category] = asked
        else:
            self.truth.granted_at.pop(category, None)

    def _confirm_clock(self) -> None:
        done = self._click(ConfirmClock(), {"clock": EVERYTHING})
        if done:
            self.anchor = self.core.clock.skew

    def _ran_out(self, now: int) -> bool:
        """Whether the pause is over by the time that went by; see `clocks.has_passed`."""
        if self.truth.paused_at is None:
            return True
        boot, skew = self.paused_in
        passed = now - self.truth.paused_at
        if boot != self.core.clock.boots:
            passed += self.core.clock.skew - skew  # only the wall clock is left
        return passed >= PAUSE

    def _watch(self, seconds: int, *, present: bool) -> None:
        """Have the notice in sight for so long; note when it may have ended a pause."""
        counted_from: int | None = None
        for second in range(seconds):
            now = self.core.clock.true
            if counted_from is None and self._ran_out(now):
                counted_from = now
            if present and counted_from is not None and now >= counted_from + NOTICE:
                if self.truth.is_closed("pause"):
                    self.tally.pauses_over += 1
                self.truth.open("pause", EVERYTHING, now)
            seen = NoticeInSight(for_ms=second * 1000, input_ms=0 if present else None)
            if (tray := self._tray()) is not None:
                tray.sees(seen)
            if not self._wait(1.0):
                break

    def _pass_by(self, seconds: int, how: str) -> None:
        """Let time pass in one of the ways in which it does; or only seem to pass."""
        match how:
            case "asleep":
                self.core.clock.sleep(self._span(seconds))
            case "off" if self.core.lives:
                self.core.kill()
                self._died()
                self._boot(seconds, 0, sure=False)
            case "set":
                self._set_clock(seconds * SECOND)
                self._confirm_clock()
            case _:
                self._wait(seconds / 10)
        self._act()
        self._wait(1.5)

    # --- clocks ---------------------------------------------------------------------------------

    def _set_clock(self, nanoseconds: int) -> None:
        self._skew(nanoseconds)
        clock = self.core.clock
        if any(c.kind == "clock" and not c.sure for c in self.truth.closings):
            self.truth.open("clock", EVERYTHING, clock.true)  # it may agree again
        if self.anchor is None or not self.core.lives:
            return
        if abs(clock.skew - self.anchor) > DOUBTED:
            healthy = self._is_healthy()
            self.truth.close("clock", EVERYTHING, clock.true + LATE, sure=False)
            if self._wait(1.5) and healthy and self._is_healthy():
                self._make_sure("clock")

    # --- the organisation ---------------------------------------------------------------------

    def _hear(self) -> None:
        """Let the agent ask the collector now, and hear the answer."""
        if self.core.lives:
            self._call(self.core.running.delivery.wake)
            self._wait(0.2)

    def _goes_on(self) -> None:
        self.truth.open("stop", EVERYTHING, self.core.clock.true)
        self.core.collector.stopped = ""

    def _publish(self) -> bool:
        """Publish the next policy, if there is one, which lifts a halt; let the agent fetch it."""
        if self.core.edition + 1 == len(self.core.grounds.editions):
            return False
        self.core.publish()
        self.core.collector.halted = ""
        self.truth.open("policy", self.core.published.asks, self.core.clock.true)
        self._look_after()
        self._wait(0.3)
        return True

    def _look_after(self) -> None:
        """Let the agent look after policy and certificate now, and not within five minutes."""
        if self.core.lives:
            self._call(self.core.running.delivery._upkeep.wake)  # noqa: SLF001

    def _see_policy(self) -> None:
        """Note which policy the agent goes by, and what it must not capture under that."""
        since, self.edition_seen_at = self.edition_seen_at, self.core.clock.true
        number = self.core.in_force() if self.core.lives else None
        if number is None or number == self.edition:
            return
        self.edition = number
        edition: Edition = self.core.grounds.editions[number]
        now = self.core.clock.true + LATE
        # It may come from one that was older than the newest: what that forbade, this may ask for.
        self.truth.open("policy", edition.asks, since)
        if not_asked := EVERYTHING - edition.asks:
            self.truth.close("policy", not_asked, now)
        stale = [c for c, words in self.truth.granted_words.items() if words < edition.words]
        if stale:
            self.truth.close("stale", stale, now)

    # --- ends ---------------------------------------------------------------------------------

    def _put_right(self) -> bool:
        core, clock = self.core, self.core.clock
        self._mend()
        self._starts_again(0)
        if clock.skew:
            self._set_clock(-clock.skew)
        self._travel("UTC")
        self.truth.places.append((clock.true, "UTC", 0))
        if not 6 <= (hour := clock.now().wall // SECOND % 86_400 / 3600) < 21:
            clock.sleep(int((34 - hour) % 24 * 3600) * SECOND)  # until ten
        if not (self._tray() and len(self._sensors()) == len(set(SERVED_BY.values())) + 1):
            self._wait(1.0)
        self._session_back()
        self._icon_back()
        self._beats()
        for sensor in self._sensors():
            sensor.hangs = False
        if core.lives and not core.running.policy.holds(clock.now()):
            self._look_after()
        self._hear()
        if core.running.standing.halted is not None and not self._publish():
            return False
        for attempt in range(MOST_SECONDS_TO_RIGHT):
            self._clicks_all()
            if self._records():
                return True
            self._wait(1.0)
            if attempt % 20 == 19:
                clock.sleep(16 * 60 * SECOND)
                self._look_after()
        raise ViolationError(
            f"it does not record again: {core.running.verdict.reasons}, "
            f"{core.running.status().detail}, {core.running.delivery.last_error}"
        )

    def _mend(self) -> None:
        core = self.core
        core.disk.break_at(-1, Fault.FAILS)
        core.disk._full_until = 0.0  # noqa: SLF001 - room again
        if self.armed and core.disk.broke is None:
            self.armed = False
        core.station.outside = {}
        core.collector.reachable, core.collector.halted = True, ""
        self._goes_on()

    def _clicks_all(self) -> None:
        service, policy = self.core.running, self.core.running.policy.policy
        match service.verdict.shown:
            case Reason.CLOCK_UNTRUSTED:
                self._confirm_clock()
            case Reason.PAUSED_UNTIL | Reason.RESUME_PENDING:
                self._resume()
            case _:
                pass
        for category in Category if policy is not None else ():
            match service.verdict.reasons[category]:
                case Reason.OPTED_OUT:
                    self._opt_in(category)
                case Reason.NOT_CONSENTED | Reason.CONSENT_STALE:
                    self._grant(category)
                case _:
                    pass
        if self.truth.focus[-1][1] is not True:
            self._focus(inside=True, delay=0.0)

    def _records(self) -> bool:
        """Whether all that is asked for is let in, and its sources are open."""
        service = self.core.running
        policy = service.policy.policy
        asked = {rule.category for rule in policy.categories} if policy is not None else {None}
        wanted = {SERVED_BY[c] for c in asked if c is not None}
        is_open = {s.name for s in self._sensors() if s.is_open}
        return asked <= service.verdict.categories and wanted <= is_open

    def _bring_to_an_end(self) -> None:
        """Let all be delivered and erased that is to be, and look at what is left."""
        self._mend()
        self._starts_again(0)
        self._wait(3.0)
        self.truth.check_disk()
        erasures = self.core.running.erasures
        if self.truth.erased:
            for _ in range(8):
                if not erasures.outstanding():
                    break
                self.core.clock.sleep(DAY // 24)
                self._wait(2.0)
                erasures = self.core.running.erasures
            if not erasures.outstanding():
                self.tally.erasures += 1
                self.truth.check_disk()
                self.truth.check_erased()
        self._judge()


def replaced(what: str, *, holds: bool | None) -> SessionSeen:
    """Return the session with one fact changed."""
    return replace(OURS, **{what: Known(holds=holds, by="the test")})
