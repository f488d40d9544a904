"""Attacks on the workstation that need no desktop: each was possible once, or must never be."""

import asyncio
import base64
import hashlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import control
from agent.consent.entries import Granted, Line
from agent.consent.ledger import FILE_NAME, Ledger
from agent.consent.policy import IN_FORCE, read_fetched
from agent.consent.states import Consent
from agent.handover import Answered
from agent.spooled import Local
from agent.transport import Door
from base import durable, https
from base.clock import SystemClock
from base.errors import SetupError
from base.https import DoorError, OneDoor
from base.ipc import LENGTH, encode
from base.paths import paths_for
from tests.fakes.organisation import Organisation
from tests.fakes.tls import Heard, House, found, head, peer
from tests.fakes.workstation import (
    Workstation,
    capturing,
    eventually,
    key,
    nothing_is_open,
    play,
    running,
    the,
)
from wire.age import decode_header
from wire.category import Category
from wire.collector_http import State, decode
from wire.control import (
    Answer,
    Grant,
    OptIn,
    OptOut,
    Pause,
    Reason,
    Refused,
    Resume,
    Silent,
    Withdraw,
)
from wire.errors import MalformedError, NotForUsError
from wire.frame import core_hash, split_unsigned
from wire.opening import open_body, open_released
from wire.policy import Policy, words_sha256

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    """An enrolled workstation."""
    return Workstation.enrolled(tmp_path)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A collector's authority, key and certificate."""
    return found(tmp_path_factory.mktemp("house") / "house")


# --- a click that crosses a "stop" ----------------------------------------------------------


@pytest.mark.parametrize("click", [Resume(), OptIn(), "grant"])
def test_no_click_opens_what_a_restriction_is_closing(
    station: Workstation, click: Resume | OptIn | str
) -> None:
    """A script pauses or withdraws, a sensor is slow, and meanwhile a click asks for more.

    What was asked last does not make "silent" untrue: the click is refused.
    """

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").hangs = True
            command = Withdraw() if click == "grant" else Pause()
            stopping = asyncio.create_task(service.answer(command))
            await asyncio.sleep(0.05)
            words = words_sha256(station.policy, Category.KEYS)
            asked = Grant(category=Category.KEYS, words_sha256=words) if click == "grant" else click
            assert isinstance(asked, Resume | OptIn | Grant)
            assert isinstance(await station.tray.say(asked), Refused)
            assert isinstance(await stopping, Silent)
            assert nothing_is_open(station)
            assert not isinstance(await station.tray.say(asked), Refused), "afterwards it counts"

    play(story())


def test_quit_ends_capture_though_the_collector_is_being_talked_to(station: Workstation) -> None:
    """Each click wakes the delivery; one that came together with the end hid the end from it."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            for _ in range(3):
                service.delivery.wake()
                await asyncio.sleep(0)
            service.delivery.wake()
            service.stop()
            await eventually(lambda: nothing_is_open(station))

    play(story())


# --- the control socket, from another process ------------------------------------------------

SCRIPT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as agent:
    agent.settimeout(20)
    agent.connect(sys.argv[1])
    agent.sendall(bytes.fromhex(sys.argv[2]))
    print(agent.recv(65536).hex())
"""

FROM_A_SCRIPT: dict[str, Pause | OptOut | Withdraw] = {
    "resume": Pause(),
    "opt-in": OptOut(),
    "opt-in of one category": OptOut(category=Category.KEYS),
    "grant": Withdraw(),
}


def relaxing(name: str, policy: Policy) -> Resume | OptIn | Grant:
    """Return the command that would undo it, if it came from the tray."""
    match FROM_A_SCRIPT[name]:
        case Pause():
            return Resume()
        case OptOut(category=category):
            return OptIn(category=category)
        case _:
            words = words_sha256(policy, Category.KEYS)
            return Grant(category=Category.KEYS, words_sha256=words)


@pytest.mark.parametrize("name", FROM_A_SCRIPT)
def test_what_takes_a_click_is_refused_to_another_process(station: Workstation, name: str) -> None:
    """A script of the data subject's own, with the right bytes: refused, written nowhere, closed.

    The same command is taken from the tray afterwards, so it was the way that was wrong.
    """
    command = relaxing(name, station.policy)

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            assert isinstance(await station.tray.say(FROM_A_SCRIPT[name]), Silent)
            reason, record = service.verdict.reason, station.paths.state / FILE_NAME
            written = record.read_bytes()
            script = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-c", SCRIPT),
                *(str(station.paths.runtime / control.SOCKET), encode(command).hex()),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _nothing = await script.communicate()
            answer = msgspec.msgpack.decode(
                bytes.fromhex(said.decode())[LENGTH.size :], type=Answer
            )
            assert answer == Refused(why=control.ONLY_IN_THE_TRAY)
            await asyncio.sleep(1.2)  # the rounds look at everything once a second
            assert service.verdict.reason is reason is not Reason.ACTIVE
            assert nothing_is_open(station)
            events = [line for line in record.read_bytes().splitlines() if line not in written]
            assert [kind for line in events if (kind := kind_of(line)) in RELAXING] == []
            assert not isinstance(await station.tray.say(command), Refused)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


RELAXING = frozenset({"Resumed", "OptedIn", "Granted"})


def kind_of(line: bytes) -> str:
    """Return what an entry of the record of consents is."""
    return type(msgspec.json.decode(line, type=Line).entry).__name__


# --- the disk ----------------------------------------------------------------------------


def test_a_reader_with_a_copy_of_the_disk_opens_nothing(station: Workstation) -> None:
    """I8: what is held has not been released; the disk must not be a way around the guard.

    An administrator who backs up home folders and the training team together have the frame,
    what lies beside it, and the reader's key.  The data subject opens the same.
    """

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station))
            await eventually(lambda: service.counters.kept["keys"] == 1)
            await service.answer(Pause())

    play(story())
    (path,) = (station.paths.state / "spool").glob("*/*.local")
    beside = msgspec.json.decode(path.read_bytes(), type=Local).age_header
    core, _shelf, body = split_unsigned(path.with_suffix(".frame").read_bytes()[: 1 << 30])
    digest = core_hash(core)
    with pytest.raises(MalformedError):
        decode_header(beside)
    with pytest.raises(NotForUsError):
        open_released(beside, station.organisation.identity, digest)
    header = open_released(beside, station.organisation.subject_identity, digest)
    assert open_body(header, body, station.organisation.subject_identity, digest)
    everything = [p.read_bytes() for p in station.folder.rglob("*") if p.is_file()]
    for disguise in (b"age-encryption.org/v1", base64.b64encode(b"age-encryption.org")[:20]):
        assert not [data for data in everything if disguise in data]


def test_a_consent_signed_by_another_key_is_none(station: Workstation) -> None:
    """A line that fits the chain but was signed elsewhere: all is put aside, nothing consented."""

    async def agree() -> None:
        async with running(station):
            await station.agree(Category.KEYS)

    play(agree())
    path = station.paths.state / FILE_NAME
    lines = path.read_bytes().splitlines()
    forged = []
    previous = "0" * 64
    other = Ed25519PrivateKey.generate()
    for data in lines:
        line = msgspec.json.decode(data, type=Line)
        entry = line.entry
        if isinstance(entry, Granted):
            signature = other.sign(entry.signed.record)
            signed = msgspec.structs.replace(entry.signed, signature=signature)
            entry = Granted(signed=signed, words="", notice="")
        line = msgspec.structs.replace(line, prev=previous, entry=entry)
        forged.append(msgspec.json.encode(line))
        previous = hashlib.sha256(forged[-1]).hexdigest()
    path.write_bytes(b"\n".join(forged) + b"\n")
    now = SystemClock().now()
    ledger = Ledger.open(station.paths.state, station.device.key.public_key(), now)
    assert set(ledger.standing.consents.values()) == {Consent.UNKNOWN}
    assert list(station.paths.state.glob("consent.unreadable-*"))


# --- other users --------------------------------------------------------------------------


def test_a_planted_file_does_not_get_what_we_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the temporary file can be guessed; where others write, it may lie in wait."""
    target = tmp_path / "rights.key"
    waiting = tmp_path / f".rights.key.{os.getpid()}.tmp"
    stolen = tmp_path / "stolen"
    stolen.touch()
    waiting.symlink_to(stolen)
    durable.replace(target, b"identity")
    assert (stolen.read_bytes(), target.read_bytes()) == (b"", b"identity")

    waiting.write_bytes(b"")
    waiting.chmod(0o666)
    with waiting.open("rb") as theirs:
        durable.replace(target, b"another")
        assert theirs.read() == b""
    assert target.stat().st_mode & 0o777 == 0o600

    def not_yours(path: Path) -> None:  # a sticky folder: what is another's stays
        raise PermissionError(1, "not permitted", str(path))

    waiting.symlink_to(stolen)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: not_yours(path))
    with pytest.raises(PermissionError):
        durable.replace(target, b"third")
    assert stolen.read_bytes() == b""


def test_folders_above_ours_are_made_for_us_alone(tmp_path: Path) -> None:
    """With umask 0 a folder above could be entered, and ours swapped for another."""
    before = os.umask(0)
    try:
        durable.private_folder(tmp_path / "state" / "assent" / "agent")
    finally:
        os.umask(before)
    for name in ("state", "state/assent", "state/assent/agent"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_a_home_that_everybody_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A careless administrator's share: anybody could put another folder in place of ours."""
    shared = tmp_path / "share"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("ASSENT_HOME", str(shared))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(SetupError, match="everybody can swap"):
        paths_for("agent").make()
    shared.chmod(0o1777)  # as /tmp: others cannot rename what is ours
    paths_for("agent").make()


def test_the_command_line_believes_no_agent_of_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took the runtime folder's place could say "silent" to a pause that nobody made."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / control.SOCKET))
        listener.listen()
        monkeypatch.setattr(control, "peer_uid", lambda _sock: os.getuid() + 1)
        with pytest.raises(SetupError, match="somebody else"):
            control.ask(tmp_path, Pause())


# --- a malicious collector ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"x":' + b"[" * 100_000,
        b'{"halted":' + b"[" * 100_000,
        b"[" * 100_000,
        b'{"halted":false,"why":"\xff\xfe"}',
        b'{"halted":1e99999}',
        b"",
    ],
)
def test_no_answer_of_the_collector_ends_the_agent(body: bytes) -> None:
    """Nested without end, no UTF-8, numbers without end: all of it is malformed, and said."""
    with pytest.raises(MalformedError):
        decode(body, State)


def test_what_the_collector_says_cannot_steer_a_terminal(house: House) -> None:
    """Nor hide the rest of the line, nor fill the screen."""
    why = "\x1b[2J\x1b]0;owned\x07fine\u202e\r\nsilent since now" + "x" * 5000
    body = msgspec.json.encode({"halted": True, "why": why})

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with peer(script, house) as (origin, _heard):
        said = Door(origin, [house.pin], house.ca_pem).state().why
    assert said.isprintable()
    assert len(said) <= 200


def _drip(sock: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        sock.sendall(b"x")


def endless(kind: str, sock: socket.socket, ended: threading.Event) -> None:
    """Begin an answer and never end it."""
    if kind == "interim":
        while not ended.is_set():
            sock.sendall(CONTINUE * 50)
        return
    beginnings = {
        "head": b"HTTP/1.1 200 OK\r\nX-Long: ",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "until closed": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    }
    sock.sendall(beginnings[kind])
    _drip(sock, ended)


@pytest.fixture
def ended() -> Iterator[threading.Event]:
    """Set when the test is over, so that no server goes on."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("kind", ["head", "body", "until closed", "chunks", "interim"])
def test_an_answer_that_does_not_end_is_given_up(
    house: House, ended: threading.Event, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    """Byte by byte each read is in time; a thread, and with it the halt, would wait for days."""
    monkeypatch.setattr(https, "LONGEST_ANSWER_SECONDS", 0.4)

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        endless(kind, sock, ended)

    with peer(script, house) as (origin, heard):
        door = OneDoor(origin, [house.pin], house.ca_pem, timeout=10)
        with pytest.raises(DoorError):
            door.request(method, "/v1/state", b"batch" if method == "PUT" else None)
        assert kind == "interim" or not heard.body, "no byte of a body without a 100 Continue"


def test_a_410_for_every_batch_deletes_no_more_than_that_batch(station: Workstation) -> None:
    """A collector may lose what it is sent anyway; what waits behind it stays."""

    async def story() -> None:
        async with capturing(station, Category.KEYS, Category.POINTER) as service:
            station.collector.answers["send"] = Answered(status=503)
            the(station, "input").emit(key(station))
            await eventually(lambda: service.counters.kept["keys"] == 1)
            await service.answer(Pause())
            station.clock.pass_by(5)
            await eventually(lambda: len(service.spool.ready()) == 1)
            assert service.spool.number_quarantined() == 0
            station.collector.answers["send"] = Answered(status=410)
            station.clock.pass_by(1000)
            service.delivery.wake()
            await eventually(lambda: not service.spool.batches())
            assert service.spool.forgotten == 1
            assert service.spool.number_sent() == 0

    play(story())


def test_a_collector_that_knows_no_consent_does_not_fill_the_disk(station: Workstation) -> None:
    """It may ask for a consent again; not once for each batch that waits."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.answers["send"] = Answered(status=503)
            for number in range(1, 4):
                the(station, "input").emit(key(station))
                await eventually(lambda: service.counters.kept["keys"] == number)  # noqa: B023
                await service.answer(Pause())
                await station.tray.say(Resume())
                await eventually(lambda: {"input", "context"} <= set(open_sensors(station)))
                await station.focus()
                await asyncio.sleep(0.15)
            station.clock.pass_by(5)
            await eventually(lambda: len(service.spool.ready()) == 3)
            station.collector.answers["send"] = Answered(status=409, says="consent-unknown: it")
            before = (station.paths.state / FILE_NAME).read_bytes().count(b"\n")
            station.clock.pass_by(1000)
            service.delivery.wake()
            await eventually(lambda: len(station.collector.consents) == 2)
            await asyncio.sleep(0.3)
            after = (station.paths.state / FILE_NAME).read_bytes().count(b"\n")
            assert after - before == 2

    play(story())


def open_sensors(station: Workstation) -> list[str]:
    """Return the names of the sensors that have a source open."""
    return [name for name, sensor in station.sensors.items() if sensor.is_open]


def test_an_organisation_of_strangers_cannot_sign_the_policy_wider(station: Workstation) -> None:
    """Files of another organisation in place of the policy: nothing is captured any more."""

    async def agree() -> None:
        async with running(station):
            await station.agree(Category.KEYS)

    play(agree())
    strangers = Organisation()
    wider = msgspec.structs.replace(strangers.policy(), hold_seconds=1)
    published = strangers.publish(station.folder / "other", wider)
    there = read_fetched(station.paths.state)
    assert there is not None
    put_in = msgspec.structs.replace(
        there,
        snapshot=published.snapshot,
        targets=published.targets,
        policy=published.policy,
        timestamp=strangers.lease(published, datetime.now(UTC)),
    )
    (station.paths.state / IN_FORCE).write_bytes(msgspec.json.encode(put_in))
    service = station.service()
    assert service.policy.policy is None
    assert not service.verdict.sources
