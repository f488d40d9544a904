"""A workstation without a desktop: sensors, tray, icon and collector that speak the real protocols.

The fakes fail the test themselves when a rule is broken: a sensor that gets `OpenSource` while
open, a collector that gets a batch before its consent record or after its deletion.
"""

import asyncio
import contextlib
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.children import Started
from agent.config import Config
from agent.enroll import CERTIFICATE, ENROLMENT, KEY, Device, Enrolment, load_device
from agent.handover import Answered, NoAnswer, Outcome
from agent.service import Service, Watches
from agent.session import Known, SessionHost, SessionSeen
from agent.transport import Door
from base import durable
from base.clock import Now, boot_ns
from base.door import UnreachableError
from base.ipc import Inbox, encode, read, send
from base.paths import Paths
from base.pki import Authority, Role, client_uri, private_pem, signing_request, spki_sha256
from tests.fakes.organisation import WITNESS_NAME, Organisation
from tests.fakes.repository import Repository, enrol
from wire.batch import decode_batch
from wire.category import Category
from wire.collector_http import Carried, Deleted, Logged, State
from wire.consent_event import ConsentEvent, SignedEvent, verify_event
from wire.control import (
    Answer,
    CloseSource,
    Command,
    ContextSettings,
    FocusSeen,
    FromAgent,
    Grant,
    Heartbeat,
    Items,
    NoticeInSight,
    OpenSource,
    Redaction,
    SecretSeen,
    Settings,
    SourceClosed,
    SourceOpened,
    Status,
)
from wire.event import Event, Key, Move
from wire.frame import core_hash, decode_core, split, verify
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.guard_http import KeyAnswer, KeyRequest, sign_key
from wire.guard_order import SignedOrder
from wire.ids import BatchHash, BootInstant, WallInstant
from wire.leaf import (
    Kind,
    batch_payload,
    deletion_payload,
    entry,
    event_payload,
    grant_payload,
    request_payload,
)
from wire.opening import open_body
from wire.policy import Policy, words_sha256
from wire.receipt import Receipt, encode_receipt
from wire.rights import (
    Erasure,
    Request,
    Requests,
    SignedRequest,
    sign_erasure,
    verify_request,
)
from wire.sealing import recipient_of
from wire.shelf import unshelve
from wire.tlog import cosign, leaf_hash
from wire.xwing import public_key_of

ALWAYS_FRESH = 1 << 36  # seconds since the epoch: later than any test is


class ShiftedClock:
    """The real clocks, moved by what a test adds to them."""

    def __init__(self) -> None:
        self.boot_shift = 0
        self.wall_shift = 0
        self.boot_id = "boot-1"
        self._start_boot = boot_ns()
        self._start_wall = int(datetime.now(UTC).timestamp() * 1e9)

    def now(self) -> Now:
        passed = boot_ns() - self._start_boot
        return Now(
            boot=self._start_boot + passed + self.boot_shift,
            wall=self._start_wall + passed + self.wall_shift,
            boot_id=self.boot_id,
        )

    def pass_by(self, seconds: float) -> None:
        """Let time go by on both clocks, as in a suspend."""
        self.boot_shift += int(seconds * 1e9)
        self.wall_shift += int(seconds * 1e9)


class FakeSensor:
    """One sensor process, as a thread; `emit` is what it sees."""

    def __init__(
        self,
        module: str,
        channel: socket.socket,
        ended: Callable[[int], None],
        clock: ShiftedClock,
    ) -> None:
        self.module = module
        self._clock = clock
        self.opened: list[Settings] = []
        self.epoch = 0
        self.hangs = False  # does not answer CloseSource: has to be killed
        self.closed_at = 0
        self._channel = channel
        self._ended = ended
        self._items: socket.socket | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._items is not None

    @property
    def settings(self) -> Settings:
        assert self.is_open
        return self.opened[-1]

    def emit(self, *events: Event, focus: tuple[FocusSeen, ...] = (), suppressed: int = 0) -> None:
        with self._lock:
            assert self._items is not None, f"{self.module} is closed"
            items = Items(epoch=self.epoch, events=events, focus=focus, suppressed=suppressed)
            send(self._items, items)

    def tell(self, *, secret: bool | None, at: int | None = None) -> None:
        """Say whether keys go to a field for secrets."""
        with self._lock:
            assert self._items is not None, f"{self.module} is closed"
            now = self._clock.now().boot if at is None else at
            seen = SecretSeen(at=BootInstant(now), secret=secret)
            send(self._items, Items(epoch=self.epoch, secrets=(seen,)))

    def say_redacting(self, *, works: bool) -> None:
        """Say whether the redaction works."""
        send(self._channel, Redaction(works=works, why="" if works else "it hides nothing"))

    def kill(self) -> None:
        """End like a killed process: the kernel closes both sockets."""
        with self._lock:
            if self._items is not None:
                self._items.close()
                self._items = None
        self._channel.shutdown(socket.SHUT_RDWR)

    def _open(self, items: socket.socket, epoch: int, settings: Settings) -> None:
        """Open; what a source says by itself is said before a test can see that it is open."""
        self.opened.append(settings)
        send(self._channel, SourceOpened(epoch=epoch, at=BootInstant(boot_ns())))
        if isinstance(settings, ContextSettings):
            now = BootInstant(self._clock.now().boot)
            send(items, Items(epoch=epoch, secrets=(SecretSeen(at=now, secret=False),)))
        with self._lock:
            self.epoch = epoch
            self._items = items

    def _run(self) -> None:
        inbox: Inbox[FromAgent] = Inbox(FromAgent)
        try:
            self.say_redacting(works=True)
            while inbox.receive(self._channel):
                for message in inbox.messages():
                    self._on_message(message, inbox)
        except OSError:
            pass
        with self._lock:
            if self._items is not None:
                self._items.close()
                self._items = None
        self._channel.close()
        self._ended(0)

    def _on_message(self, message: FromAgent, inbox: Inbox[FromAgent]) -> None:
        match message:
            case OpenSource(epoch=epoch, settings=settings):
                assert not self.is_open, "opened twice"
                assert epoch > self.epoch, "an epoch was used before"
                self._open(socket.socket(fileno=inbox.descriptors.pop(0)), epoch, settings)
            case CloseSource(epoch=epoch):
                if self.hangs:
                    return
                with self._lock:
                    if self._items is not None:
                        self._items.close()
                    self._items = None
                    self.closed_at = boot_ns()
                send(self._channel, SourceClosed(epoch=epoch, at=BootInstant(self.closed_at)))


class FakeTray:
    """The tray process: beats, and says what a test clicks."""

    def __init__(self, channel: socket.socket, ended: "asyncio.Future[int]") -> None:
        self.beats = True
        self.window_open = False
        self.last: Status | None = None
        self._ended = ended
        self._replies: asyncio.Queue[Answer] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._tasks = [asyncio.create_task(self._listen(channel))]

    async def say(self, command: Command) -> Answer:
        """Return the answer to a click."""
        await self._connected.wait()
        self._send(command)
        return await asyncio.wait_for(self._replies.get(), 20)

    def sees(self, message: NoticeInSight | Heartbeat) -> None:
        """Say what has no answer."""
        self._send(message)

    async def until(self, holds: Callable[[Status], bool], seconds: float = 5) -> Status:
        """Return the first status that was pushed for which *holds* does."""
        async with asyncio.timeout(seconds):
            while self.last is None or not holds(self.last):
                self._changed.clear()
                await self._changed.wait()
        return self.last

    def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        if not self._ended.done():
            self._ended.set_result(-9)

    def _send(self, command: Command) -> None:
        if self._writer is not None:
            self._writer.write(encode(command))

    async def _listen(self, channel: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=channel)
        self._connected.set()
        self._tasks.append(asyncio.create_task(self._beat()))
        decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
        try:
            while (answer := await read(reader, decoder)) is not None:
                if isinstance(answer, Status):
                    self.last = answer
                    self._changed.set()
                else:
                    self._replies.put_nowait(answer)
        finally:
            self._writer.close()
            self.kill()

    async def _beat(self) -> None:
        while True:
            if self.beats:
                self._send(Heartbeat(window_open=self.window_open))
            await asyncio.sleep(0.5)


class FakeIcon:
    """The desktop's word on the icon; shown unless a test says otherwise."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    async def run(self, tray_pid: int) -> None:
        self.say("")
        await asyncio.Event().wait()


OURS = SessionSeen(
    unlocked=Known(holds=True, by="the test"),
    awake=Known(holds=True, by="the test"),
    in_front=Known(holds=True, by="the test"),
    local=Known(holds=True, by="the test"),
)


class FakeSession:
    """The platform's word on the session; ours unless a test says otherwise."""

    def __init__(self, host: SessionHost) -> None:
        self.host = host

    async def run(self) -> None:
        self.host.on_session(OURS)
        await asyncio.Event().wait()


@dataclass
class FakeCollector(Door):
    """The collector behind the door, with the organisation's own keys; no network."""

    organisation: Organisation
    device: Ed25519PrivateKey
    subject: bytes
    reachable: bool = True
    halted: str = ""
    stopped: str = ""
    answers: dict[str, Outcome] = field(default_factory=dict)  # by method, instead of the truth
    frames: dict[str, bytes] = field(default_factory=dict)
    consents: list[bytes] = field(default_factory=list)
    events: list[ConsentEvent] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    closed: bool = False
    policy_file_of: Callable[[str], bytes | None] = lambda _name: None
    demands: tuple[SignedRequest, ...] = ()  # made elsewhere
    orders: tuple[SignedOrder, ...] = ()  # of the guard
    demanded: list[Request] = field(default_factory=list)
    guard_answers: bool = True
    guard: Ed25519PrivateKey | None = None  # who signs in the guard's place
    looked_at: int = 0  # how often it was asked for a cosigned head
    shown_to_witness: str | None = None  # the cosigned head that it hands out, instead of the truth

    def policy_file(self, name: str) -> bytes | None:
        self._reach()
        return self.policy_file_of(name)

    def close(self) -> None:
        self.closed = True

    def state(self) -> State:
        self._reach()
        return State(halted=bool(self.halted), why=self.halted, stopped=self.stopped)

    def witnessed(self) -> str | None:
        self.looked_at += 1
        self._reach()
        if self.shown_to_witness is not None:
            return self.shown_to_witness
        note = self.organisation.checkpoint()
        return note + cosign(note, WITNESS_NAME, self.organisation.witness, ALWAYS_FRESH)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...] | None:
        self._reach()
        tree = self.organisation.tree
        return tree.consistency(old, new) if new <= tree.size else None

    def guard_key(self, category: Category, month: str) -> KeyAnswer:
        self._reach()
        assert self.consents, "a key was asked for before any consent was registered"
        request = KeyRequest(subject=self.subject, category=category, month=month)
        public = public_key_of(self.organisation.guard_seed)
        return sign_key(request, public, self.organisation.guard)

    def register(self, signed: SignedConsent) -> Outcome:
        if not self.reachable:
            return NoAnswer(why="nobody answers")
        verify_consent(signed, self.device.public_key())
        self.consents.append(grant_hash(signed))
        logged = self._log(Kind.GRANT, grant_payload(grant_hash(signed)))
        return Answered(status=201, body=msgspec.json.encode(logged))

    def tell(self, signed: SignedEvent) -> Outcome:
        if not self.reachable:
            return NoAnswer(why="nobody answers")
        event = verify_event(signed, self.device.public_key())
        assert event.grant in self.consents, "an event came before its consent record"
        self.events.append(event)
        logged = self._log(Kind.CONSENT_EVENT, event_payload(signed.event))
        return Answered(status=201, body=msgspec.json.encode(logged))

    def send(self, name: str, frame: bytes, goes_on: Callable[[], bool]) -> Outcome:
        if not self.reachable:
            return NoAnswer(why="nobody answers")
        if "send" in self.answers:
            return self.answers["send"]
        verified = verify(frame, self.device.public_key())
        assert hashlib.sha256(frame).hexdigest() == name
        assert verified.core.grant in self.consents, "a batch came before its consent record"
        if name in self.deleted:
            return Answered(status=410)
        self.frames[name] = frame
        batch, core = BatchHash(bytes.fromhex(name)), core_hash(split(frame).core)
        logged = self._log(Kind.BATCH, batch_payload(batch, core))
        receipt = Receipt(
            batch_hash=batch,
            core_hash=core,
            received_at=WallInstant(1),
            salt=logged.salt,
            index=logged.index,
            proof=logged.proof,
            checkpoint=logged.checkpoint,
        )
        return Answered(status=201, body=encode_receipt(receipt))

    def rights(self) -> Requests:
        self._reach()
        return Requests(requests=self.demands, orders=self.orders)

    def demand(self, signed: SignedRequest) -> Outcome:
        if not self.reachable:
            return NoAnswer(why="nobody answers")
        request = verify_request(signed, self.organisation.policy().collector.origin)
        self.demanded.append(request)
        self.frames = {
            name: frame
            for name, frame in self.frames.items()
            if not request.covers((core := decode_core(split(frame).core)).category, core.day)
        }
        at = WallInstant(time.time_ns())
        word = Erasure(request=signed.digest, keys=1, erased_at=at, pending_until=at)
        logged = self._log(Kind.DELETION, request_payload(signed.digest))
        guard = sign_erasure(word, self.guard or self.organisation.guard)
        answer = Carried(erased=1, logged=logged, guard=guard if self.guard_answers else None)
        return Answered(status=200, body=msgspec.json.encode(answer))

    def delete(self, name: str) -> Outcome:
        if not self.reachable:
            return NoAnswer(why="nobody answers")
        self.deleted.append(name)
        stored = self.frames.pop(name, None) is not None
        tombstone = self._log(Kind.TOMBSTONE, deletion_payload(BatchHash(bytes.fromhex(name))))
        answer = Deleted(stored=stored, tombstone=tombstone)
        return Answered(status=200, body=msgspec.json.encode(answer))

    def _reach(self) -> None:
        if not self.reachable:
            raise UnreachableError("nobody answers")

    def _log(self, kind: Kind, payload: bytes) -> Logged:
        salt, tree = secrets.token_bytes(16), self.organisation.tree
        index = tree.append(leaf_hash(entry(kind, payload, salt)))
        return Logged(
            salt=salt,
            index=index,
            proof=tree.inclusion(index, tree.size),
            checkpoint=self.organisation.checkpoint(),
        )


def _settle(ended: "asyncio.Future[int]", code: int) -> None:
    if not ended.done():
        ended.set_result(code)


@dataclass
class Workstation:
    """An enrolled device with everything around it faked, and the real agent in the middle."""

    folder: Path
    organisation: Organisation
    policy: Policy
    clock: ShiftedClock = field(default_factory=ShiftedClock)
    outside: dict[str, frozenset[Category]] = field(default_factory=dict)
    sensors: dict[str, FakeSensor] = field(default_factory=dict)
    trays: list[FakeTray] = field(default_factory=list)
    icons: list[FakeIcon] = field(default_factory=list)
    sessions: list[FakeSession] = field(default_factory=list)

    @classmethod
    def enrolled(cls, folder: Path, **changes: object) -> "Workstation":
        """Return a workstation that was enrolled just now; *changes* are to the policy."""
        organisation = Organisation()
        policy = msgspec.structs.replace(organisation.policy(), hold_seconds=1, **changes)
        station = cls(folder=folder, organisation=organisation, policy=policy)
        station.paths.make()
        station._enrol()
        return station

    @property
    def paths(self) -> Paths:
        base = self.folder
        return Paths(
            config=base / "config", state=base / "state", logs=base / "logs", runtime=base / "run"
        )

    @property
    def device(self) -> Device:
        return load_device(self.paths.state)

    @property
    def tray(self) -> FakeTray:
        return self.trays[-1]

    def _enrol(self) -> None:
        state, organisation = self.paths.state, self.organisation
        at = datetime.fromtimestamp(self.clock.now().wall // 1_000_000_000, UTC)
        published = organisation.publish(self.folder / "policy", self.policy, at=at)
        self.repository = Repository.of(organisation, published, at)
        enrol(state, published, self.repository.fetch, self.clock.now())
        durable.replace(state / KEY, private_pem(organisation.device))
        device = spki_sha256(organisation.device.public_key()).hex()
        certificate = Authority.create("test").certify(
            signing_request(organisation.device), client_uri("acme", Role.DEVICE, device)
        )
        durable.replace(state / CERTIFICATE, certificate)
        enrolment = Enrolment(
            origin=self.policy.collector.origin,
            tls_pins=self.policy.collector.tls_pins,
            ca_pem="",
            subject=organisation.subject,
            subject_key=recipient_of(organisation.subject_identity),
            rights_key=organisation.speaker().rights_key,
            appointment=organisation.speaker().appointment,
            enrolled_at=self.clock.now().wall,
        )
        durable.replace(state / ENROLMENT, msgspec.json.encode(enrolment))
        self.collector = FakeCollector(organisation, organisation.device, organisation.subject)
        self.collector.policy_file_of = self.repository.renewing(published, self.clock)

    # --- the agent --------------------------------------------------------------------

    def service(self, config: Config | None = None) -> Service:
        """Return a new agent on this workstation's state."""
        return Service(
            self.paths,
            config or Config(),
            self.device,
            clock=self.clock,
            start=self._start,
            watch=self.watches,
            open_door=lambda _pins: self.collector,
            opt_outs=lambda _config: self.outside,
        )

    @property
    def watches(self) -> Watches:
        """What the agent asks instead of the desktop."""
        return Watches(icon=self._icon, session=self._session)

    async def _start(self, module: str) -> Started:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        if module == "tray":
            theirs.settimeout(0)
            tray = FakeTray(theirs, ended)
            self.trays.append(tray)
            return Started(channel=ours, pid=100, ended=ended, kill=tray.kill)

        def end(code: int) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, ended, code)

        sensor = FakeSensor(module, theirs, end, self.clock)
        self.sensors[module.rpartition(".")[2]] = sensor
        return Started(channel=ours, pid=101, ended=ended, kill=sensor.kill)

    def _session(self, host: SessionHost) -> FakeSession:
        self.sessions.append(FakeSession(host))
        return self.sessions[-1]

    def _icon(self, say: Callable[[str], None]) -> FakeIcon:
        self.icons.append(FakeIcon(say))
        return self.icons[-1]

    # --- the data subject -------------------------------------------------------------

    async def agree(self, *categories: Category) -> None:
        """Click the consent window for *categories*, and wait until they may be captured."""
        for category in categories:
            command = Grant(category=category, words_sha256=words_sha256(self.policy, category))
            await self.tray.say(command)

    async def focus(self, *, inside: bool = True, at: int | None = None) -> None:
        """Let the context sensor tell who has the focus."""
        application = self.policy.applications[0]
        self.sensors["context"].emit(
            focus=(
                FocusSeen(
                    at=BootInstant(self.clock.now().boot if at is None else at),
                    inside=inside,
                    process=application.process if inside else "",
                    window_class=application.window_class if inside else "",
                ),
            )
        )
        await asyncio.sleep(0)

    def opened(self) -> list[Event]:
        """Return all events that the collector has, opened with guard's and subject's key."""
        events: list[Event] = []
        for frame in self.collector.frames.values():
            parts = split(frame)
            digest = core_hash(parts.core)
            header = unshelve(parts.shelf, self.organisation.guard_seed, digest)
            plaintext = open_body(header, parts.body, self.organisation.subject_identity, digest)
            events += decode_batch(plaintext).events
        return sorted(events, key=lambda event: event.at)


# --- stories -----------------------------------------------------------------------------

HOLD_BACK = 0.5  # seconds
HANGS_SECONDS = 90.0  # on a machine with much else to do


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run a story; one that hangs ends."""
    asyncio.run(asyncio.wait_for(story, HANGS_SECONDS))


@contextlib.asynccontextmanager
async def running(station: Workstation, config: Config | None = None) -> AsyncIterator[Service]:
    """Run the agent until the block ends, then end it as SIGTERM would."""
    service = station.service(config)
    station.trays.clear()
    station.sensors.clear()
    task = asyncio.create_task(service.run())
    try:
        await eventually(lambda: task.done() or (bool(station.trays) and len(station.sensors) == 3))
        yield service
    finally:
        service.stop()
        await asyncio.wait_for(task, 10)


@contextlib.asynccontextmanager
async def capturing(
    station: Workstation, *categories: Category, config: Config | None = None
) -> AsyncIterator[Service]:
    """Run the agent with consent for *categories* and a listed program in front."""
    async with running(station, config) as service:
        await station.agree(*categories)
        await eventually(lambda: set(categories) <= set(service.pipeline.permits()))
        await eventually(lambda: station.sensors["context"].is_open)
        await station.focus()
        await asyncio.sleep(0.15)  # past the settling of that focus
        yield service


async def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def key(station: Workstation, text: str = "a") -> Key:
    return Key(at=BootInstant(station.clock.now().boot), pressed=True, kind="letter", text=text)


def move(station: Workstation, x: int = 1) -> Move:
    return Move(at=BootInstant(station.clock.now().boot), x=x, y=1)


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Key))


def the(station: Workstation, sensor: str) -> FakeSensor:
    return station.sensors[sensor]


def nothing_is_open(station: Workstation) -> bool:
    return not any(sensor.is_open for sensor in station.sensors.values())
