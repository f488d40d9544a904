"""What AT-SPI knows of the windows on a desktop: names, places and states.  Never clicks."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from agent.geometry import Box
from demo.bus import Bus, BusError

ACCESSIBLE: Final = "org.a11y.atspi.Accessible"
COMPONENT: Final = "org.a11y.atspi.Component"
ON_SCREEN: Final = 0  # coordinates of the whole desktop
CHECKED: Final = 4  # states, by bit
SENSITIVE: Final = 24
WINDOWS: Final = frozenset({"frame", "dialog", "window", "alert"})
WORDS_ONLY: Final = frozenset({"label", "static", "panel", "filler", "paragraph", "image"})
DEEPEST: Final = 24


class Thing(NamedTuple):
    """Something in a window: the bus name of its program, and its path there."""

    program: str
    path: str


ROOT: Final = Thing("org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root")


class Accessibility:
    """A connection to the accessibility bus of the desktop with the environment *env*."""

    def __init__(self, env: Mapping[str, str]) -> None:
        with Bus(env["DBUS_SESSION_BUS_ADDRESS"]) as session:
            (address,) = session.call(
                "org.a11y.Bus", "/org/a11y/bus", "GetAddress", interface="org.a11y.Bus"
            )
        self._bus = Bus(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bus.close()

    def window(self, title: str) -> Thing | None:
        """Return the window with this title."""
        for program in self._children(ROOT):
            for window in self._children(program):
                if self._name(window) == title and self._role(window) in WINDOWS:
                    return window
        return None

    def find(self, title: str, label: str) -> Thing | None:
        """Return what is called *label* in the window *title* and takes clicks."""
        window = self.window(title)
        if window is None:
            return None
        for each in self._below(window):
            if self._name(each) == label and self._role(each) not in WORDS_ONLY:
                return each
        return None

    def texts(self, title: str) -> list[str]:
        """Return all names and labels in the window *title*, in their order."""
        window = self.window(title)
        if window is None:
            return []
        return [name for each in self._below(window) if (name := self._name(each))]

    def viewport(self, thing: Thing) -> Box | None:
        """Return where the pane is that *thing* scrolls in, if it is in one."""
        for _ in range(DEEPEST):
            thing = Thing(*self._bus.get(*thing, ACCESSIBLE, "Parent"))
            role = self._role(thing)
            if role == "scroll pane":
                return self.extents(thing)
            if role in WINDOWS or not role:
                return None
        return None

    def extents(self, thing: Thing) -> Box:
        """Return where it is on the screen; far outside if it is scrolled out of sight."""
        (box,) = self._bus.call(
            *thing, "GetExtents", interface=COMPONENT, signature="u", body=[ON_SCREEN]
        )
        return Box(*box)

    def has_state(self, thing: Thing, state: int) -> bool:
        """Whether it is in this state."""
        (words,) = self._bus.call(*thing, "GetState", interface=ACCESSIBLE)
        return bool(words[state // 32] >> (state % 32) & 1)

    def _below(self, thing: Thing, depth: int = 0) -> Iterator[Thing]:
        if depth > DEEPEST:
            return
        for child in self._children(thing):
            yield child
            yield from self._below(child, depth + 1)

    def _children(self, thing: Thing) -> list[Thing]:
        try:
            (children,) = self._bus.call(*thing, "GetChildren", interface=ACCESSIBLE)
        except BusError:
            return []  # a program that just ended
        return [Thing(program, path) for program, path in children]

    def _name(self, thing: Thing) -> str:
        try:
            return str(self._bus.get(*thing, ACCESSIBLE, "Name"))
        except BusError:
            return ""

    def _role(self, thing: Thing) -> str:
        try:
            (role,) = self._bus.call(*thing, "GetRoleName", interface=ACCESSIBLE)
        except BusError:
            return ""
        return str(role)
