"""Mutated messages between the processes of a workstation: only a GarbledError may come out.

What a sensor sent and what could be decoded goes on into a real pipeline, whose batches are
encoded as they are sealed: a child gone wild must not take the agent along.
"""

import itertools
import socket
from typing import Any, Final

import msgspec

from agent.consent.hidden import HiddenTimeline
from agent.consent.scope import FocusTimeline
from agent.counters import Counters
from agent.handover import Permit, Rolled, SealedBatch, Span
from agent.pipeline import Pipeline
from base.clock import NANOSECONDS, Now
from base.ipc import LENGTH, GarbledError, Inbox, encode
from fuzz.campaign import Tally, Target, attack
from fuzz.mutation import mutate, odd_msgpack
from wire import control
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category
from wire.event import Button, Focus, Frame, Key, Move, Rectangle, Scroll
from wire.ids import BootInstant, CoreHash, GrantHash, PolicyDigest, WallInstant

AT: Final = BootInstant(10 * NANOSECONDS)
NOW: Final = Now(boot=60 * NANOSECONDS, wall=1_800_000_000 * NANOSECONDS, boot_id="fuzz")
LARGEST_SENT: Final = 128 << 10  # fits into a socket's buffer, so that nobody waits

EVENTS: Final = (
    Key(at=AT, pressed=True, kind="letter"),
    Move(at=AT, x=3, y=4),
    Button(at=AT, x=3, y=4, button=1, pressed=True),
    Scroll(at=AT, x=3, y=4, dx=0, dy=-1),
    Frame(
        at=AT,
        key=True,
        left=0,
        top=0,
        width=2,
        height=1,
        rectangles=(Rectangle(x=0, y=0, width=2, height=1, pixels=b"(\xb5/\xfd"),),
    ),
    Focus(at=AT, process="gedit", window_class="Gedit", x=0, y=0, width=9, height=9),
)
FROM_SENSOR: Final = (
    control.SourceOpened(epoch=1, at=AT),
    control.SourceClosed(epoch=1, at=AT),
    control.SourceFailed(epoch=1, why="no display"),
)
COMMANDS: Final = (
    control.GetStatus(),
    control.Pause(forget_minutes=5),
    control.OptOut(category=Category.KEYS),
    control.Withdraw(category=None, erase=True),
    control.Forget(minutes=1),
    control.Grant(category=Category.KEYS, words_sha256=bytes(32)),
    control.Resume(),
    control.AwaitClick(),
    control.NoticeInSight(for_ms=1_000, input_ms=5),
    control.Heartbeat(),
)
ITEMS: Final = control.Items(
    epoch=1, events=EVENTS, focus=(control.FocusSeen(at=AT, inside=True, process="gedit"),)
)
ANSWERS: Final = (control.Done(detail="done"), control.Silent(at=AT, wall=WallInstant(1)))


def campaign(count: int, seed: int) -> Tally:
    """Try *count* messages."""
    return attack(targets(), count, seed)


def targets() -> tuple[Target, ...]:
    """Return each conversation with messages of it."""
    return (
        _target("sensor to agent", control.FromSensor, FROM_SENSOR),
        _target("tray or command to agent", control.Command, COMMANDS),
        _target("agent to tray", control.Answer, ANSWERS),
        _target("items", control.Items, (ITEMS,)),
        Target(
            name="items into the pipeline",
            decode=_into_the_pipeline,
            seeds=(msgspec.msgpack.encode(ITEMS),),
            refuses=(msgspec.DecodeError, UnicodeDecodeError, RecursionError),
            spoil=odd_msgpack,
        ),
    )


def _target(name: str, expect: Any, messages: tuple[msgspec.Struct, ...]) -> Target:  # noqa: ANN401
    """Return a target that sends bytes through a real socket into a real inbox."""

    def received(data: bytes) -> object:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.settimeout(0)
            theirs.send(data[:LARGEST_SENT])
            theirs.shutdown(socket.SHUT_WR)
            inbox: Inbox[object] = Inbox(expect)
            found: list[object] = []
            while inbox.receive(ours):
                found += inbox.messages()
            return found

    return Target(
        name=name,
        decode=received,
        seeds=tuple(map(encode, messages)),
        refuses=(GarbledError,),
        spoil=lambda data, chance: (
            mutate(data, chance)
            if chance.random() < 0.3
            else _framed(odd_msgpack(data[LENGTH.size :], chance))
        ),
    )


def _framed(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def _into_the_pipeline(data: bytes) -> object:
    """Take the items as the service does, wait, close: all that was kept is encoded."""
    items = msgspec.msgpack.decode(data, type=control.Items)
    timeline, numbers = FocusTimeline(), itertools.count(1)
    timeline.note(0, inside=True)
    hidden = HiddenTimeline("context")
    hidden.note("context", 0, secret=False)
    pipeline = Pipeline(
        timeline=timeline,
        hidden=hidden,
        counters=Counters(),
        number=lambda _category: next(numbers),
        seal=_encoded,
        spool=lambda _sealed, _now: None,
        why_not=lambda _category: control.Reason.PAUSED_UNTIL,
    )
    for category in Category:
        pipeline.permit(_permit(category))
    for seen in items.focus:
        timeline.note(seen.at, inside=seen.inside)
    for told in items.secrets:
        hidden.note("context", told.at, told.secret)
    pipeline.take(items.events, NOW)
    pipeline.forget_since(NOW, NOW)
    pipeline.shut(tuple(Category), NOW.boot)
    pipeline.settle(tuple(Category), NOW, keep=True)
    return pipeline


def _permit(category: Category) -> Permit:
    return Permit(
        category=category,
        grant=GrantHash(b"g"),
        policy=PolicyDigest(b"p"),
        level="text",
        rate_hz=1e6,
        since=BootInstant(0),
    )


def _encoded(rolled: Rolled) -> SealedBatch:
    opening = Opening(
        core_hash=CoreHash(bytes(32)),
        wall=WallInstant(rolled.anchor.wall),
        boot=BootInstant(rolled.anchor.boot),
        level=rolled.permit.level,
        counters=dict(rolled.counters),
        gaps=rolled.gaps,
    )
    ats = [event.at for event in rolled.events]
    return SealedBatch(
        name="1",
        category=rolled.permit.category,
        grant=rolled.permit.grant,
        policy=rolled.permit.policy,
        span=Span(
            first_wall=min(ats),
            last_wall=max(ats),
            first_boot=min(ats),
            last_boot=max(ats),
            boot_id=rolled.anchor.boot_id,
        ),
        events=len(ats),
        expires="2027-12-31",
        unsigned=encode_batch(Batch(opening=opening, events=rolled.events)),
        age_header=b"",
    )
