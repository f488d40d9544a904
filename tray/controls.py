"""What a click says to the agent, and what the agent's answer shows: the tray as a whole.

Icon, menu and windows are wired to the channel here.  The state that is shown is always the
agent's last `Status`; it is asked for again whenever the menu is opened and each second
while a pause runs.  The agent answers commands in the order in which they were sent, so an
answer belongs to the oldest command that has none.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from base.clock import Clock
from tray._gtk import GLib, Gtk, monotonic_ms, window_number
from tray.asked import Asked
from tray.channel import Channel
from tray.icon import Indicator
from tray.presence import Presence
from tray.sheet import Sheet
from tray.view import (
    Act,
    Mark,
    Page,
    Say,
    Show,
    account,
    asked_for,
    by_itself,
    pause_left,
    paused,
    state_line,
    view,
)
from tray.windows import (
    ClockSheet,
    ConsentSheet,
    MessageSheet,
    OptInSheet,
    ResumeSheet,
    WithdrawSheet,
)
from wire.category import Category
from wire.control import (
    Answer,
    AwaitClick,
    Command,
    Done,
    GetNotice,
    GetStatus,
    Heartbeat,
    Notice,
    NoticeInSight,
    Quit,
    Reason,
    Refused,
    Silent,
    Status,
)
from wire.ids import WallInstant

_LOG: Final = logging.getLogger(__name__)
BEAT_SECONDS: Final = 1  # the agent closes capture after three that did not come
QUIT_SECONDS: Final = 5  # then the tray ends without an answer, which stops recording too

Reply: TypeAlias = Notice | Silent | Done | Refused
"""What answers a command other than `GetStatus`; a `Status` also comes unasked."""


class Controls:
    """Listens to the agent and to the data subject."""

    def __init__(self, channel: Channel, indicator: Indicator, clock: Clock, asked: Asked) -> None:
        self._channel = channel
        self._indicator = indicator
        self._clock = clock
        self._asked = asked
        self._status: Status | None = None
        self._unanswered: deque[Callable[[Reply], None]] = deque()
        self._awaits_notice = False
        self._sheets: dict[Page, Sheet] = {}
        self._messages: set[Sheet] = set()
        self._presence = Presence(monotonic_ms)
        self._noticed_at: int | None = None  # since when each beat found the notice in sight

    def run(self) -> None:
        """Show the icon and serve until the agent ends or the data subject quits."""
        self._indicator.start(self.on_act, self._look)
        self._channel.listen(self)
        self._look()
        self._beat()
        GLib.timeout_add_seconds(BEAT_SECONDS, self._beat)
        Gtk.main()

    # --- from the agent -----------------------------------------------------------------

    def on_answer(self, answer: Answer) -> None:
        """Show a new state, or go on with what waited for this answer."""
        if isinstance(answer, Status):
            self._on_status(answer)
        elif self._unanswered:
            self._unanswered.popleft()(answer)
        else:
            _LOG.warning("the agent answered what was not asked: %s", type(answer).__name__)

    def on_end(self) -> None:
        """End with the agent: what cannot command must not look as if it could."""
        Gtk.main_quit()

    def _on_status(self, status: Status) -> None:
        before, self._status = self._status, status
        self._show()
        page = by_itself(before, status, asked=self._asked.has(status.programme))
        if page is not None:
            self._open(page, None, unasked=True)
        elif before is not None and asked_for(before) != asked_for(status):
            self._renew_consent()

    # --- from the data subject ----------------------------------------------------------

    def on_act(self, act: Act) -> None:
        """Do what a line of the menu stands for."""
        match act:
            case Say(command=Quit()):
                self._quit()
            case Say(command=command):
                self._say([command], self._report)
            case Show(page=page, category=category):
                self._open(page, category, unasked=False)

    def _quit(self) -> None:
        impatient = GLib.timeout_add_seconds(QUIT_SECONDS, Gtk.main_quit)

        def answered(replies: Sequence[Reply]) -> None:
            if self._report(replies):
                Gtk.main_quit()
            else:
                GLib.source_remove(impatient)

        self._say([Quit()], answered)

    def _look(self) -> None:
        self._channel.say(GetStatus())

    def _say(self, commands: Sequence[Command], then: Callable[[Sequence[Reply]], object]) -> None:
        """Send *commands*; *then* gets their answers once all are there."""
        replies: list[Reply] = []

        def answered(reply: Reply) -> None:
            replies.append(reply)
            if len(replies) == len(commands):
                then(replies)

        for command in commands:
            self._unanswered.append(answered)
            self._channel.say(command)

    # --- what is shown ------------------------------------------------------------------

    def _beat(self) -> bool:
        if self._indicator.drawn:
            self._channel.say(Heartbeat(window_open=bool(self._sheets or self._messages)))
        if self._status is not None and self._status.reason is Reason.PAUSED_UNTIL:
            self._look()
        self._report_notice()
        self._show()
        return True

    def _report_notice(self) -> None:
        """Tell the agent that the notice of a pause that ran out is in sight, while it is."""
        sheet, now_ms = self._sheets.get(Page.RESUME), monotonic_ms()
        in_sight = sheet.in_sight_ms(now_ms) if isinstance(sheet, ResumeSheet) else None
        counts = self._status is not None and self._status.resumes_in is not None
        if sheet is None or in_sight is None or not counts or not self._sees(sheet):
            self._noticed_at = None
            return
        if self._noticed_at is None:
            self._presence.begin()
            self._noticed_at = now_ms
        seen = min(in_sight, now_ms - self._noticed_at)
        self._channel.say(NoticeInSight(for_ms=seen, input_ms=self._presence.input_ms()))

    def _sees(self, sheet: Sheet) -> bool:
        number = window_number(sheet.window.get_window())
        return number is not None and self._presence.is_in_sight(number)

    def _show(self) -> None:
        """Bring icon, menu and the windows that show a state up to now."""
        status, now = self._status, self._now()
        self._indicator.show(view(status, now))
        if status is None:
            return
        resume, clock = self._sheets.get(Page.RESUME), self._sheets.get(Page.CLOCK)
        if isinstance(resume, ResumeSheet):
            if paused(status):
                resume.refresh(status, pause_left(status, now))
            else:
                resume.close()
        if isinstance(clock, ClockSheet):
            if status.reason is Reason.CLOCK_UNTRUSTED:
                clock.refresh(_moment(now))
            else:
                clock.close()

    def _open(self, page: Page, category: Category | None, *, unasked: bool) -> None:
        """Open the window for *page*, or bring it to the front where it is open."""
        if page is Page.CONSENT:  # the words come from the agent first
            if not (self._awaits_notice and unasked):  # another status came; once is enough
                self._ask_for_notice(unasked=unasked)
        elif page in self._sheets and page not in {Page.OPT_IN, Page.NOW, Page.WITHDRAW}:
            self._sheets[page].appear(by_itself=unasked)
        elif self._status is not None:
            self._place(page, self._sheet(page, category, self._status), unasked=unasked)

    def _ask_for_notice(self, *, unasked: bool) -> None:
        self._awaits_notice = True
        self._say([GetNotice()], lambda replies: self._on_notice(replies, unasked=unasked))

    def _renew_consent(self) -> None:
        """Have an open consent window follow what may be agreed to by now."""
        sheet = self._sheets.get(Page.CONSENT)
        if sheet is not None and not sheet.answered:
            self._ask_for_notice(unasked=True)

    def _on_notice(self, replies: Sequence[Reply], *, unasked: bool) -> None:
        self._awaits_notice = False
        notice, sheet = replies[0], self._sheets.get(Page.CONSENT)
        if sheet is not None and sheet.answered:  # it closes with the answer to what was clicked
            return
        if isinstance(notice, Notice):
            self._show_notice(notice, sheet, unasked=unasked)
            return
        if sheet is not None:  # what it asks for is not asked any more
            sheet.close()
        if not unasked:
            self._report(replies)

    def _show_notice(self, notice: Notice, sheet: Sheet | None, *, unasked: bool) -> None:
        if isinstance(sheet, ConsentSheet) and sheet.notice == notice:  # with what was chosen
            if not unasked:
                sheet.appear(by_itself=False)
            return
        said, gone = self._decided(Page.CONSENT), self._gone(Page.CONSENT)
        sheet = ConsentSheet(notice, self._mark(), said, gone)
        self._place(Page.CONSENT, sheet, unasked=unasked)
        if self._status is not None:
            self._asked.note(self._status.programme)

    def _sheet(self, page: Page, category: Category | None, status: Status) -> Sheet:
        said, gone = self._decided(page), self._gone(page)
        if page is Page.RESUME:
            return ResumeSheet(said, self._notice_gone(gone))
        if page is Page.OPT_IN and category is not None:
            standing = next(each for each in status.categories if each.category is category)
            return OptInSheet(standing, said, gone)
        if page is Page.WITHDRAW:
            return WithdrawSheet(status, said, gone)
        if page is Page.CLOCK:
            return ClockSheet(said, gone)
        name, heading = "Assent: what is happening now", state_line(status, self._now())
        return MessageSheet(name, self._mark(), heading, account(status), gone)

    def _place(self, page: Page, sheet: Sheet, *, unasked: bool) -> None:
        old = self._sheets.pop(page, None)
        if old is not None:
            old.close()
        self._sheets[page] = sheet
        self._show()  # fills in what changes with time, before the window takes its size
        sheet.appear(by_itself=unasked)

    def _gone(self, page: Page) -> Callable[[Sheet], None]:
        def gone(sheet: Sheet) -> None:
            if self._sheets.get(page) is sheet:
                del self._sheets[page]

        return gone

    def _notice_gone(self, gone: Callable[[Sheet], None]) -> Callable[[Sheet], None]:
        """Return what takes a notice that was closed without a click for "not yet"."""

        def closed(sheet: Sheet) -> None:
            gone(sheet)
            status = self._status
            if not sheet.answered and status is not None and status.resumes_in is not None:
                self._say([AwaitClick()], self._report)

        return closed

    def _decided(self, page: Page) -> Callable[[Sequence[Command]], None]:
        """Return what tells the agent what was clicked in the window for *page*, then closes it."""

        def decided(commands: Sequence[Command]) -> None:
            sheet = self._sheets[page]
            sheet.wait()

            def answered(replies: Sequence[Reply]) -> None:
                sheet.close()
                if self._report(replies) and page is Page.WITHDRAW:
                    self._message(
                        "Assent: consent withdrawn", Mark.SHUT, "It is done", _outcome(replies)
                    )

            self._say(commands, answered)

        return decided

    def _report(self, replies: Sequence[Reply]) -> bool:
        """Say what the agent refused; True when it refused nothing."""
        refusals = dict.fromkeys(each.why for each in replies if isinstance(each, Refused))
        if refusals:
            self._message(
                "Assent: not done", Mark.ATTENTION, "That was not done", "\n\n".join(refusals)
            )
        return not refusals

    def _message(self, name: str, mark: Mark, heading: str, text: str) -> None:
        sheet = MessageSheet(name, mark, heading, text, self._messages.discard)
        self._messages.add(sheet)
        sheet.appear(by_itself=True)

    def _mark(self) -> Mark:
        return view(self._status, self._now()).mark

    def _now(self) -> WallInstant:
        return WallInstant(self._clock.now().wall)


def _outcome(replies: Sequence[Reply]) -> str:
    lines = [
        f"Nothing of it later than {_clock_time(each.wall)} was recorded."
        if isinstance(each, Silent)
        else each.detail
        for each in replies
        if isinstance(each, Silent | Done)
    ]
    return "\n".join(dict.fromkeys(lines))


def _moment(at: WallInstant) -> str:
    return time.strftime("%A %d %B %Y, %H:%M", time.localtime(at / 1e9))


def _clock_time(at: WallInstant) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at / 1e9))
