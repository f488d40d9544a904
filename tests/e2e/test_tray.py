"""The real tray on a real desktop: its menu and windows, clicked by mouse.

At the other end of its channel stands a fake agent, which records what is said.  Pictures of
every menu and window are kept in build/screenshots.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import pytest
from Xlib import X, error
from Xlib.display import Display
from Xlib.ext import xtest

from agent.geometry import Box
from base.errors import ExitCode
from demo import tray_icon
from demo.accessible import Accessibility
from demo.bus import Bus
from demo.desktop import WATCHER, WATCHER_PATH, VirtualDesktop, wait_until
from demo.person import Person
from demo.typist import Load, Typist
from tests.conftest import Size
from tests.fakes.agent import FakeAgent, a_notice, a_status
from tray.patience import QUIET_MS
from tray.view import view
from wire.category import Category
from wire.control import (
    Command,
    ConfirmClock,
    GetNotice,
    Grant,
    Notice,
    NoticeItem,
    OptIn,
    OptOut,
    Pause,
    Quit,
    Reason,
    Refused,
    Resume,
    Status,
    Withdraw,
)
from wire.ids import WallInstant

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "build" / "screenshots"
QUIET: Final = QUIET_MS / 1000
SECOND: Final = 1_000_000_000

CONSENT: Final = "Assent: what may be recorded"
RESUME: Final = "Assent: your pause is over"
EARLY: Final = "Assent: your pause still runs"
OPT_IN: Final = "Assent: opt in again"
WITHDRAW: Final = "Assent: withdraw consent"
WITHDRAWN: Final = "Assent: consent withdrawn"
NOT_DONE: Final = "Assent: not done"
CLOCK: Final = "Assent: is the clock right?"
NOW: Final = "Assent: what is happening now"

KEYS_AND_SCREEN: Final = (Category.KEYS, Category.SCREEN)


class Seat:
    """One tray on the desktop, the agent that it talks to, and who sits there."""

    def __init__(
        self,
        desktop: VirtualDesktop,
        status: Status,
        *,
        asked: bool,
        mute: Sequence[type[Command]] = (),
    ) -> None:
        self.desktop = desktop
        self.person = Person(desktop.env)
        self.agent = FakeAgent()
        self.agent.status = status
        self.agent.mute.update(mute)
        self._log = desktop.folder / "logs" / "tray.log"
        home = desktop.folder / "tray-home"
        note = home / "state" / "asked-programmes"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.parent.chmod(0o700)
        note.unlink(missing_ok=True)
        if asked:
            note.write_text(status.programme)
        self.process = self._start(home)

    def _start(self, home: Path) -> "subprocess.Popen[bytes]":
        theirs = self.agent.theirs
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tray", "--channel", str(theirs.fileno())],
                env=self.desktop.env | {"PYTHONPATH": str(ROOT), "ASSENT_HOME": str(home)},
                pass_fds=(theirs.fileno(),),
                stdout=log,
                stderr=log,
            )
        theirs.close()
        return process

    def next(self) -> Command:
        """Return the next command that is not a question for the notice."""
        command = self.agent.next()
        return self.agent.next() if isinstance(command, GetNotice) else command

    def place(self, title: str, label: str) -> tuple[int, int]:
        """Return the middle of what is called *label* in the window *title*."""
        with Accessibility(self.desktop.env) as seen:
            thing = seen.find(title, label)
            assert thing is not None
            box = seen.extents(thing)
        return box.x + box.width // 2, box.y + box.height // 2

    def picture(self, name: str) -> None:
        """Keep what the screen shows, once Gtk has faded in what takes clicks now."""
        time.sleep(0.4)
        self.desktop.screenshot(PICTURES / f"tray-{name}.png")

    def log(self) -> str:
        """Return what the tray said on its standard error."""
        return self._log.read_text("utf-8")

    def leave(self) -> None:
        """End the channel: the tray must end by itself, without a complaint."""
        self.agent.close()
        try:
            code = self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
        assert self.agent.garbled == ""
        assert "Traceback" not in self.log()
        assert code in {ExitCode.DONE, -signal.SIGTERM, -signal.SIGINT}, self.log()


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDesktop]:
    """One desktop for all tests of this file."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with VirtualDesktop(tmp_path_factory.mktemp("desktop"), geometry="1280x800") as started:
        yield started


@pytest.fixture
def seat(desktop: VirtualDesktop, request: pytest.FixtureRequest) -> Iterator[Seat]:
    """A tray that has shown its icon; its first status is the test's parameter."""
    status: Status = getattr(request, "param", None) or a_status(
        Reason.ACTIVE, recording=KEYS_AND_SCREEN, granted=KEYS_AND_SCREEN
    )
    started = Seat(desktop, status, asked=True)
    try:
        started.person.wait_for_tray()
        wait_until("the first state", lambda: started.agent.looks)
        yield started
    finally:
        started.leave()


@pytest.fixture
def newcomer(desktop: VirtualDesktop) -> Iterator[Seat]:
    """A tray of somebody who was never asked."""
    started = Seat(desktop, a_status(Reason.NOT_CONSENTED), asked=False)
    try:
        started.person.wait_for_tray()
        yield started
    finally:
        started.leave()


def paused(seconds: int) -> Status:
    """Return the status of a pause that has *seconds* left."""
    return a_status(
        Reason.PAUSED_UNTIL, granted=KEYS_AND_SCREEN, paused_until=time.time_ns() + seconds * SECOND
    )


def pause_over() -> Status:
    """Return the status of a pause that has run out."""
    return a_status(Reason.RESUME_PENDING, granted=KEYS_AND_SCREEN)


def state_line(seat: Seat) -> str:
    """Return the first line of the menu."""
    return seat.person.tray_menu()[0].label


# --- icon -------------------------------------------------------------------------------


def test_the_icon_is_registered_as_active_by_the_trays_own_process(seat: Seat) -> None:
    """What the agent verifies: an item of this process id, not passive."""
    with Bus(seat.desktop.env["DBUS_SESSION_BUS_ADDRESS"]) as bus:
        (item,) = bus.get(WATCHER, WATCHER_PATH, WATCHER, "RegisteredStatusNotifierItems")
        program, _slash, path = item.partition("/")
        (pid,) = bus.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "GetConnectionUnixProcessID",
            interface="org.freedesktop.DBus",
            signature="s",
            body=[program],
        )
        status = bus.get(program, "/" + path, "org.kde.StatusNotifierItem", "Status")
    assert (pid, status) == (seat.process.pid, "Active")


def test_a_heartbeat_comes_each_second(seat: Seat) -> None:
    """Three that do not come close capture, so none may be late by much."""
    wait_until("five heartbeats", lambda: len(seat.agent.beats) >= 5)
    beats = seat.agent.beats
    assert all(later - earlier < 2 for earlier, later in pairwise(beats))


def test_heartbeats_say_whether_a_window_is_open(newcomer: Seat) -> None:
    """So that nothing takes one away while somebody decides in it."""
    newcomer.person.wait_for_window(CONSENT)
    wait_until("a beat with the window", lambda: newcomer.agent.window_open)
    newcomer.person.close_window(CONSENT)
    wait_until("a beat without it", lambda: not newcomer.agent.window_open)


def test_the_icon_and_its_title_follow_the_state(seat: Seat) -> None:
    """Each change that the agent pushes is shown without a look at the menu."""
    left = paused(1781)  # its title is looked for within 41 seconds
    for status, name, title in (
        (seat.agent.status, "recording", "Assent: Recording: Keyboard, Screen"),
        (left, "paused", "Assent: Paused, 29:"),
        (
            a_status(Reason.OUTSIDE_SCOPE, granted=KEYS_AND_SCREEN),
            "waiting",
            "Assent: Not recording now: the program in front is not on the list",
        ),
        (
            a_status(Reason.OPTED_OUT, opted_out=tuple(Category)),
            "shut",
            "Assent: Not recording: you have opted out",
        ),
        (
            a_status(Reason.STORAGE_BLOCKED, granted=KEYS_AND_SCREEN),
            "attention",
            "Assent: Not recording: it could not be kept safely just now",
        ),
    ):
        seat.agent.push(status)
        wait_until(title, partial(_is_titled, seat, title))
        seat.person.click_tray("Withdraw consent…", screenshot=PICTURES / f"tray-menu-{name}.png")
        seat.person.click(WITHDRAW, "Cancel")
        seat.person.wait_until_gone(WITHDRAW)


def _is_titled(seat: Seat, title: str) -> bool:
    return seat.person.tray_title().startswith(title)


def test_the_state_is_read_by_resting_the_pointer_on_the_icon(seat: Seat) -> None:
    """The panel shows the tooltip; the person still finds the icon under it."""
    env = seat.desktop.env
    icon = tray_icon.icon_box(env)
    with closing(Display(env["DISPLAY"])) as display:
        for y in (icon.y - 50, icon.y + 9, icon.y + 10):  # comes, and rests
            xtest.fake_input(display, X.MotionNotify, x=icon.x + icon.width // 2, y=y)
            display.sync()
        wait_until("the tooltip", partial(_floats, display))
        assert tray_icon.icon_box(env) == icon
    seat.picture("tooltip")


def _floats(display: Display) -> bool:
    """Whether the panel shows something that floats: a tooltip, when no menu is open."""
    for window in display.screen().root.query_tree().children:
        with contextlib.suppress(error.BadWindow):
            named, attributes = window.get_wm_class(), window.get_attributes()
            ours = named is not None and named[1] == tray_icon.PLUGIN_CLASS
            if ours and attributes.override_redirect and attributes.map_state == X.IsViewable:
                return True
    return False


def test_the_icon_comes_back_with_the_panel(seat: Seat) -> None:
    """A panel that ends takes the icon away; a new one gets it again by itself."""
    seat.desktop.kill_panel()
    seat.desktop.run("panel", ["xfce4-panel", "--disable-wm-check", "--sm-client-disable"])
    seat.person.wait_for_tray(20)
    assert state_line(seat) == "Recording: Keyboard, Screen"


# --- menu -------------------------------------------------------------------------------


def test_opening_the_menu_asks_for_the_true_state(seat: Seat) -> None:
    """What changed without a push is right when the menu is looked at."""
    looks = seat.agent.looks
    seat.agent.status = a_status(Reason.OPTED_OUT, opted_out=tuple(Category))
    seat.person.tray_menu()
    wait_until("another look", lambda: seat.agent.looks > looks)
    wait_until("the new state", lambda: state_line(seat) == "Not recording: you have opted out")


def test_the_state_line_opens_a_window_that_says_more(seat: Seat) -> None:
    """How it stands with each category, and where it goes."""
    seat.person.click_tray("Recording: Keyboard, Screen")
    seat.person.wait_for_window(NOW)
    wait_until("the button", lambda: seat.person.can_click(NOW, "Close"))
    seat.picture("now")
    said = "\n".join(seat.person.texts(NOW))
    assert "Keyboard: is recorded now" in said
    assert "Sent to: https://collector.example:8443" in said
    seat.person.click(NOW, "Close")
    seat.person.wait_until_gone(NOW)


def test_pause_is_one_click(seat: Seat) -> None:
    """And the menu then counts down and offers another pause."""
    seat.person.click_tray("Pause for 30 minutes")
    assert seat.next() == Pause()
    wait_until("the countdown", lambda: state_line(seat).startswith("Paused, 29:"))
    seat.person.click_tray("Pause for another 30 minutes")
    assert seat.next() == Pause()


@pytest.mark.soak
@pytest.mark.slow
def test_no_click_on_pause_is_lost(
    seat: Seat, size: Size, figure: Callable[[str], None], tmp_path: Path
) -> None:
    """Each of many is one pause, on a busy machine, and while somebody types without a rest."""
    recording, clicks = seat.agent.status, size(share=15, full=1000)
    with Typist(seat.desktop.env, tmp_path / "record") as typist, busy_machine():
        seat.person = Person(seat.desktop.env, typist.leave_the_mouse)
        typist.start(Load(keys=100, moves=50, clicks=1, text="abc"))
        for _ in range(clicks):
            seat.person.click_tray("Pause for 30 minutes")
            assert seat.next() == Pause()
            seat.agent.push(recording)
            wait_until("the state", lambda: state_line(seat) == "Recording: Keyboard, Screen")
    seat.agent.expect_none(0.3)
    figure(f"{clicks} clicks, 0 lost")


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Keep each processor busy with something else."""
    command = [sys.executable, "-c", "while True: pass"]
    bound = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    loops = [subprocess.Popen(bound) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_a_click_on_pause_counts_whatever_happened_while_the_menu_was_open(seat: Seat) -> None:
    """The menu that the panel shows stays the one that takes clicks, in its place."""
    menu, place = open_menu(seat, "Pause for 30 minutes")
    for reason in (each for each in Reason if each is not Reason.PAUSED_UNTIL):
        seat.agent.push(a_status(reason, granted=KEYS_AND_SCREEN))
        wait_until(reason, partial(_says, seat, _STATES[reason]))
        assert menu in tray_icon.popups(seat.desktop.env), reason
    seat.person.click_at(*place)
    assert seat.next() == Pause()


_STATES: Final = {reason: view(a_status(reason), WallInstant(0)).state for reason in Reason}


def _says(seat: Seat, state: str) -> bool:
    return seat.person.tray_title() == f"Assent: {state}"


def open_menu(seat: Seat, label: str) -> tuple[tuple[int, Box], tuple[int, int]]:
    """Open the menu; return it, and the middle of its line *label*."""
    env, rows = seat.desktop.env, seat.person.tray_menu()
    before = tray_icon.popups(env)
    icon = tray_icon.icon_box(env)
    seat.person.click_at(icon.x + icon.width // 2, icon.y + icon.height // 2)
    (menu,) = wait_until("the menu", lambda: tray_icon.popups(env) - before)
    (row,) = [each for each in rows if each.label == label]
    place = wait_until(label, lambda: tray_icon.row_place(env, menu[1], rows, row))
    return menu, (place.x + place.width // 2, place.y + place.height // 2)


def test_pause_and_forget_is_one_click(seat: Seat) -> None:
    """The last five minutes go with it."""
    seat.person.click_tray("Pause and forget the last 5 minutes")
    assert seat.next() == Pause(forget_minutes=5)


@pytest.mark.parametrize("seat", [paused(1800)], indirect=True, ids=["paused"])
def test_the_countdown_runs_in_an_open_menu(seat: Seat) -> None:
    """The line changes in place; the menu stays open under the pointer."""
    menu, _place = open_menu(seat, "Pause for another 30 minutes")
    seen: set[str] = set()

    def three_lines() -> bool:
        seen.add(state_line(seat))
        assert menu in tray_icon.popups(seat.desktop.env)
        return len(seen) >= 3

    wait_until("three different countdowns", three_lines)
    assert all(line.startswith("Paused, ") for line in seen)
    seat.person.press("Escape")


def test_a_flag_is_raised_by_one_click_and_cleared_in_the_opt_in_window(seat: Seat) -> None:
    """Opting out is said at once; opting in takes the click in the window."""
    seat.person.click_tray("Never record: Pointer")
    assert seat.next() == OptOut(category=Category.POINTER)

    def flag() -> bool:
        rows = {row.label: row for row in seat.person.tray_menu()}
        return rows["Never record: Pointer"].checked

    wait_until("the flag", flag)
    seat.person.click_tray("Never record: Pointer", screenshot=PICTURES / "tray-menu-opted-out.png")
    seat.person.wait_for_window(OPT_IN)
    assert flag()  # the click alone changed nothing
    wait_until("the button", lambda: seat.person.can_click(OPT_IN, "Opt in again"))
    seat.picture("opt-in")
    seat.person.click(OPT_IN, "Stay opted out")
    seat.person.wait_until_gone(OPT_IN)
    seat.agent.expect_none(0.3)
    seat.person.click_tray("Never record: Pointer")
    seat.person.click(OPT_IN, "Opt in again")
    assert seat.next() == OptIn(category=Category.POINTER)
    seat.person.wait_until_gone(OPT_IN)
    wait_until("the flag's end", lambda: not flag())


def test_quit_says_so_waits_for_the_answer_and_ends(seat: Seat) -> None:
    """Exit code 0: the agent knows, and does not start it again."""
    seat.person.click_tray("Quit (stops recording)")
    assert seat.next() == Quit()
    assert seat.process.wait(10) == ExitCode.DONE


def test_quit_ends_even_when_the_agent_does_not_answer(seat: Seat) -> None:
    """Ending closes the channel, and that closes capture."""
    seat.agent.mute.add(Quit)
    seat.person.click_tray("Quit (stops recording)")
    assert seat.process.wait(10) == ExitCode.DONE


# --- consent ----------------------------------------------------------------------------


def test_the_consent_window_opens_once_with_all_switches_off(newcomer: Seat) -> None:
    """By itself at the first start, without taking the keyboard, and nothing is agreed to."""
    person = newcomer.person
    person.wait_for_window(CONSENT)
    wait_until("the button", lambda: person.can_click(CONSENT, "Not now"))
    newcomer.picture("consent")
    for item in a_notice().items:
        assert not person.is_on(CONSENT, item.title)
    assert not person.can_click(CONSENT, "Agree to the selected")
    focused = subprocess.run(
        ["xdotool", "getwindowfocus", "getwindowname"],
        env=newcomer.desktop.env,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert CONSENT not in focused
    person.click(CONSENT, "Not now")
    person.wait_until_gone(CONSENT)
    newcomer.agent.push(a_status(Reason.NOT_CONSENTED, detail="still"))
    assert newcomer.agent.next() == GetNotice()
    newcomer.agent.expect_none(0.5)
    assert person.find_window(CONSENT) is None


def test_the_notice_is_asked_for_once_however_often_the_state_comes(
    desktop: VirtualDesktop,
) -> None:
    """An agent that is slow to answer is not asked again, and no second window opens."""
    slow = Seat(desktop, a_status(Reason.NOT_CONSENTED), asked=False, mute=[GetNotice])
    try:
        assert slow.agent.next() == GetNotice()
        slow.agent.push(a_status(Reason.NOT_CONSENTED, detail="one more"))
        slow.agent.push(a_status(Reason.NOT_CONSENTED, detail="and another"))
        slow.person.wait_for_tray()
        slow.person.click_tray("Pause for 30 minutes")
        assert slow.agent.next() == Pause(), "no second question came before it"
    finally:
        slow.leave()


def test_agreeing_says_one_grant_a_switch_with_the_hash_of_the_words(newcomer: Seat) -> None:
    """Only what was switched on, each by itself, bound to the words that were shown."""
    person = newcomer.person
    for title in ("Keyboard", "Screen", "Pointer", "Pointer"):  # Pointer: on, and off again
        person.click(CONSENT, title)
    wait_until("the switches", lambda: person.is_on(CONSENT, "Screen"))
    newcomer.picture("consent-chosen")
    said = "\n".join(person.texts(CONSENT))
    person.click(CONSENT, "Agree to the selected")
    for item in _items(Category.KEYS, Category.SCREEN):
        assert item.words in said
        digest = hashlib.sha256(item.words.encode()).digest()
        assert newcomer.next() == Grant(category=item.category, words_sha256=digest)
    newcomer.agent.expect_none(0.3)
    person.wait_until_gone(CONSENT)


def _items(*categories: Category) -> list[NoticeItem]:
    return [item for item in a_notice().items if item.category in categories]


def test_closing_the_consent_window_means_no(newcomer: Seat) -> None:
    """Whatever was switched on before."""
    newcomer.person.click(CONSENT, "Keyboard")
    newcomer.person.close_window(CONSENT)
    newcomer.person.wait_until_gone(CONSENT)
    assert newcomer.agent.next() == GetNotice()
    newcomer.agent.expect_none(0.5)


def test_what_was_granted_shows_as_on_and_is_not_granted_again(seat: Seat) -> None:
    """More can be agreed to later; the earlier grants stay what they were."""
    seat.agent.notice = a_notice(granted=KEYS_AND_SCREEN)
    seat.person.click_tray("What may be recorded…")
    seat.person.wait_for_window(CONSENT)
    wait_until("the button", lambda: seat.person.can_click(CONSENT, "Not now"))
    seat.picture("consent-granted")
    assert seat.person.is_on(CONSENT, "Keyboard")
    assert not seat.person.can_click(CONSENT, "Keyboard")
    seat.person.click(CONSENT, "Pointer")
    seat.person.click(CONSENT, "Agree to the selected")
    (pointer,) = _items(Category.POINTER)
    digest = hashlib.sha256(pointer.words.encode()).digest()
    assert seat.next() == Grant(category=Category.POINTER, words_sha256=digest)
    seat.agent.expect_none(0.3)


def test_an_open_consent_window_follows_another_policy(newcomer: Seat) -> None:
    """What was switched on under the old words is off, and the new ones can be agreed to."""
    person, agent = newcomer.person, newcomer.agent
    person.click(CONSENT, "Keyboard")
    wait_until("the switch", lambda: person.is_on(CONSENT, "Keyboard"))
    agent.notice = another = another_notice()
    agent.push(a_status(Reason.NOT_CONSENTED, policy_digest="cd" * 32))
    wait_until("the new words", lambda: another.heading in person.texts(CONSENT))
    newcomer.picture("consent-renewed")
    assert not person.is_on(CONSENT, "Keyboard")
    person.click(CONSENT, "Screen")
    person.click(CONSENT, "Agree to the selected")
    assert agent.next() == GetNotice()
    (words,) = (item.words for item in another.items if item.category is Category.SCREEN)
    digest = hashlib.sha256(words.encode()).digest()
    assert newcomer.next() == Grant(category=Category.SCREEN, words_sha256=digest)
    agent.expect_none(0.3)
    person.wait_until_gone(CONSENT)


def test_an_open_consent_window_keeps_what_was_chosen_while_nothing_changes(newcomer: Seat) -> None:
    """Neither another state nor a click in the menu takes a choice away."""
    person = newcomer.person
    person.click(CONSENT, "Keyboard")
    wait_until("the switch", lambda: person.is_on(CONSENT, "Keyboard"))
    newcomer.agent.push(a_status(Reason.NOT_CONSENTED, detail="still"))
    assert newcomer.agent.next() == GetNotice()
    newcomer.agent.expect_none(0.5)
    person.click_tray("What may be recorded…")
    assert newcomer.agent.next() == GetNotice()
    newcomer.agent.expect_none(0.5)
    assert person.is_on(CONSENT, "Keyboard")


def test_an_open_consent_window_closes_when_there_is_nothing_to_agree_to(newcomer: Seat) -> None:
    """Its policy has ended: a window that asks for what nobody asks any more is none."""
    newcomer.person.wait_for_window(CONSENT)
    newcomer.agent.notice = Refused(why="there is no policy in force")
    newcomer.agent.push(a_status(Reason.POLICY_INVALID, policy_digest=""))
    newcomer.person.wait_until_gone(CONSENT)
    assert newcomer.person.find_window(NOT_DONE) is None


def another_notice() -> Notice:
    old = a_notice()
    return msgspec.structs.replace(
        old,
        policy_digest="cd" * 32,
        heading="May we record more programs?",
        items=tuple(
            msgspec.structs.replace(item, words=f"{item.words} In more programs than before.")
            for item in old.items
        ),
    )


def test_a_refused_grant_is_said(newcomer: Seat) -> None:
    """The window ends, and another one says why."""
    newcomer.agent.refuse[Grant] = "The policy has changed meanwhile; look at the new words."
    newcomer.person.click(CONSENT, "Keyboard")
    newcomer.person.click(CONSENT, "Agree to the selected")
    newcomer.person.wait_for_window(NOT_DONE)
    wait_until("the button", lambda: newcomer.person.can_click(NOT_DONE, "Close"))
    newcomer.picture("not-done")
    assert newcomer.agent.refuse[Grant] in newcomer.person.texts(NOT_DONE)
    newcomer.person.click(NOT_DONE, "Close")
    newcomer.person.wait_until_gone(NOT_DONE)


# --- accidents --------------------------------------------------------------------------


def test_typing_elsewhere_never_resumes(seat: Seat) -> None:
    """Enter, Space and Tab in a burst, over the window's appearance and into its focus."""
    keys = ("Tab", "Return", "Tab", "space", "Return", "Tab", "Tab", "space")
    seat.agent.push(pause_over())
    seat.person.press(*keys * 4)  # one burst: a pause in it would end the quiet
    seat.person.activate(RESUME)  # as a window manager does that gives it the focus at once
    seat.person.press(*keys * 4)
    seat.agent.expect_none(0.5)
    assert seat.person.find_window(RESUME) is not None


def test_a_click_on_its_way_elsewhere_never_resumes(seat: Seat) -> None:
    """What is clicked within the quiet counts for nothing; later it does."""
    seat.agent.push(pause_over())
    seat.person.wait_for_window(RESUME)
    wait_until("the button", lambda: seat.person.can_click(RESUME, "Resume now"))
    button = seat.place(RESUME, "Resume now")
    seat.person.close_window(RESUME)
    seat.person.wait_until_gone(RESUME)
    for _ in range(20):
        if clicked_within_the_quiet(seat, button):
            break
        seat.agent.push(a_status(Reason.NOT_CONSENTED))  # the machine was too slow: again
        seat.person.wait_until_gone(RESUME)
        seat.agent.drain()
    else:
        pytest.fail("no click came within the quiet, twenty times")
    seat.agent.expect_none(QUIET + 0.3)
    seat.person.click_at(*button)
    assert seat.next() == Resume()


def clicked_within_the_quiet(seat: Seat, button: tuple[int, int]) -> bool:
    """Click where the window has just appeared; True if that was certainly soon enough."""
    seat.agent.push(paused(60))
    before = time.monotonic()  # it appears later than this
    seat.agent.push(pause_over())
    seat.person.wait_for_window(RESUME)
    seat.person.click_at(*button)
    return time.monotonic() - before < QUIET


def test_the_keyboard_alone_is_enough(seat: Seat) -> None:
    """After the quiet Enter is the harmless button, and Tab leads to the other one."""
    seat.agent.push(pause_over())
    seat.person.activate(RESUME)
    time.sleep(QUIET + 0.2)
    seat.person.press("Return")
    assert seat.next() == Pause()
    seat.person.wait_until_gone(RESUME)
    seat.agent.push(pause_over())
    seat.person.activate(RESUME)
    time.sleep(QUIET + 0.2)
    seat.person.press("Tab", "space")
    assert seat.next() == Resume()


# --- resume -----------------------------------------------------------------------------


def test_when_a_pause_is_over_the_window_appears_and_nothing_resumes_by_itself(
    seat: Seat,
) -> None:
    """It waits as long as it takes; closing it changes nothing."""
    seat.agent.push(paused(1))
    seat.agent.push(pause_over())
    seat.person.wait_for_window(RESUME)
    wait_until("the button", lambda: seat.person.can_click(RESUME, "Resume now"))
    seat.picture("resume")
    seat.agent.expect_none(1)
    seat.person.close_window(RESUME)
    seat.person.wait_until_gone(RESUME)
    seat.agent.expect_none(0.3)
    assert state_line(seat) == "Pause is over: waiting for you to resume"
    seat.person.click_tray("Resume…", screenshot=PICTURES / "tray-menu-resume-pending.png")
    seat.person.click(RESUME, "Resume now")
    assert seat.next() == Resume()
    seat.person.wait_until_gone(RESUME)


def test_pausing_again_is_as_near_as_resuming(seat: Seat) -> None:
    """A new window of 30 minutes, from the same window."""
    seat.agent.push(pause_over())
    seat.person.click(RESUME, "Pause again")
    assert seat.next() == Pause()
    seat.person.wait_until_gone(RESUME)


@pytest.mark.parametrize("seat", [paused(1781)], indirect=True, ids=["paused"])
def test_resume_in_the_menu_only_opens_the_window(seat: Seat) -> None:
    """While the pause still runs its title says so; the click in the window resumes."""
    seat.person.click_tray("Resume…")
    seat.person.wait_for_window(EARLY)
    wait_until("the button", lambda: seat.person.can_click(EARLY, "Resume now"))
    seat.picture("resume-early")
    seat.agent.expect_none(0.3)
    seat.person.click(EARLY, "Resume now")
    assert seat.next() == Resume()


def test_the_resume_window_goes_when_there_is_nothing_to_resume(seat: Seat) -> None:
    """A window that offers what is no longer so would be wrong."""
    seat.agent.push(pause_over())
    seat.person.wait_for_window(RESUME)
    seat.agent.push(a_status(Reason.NOT_CONSENTED))
    seat.person.wait_until_gone(RESUME)


# --- withdrawal and clock ---------------------------------------------------------------


def test_withdrawing_asks_which_and_whether_to_erase(seat: Seat) -> None:
    """What was granted is chosen beforehand; erasing is not."""
    seat.person.click_tray("Withdraw consent…")
    seat.person.wait_for_window(WITHDRAW)
    wait_until("the button", lambda: seat.person.can_click(WITHDRAW, "Withdraw"))
    seat.picture("withdraw")
    assert seat.person.is_on(WITHDRAW, "Keyboard")
    assert not seat.person.is_on(WITHDRAW, "Also erase what was already sent")
    seat.person.click(WITHDRAW, "Screen")
    seat.person.click(WITHDRAW, "Also erase what was already sent")
    seat.person.click(WITHDRAW, "Withdraw")
    assert seat.next() == Withdraw(category=Category.KEYS, erase=True)
    seat.person.wait_until_gone(WITHDRAW)
    seat.person.wait_for_window(WITHDRAWN)
    wait_until("the button", lambda: seat.person.can_click(WITHDRAWN, "Close"))
    seat.picture("withdrawn")
    seat.person.click(WITHDRAWN, "Close")


def test_withdrawing_everything_is_one_command(seat: Seat) -> None:
    """It holds whole or not at all."""
    seat.agent.push(a_status(Reason.ACTIVE, recording=tuple(Category), granted=tuple(Category)))
    wait_until("the state", lambda: state_line(seat).endswith("Active window"))
    seat.person.click_tray("Withdraw consent…")
    seat.person.click(WITHDRAW, "Withdraw")
    assert seat.next() == Withdraw(category=None, erase=False)


@pytest.mark.parametrize(
    "seat", [a_status(Reason.CLOCK_UNTRUSTED)], indirect=True, ids=["clock-untrusted"]
)
def test_the_clock_is_confirmed_in_a_window(seat: Seat) -> None:
    """And only there."""
    seat.person.click_tray("The clock is right again…")
    seat.person.wait_for_window(CLOCK)
    wait_until("the button", lambda: seat.person.can_click(CLOCK, "The clock is right"))
    seat.picture("clock")
    seat.agent.expect_none(0.2)
    seat.person.click(CLOCK, "The clock is right")
    assert seat.next() == ConfirmClock()


# --- the process ------------------------------------------------------------------------


def test_the_end_of_the_agent_is_the_end_of_the_tray(seat: Seat) -> None:
    """An icon without an agent would claim what nobody knows."""
    seat.agent.close()
    assert seat.process.wait(5) == ExitCode.DONE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_at_once(seat: Seat, number: signal.Signals) -> None:
    """Neither Gtk nor pystray keeps them."""
    os.kill(seat.process.pid, number)
    assert seat.process.wait(5) == -number


def test_it_writes_no_core(seat: Seat) -> None:
    """The limit is zero, and so is what other processes of the same person may read of it."""
    limits = Path(f"/proc/{seat.process.pid}/limits").read_text("ascii")
    (line,) = [each for each in limits.splitlines() if each.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
