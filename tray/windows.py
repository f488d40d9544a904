"""The windows in which the data subject decides: what may be recorded, resume, opt in, withdraw.

Each is a `Sheet`: it comes to the front without taking the keyboard from whoever types
elsewhere, refuses keys and clicks that were on their way to another window (`patience`),
has the focus on the button that changes nothing, and closing it means no.  The buttons
that say yes and no look the same: a consent that was nudged is none.

Windows only say what was clicked.  What follows is the agent's, and comes back as an answer.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

from tray._gtk import Gdk, GdkPixbuf, Gtk, Pango, server_time
from tray.drawing import draw
from tray.patience import Patience
from tray.view import Mark, title
from wire.category import Category, registry
from wire.control import (
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

WIDTH: Final = 680  # about 80 characters a line, which is read easily
EDGE: Final = 24
GAP: Final = 12
NOTICE_HEIGHT: Final = 136  # what is longer is scrolled; the switches stay in sight
AROUND: Final = 230  # heading, buttons, edges and the window's title bar

Said = Callable[[Sequence[Command]], None]
"""Who is told which commands a click means, in order."""

Gone = Callable[["Sheet"], None]
"""Who is told that a window was closed, by whomever."""


class Sheet:
    """One window: a picture and a heading, what it says, and its buttons."""

    def __init__(self, name: str, mark: Mark, heading: str, on_gone: Gone) -> None:
        self._patience = Patience()
        self._on_gone = on_gone
        self.window = Gtk.Window(title=name)
        self.window.set_icon(_picture(mark))
        self.window.set_default_size(WIDTH, -1)
        self.window.set_position(Gtk.WindowPosition.CENTER)
        self.window.set_type_hint(Gdk.WindowTypeHint.DIALOG)
        self.window.set_keep_above(True)
        self.window.add_events(Gdk.EventMask.PROPERTY_CHANGE_MASK)  # server_time() needs it
        self._watch_input()
        frame = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=EDGE, margin=EDGE)
        self.body = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=GAP)
        self._buttons = Gtk.ButtonBox(spacing=GAP, layout_style=Gtk.ButtonBoxStyle.END)
        self._heading = _heading(heading)
        frame.add(_beside(_image(mark), self._heading))
        frame.add(_within_the_screen(self.body))
        frame.add(self._buttons)
        self.window.add(frame)

    def add(self, widget: "Gtk.Widget") -> None:
        """Add *widget* below what is there."""
        self.body.add(widget)

    def button(self, label: str, clicked: Callable[[], None]) -> "Gtk.Button":
        """Add a button to the right of those that are there; the first one has the focus."""
        button = Gtk.Button(label=label)
        button.connect("clicked", lambda _button: clicked())
        if not self._buttons.get_children():
            self.window.set_focus(button)
        self._buttons.add(button)
        return button

    def appear(self, *, by_itself: bool) -> None:
        """Come to the front; *by_itself*: the keyboard stays with who has it.

        A window that follows a click of the menu may take the keyboard, since the person
        waits for it.
        """
        self.window.set_focus_on_map(not by_itself)
        self.window.set_urgency_hint(by_itself)
        self.window.show_all()
        self._patience.appeared(server_time(self.window.get_window()))
        if not by_itself:
            self.window.present_with_time(server_time(self.window.get_window()))

    def close(self) -> None:
        """Close it; nothing is said."""
        self.window.destroy()

    def wait(self) -> None:
        """Take no further click: the agent has been told, and its answer closes the window."""
        self.window.get_child().set_sensitive(False)

    def _watch_input(self) -> None:
        self.window.connect("destroy", lambda _window: self._on_gone(self))
        self.window.connect("map-event", self._on_mapped)
        self.window.connect("focus-in-event", self._on_focus)
        self.window.connect("key-press-event", self._on_key)
        # In the capture phase the window sees a press before the button under it does.
        self._press = Gtk.GestureMultiPress.new(self.window)
        self._press.set_button(0)  # any
        self._press.set_propagation_phase(Gtk.PropagationPhase.CAPTURE)
        self._press.connect("pressed", self._on_press)

    def _on_mapped(self, *_: object) -> bool:
        self._patience.appeared(server_time(self.window.get_window()))
        return False

    def _on_focus(self, *_: object) -> bool:
        self._patience.focused(server_time(self.window.get_window()))
        self.window.set_urgency_hint(False)
        return False

    def _on_key(self, _window: object, event: "Gdk.EventKey") -> bool:
        if not self._patience.takes_key(event.time):
            return True
        if event.keyval == Gdk.KEY_Escape:
            self.close()
            return True
        return False

    def _on_press(self, gesture: "Gtk.Gesture", *_: object) -> None:
        if not self._patience.takes_click(Gtk.get_current_event_time()):
            gesture.set_state(Gtk.EventSequenceState.CLAIMED)


class ConsentSheet(Sheet):
    """What may be recorded: the notice, and one switch a category, off unless granted already."""

    TITLE: Final = "Assent: what may be recorded"

    def __init__(self, notice: Notice, mark: Mark, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, mark, notice.heading, on_gone)
        self._say = say
        self._switches: list[tuple[NoticeItem, Gtk.Switch]] = []
        self.add(_scrolled(notice.text))
        self.add(
            _paragraph(
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
            switch = Gtk.Switch(valign=Gtk.Align.CENTER, active=item.granted)
            _name(switch, item.title, item.words)
            switch.set_sensitive(not item.granted)
            switch.connect("notify::active", lambda *_: self._changed())
            self._switches.append((item, switch))
            words = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=2)
            words.add(_strong(item.title))
            words.add(_paragraph(item.words))
            if item.granted:
                words.add(_paragraph(GRANTED))
            rows.add(_row(words, switch))
        frame = Gtk.Frame()
        frame.add(rows)
        return frame

    def _chosen(self) -> list[NoticeItem]:
        """The categories switched on here, and not before."""
        return [i for i, switch in self._switches if switch.get_active() and not i.granted]

    def _changed(self) -> None:
        self._agree.set_sensitive(bool(self._chosen()))

    def _agreed(self) -> None:
        self._say(
            [Grant(category=i.category, words_sha256=_digest(i.words)) for i in self._chosen()]
        )


GRANTED: Final = "You have agreed to this. To end it, choose “Withdraw consent…” in the menu."


class ResumeSheet(Sheet):
    """The pause is over, or is to end before its time: nothing goes on without a click here."""

    TITLE: Final = "Assent: your pause is over"
    EARLY_TITLE: Final = "Assent: your pause still runs"

    def __init__(self, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, Mark.PAUSED, "", on_gone)
        self._what = _paragraph("")
        self.add(self._what)
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
            "Nothing is recorded, and nothing starts by itself: it waits for you.\n\n"
            + (
                f"If you resume, this is recorded again: {', '.join(again)}."
                if again
                else "You have agreed to nothing that could be recorded if you resume."
            )
        )


class OptInSheet(Sheet):
    """One category, or all, may be recorded again after an opt-out."""

    TITLE: Final = "Assent: opt in again"

    def __init__(self, category: Category, say: Said, on_gone: Gone) -> None:
        entry = registry()[category]
        super().__init__(self.TITLE, Mark.SHUT, f"Opt in again: {entry.title}", on_gone)
        self.add(
            _paragraph(
                "You have said that this is never to be recorded. If you opt in again, it may"
                " be recorded as far as you have agreed to it."
            )
        )
        self.add(_paragraph(f"What is recorded: {entry.records}"))
        self.add(_paragraph(f"What is never recorded: {entry.never}"))
        self.button("Stay opted out", self.close)
        self.button("Opt in again", lambda: say([OptIn(category=category)]))


class WithdrawSheet(Sheet):
    """Which consents end, and whether what was sent is to be erased too."""

    TITLE: Final = "Assent: withdraw consent"

    def __init__(self, status: Status, say: Said, on_gone: Gone) -> None:
        super().__init__(self.TITLE, Mark.SHUT, "Withdraw your consent", on_gone)
        self._say = say
        self._checks: list[tuple[Category, Gtk.CheckButton]] = []
        self.add(
            _paragraph(
                "From the moment you withdraw, nothing more of it is recorded, and what is"
                " still on this computer is deleted. You need not say why, and you can agree"
                " again later."
            )
        )
        for each in status.categories:
            granted = "" if each.granted else " (you have not agreed to this)"
            check = _check(title(each.category) + granted, active=each.granted)
            check.connect("toggled", lambda _check: self._changed())
            self._checks.append((each.category, check))
            self.add(check)
        self.add(Gtk.Separator())
        self._erase = _check("Also erase what was already sent", active=False)
        self.add(self._erase)
        self.add(
            _paragraph(
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
            _paragraph(
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
        self.add(_paragraph(text))
        self.button("Close", self.close)


def _digest(words: str) -> bytes:
    """Return the hash of the words that were shown, byte for byte as they came."""
    return hashlib.sha256(words.encode()).digest()


def _paragraph(text: str) -> "Gtk.Label":
    label = Gtk.Label(label=text, xalign=0, wrap=True, max_width_chars=72, width_chars=40)
    label.set_line_wrap_mode(Pango.WrapMode.WORD_CHAR)
    return label


def _strong(text: str) -> "Gtk.Label":
    label = _paragraph(text)
    attributes = Pango.AttrList()
    attributes.insert(Pango.attr_weight_new(Pango.Weight.BOLD))
    label.set_attributes(attributes)
    return label


def _heading(text: str) -> "Gtk.Label":
    label = _strong(text)
    attributes = label.get_attributes()
    attributes.insert(Pango.attr_scale_new(1.35))
    label.set_attributes(attributes)
    return label


def _within_the_screen(body: "Gtk.Widget") -> "Gtk.Widget":
    """Let *body* scroll where it is too high, so that the buttons are never off the screen."""
    scrolled = Gtk.ScrolledWindow(vexpand=True, hscrollbar_policy=Gtk.PolicyType.NEVER)
    scrolled.set_propagate_natural_height(True)
    display = Gdk.Display.get_default()
    monitor = display.get_primary_monitor() or display.get_monitor(0)
    if monitor is not None:
        scrolled.set_max_content_height(max(AROUND, monitor.get_workarea().height - AROUND))
    scrolled.add(body)
    return scrolled


def _check(label: str, *, active: bool) -> "Gtk.CheckButton":
    return Gtk.CheckButton(label=label, active=active)


def _scrolled(text: str) -> "Gtk.Widget":
    """Return *text* for reading, in a view that the keyboard scrolls too."""
    view = Gtk.TextView(editable=False, cursor_visible=False, wrap_mode=Gtk.WrapMode.WORD_CHAR)
    view.set_accepts_tab(False)
    for side in ("left", "right", "top", "bottom"):
        getattr(view, f"set_{side}_margin")(GAP)
    view.get_buffer().set_text(text)
    _name(view, "Notice", "")
    scrolled = Gtk.ScrolledWindow(vexpand=True, hscrollbar_policy=Gtk.PolicyType.NEVER)
    scrolled.set_min_content_height(NOTICE_HEIGHT)
    scrolled.set_shadow_type(Gtk.ShadowType.IN)
    scrolled.add(view)
    return scrolled


def _row(words: "Gtk.Widget", switch: "Gtk.Widget") -> "Gtk.Widget":
    row = Gtk.ListBoxRow(activatable=False, can_focus=False)
    box = Gtk.Box(spacing=EDGE, margin=GAP, margin_top=8, margin_bottom=8)
    words.set_hexpand(True)
    box.add(words)
    box.add(switch)
    row.add(box)
    return row


def _beside(left: "Gtk.Widget", right: "Gtk.Widget") -> "Gtk.Widget":
    box = Gtk.Box(spacing=GAP + 4)
    box.add(left)
    box.add(right)
    return box


def _image(mark: Mark) -> "Gtk.Widget":
    return Gtk.Image.new_from_pixbuf(_picture(mark))


def _picture(mark: Mark) -> "GdkPixbuf.Pixbuf":
    png = io.BytesIO()
    draw(mark).save(png, "PNG")
    loader = GdkPixbuf.PixbufLoader.new_with_type("png")
    loader.write(png.getvalue())
    loader.close()
    return loader.get_pixbuf()


def _name(widget: "Gtk.Widget", name: str, description: str) -> None:
    """Give *widget* the name that stands beside it, for those who hear the window."""
    accessible: Any = widget.get_accessible()
    accessible.set_name(name)
    accessible.set_description(description)
