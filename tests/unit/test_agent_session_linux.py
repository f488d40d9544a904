"""Is the session ours?  Asked of a real bus, with python-dbusmock's logind and a screen saver.

What a person would notice: lock, sleep, switch of user, use from afar; and what nobody proves.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

from agent.dbus import BUS, BUS_PATH, PROPERTIES
from agent.session import Known, SessionSeen
from agent.session._display import DisplaySeen
from agent.session._linux import NO_MANAGER, LinuxSession, combine
from agent.session._logind import MANAGER, NAME, PATH, SESSION, LogindSeen, LoginService
from agent.session._look import first_word
from agent.session._screensaver import LOCKERS, SaverSeen
from tests.fakes import buses
from tests.fakes.buses import Logind, Saver

pytestmark = pytest.mark.skipif(bool(buses.missing()), reason=buses.missing())

ENVIRON = {"XDG_SESSION_ID": buses.OUR_SESSION}
NEVER_BOOTED = Path("/nowhere/systemd")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path so short that sockets may lie below it."""
    with tempfile.TemporaryDirectory(prefix="assent-") as made:
        yield Path(made)


@pytest.fixture
def session_bus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a session bus, and have no system bus."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder / 'system'}")
    for address in buses.bus(folder, "session"):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield


@pytest.fixture
def system_bus(folder: Path, session_bus: None) -> Iterator[str]:
    """Run a system bus too, with nobody on it."""
    yield from buses.bus(folder, "system")


class Listener:
    """What the agent would hear."""

    def __init__(self) -> None:
        self.said: list[tuple[float, SessionSeen]] = []
        self.may_be_silent = asyncio.Event()
        self.may_be_silent.set()
        self.hushing = asyncio.Event()

    def on_session(self, seen: SessionSeen) -> None:
        self.said.append((time.monotonic(), seen))

    async def hush(self) -> None:
        self.hushing.set()
        await self.may_be_silent.wait()

    @property
    def last(self) -> SessionSeen:
        return self.said[-1][1] if self.said else SessionSeen()

    def closed_after(self, moment: float) -> float:
        """Return how many seconds after *moment* it was first said that it is not ours."""
        return min(at for at, seen in self.said if at >= moment and not seen.ours()) - moment

    async def until(self, *, ours: bool | None, seconds: float = 20) -> SessionSeen:
        async with asyncio.timeout(seconds):
            while self.last.ours() is not ours:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)
        return self.last


@contextlib.asynccontextmanager
async def listening(
    environ: dict[str, str] | None = None, booted: Path = NEVER_BOOTED
) -> AsyncIterator[Listener]:
    listener = Listener()
    watch = LinuxSession(listener, ENVIRON if environ is None else environ, booted)
    task = asyncio.create_task(watch.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def logged_in(system_bus: str, user: int | None = None) -> AsyncIterator[Logind]:
    async with Logind(system_bus) as logind:
        await logind.log_in(user)
        yield logind


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 100))


@pytest.mark.usefixtures("monkeypatch")
def test_a_session_that_logind_says_is_unlocked_in_front_and_local_is_ours(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four facts come from logind, and each says so."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus), listening() as listener:
            seen = await listener.until(ours=True)
            assert {fact.by for fact in seen.facts().values()} == {"logind"}
            assert seen.why_not() == ""

    play(story())


CLOSES: dict[str, tuple[dict[str, bool], dict[str, bool], str]] = {
    "locked": ({"LockedHint": True}, {"LockedHint": False}, "It is locked (logind)."),
    "switched away": ({"Active": False}, {"Active": True}, "Another session is in front (logind)."),
    "taken over from afar": (
        {"Remote": True},
        {"Remote": False},
        "It is used from another machine (logind).",
    ),
}


@pytest.mark.parametrize(("gone", "back", "why"), CLOSES.values(), ids=CLOSES.keys())
def test_what_logind_says_against_it_closes_and_its_end_is_proved_again(
    system_bus: str,
    monkeypatch: pytest.MonkeyPatch,
    gone: dict[str, bool],
    back: dict[str, bool],
    why: str,
) -> None:
    """Lock, user switch, remote use; and the way back."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            await logind.change(**gone)
            assert (await listener.until(ours=False)).why_not() == why
            await logind.change(**back)
            await listener.until(ours=True)

    play(story())


def test_the_lock_signal_alone_closes_at_once_and_until_unlock(
    system_bus: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """Not every locker sets the hint; what was signalled is not asked away."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            asked_at = time.monotonic()
            await logind.tell("Lock")
            await listener.until(ours=False)
            figure(f"closed {listener.closed_after(asked_at) * 1e3:.1f} ms after logind was told")
            await logind.change(IdleHint=True)  # has everything asked again; the hint says unlocked
            await logind.mock(buses.OUR_PATH, "GetCalls", "", [])
            assert listener.last.unlocked.holds is False
            before = len(listener.said)
            await logind.tell("Unlock")
            await listener.until(ours=True)
            assert None in [seen.ours() for _, seen in listener.said[before:]]  # asked, not assumed

    play(story())


LIES: dict[str, Message] = {
    "unlocked": Message.new_signal(buses.OUR_PATH, SESSION, "Unlock"),
    "unlocked, by another interface": Message.new_signal(buses.OUR_PATH, "a.b", "Unlock"),
    "not locked": Message.new_signal(
        buses.OUR_PATH,
        PROPERTIES,
        "PropertiesChanged",
        "sa{sv}as",
        [SESSION, {"LockedHint": Variant("b", False)}, []],  # noqa: FBT003 - D-Bus's own
    ),
    "malformed": Message.new_signal(PATH, MANAGER, "PrepareForSleep"),
    "another logind": Message.new_signal(
        BUS_PATH, BUS, "NameOwnerChanged", "sss", [NAME, ":1.0", ":1.1"]
    ),
    "nonsense of the bus": Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_what_a_stranger_says_in_the_name_of_logind_is_not_heard(
    system_bus: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lie: Message,
) -> None:
    """A rule of the bus keeps nobody from sending a signal to us alone: it counts who did."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            await logind.tell("Lock")
            await listener.until(ours=False)
            before = len(listener.said)
            await buses.send_to_all(system_bus, lie)
            await logind.change(Active=False)  # heard after the lie
            async with asyncio.timeout(20):
                while listener.last.in_front.holds is not False:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert {seen.unlocked.holds for _, seen in listener.said[before:]} == {False}
            await logind.tell("Unlock")
            await logind.change(Active=True)
            await listener.until(ours=True)

    play(story())
    assert caplog.records == []


def test_a_logind_that_was_started_again_is_heard(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another connection; the bus says which."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with listening() as listener:
            async with logged_in(system_bus):
                await listener.until(ours=True)
            await listener.until(ours=None)
            async with logged_in(system_bus) as logind:
                await listener.until(ours=True)
                await logind.tell("Lock")
                await listener.until(ours=False)

    play(story())


def test_what_logind_says_malformed_is_dropped_with_one_line(
    system_bus: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And no traceback; what it says next counts."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            await logind.tell_nonsense()
            await logind.tell("Lock")
            await listener.until(ours=False)

    play(story())
    (line,) = caplog.messages
    assert line == "logind's PrepareForSleep is malformed, and is dropped"


@pytest.mark.usefixtures("session_bus")
def test_what_a_stranger_says_in_the_name_of_a_saver_only_has_it_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Malformed or not: an active saver stays active, whoever says that it is not."""

    async def story() -> None:
        async with Saver() as saver, listening({}) as listener:
            saver.answer = True
            await listener.until(ours=False)
            before = len(listener.said)
            await buses.send_to_all(
                os.environ["DBUS_SESSION_BUS_ADDRESS"],
                Message.new_signal(saver.path, saver.name, "ActiveChanged", "b", [False]),
                Message.new_signal(saver.path, saver.name, "ActiveChanged"),
                Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged"),
                Message.new_signal(BUS_PATH, BUS, "NameOwnerChanged", "s", [saver.name]),
            )
            await saver.becomes(active=False)
            await listener.until(ours=True)
            said = [seen.ours() for _, seen in listener.said[before:]]
            assert said.index(True) == len(said) - 1  # not before the saver said so

    play(story())
    assert caplog.records == []


def test_sleep_waits_until_the_host_is_silent_and_waking_proves_everything_again(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delay lock is let go after `hush`, and taken again for the next night."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            await held(logind, 1)
            listener.may_be_silent.clear()
            await logind.sleep(begins=True)
            await asyncio.wait_for(listener.hushing.wait(), 20)
            assert listener.last.awake.holds is False  # shut first, silent after
            assert await logind.inhibitors()  # not silent yet: it must not sleep yet
            listener.may_be_silent.set()
            await held(logind, 0)
            before = len(listener.said)
            await logind.sleep(begins=False)
            await listener.until(ours=True)
            assert None in [seen.ours() for _, seen in listener.said[before:]]
            await held(logind, 1)

    play(story())


async def held(logind: Logind, number: int) -> None:
    """Wait until sleep is held up by so many."""
    async with asyncio.timeout(20):
        while len(await logind.inhibitors()) != number:  # noqa: ASYNC110 - the mock has no event for it
            await asyncio.sleep(0.01)


def test_a_login_manager_that_went_away_is_unknown_and_never_none(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there, so there may be other sessions; that it crashed changes nothing."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus) as logind, listening() as listener:
            await listener.until(ours=True)
            logind.kill()
            seen = await listener.until(ours=None)
            assert "does not answer" in seen.why_not()

    play(story())


def test_a_session_of_somebody_else_is_not_taken_for_ours(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment may name any session; whose it is, logind says."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with logged_in(system_bus, user=4_321), listening() as listener:
            async with asyncio.timeout(20):
                while "knows no session" not in listener.last.in_front.by:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert listener.last.ours() is None

    play(story())


@pytest.mark.usefixtures("session_bus")
def test_a_machine_without_a_login_manager_has_no_other_session() -> None:
    """No system bus and not started by systemd: proved by that, and said so."""

    async def story() -> None:
        async with listening({}) as listener:
            seen = await listener.until(ours=True)
            assert {fact.by for fact in seen.facts().values()} == {NO_MANAGER}

    play(story())


def test_a_system_bus_on_which_nobody_logs_in_is_the_same(
    system_bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with a bus: nobody is called org.freedesktop.login1, nor could be started."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system_bus)

    async def story() -> None:
        async with listening({}) as listener:
            await listener.until(ours=True)

    play(story())


@pytest.mark.usefixtures("session_bus")
def test_a_machine_that_should_have_one_is_unknown_without_it(tmp_path: Path) -> None:
    """Started by systemd, and no logind to be asked: something is broken, so no."""

    async def story() -> None:
        async with listening({}, booted=tmp_path) as listener:
            await asyncio.sleep(0)
            seen = await first_word(lambda host: LinuxSession(host, {}, tmp_path))
            assert seen.ours() is None
            assert True not in [each.ours() for _, each in listener.said]

    play(story())


@pytest.mark.usefixtures("session_bus")
@pytest.mark.parametrize("name", LOCKERS)
def test_a_screen_saver_that_begins_closes_and_its_end_is_asked_for(name: str) -> None:
    """Each desktop's own name for it."""

    async def story() -> None:
        async with Saver(name) as saver, listening({}) as listener:
            seen = await listener.until(ours=True)
            assert seen.unlocked.by == f"{NO_MANAGER}, {name}"
            await saver.becomes(active=True)
            assert (await listener.until(ours=False)).why_not() == f"It is locked ({name})."
            await saver.becomes(active=False)
            await listener.until(ours=True)

    play(story())


@pytest.mark.usefixtures("session_bus")
@pytest.mark.parametrize(
    ("answer", "ours"),
    [
        ("org.freedesktop.DBus.Error.NotSupported", True),  # GNOME's stand-in: no locker
        ("org.freedesktop.DBus.Error.Failed", None),
        (None, None),  # a locker that hangs may have locked
        (True, False),
    ],
)
def test_what_a_saver_answers_counts_as_what_it_is(
    answer: str | bool | None,  # noqa: FBT001 - what it answers is the case
    ours: bool | None,  # noqa: FBT001 - the expected third value
) -> None:
    """An error that says "no such question" is no locker; any other, and silence, is unknown."""

    async def story() -> None:
        async with Saver() as saver:
            saver.answer = answer
            seen = await first_word(lambda host: LinuxSession(host, {}, NEVER_BOOTED))
            assert seen.ours() is ours

    play(story())


@pytest.mark.usefixtures("session_bus")
def test_a_saver_that_comes_later_is_asked_too() -> None:
    """It is started when somebody locks for the first time."""

    async def story() -> None:
        async with listening({}) as listener:
            await listener.until(ours=True)
            saver = Saver()
            saver.answer = True
            async with saver:
                await listener.until(ours=False)
            await listener.until(ours=True)

    play(story())


@pytest.mark.usefixtures("folder")
def test_without_a_session_bus_nobody_can_say_whether_it_is_locked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is no."""
    for name in ("SESSION", "SYSTEM"):
        monkeypatch.setenv(f"DBUS_{name}_BUS_ADDRESS", f"unix:path={folder / name}")

    async def story() -> None:
        async with listening({}) as listener:
            async with asyncio.timeout(20):
                while listener.last.in_front.holds is not True:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert listener.last.unlocked.holds is None
            with pytest.raises(OSError, match="No such file"):
                await MessageBus().connect()

    play(story())


# --- what the sources prove together ------------------------------------------------------

QUIET = SaverSeen(active=False, by="")
HERE = LogindSeen(manager=LoginService.THERE, asleep=False, locked=False, active=True, remote=False)
XORG, XVFB = DisplaySeen(server="Xorg"), DisplaySeen(server="Xvfb", virtual=True)


@pytest.mark.parametrize(
    ("logind", "savers", "display", "ours"),
    [
        (HERE, QUIET, XORG, True),
        (HERE, SaverSeen(), XORG, None),
        (HERE, SaverSeen(active=True), XORG, False),
        (HERE, QUIET, DisplaySeen(server="Xvnc", remote="the X server is Xvnc"), False),
        (LogindSeen(manager=LoginService.ABSENT), QUIET, XORG, True),
        (LogindSeen(), QUIET, XORG, None),
        (LogindSeen(manager=LoginService.THERE, asleep=False), QUIET, XORG, None),
        # A server that hangs on no seat: logind's silence says nothing of it; its word does.
        (LogindSeen(), QUIET, XVFB, True),
        (LogindSeen(manager=LoginService.THERE, asleep=True), QUIET, XVFB, False),
        (LogindSeen(manager=LoginService.THERE, locked=True), QUIET, XVFB, False),
        (LogindSeen(), SaverSeen(), XVFB, None),
        (LogindSeen(knew_us=True), QUIET, XVFB, None),
    ],
)
def test_the_sources_together_prove_this(
    logind: LogindSeen,
    savers: SaverSeen,
    display: DisplaySeen,
    ours: bool | None,  # noqa: FBT001 - the expected third value
) -> None:
    """A no of one is a no; a yes needs all."""
    assert combine(logind, savers, display).ours() is ours


def test_what_is_known_to_fail_is_said_before_what_nobody_knows() -> None:
    """One line: the one that helps."""
    seen = SessionSeen(local=Known(holds=False, by="SSH_CONNECTION is set"))
    assert seen.why_not() == "It is used from another machine (SSH_CONNECTION is set)."
    assert "not known" in SessionSeen().why_not()
