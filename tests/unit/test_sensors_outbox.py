"""Events on their way to the agent: all of them, in order, or counted; never without bound."""

import socket
from collections.abc import Iterator

import pytest

from agent.sensors import _outbox
from agent.sensors._outbox import HELD_EVENTS, SEND_INTERVAL, Outbox
from base import ipc
from wire.control import FocusSeen, Items
from wire.event import Frame, Move, Rectangle
from wire.ids import BootInstant

NOW = BootInstant(1_000_000_000_000)


def move(number: int) -> Move:
    return Move(at=BootInstant(number), x=number, y=0)


def frame(size: int) -> Frame:
    part = Rectangle(x=0, y=0, width=1, height=1, pixels=bytes(size))
    return Frame(at=NOW, key=True, left=0, top=0, width=1, height=1, rectangles=(part,))


@pytest.fixture
def ends() -> Iterator[tuple[Outbox, socket.socket]]:
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours, epoch=3)
    yield outbox, theirs
    outbox.close()
    theirs.close()


def received(sock: socket.socket) -> list[Items]:
    """Return the messages that have arrived so far."""
    inbox: ipc.Inbox[Items] = ipc.Inbox(Items)
    sock.settimeout(0)
    try:
        while inbox.receive(sock):
            pass
    except BlockingIOError:
        pass
    return list(inbox.messages())


def test_what_comes_after_a_quiet_time_is_sent_at_once(
    ends: tuple[Outbox, socket.socket],
) -> None:
    """The first event does not wait for company; what follows closely does, and not for long."""
    outbox, agent = ends
    outbox.put(move(1))
    outbox.send(NOW)
    assert [message.events for message in received(agent)] == [(move(1),)]

    outbox.put(move(2))
    outbox.send(BootInstant(NOW + SEND_INTERVAL // 2))
    assert received(agent) == []
    assert outbox.due() == NOW + SEND_INTERVAL
    outbox.put(move(3))
    outbox.send(BootInstant(NOW + SEND_INTERVAL))
    assert [message.events for message in received(agent)] == [(move(2), move(3))]
    assert outbox.due() is None


def test_focus_and_events_travel_in_their_fields(ends: tuple[Outbox, socket.socket]) -> None:
    """One message carries both kinds, and the epoch that it belongs to."""
    outbox, agent = ends
    seen = FocusSeen(at=NOW, inside=False)
    outbox.put(seen)
    outbox.put(move(1))
    outbox.count(5)
    outbox.send(NOW)
    assert received(agent) == [Items(epoch=3, events=(move(1),), focus=(seen,), suppressed=5)]


def test_an_agent_that_does_not_read_costs_bounded_memory_and_is_told(
    ends: tuple[Outbox, socket.socket],
) -> None:
    """What finds no room is counted; when the agent reads again it gets the rest and the count."""
    outbox, agent = ends
    taken, now = 0, NOW
    for number in range(4 * HELD_EVENTS):
        taken += outbox.put(move(number))
        now = BootInstant(now + SEND_INTERVAL // 100)
        outbox.send(now)
    assert taken < 4 * HELD_EVENTS

    messages: list[Items] = []
    while outbox.busy or outbox.due() is not None:
        messages += received(agent)
        now = BootInstant(now + SEND_INTERVAL)
        outbox.send(now)
    messages += received(agent)
    events = [event for message in messages for event in message.events]
    assert len(events) == taken
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert sum(message.suppressed for message in messages) == 4 * HELD_EVENTS - taken


def test_pictures_are_bounded_by_their_bytes(
    ends: tuple[Outbox, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few large frames fill the room that thousands of moves would."""
    outbox, _agent = ends
    monkeypatch.setattr(_outbox, "HELD_BYTES", 10_000)
    assert outbox.put(frame(6000))
    assert not outbox.put(frame(6000))
    assert outbox.put(move(1))


def test_a_message_is_never_larger_than_the_other_end_takes(
    ends: tuple[Outbox, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that together are too large travel in several messages."""
    outbox, agent = ends
    monkeypatch.setattr(_outbox, "MESSAGE_BYTES", 10_000)
    for _ in range(3):
        outbox.put(frame(6000))
    messages: list[Items] = []
    for turn in range(4):
        outbox.send(BootInstant(NOW + turn * SEND_INTERVAL))
        messages += received(agent)
    assert [len(message.events) for message in messages] == [1, 1, 1]
