"""Enrolment: what is checked before a device is one of a programme, and what it keeps."""

import errno
import hashlib
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import enroll, renewal
from agent.transport import Door
from base.clock import Now, SystemClock
from base.errors import RejectedError, RetryableError, SetupError
from base.pki import Authority, Role, client_uri, requested_key, signing_request, spki_sha256
from tests.fakes.organisation import Organisation, PolicyFolder
from tests.fakes.repository import Repository
from tests.fakes.tls import of_version_five, with_an_extension_twice
from wire.collector_http import Certified
from wire.collector_http import Enrolment as EnrolmentFile
from wire.ids import WallInstant
from wire.sealing import recipient_of

NOW: Now = SystemClock().now()


@dataclass
class FakeDoor(Door):
    """The collector's side of an enrolment."""

    published: PolicyFolder
    repository: Repository
    tokens: set[str] = field(default_factory=lambda: {"token"})
    enrolled: int = 0
    asked: list[str] = field(default_factory=list)
    fails_at: str = ""
    said: list[bytes] = field(default_factory=list)

    def enroll(self, token: str, request_pem: bytes) -> str:
        self._fail("enroll")
        self.said.append(request_pem)
        if token not in self.tokens:
            raise RejectedError("the collector answered 403 (token-refused)")
        self.tokens.remove(token)
        self.enrolled += 1
        return self.certify(request_pem)

    def certify(self, request_pem: bytes) -> str:
        name = spki_sha256(requested_key(request_pem)).hex()
        uri = client_uri("acme", Role.DEVICE, name)
        return Authority.create("test").certify(request_pem, uri).decode()

    def policy_file(self, name: str) -> bytes | None:
        self._fail(name)
        return self.repository.fetch(name)

    def close(self) -> None: ...

    def _fail(self, at: str) -> None:
        if self.fails_at == at:
            raise RetryableError("nobody answers")


@dataclass
class World:
    """An organisation, its collector, and a folder to enrol into."""

    folder: Path
    organisation: Organisation
    door: FakeDoor
    file: EnrolmentFile
    doors: list[tuple[object, ...]] = field(default_factory=list)

    def enroll(self) -> str:
        def open_door(*arguments: object) -> Door:
            self.doors.append(arguments)
            return self.door

        kept: list[str] = []
        enroll.enroll(self.file, self.folder, NOW, open_door, kept.append)
        return kept[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    organisation = Organisation()
    published = organisation.publish(tmp_path / "policy", at=datetime.now(UTC))
    folder = tmp_path / "state"
    folder.mkdir()
    return World(
        folder=folder,
        organisation=organisation,
        door=FakeDoor(published, Repository.of(organisation, published, datetime.now(UTC))),
        file=EnrolmentFile(
            origin="https://collector.acme.example:8443",
            tls_pins=("ab" * 32,),
            ca_pem="",
            token="token",
            root_sha256=hashlib.sha256(published.root).hexdigest(),
            expires_at=WallInstant(NOW.wall + 10**12),
        ),
    )


def test_an_enrolled_device_has_key_certificate_policy_and_pseudonym(world: World) -> None:
    """And nothing of the machine: no host name, no user name, no address."""
    identity = world.enroll()
    device = enroll.load_device(world.folder)
    assert len(device.subject) == 16
    assert device.enrolment.subject_key == recipient_of(identity)
    assert device.id == spki_sha256(device.key.public_key())
    assert {p.name for p in world.folder.iterdir()} == {
        "device.key", "device.pem", "tuf", "enrolment.json",
    }  # fmt: skip
    files = [p for p in world.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)


def test_the_identity_is_nowhere_in_the_state_folder(world: World) -> None:
    """The private part is shown once, and kept in memory only."""
    secret = world.enroll().encode()
    assert all(
        secret not in path.read_bytes() for path in world.folder.rglob("*") if path.is_file()
    )


def test_the_token_travels_without_a_certificate_and_everything_else_with_it(
    world: World,
) -> None:
    """The first door has no client certificate; the next tries the new one, the last has it."""
    world.enroll()
    first, tried, second = world.doors
    assert len(first) == 3
    assert tried[3:] == (world.folder / "device.pem.tried", world.folder / "device.key")
    assert second[3:] == (world.folder / "device.pem", world.folder / "device.key")


def test_a_device_is_not_enrolled_while_nobody_has_the_identity(world: World) -> None:
    """A rights key that could not be written would be lost for ever; the same command goes on."""

    def full(_identity: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        enroll.enroll(world.file, world.folder, NOW, lambda *_, **_options: world.door, full)
    with pytest.raises(SetupError, match="not enrolled"):
        enroll.load_device(world.folder)
    identity = world.enroll()
    assert enroll.load_device(world.folder).enrolment.subject_key == recipient_of(identity)


@pytest.mark.parametrize(
    "fails_at", ["enroll", "timestamp.json", "1.snapshot.json", "1.targets.json"]
)
def test_an_interrupted_enrolment_goes_on_where_it_stopped(world: World, fails_at: str) -> None:
    """With the same key, and without needing a second token."""
    world.door.fails_at = fails_at
    with pytest.raises(RetryableError):
        world.enroll()
    with pytest.raises(SetupError, match="not enrolled"):
        enroll.load_device(world.folder)
    key = (world.folder / "device.key").read_bytes()
    world.door.fails_at = ""
    world.enroll()
    assert world.door.enrolled == 1
    assert (world.folder / "device.key").read_bytes() == key


def test_a_device_is_enrolled_once(world: World) -> None:
    """A second enrolment would lose the pseudonym and the rights key."""
    world.enroll()
    with pytest.raises(SetupError, match="enrolled already"):
        world.enroll()


def test_another_root_than_the_files_is_refused(world: World) -> None:
    """The collector cannot choose who signs the policy."""
    other = Organisation().publish(world.folder.parent / "other", at=datetime.now(UTC))
    name = f"{world.file.root_sha256}.root.json"
    world.door.repository.files[name] = other.root
    with pytest.raises(RejectedError, match="root is not the one"):
        world.enroll()
    assert not (world.folder / "enrolment.json").exists()


def test_a_policy_that_lacks_a_signature_is_refused(world: World) -> None:
    """Nothing is taken on the collector's word."""
    (name,) = (n for n in world.door.repository.files if n.endswith(".policy.json"))
    world.door.repository.files[name] = b"{}"
    with pytest.raises(RejectedError, match="enrolment file"):
        world.enroll()


def test_a_policy_for_another_collector_is_refused(world: World) -> None:
    """One door out: the one that policy and enrolment both name."""
    world.file = msgspec.structs.replace(world.file, origin="https://elsewhere.example")
    with pytest.raises(SetupError, match="nothing is sent"):
        world.enroll()


def test_a_used_token_is_refused_in_the_collectors_words(world: World) -> None:
    """One line that says what to ask for."""
    world.door.tokens.clear()
    with pytest.raises(RejectedError, match="token-refused"):
        world.enroll()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no enrolment file"), (b"{}", "no enrolment file"), (None, "check the path")],
)
def test_a_file_that_is_none_is_one_clear_line(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    """Empty, foreign, or not there."""
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=says):
        enroll.read_file(path, NOW)


def test_an_expired_token_is_not_even_tried(world: World, tmp_path: Path) -> None:
    """The file says until when it is good."""
    path = tmp_path / "file.json"
    path.write_bytes(msgspec.json.encode(world.file))
    assert enroll.read_file(path, NOW) == world.file
    late = Now(boot=0, wall=world.file.expires_at, boot_id="b")
    with pytest.raises(SetupError, match="expired"):
        enroll.read_file(path, late)


def certified(pem: str) -> Certified:
    return Certified(certificate=pem, expires_at=WallInstant(0))


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (4, False), (5, True), (6, True), (400, True)]
)
def test_the_certificate_is_renewed_when_a_third_of_its_life_remains(
    *, world: World, monkeypatch: pytest.MonkeyPatch, days: float, renewed: bool
) -> None:
    """Also after a long absence: the signing request proves the key by itself."""
    world.enroll()
    device = enroll.load_device(world.folder)
    doors: list[tuple[object, ...]] = []

    class RenewingDoor:
        def __init__(self, *arguments: object, **_options: object) -> None:
            doors.append(arguments)

        def renew(self, request_pem: bytes) -> Certified:
            assert requested_key(request_pem) == device.key.public_key()
            return certified(world.door.certify(request_pem))

        def close(self) -> None: ...

    before = (world.folder / "device.pem").read_bytes()
    monkeypatch.setattr(renewal, "Door", RenewingDoor)
    at = Now(boot=0, wall=NOW.wall + int(days * 86_400e9), boot_id="b")
    assert (renewal.renew(device, at, ("ab" * 32,)) is not None) is renewed
    assert ((world.folder / "device.pem").read_bytes() != before) is renewed
    assert all(len(arguments) == 3 for arguments in doors[:1])  # no client certificate


@pytest.mark.parametrize(
    "answer", ["", "no certificate", "caf\u00e9", "another device's", "of version 5"]
)
def test_what_is_no_certificate_of_this_device_replaces_none(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """A collector that answers nonsense ends neither the agent nor the certificate that works."""
    world.enroll()
    device = enroll.load_device(world.folder)
    if answer == "another device's":
        answer = world.door.certify(signing_request(Ed25519PrivateKey.generate()))
    if answer == "of version 5":
        good = world.door.certify(signing_request(device.key))
        answer = of_version_five(good.encode("ascii")).decode("ascii")

    class LyingDoor:
        def __init__(self, *_arguments: object, **_options: object) -> None: ...

        def renew(self, _request_pem: bytes) -> Certified:
            return certified(answer)

    before = (world.folder / "device.pem").read_bytes()
    monkeypatch.setattr(renewal, "Door", LyingDoor)
    late = Now(boot=0, wall=NOW.wall + int(6 * 86_400e9), boot_id="b")
    with pytest.raises(RejectedError, match="not for this device"):
        renewal.renew(device, late, ("ab" * 32,))
    assert (world.folder / "device.pem").read_bytes() == before


def test_a_certificate_that_no_tls_can_show_replaces_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for this key, and with it the device could not even ask for a better one."""
    world.file = msgspec.structs.replace(world.file, ca_pem=Authority.create("ca").pem.decode())
    world.enroll()
    device = enroll.load_device(world.folder)
    good = world.door.certify(signing_request(device.key)).encode("ascii")
    answers = [with_an_extension_twice(good), good]

    class TwiceAskedDoor(Door):
        def renew(self, _request_pem: bytes) -> Certified:
            return certified(answers.pop(0).decode("ascii"))

    before = (world.folder / "device.pem").read_bytes()
    monkeypatch.setattr(renewal, "Door", TwiceAskedDoor)
    late = Now(boot=0, wall=NOW.wall + int(6 * 86_400e9), boot_id="b")
    with pytest.raises(RejectedError, match="cannot be used"):
        renewal.renew(device, late, ("ab" * 32,))
    assert (world.folder / "device.pem").read_bytes() == before
    assert not list(world.folder.glob("*.tried"))
    renewal.renew(device, late, ("ab" * 32,))
    assert (world.folder / "device.pem").read_bytes() == good


def test_a_certificate_that_no_tls_can_show_enrols_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not kept, or the same command could never go on; with a good one it does."""
    ca_pem = Authority.create("ca").pem.decode()
    world.file = msgspec.structs.replace(world.file, ca_pem=ca_pem)
    identities: list[str] = []

    def open_door(*arguments: Any) -> Door:  # noqa: ANN401 - those of a door
        Door(*arguments).close()
        return world.door

    good = world.door.certify
    with monkeypatch.context() as patch:
        patch.setattr(
            world.door,
            "certify",
            lambda request: with_an_extension_twice(good(request).encode()).decode(),
        )
        with pytest.raises(RejectedError, match="cannot be used"):
            enroll.enroll(world.file, world.folder, NOW, open_door, identities.append)
    assert [path.name for path in world.folder.iterdir()] == ["device.key"]
    world.door.tokens.add("token")  # another file
    enroll.enroll(world.file, world.folder, NOW, open_door, identities.append)
    assert len(identities) == 1
    kept = (world.folder / "device.pem").read_bytes()
    world.door.tokens.add("token")
    enroll.enroll_again(world.file, world.folder, NOW, open_door)
    assert (world.folder / "device.pem").read_bytes() != kept


def test_a_folder_in_memory_is_told_from_one_on_a_disk(tmp_path: Path) -> None:
    """The identity goes only where it dies with the session."""
    assert enroll.is_in_memory(Path("/dev/shm"))  # noqa: S108 - nothing is put there
    assert not enroll.is_in_memory(Path("/proc"))
