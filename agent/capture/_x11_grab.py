"""Does another client hold the keyboard?  Password prompts and lockers do.

Raw events come through another client's grab, so this has to be watched: the server tells the
window that has the focus when a grab begins and ends (FocusOut with mode NotifyGrab), and
whoever asks may listen in.  A grab that began before we listened shows only when one tries to
grab: we do, and let go, in one piece that no other client can come between.

Menus hold the keyboard too; nothing tells them from prompts.

Source: X Window System Protocol, section 11 (FocusIn, FocusOut), GrabKeyboard.
"""

from typing import Final, TypeAlias

from Xlib import X, error
from Xlib.display import Display
from Xlib.protocol import event, request

FocusEvent: TypeAlias = event.FocusIn | event.FocusOut
_HALF: Final = 1 << 15  # sequence numbers come round after 16 bits


class KeyboardGrab:
    """Follows who holds the keyboard, on the connection on which keys arrive."""

    def __init__(self, display: Display) -> None:
        """Begin to listen, and find out how it is now."""
        self._display = display
        self._followed = 0  # the window that had the focus when we last looked
        self._own: set[int] = set()  # sequence numbers of our own trying
        self._tried: int | None = None  # what came before is not known
        self.held = True
        self.follow()

    def note(self, told: FocusEvent) -> None:
        """Take what the server says of the focus."""
        if told.sequence_number in self._own and told.mode in (X.NotifyGrab, X.NotifyUngrab):
            return
        match told.mode:
            case X.NotifyGrab:
                self.held = True
            case X.NotifyUngrab:
                self.held = False
            case _:
                self.follow()

    def hides(self, sequence: int) -> bool:
        """Whether a key that arrived as *sequence* may have gone to another client's grab."""
        if self._tried is not None:
            if 0 < (self._tried - sequence) & 0xFFFF < _HALF:
                return True
            self._tried = None
        return self.held

    def follow(self) -> None:
        """Listen to the window that has the focus now, then find out whether it is grabbed."""
        self.held = True  # until proved otherwise
        self._listen()
        self._try()

    def _listen(self) -> None:
        focus = self._display.get_input_focus().focus
        # PointerRoot and None are numbers: then the root is told.
        window = self._display.screen().root if isinstance(focus, int) else focus
        if window.id != self._followed:
            self._followed = window.id
            window.change_attributes(
                event_mask=X.FocusChangeMask, onerror=error.CatchError(error.BadWindow)
            )

    def _try(self) -> None:
        display = self._display
        root = display.screen().root
        display.grab_server()
        grab = request.GrabKeyboard(
            display=display.display,
            defer=True,
            owner_events=False,
            grab_window=root,
            time=X.CurrentTime,
            pointer_mode=X.GrabModeAsync,
            keyboard_mode=X.GrabModeAsync,
        )
        let_go = request.UngrabKeyboard(display=display.display, time=X.CurrentTime)
        display.ungrab_server()
        # All four leave in one piece with this wait; letting go of what is not ours does nothing.
        grab.reply()
        self._own = {grab._serial & 0xFFFF, let_go._serial & 0xFFFF}  # noqa: SLF001 - told nowhere else
        self._tried = grab._serial & 0xFFFF  # noqa: SLF001 - told nowhere else
        self.held = grab.status != X.GrabSuccess
