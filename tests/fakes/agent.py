"""The agent as the tray sees it: records each command, and answers it from a script.

It stands at the other end of the tray's channel.  It fails the test itself, through
`garbled`, when something arrives that is no command.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from base import ipc
from base.clock import boot_ns
from wire.category import Category, registry
from wire.control import (
    Answer,
    CategoryStatus,
    CollectorStatus,
    Command,
    Done,
    GetNotice,
    GetStatus,
    Heartbeat,
    Notice,
    NoticeInSight,
    NoticeItem,
    OptIn,
    OptOut,
    Pause,
    Reason,
    Refused,
    Silent,
    SpoolStatus,
    Status,
    Withdraw,
)
from wire.ids import BootInstant, WallInstant

PAUSE_SECONDS: Final = 1800
T = TypeVar("T")


def a_status(  # noqa: PLR0913 - the fields that tests choose
    reason: Reason = Reason.NOT_CONSENTED,
    *,
    recording: Sequence[Category] = (),
    granted: Sequence[Category] = (),
    opted_out: Sequence[Category] = (),
    paused_until: int | None = None,
    detail: str = "",
    stopped: bool = False,
    resumes_in: int | None = None,
    counting: bool = False,
    policy_digest: str = "ab" * 32,
) -> Status:
    """Return a status like those that the agent sends, with all four categories offered."""
    return Status(
        reason=reason,
        detail=detail,
        recording=tuple(recording),
        paused_until=None if paused_until is None else WallInstant(paused_until),
        categories=tuple(
            CategoryStatus(
                category=category,
                offered=True,
                level=registry()[category].lowest_level,
                granted=category in granted,
                opted_out=category in opted_out,
                recording=category in recording,
            )
            for category in Category
        ),
        programme="Workflows 2026",
        policy_digest=policy_digest,
        kept={},
        dropped={},
        spool=SpoolStatus(
            held=0, waiting=0, quarantined=0, sent=0, forgotten=0, bytes=0, quota_bytes=1 << 30
        ),
        collector=CollectorStatus(origin="https://collector.example:8443"),
        indicator="",
        receipts="/home/ada/receipts",
        stopped=stopped,
        resumes_in=resumes_in,
        counting=counting,
    )


def a_notice(*, granted: Sequence[Category] = ()) -> Notice:
    """Return a notice of some length, with one item a category."""
    return Notice(
        policy_digest="ab" * 32,
        heading="May we record how you work, to train software that helps with it?",
        text=_NOTICE,
        items=tuple(
            NoticeItem(
                category=category,
                level=entry.lowest_level,
                title=entry.title,
                words=f"{entry.levels[entry.lowest_level]} Never recorded: {entry.never}",
                granted=category in granted,
            )
            for category, entry in registry().items()
        ),
    )


class FakeAgent:
    """Answers commands as the agent would, from a status that the test can change."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self._ours = ours
        self.status = a_status()
        self.notice: Notice | Refused = a_notice()
        self.refuse: dict[type[Command], str] = {}  # the answers that are a refusal
        self.mute: set[type[Command]] = set()  # the commands that get no answer
        self.commands: list[Command] = []  # without status questions and heartbeats
        self.beats: list[float] = []
        self.window_open = False  # as the last heartbeat said
        self.sights: list[NoticeInSight] = []
        self.looks = 0
        self.garbled = ""
        self.ended = threading.Event()
        self._arrived: queue.Queue[Command] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def next(self, seconds: float = 10.0) -> Command:
        """Return the next command, other than status questions and heartbeats."""
        return self._arrived.get(timeout=seconds)

    def expect_none(self, seconds: float) -> None:
        """Fail if a command comes within *seconds*."""
        try:
            command = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"nothing was to be said, but this was: {command}")

    def drain(self) -> None:
        """Forget the commands that came so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._arrived.get_nowait()

    def push(self, status: Status) -> None:
        """Change the state and tell the tray unasked."""
        self.status = status
        ipc.send(self._ours, status)

    def close(self) -> None:
        """End the channel, as an agent that dies does; again: nothing."""
        if self._ours.fileno() < 0:
            return
        self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._ours.close()
        self.theirs.close()

    def _serve(self) -> None:
        inbox: ipc.Inbox[Command] = ipc.Inbox(Command)
        try:
            while inbox.receive(self._ours):
                for command in inbox.messages():
                    self._take(command)
        except ipc.GarbledError as exc:
            self.garbled = str(exc)
        except OSError:
            pass
        self.ended.set()

    def _take(self, command: Command) -> None:
        if isinstance(command, Heartbeat):
            self.beats.append(time.monotonic())
            self.window_open = command.window_open
            return
        if isinstance(command, NoticeInSight):
            self.sights.append(command)
            return
        if isinstance(command, GetStatus):
            self.looks += 1
            ipc.send(self._ours, self.status)
            return
        before = self.status
        answer = self._answer(command)
        if type(command) not in self.mute:
            ipc.send(self._ours, answer)
        if self.status != before:
            ipc.send(self._ours, self.status)
        self.commands.append(command)
        self._arrived.put(command)

    def _answer(self, command: Command) -> Answer:
        why = self.refuse.get(type(command))
        if why:
            return Refused(why=why)
        match command:
            case GetNotice():
                return self.notice
            case Pause():
                self._pause()
            case OptOut(category=category):
                self._flag(category, raised=True)
            case OptIn(category=category):
                self._flag(category, raised=False)
            case _:
                pass
        if isinstance(command, Pause | OptOut | Withdraw):
            return Silent(at=BootInstant(boot_ns()), wall=WallInstant(time.time_ns()))
        return Done(detail="Done.")

    def _pause(self) -> None:
        until = WallInstant(time.time_ns() + PAUSE_SECONDS * 1_000_000_000)
        self.status = msgspec.structs.replace(
            self.status, reason=Reason.PAUSED_UNTIL, recording=(), paused_until=until
        )

    def _flag(self, category: Category | None, *, raised: bool) -> None:
        self.status = msgspec.structs.replace(
            self.status,
            categories=tuple(
                msgspec.structs.replace(each, opted_out=raised)
                if category in {None, each.category}
                else each
                for each in self.status.categories
            ),
        )


def until(what: str, found: Callable[[], T | None], seconds: float = 10.0) -> T:
    """Ask *found* until it returns something true; return that."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
    return value


_NOTICE: Final = """\
Who asks: Example Works Ltd, privacy@example.org. Programme: Workflows 2026.

What for: to train software that can carry out office work by itself. It is never used to \
judge how well, how fast or how long you work, and nobody who leads you can see it.

Who can read it: the training team, and only through the employee representatives' lock. \
Each time somebody opens something of yours, it is written into a log that you can read.

How long: 12 months, then it is destroyed. You can have it erased earlier.

You need not agree. Nothing changes for you if you do not, and nobody is told why. \
You can agree to some parts and not to others, and you can end it at any time.
"""
