"""The loop of a sensor process, with a source that the test scripts."""

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.capture import SourceError
from agent.redact.proof import RedactionError
from agent.sensors import context, screen
from agent.sensors import input as keys_and_pointer
from agent.sensors._loop import Sensor
from base import ipc
from base.errors import ExitCode
from tests.fakes.sources import ScriptedSource
from wire.control import (
    CloseSource,
    ContextSettings,
    FromSensor,
    InputSettings,
    Items,
    OpenSource,
    Redaction,
    ScreenSettings,
    SourceClosed,
    SourceFailed,
    SourceOpened,
)
from wire.event import Move
from wire.ids import BootInstant

SETTINGS = InputSettings(keys=True, pointer=True, key_level="classes")


def move(number: int) -> Move:
    return Move(at=BootInstant(number), x=number, y=0)


class ScriptedFeed(ScriptedSource[Move]):
    """A feed whose items are those of its source; remembers what the loop did with it."""

    def __init__(self, *, refuse: str = "") -> None:
        super().__init__(refuse=refuse)
        self.steps: list[str] = []
        self.before_each: Callable[[], None] = lambda: None

    def open(self) -> None:
        self.steps.append("open")
        super().open()

    def collect(self, *, room: bool) -> Iterator[Move]:
        for item in self.drain():
            self.before_each()
            yield item

    def suppressed(self) -> int:
        return 0

    def lost(self) -> None:
        self.steps.append("lost")

    def close(self) -> None:
        self.steps.append("close")
        super().close()


class Agent:
    """The agent's side of a sensor that runs in a thread of this process."""

    def __init__(self, *feeds: ScriptedFeed, prove: Callable[[], None] = lambda: None) -> None:
        self._feeds = iter(feeds)
        self.channel, theirs = socket.socketpair()
        self.stop_reading, self.stop_writing = os.pipe()
        sensor = Sensor(theirs, lambda _settings: next(self._feeds), self.stop_reading, prove)
        self.outcome: ExitCode | None = None
        self._thread = threading.Thread(target=self._run, args=(sensor,))
        self._thread.start()
        self._answers: ipc.Inbox[FromSensor] = ipc.Inbox(FromSensor)
        self._items: ipc.Inbox[Items] = ipc.Inbox(Items)
        self.events: socket.socket | None = None
        self.channel.settimeout(10)
        self.redaction = self.answer()

    def _run(self, sensor: Sensor) -> None:
        self.outcome = sensor.run()

    def open(self, epoch: int) -> FromSensor:
        self.hang_up_events()
        self.events, theirs = socket.socketpair()
        self.events.settimeout(10)
        with theirs:
            order = OpenSource(epoch=epoch, settings=SETTINGS)
            ipc.send_with_descriptor(self.channel, order, theirs.fileno())
        return self.answer()

    def answer(self) -> FromSensor:
        while True:
            for message in self._answers.messages():
                return message
            assert self._answers.receive(self.channel), "the sensor hung up"

    def received(self, until: Callable[[list[Move]], bool]) -> list[Move]:
        """Return what has come, when it is enough or the events' socket has ended."""
        moves: list[Move] = []
        assert self.events is not None
        while not until(moves):
            if not self._items.receive(self.events):
                break
            for message in self._items.messages():
                moves += [event for event in message.events if isinstance(event, Move)]
        return moves

    def hang_up_events(self) -> None:
        if self.events is not None:
            self.events.close()
            self.events = None

    def end(self) -> ExitCode | None:
        self.channel.close()
        return self.wait()

    def wait(self) -> ExitCode | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.hang_up_events()
        self.channel.close()
        for end in (self.stop_reading, self.stop_writing):
            os.close(end)
        return self.outcome


def test_a_sensor_says_first_that_its_redaction_works() -> None:
    """Before it is asked for anything."""
    agent = Agent()
    assert agent.redaction == Redaction(works=True)
    assert agent.end() is ExitCode.DONE


def test_a_sensor_whose_redaction_does_not_work_opens_nothing() -> None:
    """It says so, goes on answering, and never comes to its source."""

    def prove() -> None:
        raise RedactionError("it hides nothing")

    feed = ScriptedFeed()
    agent = Agent(feed, prove=prove)
    assert agent.redaction == Redaction(works=False, why="it hides nothing")
    for epoch in (1, 2):
        assert agent.open(epoch) == SourceFailed(epoch=epoch, why="it hides nothing")
    assert agent.end() is ExitCode.DONE
    assert feed.steps == []


def test_what_happens_while_open_arrives_in_order() -> None:
    """Everything between `SourceOpened` and `CloseSource` that had time to be read, once each."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    assert isinstance(agent.open(1), SourceOpened)
    feed.happen(*(move(number) for number in range(1000)))
    moves = agent.received(lambda moves: len(moves) >= 1000)
    assert [each.x for each in moves] == list(range(1000))
    assert agent.end() is ExitCode.DONE
    assert feed.steps == ["open", "close"]


def test_no_event_follows_a_close_that_has_arrived() -> None:
    """The channel is looked at before each event, also in the middle of a backlog."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    agent.open(1)
    seen: list[int] = []

    def close_at_the_third() -> None:
        seen.append(1)
        if len(seen) == 3:
            ipc.send(agent.channel, CloseSource(epoch=1))

    feed.before_each = close_at_the_third
    feed.happen(*(move(number) for number in range(1000)))
    closed = agent.answer()
    assert isinstance(closed, SourceClosed)
    # The source was unhooked before the answer, and the events' socket ended without the rest.
    assert feed.steps == ["open", "close"]
    assert len(seen) == 3
    assert len(agent.received(lambda _moves: False)) <= 2
    assert agent.end() is ExitCode.DONE


def test_a_new_opening_uses_a_new_socket_and_closes_the_old_one() -> None:
    """Nothing buffered before passes after it."""
    first, second = ScriptedFeed(), ScriptedFeed()
    agent = Agent(first, second)
    agent.open(1)
    old, agent.events = agent.events, None
    assert old is not None
    opened = agent.open(2)
    assert isinstance(opened, SourceOpened)
    assert opened.epoch == 2
    assert first.steps == ["open", "close"]
    old.settimeout(10)
    assert old.recv(1) == b""
    old.close()
    first.happen(move(1))
    second.happen(move(2))
    assert [each.x for each in agent.received(bool)] == [2]
    agent.end()


@pytest.mark.parametrize("epoch", [1, 7])
def test_closing_what_is_not_open_is_answered(epoch: int) -> None:
    """An agent that is unsure may ask twice; silence is confirmed every time."""
    agent = Agent(ScriptedFeed())
    agent.open(1)
    for _ in range(2):
        ipc.send(agent.channel, CloseSource(epoch=epoch))
        answer = agent.answer()
        assert isinstance(answer, SourceClosed)
        assert answer.epoch == epoch
    agent.end()


def test_a_source_that_cannot_be_opened_is_said_and_may_be_tried_again() -> None:
    """One line says why; the process stays for the next attempt."""
    agent = Agent(ScriptedFeed(refuse="no screen here"), ScriptedFeed())
    assert agent.open(1) == SourceFailed(epoch=1, why="no screen here")
    assert agent.received(lambda _moves: False) == []
    assert isinstance(agent.open(2), SourceOpened)
    assert agent.end() is ExitCode.DONE


def test_a_source_that_ends_by_itself_ends_the_process() -> None:
    """The agent hears why, and sees an exit code that is no success."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    agent.open(4)
    feed.fail("the X server has gone")
    assert agent.answer() == SourceFailed(epoch=4, why="the X server has gone")
    assert agent.wait() is ExitCode.FAILED
    assert feed.steps == ["open", "close"]


def test_a_signal_closes_and_ends() -> None:
    """SIGTERM, seen as a readable descriptor, unhooks before the process ends."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    agent.open(1)
    os.write(agent.stop_writing, b"\x0f")
    assert agent.wait() is ExitCode.DONE
    assert feed.steps == ["open", "close"]


def test_hanging_up_the_events_closes_the_source() -> None:
    """An agent that no longer takes events gets no hook either."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    agent.open(1)
    agent.hang_up_events()
    answer = agent.answer()
    assert isinstance(answer, SourceClosed)
    assert feed.steps == ["open", "close"]
    agent.end()


def test_a_garbled_channel_closes_and_ends() -> None:
    """Whoever speaks another language there is not the agent."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    agent.open(1)
    agent.channel.sendall(b"\0\0\0\2{}")
    assert agent.wait() is ExitCode.FAILED
    assert feed.steps == ["open", "close"]


def test_opening_without_a_socket_for_the_events_is_garbled() -> None:
    """There is nowhere to send to, so nothing is hooked."""
    feed = ScriptedFeed()
    agent = Agent(feed)
    ipc.send(agent.channel, OpenSource(epoch=1, settings=SETTINGS))
    assert agent.wait() is ExitCode.FAILED
    assert feed.steps == []


def test_settings_of_another_sensor_are_refused() -> None:
    """A sensor never watches what it was not built for."""
    for make, settings in (
        (keys_and_pointer.feed, ContextSettings(titles=True, applications=())),
        (context.feed, SETTINGS),
        (screen.feed, SETTINGS),
        (keys_and_pointer.feed, InputSettings(keys=False, pointer=False, key_level="text")),
        (screen.feed, ScreenSettings(rate_hz=0, applications=())),
    ):
        with pytest.raises(SourceError):
            make(settings)
