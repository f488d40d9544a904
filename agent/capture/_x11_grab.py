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
        self._tries = Tries()
        self.held = True
        self.follow()

    def note(self, told: FocusEvent) -> None:
        """Take what the server says of the focus."""
        self._tries.arrived(told.sequence_number)
        match told.mode:
            case X.NotifyGrab | X.NotifyUngrab if self._tries.made(told.sequence_number):
                pass
            case X.NotifyGrab:
                self.held = True
            case X.NotifyUngrab:
                self.held = False
            case _:
                self.follow()

    def arrived(self, sequence: int) -> None:
        """Take note of any event at all, so that what lies behind is not taken for ahead."""
        self._tries.arrived(sequence)

    def hides(self, sequence: int) -> bool:
        """Whether a key that arrived as *sequence* may have gone to another client's grab."""
        return self.held or self._tries.undecided(sequence)

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
        self._tries.add(grab._serial, let_go._serial)  # noqa: SLF001 - told nowhere else
        self.held = grab.status != X.GrabSuccess


class Tries:
    """Which events our own tries made, and which came before the last of them decided.

    Events carry the number of the request that the server had seen last, and come in order.
    """

    def __init__(self) -> None:
        self._own: set[int] = set()  # of grabs and letting go; what was passed is left out
        self._last: int | None = None  # the grab before which nobody knows, until it is passed

    def add(self, grab: int, let_go: int) -> None:
        """Take in a try, by the serial numbers of its two requests."""
        self._own |= {grab & 0xFFFF, let_go & 0xFFFF}
        self._last = grab & 0xFFFF

    def arrived(self, sequence: int) -> None:
        """Forget what lies behind *sequence*: after 16 bits a number stands for another request."""
        self._own = {number for number in self._own if not _precedes(number, sequence)}
        if self._last is not None and not _precedes(sequence, self._last):
            self._last = None

    def made(self, sequence: int) -> bool:
        """Whether a grab's begin or end that came as *sequence* was ours."""
        return sequence in self._own

    def undecided(self, sequence: int) -> bool:
        """Whether *sequence* came before a try, so that nobody knows who held the keyboard."""
        return self._last is not None and _precedes(sequence, self._last)


def _precedes(one: int, other: int) -> bool:
    return 0 < (other - one) & 0xFFFF < _HALF
