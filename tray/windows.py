"""The windows in which the data subject decides: what may be recorded, resume, opt in, withdraw.

Each is a `Sheet` (see there for how it treats a person).  Windows only say what was
clicked.  What follows is the agent's, and comes back as an answer.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from tray._gtk import Gtk
from tray.sheet import Gone, Sheet, listed, name, paragraph, row, scrolled, strong, style
from tray.view import Mark, countdown, title
from wire.category import Category, registry
from wire.control import (
    CategoryStatus,
    Command,
    ConfirmClock,
    Grant,
    Notice,
    NoticeItem,
    OptIn,
    Pause,
    Resume,
    Status,
    Withdraw,
)

Said = Callable[[Sequence[Command]], None]
"""Who is told which commands a click means, in order."""


class ConsentSheet(Sheet):
    """What may be recorded: the notice, and one switch a category, off unless granted already."""

    TITLE: Final = "Assent: what may be recorded"

    def __init__(self, notice: Notice, mark: Mark, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, mark, notice.heading, on_gone)
        self.notice = notice
        self._say = say
        self._switches: list[tuple[NoticeItem, Gtk.Switch]] = []
        self.add(scrolled(notice.text))
        self.add(
            paragraph(
                "Switch on what may be recorded; what stays off is not. You can pause, opt out"
                " or withdraw at any time, from the menu of the icon."
            )
        )
        self.add(self._choices(notice.items))
        self.button("Not now", self.close)
        self._agree = self.button("Agree to the selected", self._agreed)
        self._agree.set_sensitive(False)

    def _choices(self, items: Sequence[NoticeItem]) -> "Gtk.Widget":
        rows = Gtk.ListBox(selection_mode=Gtk.SelectionMode.NONE)
        for item in items:
            switch = Gtk.Switch(active=item.granted)
            name(switch, item.title, item.words)
            switch.set_sensitive(not item.granted)
            style(switch, GRANTED_STYLE)
            switch.connect("notify::active", lambda *_: self._changed())
            self._switches.append((item, switch))
            words = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=2)
            words.add(strong(item.title))
            words.add(paragraph(item.words))
            if item.again:
                words.add(paragraph(item.again))
            if item.granted:
                words.add(paragraph(GRANTED))
            rows.add(row(words, self.hold(switch)))
        return listed(rows)

    def _chosen(self) -> list[NoticeItem]:
        """The categories switched on here, and not before."""
        return [i for i, switch in self._switches if switch.get_active() and not i.granted]

    def _changed(self) -> None:
        self._agree.set_sensitive(bool(self._chosen()))

    def _agreed(self) -> None:
        self._say(
            [Grant(category=i.category, words_sha256=_digest(i.words)) for i in self._chosen()]
        )


GRANTED_STYLE: Final = b"switch:disabled:checked { background: #7fa8d6; }"
"""Themes show a switch that cannot be moved so pale that it is not seen to be on."""

GRANTED: Final = "You have agreed to this. To end it, choose “Withdraw consent…” in the menu."


class ResumeSheet(Sheet):
    """The pause is over, or is to end before its time.

    It ends by a click here, or after the notice was seen for its whole time, which it counts
    down before the data subject's eyes (`Status.resumes_in`).  Who closes it says "not yet".
    """

    TITLE: Final = "Assent: your pause is over"
    EARLY_TITLE: Final = "Assent: your pause still runs"

    def __init__(self, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, Mark.PAUSED, "", on_gone)
        self._what = paragraph("")
        self.add(self._what)
        self._countdown = strong("")
        self.add(self._countdown)
        self.button("Pause again", lambda: say([Pause()]))
        self.button("Resume now", lambda: say([Resume()]))

    def refresh(self, status: Status, left: str | None) -> None:
        """Say how it stands; *left* is what remains of a pause that still runs."""
        self.window.set_title(self.EARLY_TITLE if left else self.TITLE)
        self._heading.set_text(
            f"Your pause still runs: {left} left" if left else "Your pause is over"
        )
        again = [
            title(each.category)
            for each in status.categories
            if each.granted and not each.opted_out
        ]
        self._what.set_text(
            "Nothing is recorded now.\n\n"
            + (
                f"If you resume, this is recorded again: {', '.join(again)}."
                if again
                else "You have agreed to nothing that could be recorded if you resume."
            )
        )
        self._countdown.set_text(countdown(status))


class OptInSheet(Sheet):
    """One category, or all, may be recorded again after an opt-out."""

    TITLE: Final = "Assent: opt in again"

    def __init__(self, standing: CategoryStatus, say: Said, on_gone: Gone) -> None:
        entry = registry()[standing.category]
        recorded = entry.levels.get(standing.level, "nothing, as the policy does not ask for it.")
        super().__init__(self.TITLE, Mark.SHUT, f"Opt in again: {entry.title}", on_gone)
        self.add(
            paragraph(
                "You have said that this is never to be recorded. If you opt in again, it may"
                " be recorded as far as you have agreed to it."
            )
        )
        self.add(paragraph(f"What is recorded: {recorded}"))
        self.add(paragraph(f"What is never recorded: {entry.never}"))
        self.button("Stay opted out", self.close)
        self.button("Opt in again", lambda: say([OptIn(category=standing.category)]))


class WithdrawSheet(Sheet):
    """Which consents end, and whether what was sent is to be erased too."""

    TITLE: Final = "Assent: withdraw consent"

    def __init__(self, status: Status, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, Mark.SHUT, "Withdraw your consent", on_gone)
        self._say = say
        self._checks: list[tuple[Category, Gtk.CheckButton]] = []
        self.add(
            paragraph(
                "From the moment you withdraw, nothing more of it is recorded, and what is"
                " still on this computer is deleted. You need not say why, and you can agree"
                " again later."
            )
        )
        for each in status.categories:
            granted = "" if each.granted else " (you have not agreed to this)"
            check = Gtk.CheckButton(label=title(each.category) + granted, active=each.granted)
            check.connect("toggled", lambda _check: self._changed())
            self._checks.append((each.category, check))
            self.add(self.hold(check))
        self.add(Gtk.Separator())
        self._erase = Gtk.CheckButton(label="Also erase what was already sent", active=False)
        self.add(self.hold(self._erase))
        self.add(
            paragraph(
                "Erasing cannot be undone. Without it, what was sent stays with those who"
                " received it until its retention ends."
            )
        )
        self.button("Cancel", self.close)
        self._withdraw = self.button("Withdraw", self._withdrawn)
        self._changed()

    def _chosen(self) -> list[Category]:
        return [category for category, check in self._checks if check.get_active()]

    def _changed(self) -> None:
        self._withdraw.set_sensitive(bool(self._chosen()))

    def _withdrawn(self) -> None:
        chosen, erase = self._chosen(), bool(self._erase.get_active())
        if len(chosen) == len(self._checks):  # all: one command, which holds whole or not at all
            self._say([Withdraw(category=None, erase=erase)])
        else:
            self._say([Withdraw(category=category, erase=erase) for category in chosen])


class ClockSheet(Sheet):
    """The data subject says whether the computer's clock is right again."""

    TITLE: Final = "Assent: is the clock right?"

    def __init__(self, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, Mark.ATTENTION, "", on_gone)
        self.add(
            paragraph(
                "The clock of this computer was changed, so nobody can tell any more when a"
                " pause ends or a consent runs out. Nothing is recorded until you say that the"
                " clock is right."
            )
        )
        self.button("Not now", self.close)
        self.button("The clock is right", lambda: say([ConfirmClock()]))

    def refresh(self, now: str) -> None:
        """Show what the clock says."""
        self._heading.set_text(f"Is it {now}?")


class MessageSheet(Sheet):
    """Says how something went; there is nothing to decide."""

    def __init__(self, name: str, mark: Mark, heading: str, text: str, on_gone: Gone) -> None:
        super().__init__(name, mark, heading, on_gone)
        self.add(paragraph(text))
        self.button("Close", self.close)


def _digest(words: str) -> bytes:
    """Return the hash of the words that were shown, byte for byte as they came."""
    return hashlib.sha256(words.encode()).digest()
