"""Windows and macOS: what their answers mean.  Fakes answer; the real ones never did."""

import asyncio
import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from agent.session import SessionHost, SessionSeen, SessionWatch
from agent.session._darwin import IS_LOCKED, ON_CONSOLE, MacSession
from agent.session._win32 import InfoEx, WindowsSession


@dataclass
class Windows:
    """Windows, with an unlocked session at this machine."""

    state: int = 0
    flags: int = 1
    remote: bool = False
    default_desktop: bool = True
    answers: bool = True

    def session_info(self) -> tuple[int, int]:
        if not self.answers:
            raise OSError("WTSQuerySessionInformationW failed")
        return self.state, self.flags

    def is_remote(self) -> bool:
        return self.remote

    def has_input_desktop(self) -> bool:
        return self.default_desktop


@dataclass
class Mac:
    """macOS, with an unlocked session on the console."""

    said: dict[bytes, bool] | None = field(default_factory=lambda: {ON_CONSOLE: True})

    def session(self) -> Mapping[bytes, bool] | None:
        return self.said


class Listener:
    """What the agent would hear."""

    def __init__(self) -> None:
        self.said: list[SessionSeen] = []

    def on_session(self, seen: SessionSeen) -> None:
        self.said.append(seen)

    async def hush(self) -> None:
        return


async def told(listener: Listener, ours: bool | None) -> None:  # noqa: FBT001 - the expected third value
    """Wait until the last that was said is *ours*."""
    async with asyncio.timeout(20):
        while not listener.said or listener.said[-1].ours() is not ours:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def follow(watch: SessionWatch, listener: Listener, system: object, **change: object) -> None:
    """Ours; then what *change* does closes; then ours again."""
    task = asyncio.create_task(watch.run())
    try:
        await told(listener, ours=True)
        before = {name: getattr(system, name) for name in change}
        for name, value in change.items():
            setattr(system, name, value)
        async with asyncio.timeout(20):
            while listener.said[-1].ours() is True:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert listener.said[-1].why_not()
        for name, value in before.items():
            setattr(system, name, value)
        await told(listener, ours=True)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "change",
    [
        {"flags": 0},  # locked
        {"flags": -1},  # WTS_SESSIONSTATE_UNKNOWN
        {"state": 4},  # WTSDisconnected: another user switched in
        {"remote": True},
        {"default_desktop": False},  # the secure desktop: locker, UAC prompt
        {"answers": False},
    ],
)
def test_whatever_windows_says_against_it_closes(change: dict[str, object]) -> None:
    """And its end is asked for."""
    system, listener = Windows(), Listener()
    asyncio.run(follow(WindowsSession(listener, system), listener, system, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"said": {ON_CONSOLE: True, IS_LOCKED: True}},
        {"said": {ON_CONSOLE: False}},  # fast user switching
        {"said": {}},
        {"said": None},  # no session on a screen
    ],
)
def test_whatever_macos_says_against_it_closes(change: dict[str, object]) -> None:
    """And its end is asked for."""
    system, listener = Mac(), Listener()
    asyncio.run(follow(MacSession(listener, system, {}), listener, system, **change))


def test_a_mac_that_is_worked_on_through_ssh_is_remote() -> None:
    """The agent was started through it."""
    listener = Listener()

    async def story(host: SessionHost) -> None:
        task = asyncio.create_task(MacSession(host, Mac(), {"SSH_TTY": "/dev/ttys1"}).run())
        await told(listener, ours=False)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story(listener))
    assert "SSH_TTY is set" in listener.said[-1].why_not()


def test_the_layout_of_windows_answer_is_that_of_its_headers() -> None:
    """WTSINFOEXW on 64-bit Windows: the union stands at byte 8, for it holds 64-bit integers."""
    assert InfoEx.Data.offset == 8
    assert ctypes.sizeof(InfoEx) >= 20
