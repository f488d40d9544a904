"""What all windows of the tray have in common, and the pieces that they are made of.

A `Sheet` comes to the front without taking the keyboard from whoever types elsewhere,
refuses keys and clicks that were on their way to another window (`patience`), has the focus
on the button that changes nothing, and closing it means no.  The buttons that say yes and
no look the same: a consent that was nudged is none.
"""

import io
from collections.abc import Callable
from typing import Any, Final

from tray._gtk import Gdk, GdkPixbuf, GLib, Gtk, Pango, monotonic_ms, server_time
from tray.drawing import draw
from tray.patience import QUIET_MS, Patience
from tray.view import Mark

WIDTH: Final = 740  # about 80 characters a line, which is read easily
EDGE: Final = 24
GAP: Final = 12
AROUND: Final = 230  # pixels: heading, buttons, edges and the window's title bar
NOTICE: Final = (136, 240)  # pixels: the notice gets what the screen has room for, and scrolls
CHOICES: Final = 420  # pixels: four categories with their words, which are to stay in sight
BETWEEN: Final = 76  # pixels between notice and choices: a paragraph, and the gaps around it

Gone = Callable[["Sheet"], None]
"""Who is told that a window was closed, by whomever."""


class Sheet:
    """One window: a picture and a heading, what it says, and its buttons."""

    def __init__(self, name: str, mark: Mark, heading: str, on_gone: Gone) -> None:
        self._patience = Patience()
        self._on_gone = on_gone
        self._in_sight_since: int | None = None
        self.answered = False  # something was clicked that the agent has been told
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
        self._held = [self._buttons]
        self._release = 0
        self._heading = _heading(heading)
        frame.add(_beside(_image(mark), self._heading))
        frame.add(_within_the_screen(self.body))
        frame.add(self._buttons)
        self.window.add(frame)

    def add(self, widget: "Gtk.Widget") -> None:
        """Add *widget* below what is there."""
        self.body.add(widget)

    def button(self, label: str, clicked: Callable[[], None]) -> "Gtk.Button":
        """Add a button to the right of those that are there; the first one gets the focus."""
        button = Gtk.Button(label=label)
        button.connect("clicked", lambda _button: clicked())
        self._buttons.add(button)
        return button

    def hold(self, widget: "Gtk.Widget") -> "Gtk.Widget":
        """Return *widget* in a box that takes no clicks before the window's quiet is over."""
        box = Gtk.Box(valign=Gtk.Align.CENTER)
        box.add(widget)
        self._held.append(box)
        return box

    def appear(self, *, by_itself: bool) -> None:
        """Come to the front; *by_itself*: the keyboard stays with who has it.

        A window that follows a click of the menu may take the keyboard, since the person
        waits for it.
        """
        self.window.set_focus_on_map(not by_itself)
        self.window.set_urgency_hint(by_itself)
        self._let(active=False)
        self.window.show_all()
        self._keep_quiet()
        if not by_itself:
            self.window.present_with_time(server_time(self.window.get_window()))

    def in_sight_ms(self, now_ms: int) -> int | None:
        """Return for how long nothing has covered any part of it; None when something does.

        *now_ms* is of GLib's monotonic clock.
        """
        return None if self._in_sight_since is None else now_ms - self._in_sight_since

    def close(self) -> None:
        """Close it; nothing is said."""
        self.window.destroy()

    def wait(self) -> None:
        """Take no further click: the agent has been told, and its answer closes the window."""
        self.answered = True
        self.window.get_child().set_sensitive(False)

    def _watch_input(self) -> None:
        self.window.connect("destroy", self._on_destroy)
        self.window.connect("map-event", self._on_mapped)
        self.window.add_events(Gdk.EventMask.VISIBILITY_NOTIFY_MASK)
        self.window.connect("visibility-notify-event", self._on_visibility)
        self.window.connect("unmap-event", self._on_unmapped)
        self.window.connect("focus-in-event", self._on_focus)
        self.window.connect("key-press-event", self._on_key)
        # In the capture phase the window sees a press before the button under it does.
        self._press = Gtk.GestureMultiPress.new(self.window)
        self._press.set_button(0)  # any
        self._press.set_propagation_phase(Gtk.PropagationPhase.CAPTURE)
        self._press.connect("pressed", self._on_press)

    def _keep_quiet(self) -> None:
        """Begin the time in which nothing is taken, and show that: what is pale takes no click."""
        self._patience.appeared(server_time(self.window.get_window()))
        self._let(active=False)
        self._stop_waiting()
        self._release = GLib.timeout_add(QUIET_MS, self._on_quiet_over)

    def _on_quiet_over(self) -> bool:
        self._release = 0
        self._let(active=True)
        self._buttons.get_children()[0].grab_focus()
        return False

    def _let(self, *, active: bool) -> None:
        for box in self._held:
            box.set_sensitive(active)

    def _stop_waiting(self) -> None:
        if self._release:
            GLib.source_remove(self._release)
            self._release = 0

    def _on_destroy(self, *_: object) -> None:
        self._stop_waiting()
        self._on_gone(self)

    def _on_mapped(self, *_: object) -> bool:
        self._keep_quiet()
        return False

    def _on_unmapped(self, *_: object) -> bool:
        self._in_sight_since = None
        return False

    def _on_visibility(self, _window: object, event: "Gdk.EventVisibility") -> bool:
        whole = event.state is Gdk.VisibilityState.UNOBSCURED
        if not whole:
            self._in_sight_since = None
        elif self._in_sight_since is None:
            self._in_sight_since = monotonic_ms()
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


def paragraph(text: str) -> "Gtk.Label":
    """Return *text* as it is, never as markup, wrapped and aligned to the left."""
    label = Gtk.Label(label=text, xalign=0, wrap=True, max_width_chars=72, width_chars=40)
    label.set_line_wrap_mode(Pango.WrapMode.WORD_CHAR)
    return label


def strong(text: str) -> "Gtk.Label":
    """Return *text* in bold."""
    label = paragraph(text)
    attributes = Pango.AttrList()
    attributes.insert(Pango.attr_weight_new(Pango.Weight.BOLD))
    label.set_attributes(attributes)
    return label


def _heading(text: str) -> "Gtk.Label":
    label = strong(text)
    attributes = label.get_attributes()
    attributes.insert(Pango.attr_scale_new(1.35))
    label.set_attributes(attributes)
    return label


def _within_the_screen(body: "Gtk.Widget") -> "Gtk.Widget":
    """Let *body* scroll where it is too high, so that the buttons are never off the screen."""
    pane = _pane()
    pane.set_propagate_natural_height(True)
    pane.set_max_content_height(max(AROUND, _screen_height() - AROUND))
    pane.add(body)
    return pane


def _pane() -> "Gtk.ScrolledWindow":
    """Return a pane that shows by its bar, without being touched, that there is more."""
    return Gtk.ScrolledWindow(
        vexpand=True, hscrollbar_policy=Gtk.PolicyType.NEVER, overlay_scrolling=False
    )


def _screen_height() -> int:
    """Return the pixels that panels leave free."""
    display = Gdk.Display.get_default()
    monitor = display.get_primary_monitor() or display.get_monitor(0)
    return int(monitor.get_workarea().height) if monitor else 600


def scrolled(text: str) -> "Gtk.Widget":
    """Return *text* for reading, in a view that the keyboard scrolls too."""
    view = Gtk.TextView(editable=False, cursor_visible=False, wrap_mode=Gtk.WrapMode.WORD_CHAR)
    view.set_accepts_tab(False)
    for side in ("left", "right", "top", "bottom"):
        getattr(view, f"set_{side}_margin")(GAP)
    view.get_buffer().set_text(text)
    name(view, "Notice", "")
    pane = _pane()
    pane.set_min_content_height(_notice_height())
    pane.set_shadow_type(Gtk.ShadowType.IN)
    pane.add(view)
    return pane


def listed(rows: "Gtk.Widget") -> "Gtk.Widget":
    """Return *rows*, to stand below a notice; they scroll by themselves where they are too many.

    Otherwise the whole window would, with two bars side by side, of which one moves the other.
    """
    pane = _pane()
    pane.set_propagate_natural_height(True)
    room = _screen_height() - AROUND - BETWEEN - _notice_height()
    pane.set_max_content_height(max(NOTICE[0], room))
    pane.set_shadow_type(Gtk.ShadowType.IN)
    pane.add(rows)
    return pane


def _notice_height() -> int:
    least, most = NOTICE
    return min(max(_screen_height() - AROUND - CHOICES, least), most)


def row(words: "Gtk.Widget", switch: "Gtk.Widget") -> "Gtk.Widget":
    """Return a row of a list: *words* at the left, *switch* at the right."""
    whole = Gtk.ListBoxRow(activatable=False, can_focus=False)
    box = Gtk.Box(spacing=EDGE, margin=GAP, margin_top=8, margin_bottom=8)
    words.set_hexpand(True)
    box.add(words)
    box.add(switch)
    whole.add(box)
    return whole


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


def style(widget: "Gtk.Widget", css: bytes) -> None:
    """Dress this one widget, whatever the theme says."""
    provider = Gtk.CssProvider()
    provider.load_from_data(css)
    above_the_theme = Gtk.STYLE_PROVIDER_PRIORITY_APPLICATION
    widget.get_style_context().add_provider(provider, above_the_theme)


def name(widget: "Gtk.Widget", name: str, description: str) -> None:
    """Give *widget* the name that stands beside it, for those who hear the window."""
    accessible: Any = widget.get_accessible()
    accessible.set_name(name)
    accessible.set_description(description)
