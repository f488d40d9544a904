"""Is this session in front of the person whose it is?  Lock, sleep, user switch, remote use.

`SessionSeen` is what a platform says of it, `SessionWatch` what each platform's watch
promises; `open_watch` picks this platform's.  Four facts have to be known for a yes, and each
says who proves it.  What nobody proves is unknown, and unknown is no.

Start with `_linux.combine`, which weighs the sources of Linux against each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Known:
    """One fact (None: nobody can say), and who or what says so, in a few words."""

    holds: bool | None = None
    by: str = "nobody has said yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSeen:
    """What is known of the session right now; a fact that nobody stated is unknown."""

    unlocked: Known = Known()
    awake: Known = Known()  # neither asleep nor about to
    in_front: Known = Known()  # no other user's session has screen and keyboard
    local: Known = Known()  # whoever uses it sits at this machine

    def facts(self) -> dict[str, Known]:
        """Return the four facts by name, the ones that change most often first."""
        return {name: getattr(self, name) for name in _SAID}

    def ours(self) -> bool | None:
        """Return whether all four hold; None if one is not known and none is known to fail."""
        held = [fact.holds for fact in self.facts().values()]
        if False in held:
            return False
        return None if None in held else True

    def why_not(self) -> str:
        """Return why it is not known to be ours, in one line; empty when it is."""
        failing = [(name, fact) for name, fact in self.facts().items() if fact.holds is not True]
        # What is known to fail says more than what nobody knows.
        for name, fact in sorted(failing, key=lambda each: each[1].holds is None):
            known, unknown = _SAID[name]
            return f"{known if fact.holds is False else unknown} ({fact.by})."
        return ""


_SAID: Final = {
    "unlocked": ("It is locked", "Whether it is locked is not known"),
    "awake": ("This machine goes to sleep", "Whether this machine goes to sleep is not known"),
    "in_front": ("Another session is in front", "Whether it is in front is not known"),
    "local": (
        "It is used from another machine",
        "Whether it is used from another machine is not known",
    ),
}


class SessionHost(Protocol):
    """Whom a watch tells; the service is it."""

    def on_session(self, seen: SessionSeen) -> None:
        """Take what the platform says now; what it forbids is shut when this returns."""

    async def hush(self) -> None:
        """Return when the sources of all that is shut are closed."""


class SessionWatch(Protocol):
    """Watches the session of this process."""

    async def run(self) -> None:
        """Tell the host at once, and whenever something changes, until cancelled.

        What restricts is told first and asked about after; what permits is told only once
        the platform was asked and answered.  Sleep is held up until the host is silent.
        """


OpenSession: TypeAlias = Callable[[SessionHost], SessionWatch]


def open_watch(host: SessionHost) -> SessionWatch:
    """Return the watch of this platform."""
    from agent.session._platform import watch  # noqa: PLC0415 - it loads what it picks

    return watch(host)


async def look() -> SessionSeen:
    """Return what the platform says right now (for `doctor`)."""
    from agent.session._platform import look_once  # noqa: PLC0415 - it loads what it picks

    return await look_once()
