"""What was acknowledged to the data subject, and whether disk and collector agree with it.

Knows nothing of how the agent works: it reads the files, opens what the collector has with
guard's and subject's keys, and compares.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pytest

from agent.consent.ledger import MARK_NAME
from agent.consent.standing import Standing
from agent.consent.states import Consent, Flag
from agent.consent.states import Pause as PauseState
from agent.enroll import Device
from agent.handover import Answered, NoAnswer, Outcome, SealedBatch
from agent.service import Service
from agent.spool import Spool
from base.clock import Now
from base.pki import Authority, Role, client_uri, requested_key, spki_sha256
from tests.fakes.disk import CrashError
from tests.fakes.still import StillWorkstation
from tests.fakes.syscalls import Syscalls
from tests.fakes.workstation import FakeCollector
from wire.batch import decode_batch
from wire.category import Category
from wire.collector_http import Certified
from wire.control import Command, Forget, Grant, OptIn, OptOut, Pause, Resume, Withdraw
from wire.event import Event
from wire.frame import TRAILER_BYTES, core_hash, split, split_unsigned
from wire.ids import WallInstant
from wire.opening import open_body
from wire.shelf import unshelve

RESTRICTIONS: Final = (Pause, OptOut, Withdraw, Forget)

# What may lie in the state folder of an agent that has ended.
EXPECTED: Final = re.compile(
    r"(agent\.lock|spare-room|clock\.json|consent\.jsonl|consent\.torn|consent\.unreadable-\d+\.jsonl"
    r"|device\.key|device\.pem|enrolment\.json|guard-keys\.json|guard-orders\.json|numbers\.json"
    r"|log-[0-9a-f]{8}\.json"
    r"|policy-[0-9a-f]{64}\.json|receipts/(device\.pem|[\w-]+\.json)"
    r"|tuf/(trusted-root|in-force|timestamp|snapshot|targets|policy)\.json"
    r"|tuf/root_history/1\.root\.json"
    r"|spool/sent\.(jsonl|unreadable)|spool/(held|ready)/[0-9a-f]{64}\.(frame|local)"
    r"|erasures/[0-9a-f]{64}\.(json|unreadable)|spool/deletions/[0-9a-f]{64}\.json)$"
)


@dataclass
class Collector(FakeCollector):
    """The fake collector, which also enrols, renews and hands out the policy."""

    disk: Syscalls | None = None  # of the agent: a dead one asks for nothing
    authority: Authority = field(default_factory=lambda: Authority.create("test"))
    loses_answers: bool = False  # stores what it is sent, and nobody hears of it
    erased: bool = False  # answers 410
    accepted: list[bytes] = field(default_factory=list)  # all that it ever stored
    gone: set[str] = field(default_factory=set)
    renewals: int = 0
    ca_pem: str = ""  # the authority that it names with a certificate

    def enroll(self, token: str, request_pem: bytes) -> str:
        self._alive()
        return self._certify(request_pem)

    def renew(self, request_pem: bytes) -> Certified:
        self._alive()
        self.renewals += 1
        certificate = self._certify(request_pem)
        return Certified(certificate=certificate, expires_at=WallInstant(0), ca_pem=self.ca_pem)

    def policy_file(self, name: str) -> bytes | None:
        self._alive()
        return super().policy_file(name)

    def send(self, name: str, frame: bytes, goes_on: Callable[[], bool]) -> Outcome:
        self._alive()
        if self.erased:
            self.gone.add(unsigned_name(frame))
            return Answered(status=410)
        answer = super().send(name, frame, goes_on)
        if name in self.frames:
            self.accepted.append(frame)
        return NoAnswer(why="the answer was lost") if self.loses_answers else answer

    def delete(self, name: str) -> Outcome:
        self._alive()
        return super().delete(name)

    def _certify(self, request_pem: bytes) -> str:
        name = spki_sha256(requested_key(request_pem)).hex()
        return self.authority.certify(request_pem, client_uri("acme", Role.DEVICE, name)).decode()

    def _alive(self) -> None:
        if self.disk is not None and self.disk.dead:
            raise CrashError

    def meet(self, device: Device) -> None:
        self.device, self.subject = device.key, device.subject

    def halts(self, why: str) -> None:
        self.halted = why


class There(Protocol):
    """What a collector tells the books; the fake does, and a real one behind `network_story`."""

    loses_answers: bool

    @property
    def frames(self) -> Mapping[str, bytes]:
        """What it has, by hash."""

    @property
    def accepted(self) -> list[bytes]:
        """All that it ever stored, whatever became of it."""

    @property
    def gone(self) -> set[str]:
        """What it refused for good, by the name of the hold."""

    @property
    def renewals(self) -> int:
        """How many certificates it has renewed."""

    def meet(self, device: Device) -> None:
        """Learn who was enrolled."""

    def halts(self, why: str) -> None:
        """Halt the programme."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDevice:
    """One frame in the spool, read without the spool's code."""

    unsigned: str  # the name that it had, or has, in its hold
    frame: bytes
    signed: bool
    set_aside: bool


class Books:
    """What was acknowledged; what was kept; what had to go."""

    def __init__(self, station: StillWorkstation, disk: Syscalls, collector: There) -> None:
        self.flagged: set[Category] = set()
        self.opens: bytes | None = None  # the guard's key, where a test has it
        self._granted: set[Category] = set()
        self._paused = False
        self._asked: Command | None = None  # and not answered yet
        self._failed = False  # a restriction of this life, so the next one asks for a click
        self._station = station
        self._disk = disk
        self._collector = collector
        self._offered: dict[str, SealedBatch] = {}  # every batch that was ever sealed
        self._kept: set[str] = set()  # of these, those that the spool said it has
        self._may_go: set[str] = set()  # somebody asked for it
        self._must_go: set[str] = set()  # somebody was told that it is gone from the device
        self._must_go_there: set[str] = set()  # and from the collector, in the end

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note what the spool takes."""
        real = Spool.put

        def put(spool: Spool, sealed: SealedBatch, now: Now) -> None:
            self._offered[sealed.name] = sealed
            real(spool, sealed, now)
            if not self._disk.dead:
                self._kept.add(sealed.name)

        patch.setattr(Spool, "put", put)

    # --- what is said -------------------------------------------------------------------

    def issued(self, command: Command) -> None:
        """Note what somebody asks for: batches may go from now on, and a click may hold."""
        self._asked = command
        condemned = set(self._meant(command))
        here = {each.unsigned for each in self.on_device()}
        self._may_go |= condemned
        self._must_go_there |= condemned & here
        if isinstance(command, Withdraw) and command.erase:
            self._must_go_there |= condemned

    def refused(self, command: Command, service: Service) -> None:
        """Check that a restriction that could not be written down holds in memory."""
        self._asked = None
        self._failed = self._failed or isinstance(command, Pause | OptOut | Withdraw)
        match command:
            case Pause():
                assert not service.pipeline.permits()
            case OptOut(category=category) | Withdraw(category=category):
                shut = set(Category) if category is None else {category}
                assert not shut & set(service.pipeline.permits())
            case _:
                pass

    def acknowledged(self, command: Command) -> None:
        """Note what holds from now on."""
        self._asked = None
        match command:
            case Grant(category=category):
                self._granted.add(category)
            case OptIn(category=Category() as category):
                self.flagged.discard(category)
            case Resume():
                self._paused = False
            case Pause():
                self._paused = True
            case OptOut(category=Category() as category):
                self.flagged.add(category)
            case Withdraw(category=Category() as category):
                self._granted.discard(category)
            case _:
                pass
        if isinstance(command, RESTRICTIONS):
            self._must_go |= set(self._meant(command)) & self._may_go

    def consents_are_lost(self) -> None:
        """Note that the ledger was spoilt: nothing that was agreed to holds."""
        self._granted.clear()
        self.flagged.clear()
        self._paused = False

    def _meant(self, command: Command) -> Iterator[str]:
        """Yield the batches that *command* wants gone."""
        for name, sealed in self._offered.items():
            match command:
                case OptOut(category=category) | Withdraw(category=category):
                    if category in (None, sealed.category):
                        yield name
                case Forget(minutes=minutes) | Pause(forget_minutes=minutes) if minutes:
                    now = self._station.clock.now()
                    if sealed.span.last_wall >= now.wall - minutes * 60 * 10**9:
                        yield name
                case _:
                    pass

    # --- what is there ------------------------------------------------------------------

    def check_start(self, standing: Standing) -> None:
        """Check that an agent that starts would capture no more than was acknowledged.

        A crash between the last write and the answer leaves a click that holds: it was made.
        """
        self._failed = False
        granted, flagged, paused = set(self._granted), set(self.flagged), self._paused
        match self._asked:
            case Grant(category=category):
                granted.add(category)
            case OptIn(category=category):
                flagged -= set(Category) if category is None else {category}
            case Resume():
                paused = False
            case _:
                pass
        allowed = set() if paused else granted - flagged
        assert captures(standing) <= allowed, f"{captures(standing)} instead of {allowed}"

    def check(self) -> None:
        """Check what holds at any moment at which no agent runs."""
        here = {each.unsigned for each in self.on_device()}
        there = [unsigned_name(frame) for frame in self._collector.frames.values()]
        assert not [n for n, count in Counter(there).items() if count > 1], "a batch is there twice"
        lost = self._kept - here - set(there) - self._may_go - self._collector.gone
        assert not lost, f"{len(lost)} batches that were kept are nowhere"
        assert not self._must_go & here, "what was said to be gone is on the device"
        self._check_ledger()
        self._check_batch_numbers()

    def check_the_end(self) -> None:
        """Check what holds when all is delivered and the agent has ended."""
        here, collector = list(self.on_device()), self._collector
        assert all(each.set_aside for each in here), "a batch is neither here nor there"
        there = {unsigned_name(frame) for frame in collector.frames.values()}
        assert not self._must_go_there & there, "the collector has what it was to forget"
        if self.opens is not None:
            self._check_event_numbers(self.opens)
        state = self._station.paths.state
        files = {str(p.relative_to(state)) for p in state.rglob("*") if p.is_file()}
        litter = {name for name in files if not EXPECTED.match(name)}
        litter -= {MARK_NAME} if self._failed else set()
        assert not litter, f"left behind: {litter}"
        sent = {bytes.fromhex(name) for name in collector.frames}
        assert set(self._sent()) == sent, "what is noted as sent is not what the collector has"

    def on_device(self) -> Iterator[OnDevice]:
        """Yield what the spool's folders have."""
        spool = self._station.paths.state / "spool"
        for path in sorted(spool.glob("held/*.frame")):
            yield self._read(path, signed=False)
        for path in sorted(spool.glob("ready/*.frame")):
            yield self._read(path, signed=True)

    def _read(self, path: Path, *, signed: bool) -> OnDevice:
        frame = path.read_bytes()
        assert hashlib.sha256(frame).hexdigest() == path.stem, "a frame is not what its name says"
        local = json.loads(path.with_suffix(".local").read_bytes())
        unsigned = unsigned_name(frame) if signed else path.stem
        return OnDevice(
            unsigned=unsigned, frame=frame, signed=signed, set_aside=bool(local.get("why"))
        )

    def _check_ledger(self) -> None:
        """Every line names the one before it; only the last may be cut short."""
        path = self._station.paths.state / "consent.jsonl"
        previous = "0" * 64
        for number, line in enumerate(
            (path.read_bytes() if path.exists() else b"").split(b"\n")[:-1]
        ):
            try:
                said = json.loads(line)
            except ValueError:
                return  # spoilt by the story; the next start puts it aside
            if (said["n"], said["prev"]) != (number, previous):
                return
            previous = hashlib.sha256(line).hexdigest()

    def _check_batch_numbers(self) -> None:
        """No number has ever been given to two batches."""
        signed = [each.frame for each in self.on_device() if each.signed]
        numbers: dict[int, str] = {}
        for frame in [*self._collector.accepted, *signed]:
            name, number = unsigned_name(frame), split(frame).sequence
            assert numbers.setdefault(number, name) == name, f"two batches have number {number}"

    def _check_event_numbers(self, guard_seed: bytes) -> None:
        """No event that was ever sealed has the number of another of its category."""
        for category in Category:
            numbers = [
                event.sequence
                for sealed in self._offered.values()
                if sealed.category is category
                for event in self._opened(sealed, guard_seed)
            ]
            assert len(numbers) == len(set(numbers)), f"numbers of {category} were used twice"

    def _opened(self, sealed: SealedBatch, guard_seed: bytes) -> tuple[Event, ...]:
        core, shelf, body = split_unsigned(sealed.unsigned)
        organisation, digest = self._station.organisation, core_hash(core)
        header = unshelve(shelf, guard_seed, digest)
        return decode_batch(open_body(header, body, organisation.subject_identity, digest)).events

    def _sent(self) -> Iterator[bytes]:
        path = self._station.paths.state / "spool" / "sent.jsonl"
        last: dict[bytes, bool] = {}
        # Empty is the line between one that a disk took and refused all the same, and the next.
        for line in filter(None, path.read_bytes().splitlines()):
            said = json.loads(line)
            last[_b64(said["hash"])] = said.get("deleted", False)
        yield from (name for name, deleted in last.items() if not deleted)


def captures(standing: Standing) -> set[Category]:
    """Return what these acts would let in, all else being well."""
    if standing.pause is not PauseState.RUNNING:
        return set()
    return {
        category
        for category in Category
        if standing.consents[category] is Consent.GIVEN and standing.flags[category] is Flag.CLEAR
    }


def unsigned_name(frame: bytes) -> str:
    """Return the name that a signed frame had while it was held."""
    return hashlib.sha256(frame[:-TRAILER_BYTES]).hexdigest()


def _b64(text: str) -> bytes:
    return base64.b64decode(text)
