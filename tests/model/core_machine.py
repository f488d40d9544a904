"""A data subject, a workstation and an organisation that do anything at any time: the rules.

Each rule is one thing that happens to the running agent (`core_station`) and is noted in the
books (`core_truth`), which judge after each.  Between any two the person types, points and looks
at something, whatever is open or not.  Whenever the agent dies it is started again.
"""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.fakes.syscalls import Fault
from tests.model.core_moves import Moves, named, replaced
from tests.model.core_truth import (
    DAY,
    EVERYTHING,
    LATE,
    SECOND,
)
from wire.category import Category
from wire.control import (
    AwaitClick,
    Done,
    Forget,
    OptOut,
    Pause,
    Quit,
    Withdraw,
)

MS: Final = 1_000_000
DOUBTED: Final = 11 * SECOND // 2  # half a second more than the clocks may differ by
MOST_SECONDS_TO_RIGHT: Final = 60
SIGNED_FOR: Final = 60 * DAY  # well before a policy's metadata ends
MOST_IDLE: Final = 4  # steps without any recording; then the person puts things right
ZONES: Final = [
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"),
    *("Australia/Lord_Howe", "Pacific/Kiritimati"),  # where the policy's hours are over, at first
]
SPANS: Final = [1, 40, 600, 31 * 60, 5 * 3600, 2 * 86_400, 32 * 86_400]  # seconds of a suspend
SKEWS: Final = [0, 0, 0, -7_200, -60, 60, 1_800]
STEPS: Final = [-86_400, -3_600, -60, -6, -3, 3, 6, 60, 1_800, 86_400]  # seconds of a clock

some: Final = st.sampled_from(list(Category))
some_or_all: Final = st.one_of(st.none(), some)


class CoreMachine(Moves):
    """The rules; which of them and in which order is chance's."""

    # --- the data subject's acts ----------------------------------------------------------

    @initialize(agrees=st.integers(0, 3))
    def sits_down(self, agrees: int) -> None:
        """Three of four agree to all and open a listed program."""
        if agrees:
            for category in Category:
                self._grant(category)
            self._focus(inside=True, delay=0.0)
            self._wait(0.6)
        self._done()

    @rule(ticks=st.integers(1, 6), gap=st.sampled_from([0.02, 0.1, 0.3, 0.6]))
    def works(self, ticks: int, gap: float) -> None:
        for _ in range(ticks):
            self._act()
            self._wait(gap)
        self._done()

    @rule(minutes=st.sampled_from([0, 0, 1, 10]), lag=st.sampled_from([0.0, 0.02, 0.2, 0.3]))
    def pauses(self, minutes: int, lag: float) -> None:
        """Some sensors take their time to close, and say meanwhile what they still see."""
        for sensor in self._sensors():
            sensor.lag = lag
        self._restrict(Pause(forget_minutes=minutes), EVERYTHING)
        for sensor in self._sensors():
            sensor.lag = 0.0
        self._done()

    @rule()
    def resumes(self) -> None:
        self._resume()
        self._done()

    @rule(category=some_or_all)
    def opts_out(self, category: Category | None) -> None:
        self._restrict(OptOut(category=category), named(category))
        self._done()

    @rule(category=some_or_all)
    def opts_in(self, category: Category | None) -> None:
        self._opt_in(category)
        self._done()

    @rule(category=some)
    def grants(self, category: Category) -> None:
        self._grant(category)
        self._done()

    @rule(category=some_or_all, erase=st.booleans())
    def withdraws(self, category: Category | None, *, erase: bool) -> None:
        self._restrict(Withdraw(category=category, erase=erase), named(category))
        self._done()

    @rule(minutes=st.sampled_from([1, 10]))
    def forgets(self, minutes: int) -> None:
        since = self.core.clock.true - minutes * 60 * SECOND
        asked = self.core.clock.true
        if isinstance(self._say(Forget(minutes=minutes)), Done):
            self._check_forgotten(since, asked)
        self._done()

    @rule(seconds=st.sampled_from([5, 40, 75]), present=st.booleans())
    def watches_the_notice(self, seconds: int, *, present: bool) -> None:
        """What ends a pause that ran out without a click: its notice, for sixty seconds."""
        self._watch(seconds, present=present)
        self._done()

    @rule(
        minutes=st.sampled_from([20, 31]),
        how=st.sampled_from(["awake", "asleep", "off", "set"]),
        present=st.booleans(),
    )
    def a_pause_runs_its_course(self, minutes: int, how: str, *, present: bool) -> None:
        """However the time goes by, half an hour is half an hour, and its notice has to be seen."""
        if self._put_right():
            self._restrict(Pause(), EVERYTHING)
            self._pass_by(minutes * 60, how)
            self._watch(75, present=present)
        self._done()

    @rule()
    def closes_the_notice(self) -> None:
        self._say(AwaitClick())
        self._done()

    @rule(
        inside=st.booleans(), delay=st.sampled_from([0.0, 0.02, 0.08]), only_glances=st.booleans()
    )
    def turns_to_another_window(self, *, inside: bool, delay: float, only_glances: bool) -> None:
        """Some are back before what they did there has left the hold-back."""
        self._focus(inside=inside, delay=delay)
        if only_glances:
            self._wait(0.12)
            self._act()
            self._wait(0.13)
            self._focus(inside=not inside, delay=delay)
        self._done()

    @rule(recognised=st.sampled_from([0, 20, 50]), delay=st.sampled_from([0.0, 0.05, 0.3]))
    def enters_a_secret(self, recognised: int, delay: float) -> None:
        """A field for secrets has the keys, and is recognised a little later."""
        self.truth.secret.append((self.core.clock.true, True))
        self._act()
        self._wait(recognised / 1000)
        self._tell(delay, secret=True)
        self._act()
        self._wait(0.4)
        self._act()
        self._wait(0.1)
        self.truth.secret.append((self.core.clock.true, False))
        self._tell(0.0, secret=False)
        self._done()

    # --- the sensors ----------------------------------------------------------------------

    @rule(category=some, ago=st.sampled_from([0, 30, 200, 450, 900, 5_000]))
    def a_sensor_says_late_what_it_saw(self, category: Category, ago: int) -> None:
        self._emit(category, ago=ago * MS)
        self._done()

    @rule(category=some, earlier=st.integers(1, 3))
    def a_sensor_speaks_for_an_earlier_opening(self, category: Category, earlier: int) -> None:
        self._emit(category, earlier=earlier)
        self._done()

    @rule(name=st.sampled_from(["input", "screen", "context"]))
    def a_sensor_dies(self, name: str) -> None:
        if (sensor := self._sensor(name)) is not None:
            self._call(sensor.kill)
        self._done()

    @rule(name=st.sampled_from(["input", "screen", "context"]))
    def a_sensor_hangs(self, name: str) -> None:
        if (sensor := self._sensor(name)) is not None:
            sensor.hangs = True
        self._done()

    # --- the session ----------------------------------------------------------------------

    @rule(what=st.sampled_from(["unlocked", "awake", "in_front", "local"]), known=st.booleans())
    def the_session_is_not_ours(self, what: str, *, known: bool) -> None:
        seen = replaced(what, holds=False if known else None)
        self.truth.close("session", EVERYTHING, self.core.clock.true, sure=False)
        self._call(lambda: self.core.station.sessions[-1].host.on_session(seen))
        self._done()

    @rule()
    def the_session_is_ours_again(self) -> None:
        self._session_back()
        self._done()

    @rule()
    def the_tray_dies(self) -> None:
        if (tray := self._tray()) is not None:
            self.truth.close("tray", EVERYTHING, self.core.clock.true, sure=False)
            self._call(tray.kill)
        self._done()

    @rule(back=st.booleans())
    def the_tray_hangs(self, *, back: bool) -> None:
        if (tray := self._tray()) is not None:
            tray.beats = False
            since = self.core.clock.true + 9 * SECOND // 2  # three beats, and a round
            self.truth.close("heartbeat", EVERYTHING, since, sure=False)
            for _ in range(6):
                self._act()
                self._wait(1.0)
            if back:
                self._beats()
        self._done()

    @rule(back=st.booleans())
    def the_icon_is_hidden(self, *, back: bool) -> None:
        if self.core.station.icons:
            self.truth.close("icon", EVERYTHING, self.core.clock.true, sure=False)
            self._call(lambda: self.core.station.icons[-1].say("no panel"))
            self._act()
            self._wait(0.3)
            if back:
                self._icon_back()
        self._done()

    # --- time -----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(SPANS), announced=st.booleans())
    def sleeps(self, seconds: int, *, announced: bool) -> None:
        """Suspend; some desktops do not say so before."""
        if announced:
            seen = replaced("awake", holds=False)
            self.truth.close("session", EVERYTHING, self.core.clock.true, sure=False)
            self._call(lambda: self.core.station.sessions[-1].host.on_session(seen))
            self._act()
        self.core.clock.sleep(self._span(seconds))
        self._act()
        if announced:
            self._session_back()
        self._done()

    @rule(seconds=st.sampled_from(SPANS), skew=st.sampled_from(SKEWS), at_once=st.booleans())
    def the_machine_boots(self, seconds: int, skew: int, *, at_once: bool) -> None:
        """Shut down, or off at once; and on again, perhaps with a battery that lost the time."""
        healthy = self._is_healthy()
        if self.core.lives:
            (self.core.kill if at_once else self.core.quit)()
            self._died()
        self._boot(seconds, skew, sure=healthy and self._is_healthy() and not at_once)
        self._done()

    @rule(seconds=st.sampled_from(STEPS))
    def the_clock_is_set(self, seconds: int) -> None:
        self._set_clock(seconds * SECOND)
        self._done()

    @rule()
    def confirms_the_clock(self) -> None:
        self._confirm_clock()
        self._done()

    @rule(zone=st.sampled_from(ZONES))
    def travels(self, zone: str) -> None:
        self._travel(zone)
        self.truth.places.append((self.core.clock.true, zone, self.core.clock.skew))
        self._done()

    # --- the organisation -----------------------------------------------------------------

    @rule()
    def another_policy_is_published(self) -> None:
        self._publish()
        self._done()

    @rule()
    def the_programme_is_halted(self) -> None:
        self.core.collector.halted = "an incident"
        self._hear()
        if self.core.lives and self.core.collector.reachable and self._is_healthy():
            if not self.truth.is_closed("halt"):
                self.halted_under = self.core.in_force()
            if self.core.running.standing.halted is not None:
                self.truth.close("halt", EVERYTHING, self.core.clock.true)
        self._done()

    @rule()
    def the_collector_stops(self) -> None:
        self.core.collector.stopped = "a drill failed"
        self._hear()
        if self.core.lives and self.core.collector.reachable and self._is_healthy():
            self.truth.close("stop", EVERYTHING, self.core.clock.true)
        self._done()

    @rule()
    def the_collector_goes_on(self) -> None:
        self._goes_on()
        self._hear()
        self._done()

    @rule(reachable=st.booleans())
    def the_network_comes_and_goes(self, *, reachable: bool) -> None:
        self.core.collector.reachable = reachable
        self._done()

    @rule(categories=st.sets(some, min_size=1))
    def the_machine_opts_out(self, categories: set[Category]) -> None:
        healthy = self._is_healthy()
        self.core.station.outside = {"machine": frozenset(categories)}
        if self._wait(LATE / SECOND):
            sure = healthy and self._is_healthy()
            self.truth.close("opt-out", categories, self.core.clock.true, sure=sure)
        self._done()

    @rule()
    def the_machine_opts_out_no_more(self) -> None:
        self.core.station.outside = {}
        self._done()

    # --- faults ---------------------------------------------------------------------------

    @rule(after=st.integers(0, 40), fault=st.sampled_from(list(Fault)))
    def the_disk_is_about_to_break(self, after: int, fault: Fault) -> None:
        self.core.disk.calls.clear()
        self.core.disk.broke = None
        self.core.disk.break_at(after, fault)
        self.armed = True
        self._done()

    @rule(seconds=st.sampled_from([1, 8, 40]))
    def the_disk_is_full(self, seconds: int) -> None:
        self.core.disk._fill(self.core.clock.seconds + seconds)  # noqa: SLF001 - a full disk
        self._done()

    @rule(killed=st.booleans(), off=st.sampled_from([0, 3, 3600]))
    def the_agent_ends(self, *, killed: bool, off: int) -> None:
        """By `kill -9`, or by the data subject's own "Quit"."""
        if killed and self.core.lives:
            self.core.kill()
        elif isinstance(self._say(Quit()), Done):
            self._wait(60.0)
        self._starts_again(off)
        self._done()

    @rule()
    def everything_is_put_right(self) -> None:
        """From anywhere the data subject's clicks lead back to recording."""
        if self._put_right():
            self.tally.righted += 1
        self._done()
