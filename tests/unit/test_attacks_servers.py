"""Collector, guard and reader, attacked with the rights that each party has.

Each test is one attempt over the real sockets of `tests.fakes.site`, or, for a reader, with
what a collector or a device could hand it.
"""

import dataclasses
import hashlib
import logging
import os
import secrets
import shutil
import socket
import ssl
import traceback
import uuid
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from backports import zstd

import base.protocols
import base.serving
import guard.asked
import reader.fetch
import reader.pictures
from base.door import ClientRefusedError, DoorError, Response
from base.errors import RejectedError, SetupError
from base.https import OneDoor
from base.logs import start_logging
from base.paths import paths_for
from base.pki import Authority, Role, client_uri, private_pem, signing_request
from collector.assembly import Collector
from collector.auth import Reader
from collector.config import read_config
from collector.premises import Premises
from collector.refusal import RefusedError
from collector.rights.consents import MOST_SUBJECTS
from guard.config import read_config as read_guard_config
from guard.database import StorageError
from guard.keys import Keys
from guard.witness import Refuse, Submission, judge
from reader.export.jsonl import export
from reader.opening import Fault, FaultError, Opened, open_batch
from reader.pictures import Canvas
from reader.premises import Premises as ReaderPremises
from tests.fakes.organisation import (
    NOW,
    READER,
    Organisation,
    Sealed,
    ed25519,
    public_key_of_identity,
    raw,
    wall,
)
from tests.fakes.site import TENANT, Site, Workstation, collector_site, fetches, refusal, today
from tests.fakes.tls import WAIT_SECONDS
from wire.category import Category
from wire.collector_http import FrameList, KeptConsent, ReleaseOrder, StoredFrame
from wire.errors import MalformedError
from wire.event import Event, Frame, Key, Rectangle, Still
from wire.frame import batch_hash, core_hash, split
from wire.grant import (
    CONSENT_LABEL,
    AccessGrant,
    AccessRequest,
    SignedConsent,
    approve,
    encode_request,
)
from wire.ids import BootInstant, PolicyDigest, SubjectId, WallInstant
from wire.shelf import reseal, unshelve
from wire.tlog import Checkpoint, sign_checkpoint


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


@pytest.fixture(scope="module")
def training_team(site: Site) -> OneDoor:
    return site.reader(READER)


def said(origin: str, data: bytes, wait_seconds: float = WAIT_SECONDS) -> bytes:
    """Send *data* over TLS as nobody; return all that comes until the other side closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = int(origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as sock:
        sock.settimeout(wait_seconds)
        sock.sendall(data)
        heard = bytearray()
        try:
            while some := sock.recv(1 << 16):
                heard += some
        except TimeoutError:
            heard += b"<still open>"
        except OSError:  # closed without a goodbye
            pass
    return bytes(heard)


def posted(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


# --- anybody ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/enroll", "/v1/renew"])
@pytest.mark.parametrize(
    "body", [b'{"csr":"\xff"}', b'{"csr":"\\ud800"}', b"[" * 60_000, b"\xff\xfe{", b""]
)
def test_bytes_that_are_no_json_are_a_bad_request_and_no_defect(
    site: Site, path: str, body: bytes
) -> None:
    """Nobody without a certificate can make the collector fail."""
    answer = said(site.origin, posted(path, body))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"bad-request" in answer


def test_a_signing_request_of_another_version_is_a_bad_request(site: Site) -> None:
    """The library has an error of its own for that."""
    lines = signing_request(ed25519()).splitlines()
    der = bytearray(ssl.PEM_cert_to_DER_cert(_as_certificate(lines[1:-1])))
    der[der.index(b"\x02\x01\x00") + 2] = 5
    pem = ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    answer = site.door().request("POST", "/v1/renew", msgspec.json.encode({"csr": pem}))
    assert refusal(answer) == (400, "bad-request")


def _as_certificate(lines: list[bytes]) -> str:
    body = b"\n".join(lines).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_a_second_request_that_never_ends_gives_its_place_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte after a good request: a thousand of these would have kept everybody out."""
    monkeypatch.setattr(base.serving, "KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(base.protocols, "KEEP_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(base.protocols, "FIRST_REQUEST_SECONDS", 0.2)
    answer = said(site.origin, b"GET /v1/state HTTP/1.1\r\nHost: x\r\n\r\nG")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert not answer.endswith(b"<still open>")


def test_a_guard_does_not_wait_for_ever_for_a_body(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """add-checkpoint asks for no certificate, so anybody could hold its connections."""
    monkeypatch.setattr(guard.asked, "BODY_SECONDS", 0.2)
    head = b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nold"
    assert said(site.guard.origin, head, 1.0).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "head",
    {
        "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        "a signed length": b"Content-Length: +2\r\n\r\n{}",
        "a length past all numbers": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n{}",
        "a length that is none": b"Content-Length: 0x2\r\n\r\n{}",
        "another coding": b"Transfer-Encoding: gzip\r\n\r\n{}",
        "a colon too early": b"Content-Length : 2\r\n\r\n{}",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_head_that_two_parsers_could_read_in_two_ways_is_refused(
    site: Site, head: tuple[str, bytes]
) -> None:
    """And the connection ends there, so nothing can hide behind it."""
    start = b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\n"
    answer = said(site.origin, start + head[1] + b"GET /v1/state HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.split(b" ")[1] in (b"400", b"501")
    assert b"halted" not in answer


# --- certificates -------------------------------------------------------------------------


def door_with(
    site: Site, authority: Authority, uri: str, folder: Path, *, guard_side: bool = False
) -> OneDoor:
    """Return a door to collector or guard with a certificate of *authority* for *uri*."""
    key = ed25519()
    (folder / "key.pem").write_bytes(private_pem(key))
    (folder / "certificate.pem").write_bytes(authority.certify(signing_request(key), uri))
    ours = site.guard.authority if guard_side else site.premises.authority()
    return OneDoor(
        site.guard.origin if guard_side else site.origin,
        (site.guard.pin if guard_side else site.premises.tls_pin(),),
        ours.pem.decode(),
        folder / "certificate.pem",
        folder / "key.pem",
        WAIT_SECONDS,
    )


@pytest.mark.parametrize("side", ["collector", "guard"])
@pytest.mark.parametrize("role", list(Role))
def test_a_certificate_of_the_other_authority_or_of_ones_own_gets_no_request_through(
    site: Site, tmp_path: Path, role: Role, side: str
) -> None:
    """Collector and guard have an authority each; the same name from another one is nobody's."""
    uri = client_uri(TENANT, role, "main")
    other = site.premises.authority() if side == "guard" else site.guard.authority
    for authority in (other, Authority.create("Assent guard of acme")):
        door = door_with(site, authority, uri, tmp_path, guard_side=side == "guard")
        with pytest.raises(DoorError) as failure:
            door.request("GET", "/v1/state")
        assert isinstance(failure.value, ClientRefusedError)
        door.close()


def test_a_servers_own_certificate_is_no_clients(site: Site) -> None:
    """Who steals tls.key can stand in for the server, and is still no client of it."""
    folder = site.premises.paths.config
    door = site.door(folder / "tls.pem", folder / "tls.key")
    with pytest.raises(ClientRefusedError):
        door.request("GET", "/v1/log/checkpoint")


@pytest.mark.parametrize(
    ("role", "tenant", "path"),
    [
        (Role.DEVICE, TENANT, "/v1/keys"),
        (Role.DEVICE, TENANT, "/v1/release"),
        (Role.READER, TENANT, "/v1/keys"),
        (Role.COLLECTOR, TENANT, "/v1/release"),
        (Role.COLLECTOR, "acme2", "/v1/keys"),
        (Role.READER, "Acme", "/v1/release"),
    ],
)
def test_a_guards_path_is_for_one_role_of_its_tenant(
    site: Site, tmp_path: Path, role: Role, tenant: str, path: str
) -> None:
    """Certified by the right authority, and still for something else."""
    uri = client_uri(tenant, role, "main")
    door = door_with(site, site.guard.authority, uri, tmp_path, guard_side=True)
    assert door.request("POST", path, b"{}").status == 403
    door.close()


# --- devices ------------------------------------------------------------------------------


def test_a_device_cannot_speak_for_the_data_subject_of_another(
    site: Site, workstation: Workstation
) -> None:
    """A pseudonym is no secret to readers: knowing one must not be enough to add to it."""
    workstation.consents()
    thief = site.workstation()
    taken = thief.consent(subject=workstation.org.subject)
    assert refusal(thief.registers(taken)) == (403, "not-this-subject")
    assert refusal(thief.asks_key()) == (409, "consent-unknown")


def test_a_device_cannot_make_guard_keys_without_end(workstation: Workstation) -> None:
    """One seed for each pseudonym, category and month, and each lies there for good."""
    answers = [
        workstation.registers(
            workstation.consent(
                subject=SubjectId(secrets.token_bytes(16)), record_id=str(uuid.uuid4())
            )
        )
        for _ in range(MOST_SUBJECTS + 2)
    ]
    assert [answer.status for answer in answers] == [201] * MOST_SUBJECTS + [403, 403]


@pytest.mark.parametrize("bend", ["upper", "short", "long", "blank", "newline", "dots", "slash"])
def test_a_hash_has_one_spelling(site: Site, workstation: Workstation, bend: str) -> None:
    """No path leads out of the store, and none leads to a batch by another name."""
    frame = workstation.seals(workstation.consents())
    name = hashlib.sha256(frame).hexdigest()
    bent = {
        "upper": name.upper(),
        "short": name[:-2],
        "long": name + "00",
        "blank": name[:2] + "%20" + name[2:],
        "newline": name + "%0a",
        "dots": "%2e%2e%2f" * 5 + "etc%2fpasswd",
        "slash": f"{name[:2]}%2f{name[2:4]}%2f{name}",
    }[bend]
    assert refusal(workstation.puts(frame, bent))[0] == 404
    assert refusal(workstation.door.request("DELETE", f"/v1/batches/{bent}"))[0] == 404
    assert site.collector.store.get(batch_hash(frame)) is None


def test_a_device_learns_nothing_of_what_others_stored(
    site: Site, workstation: Workstation
) -> None:
    """The same answers for a batch that another device stored and for one that is nowhere."""
    frame = workstation.seals(workstation.consents())
    other = site.workstation()
    other.consents()
    before, stored = other.puts(frame), workstation.puts(frame)
    assert stored.status == 201
    assert refusal(other.puts(frame)) == refusal(before) == (422, "forged")
    path = f"/v1/frames/{hashlib.sha256(frame).hexdigest()}"
    nowhere = "/v1/frames/" + "0" * 64
    assert other.door.request("GET", path) == other.door.request("GET", nowhere)
    there, none = (fetches(other.door, site.grant(), n) for n in (batch_hash(frame), bytes(32)))
    assert there == none
    assert refusal(there) == (403, "wrong-role")


def test_the_log_of_a_collector_names_nobody(
    site: Site, workstation: Workstation, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was taken and refused: no device, no subject, no batch, no consent."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # of the test's own clients
        signed = workstation.consents()
        frame = workstation.seals(signed)
        workstation.puts(frame)
        workstation.puts(workstation.spoils(frame, expires=today(3000)))
        workstation.puts(frame[:-1])
        workstation.deletes(frame)
        workstation.puts(frame)
        curious = site.reader("curious")
        fetches(curious, site.grant(reader="curious"), batch_hash(frame))
        fetches(curious, site.grant(), batch_hash(frame))
    text = caplog.text.lower()
    assert "refused with 410 erased" in text
    for private in (
        workstation.id.hex(),
        workstation.org.subject.hex(),
        batch_hash(frame).hex(),
        core_hash(split(frame).core).hex(),
        hashlib.sha256(signed.record).hexdigest(),
    ):
        assert private not in text
        assert private[:16] not in text


# --- readers and releases -----------------------------------------------------------------


def approved(site: Site, **changes: object) -> AccessGrant:
    usual = AccessRequest(
        request_id=secrets.token_hex(8),
        reader=READER,
        recipient=site.org.recipient,
        programme=site.policy.programme,
        purpose=site.policy.purpose,
        categories=(Category.KEYS,),
        first_day=today(-1),
        last_day=today(1),
        expires_at=WallInstant(site.collector.now() + 10**15),
        why="test",
    )
    document = encode_request(msgspec.structs.replace(usual, **changes))
    keys = {"Ada": site.org.ada, "Grace": site.org.grace}
    return AccessGrant(
        request=document, approvals=tuple(approve(document, n, k) for n, k in keys.items())
    )


def ordered(door: OneDoor, grant: AccessGrant, *frames: bytes) -> Response:
    order = ReleaseOrder(grant=grant, batches=tuple(map(batch_hash, frames)))
    return door.request("POST", "/v1/releases", msgspec.json.encode(order))


def test_an_index_that_was_restored_from_a_backup_releases_nothing(tmp_path: Path) -> None:
    """The witness remembers what the log forgot; a second history gets no cosignature."""
    with collector_site(tmp_path / "site") as site:
        workstation, reader = site.workstation(), site.reader(READER)
        signed = workstation.consents()
        first, second = workstation.seals(signed), workstation.seals(signed)
        assert workstation.puts(first).status == 201
        backup = tmp_path / "backup.sqlite"
        with sa.create_engine(f"sqlite:///{site.premises.index_file}").connect() as connection:
            connection.exec_driver_sql(f"VACUUM INTO '{backup}'")
        assert workstation.puts(second).status == 201
        assert ordered(reader, approved(site), second).status == 200

        restored = tmp_path / "restored"
        shutil.copytree(site.premises.paths.state, restored)
        for left in restored.glob("index.sqlite*"):
            left.unlink()
        shutil.copy(backup, restored / "index.sqlite")
        paths = dataclasses.replace(site.premises.paths, state=restored)
        old = Collector.open(Premises(paths))
        order = ReleaseOrder(grant=approved(site), batches=(batch_hash(first),))
        for _ in range(3):
            with pytest.raises(RefusedError, match="guard-unreachable"):
                old.releaser.release(Reader(name=READER), order, old.now())
            order = ReleaseOrder(grant=approved(site), batches=(batch_hash(first),))
        # By now the second history is longer than the first.
        assert old.log.take_up() > site.collector.log.take_up()
        old.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"reader": "somebody-else"},
        {"expires_at": WallInstant(1)},
        {"purpose": "performance-evaluation"},
        {"programme": "another"},
        {"recipient": "age1pq1foreign"},
        {"first_day": "2027-03-01", "last_day": "20270331"},
    ],
)
def test_a_grant_for_something_else_logs_no_release(
    site: Site, workstation: Workstation, training_team: OneDoor, changes: dict[str, object]
) -> None:
    """The log says what may have been opened; whoever may open nothing adds nothing to it."""
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    before = site.collector.log.take_up()
    answer = ordered(training_team, approved(site, **changes), frame)
    assert refusal(answer) == (403, "grant-refused")
    assert site.collector.log.take_up() == before


def test_one_batch_that_is_not_covered_keeps_all_of_an_order_out_of_the_log(
    site: Site, workstation: Workstation, training_team: OneDoor
) -> None:
    """No half of an order is carried out."""
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    before = site.collector.log.take_up()
    narrow = approved(site, first_day=today(1), last_day=today(2))
    assert refusal(ordered(training_team, narrow, frame)) == (403, "not-covered")
    with_unknown = ordered(training_team, approved(site), frame, b"nowhere")
    assert refusal(with_unknown) == (404, "not-found")
    assert site.collector.log.take_up() == before


# --- guard --------------------------------------------------------------------------------


def test_a_log_of_more_leaves_than_any_has_is_no_log() -> None:
    """It is signed, and an empty memory asks for no proof; still no defect, and no memory of it."""
    acme = Organisation()
    name = acme.log_key.partition("+")[0]
    for size in (2**63, 2**64, 10**40):
        note = sign_checkpoint(Checkpoint(origin=name, size=size, root=bytes(32)), acme.log)
        verdict = judge(Submission(old=0, proof=(), note=note), None, acme.log_key)
        assert isinstance(verdict, Refuse)
        assert verdict.status == 400


def test_an_error_of_the_guards_files_says_nothing_of_whose_they_are(tmp_path: Path) -> None:
    """A full disk or a number that does not fit: neither pseudonym nor seed goes into the log."""
    keys, subject = Keys(tmp_path / "keys.sqlite"), SubjectId(b"pseudonym-of-ada")
    now = wall(NOW)
    keys.public_key(subject, Category.KEYS, "2027-03", now)
    keys.close()
    for path in tmp_path.glob("keys.sqlite*"):
        path.unlink()
    (tmp_path / "keys.sqlite").write_bytes(b"")  # its tables are gone
    with pytest.raises(StorageError) as lost:
        keys.find(subject, Category.KEYS, "2027-03")
    keys.close()
    other = Keys(tmp_path / "other.sqlite")
    with pytest.raises(OverflowError) as overflow:
        other.forget(subject, None, None, WallInstant(2**70))
    other.close()
    for failure in (lost, overflow):
        chain = "".join(traceback.format_exception(failure.value))
        assert "pseudonym" not in chain


# --- careless administrators --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["uploads = 0", "frame_bytes = 0", "json_bytes = -1", "body_seconds = 0.0", "body_second = 9"],
)
def test_a_limit_that_would_stop_everything_is_a_mistake(tmp_path: Path, line: str) -> None:
    """No uploads at a time would be uploads that wait for ever."""
    path = tmp_path / "config.toml"
    path.write_text(f'origin = "https://a:1"\ntenant = "acme"\nlisten = "a:1"\n[limits]\n{line}\n')
    with pytest.raises(SetupError, match="mend it"):
        read_config(path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b'origin = "\xff"\n', b"[" * 100_000])
def test_a_config_that_is_no_toml_is_a_mistake_of_one_line(tmp_path: Path, data: bytes) -> None:
    """Saved by an editor in another encoding, or not a file of ours at all."""
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    for read in (read_config, read_guard_config):
        with pytest.raises(SetupError):
            read(path)


def test_a_log_is_its_owners_alone_and_names_no_batch(tmp_path: Path) -> None:
    """With the usual umask, also when it begins a new file, also with --verbose."""
    root, http = logging.getLogger(), logging.getLogger("urllib3")
    handlers, level = list(root.handlers), root.level
    before = os.umask(0o022)
    try:
        start_logging("collector", tmp_path, verbose=True)
        new = [h for h in root.handlers if h not in handlers]
        (kept,) = [h for h in new if isinstance(h, RotatingFileHandler)]
        logging.getLogger("urllib3.connectionpool").debug("PUT /v1/batches/abcdef")
        logging.getLogger("collector").debug("something")
        kept.doRollover()
        logging.getLogger("collector").debug("something")
    finally:
        os.umask(before)
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        http.setLevel(logging.NOTSET)
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600
        assert "something" in path.read_text()
        assert "abcdef" not in path.read_text()


def test_of_two_collectors_on_one_folder_the_second_does_not_start(site: Site) -> None:
    """Two writers of one log would be two logs."""
    with site.premises.alone(), pytest.raises(SetupError, match="another"), site.premises.alone():
        pass


# --- what a collector, or a device, hands to a reader -------------------------------------

ACME = Organisation()
POLICY = PolicyDigest(bytes(32))


def opened(sealed: Sealed) -> Opened:
    parts = split(sealed.frame)
    digest = core_hash(parts.core)
    header = unshelve(parts.shelf, ACME.guard_seed, digest)
    return open_batch(
        sealed.frame,
        sealed.hash,
        KeptConsent(
            record=sealed.consent.record,
            signature=sealed.consent.signature,
            device_key=raw(ACME.device),
        ),
        reseal(header, public_key_of_identity(ACME.identity), digest),
        identity=ACME.identity,
        today=NOW.date(),
    )


def press(at: int) -> Key:
    return Key(at=BootInstant(at), pressed=True, kind="letter")


@pytest.mark.parametrize("at", [-(2**62), -(2**63)])
def test_an_event_before_all_computers_is_the_fault_of_its_batch(at: int) -> None:
    """Boot clocks run forwards: such a time is made up."""
    with pytest.raises(FaultError) as failure:
        opened(ACME.seal(POLICY, (press(5 * 10**9), press(at))))
    assert failure.value.fault is Fault.WRONG_CONTENT


@pytest.mark.parametrize("year", ["0000", "1969", "10000", "99999999999"])
def test_a_consent_in_no_year_is_none(year: str) -> None:
    """A time can be written that is none; one of them ended every export with a trace."""
    record = ACME.consent(POLICY).record.replace(b'"2027-03-15T', f'"{year}-03-15T'.encode())
    signed = SignedConsent(record=record, signature=ACME.device.sign(CONSENT_LABEL + record))
    with pytest.raises(FaultError) as failure:
        opened(ACME.seal(POLICY, consent=signed))
    assert failure.value.fault in (Fault.NOT_CONSENTED, Fault.CONSENT_FORGED)


def screens(*events: Event) -> Sealed:
    consent = ACME.consent(POLICY, category=Category.SCREEN, level="window")
    return ACME.seal(POLICY, events, consent=consent, category=Category.SCREEN, level="window")


def picture(width: int, height: int, *parts: Rectangle, key: bool = True) -> Frame:
    at = BootInstant(5_000_000_001)
    return Frame(at=at, key=key, left=0, top=0, width=width, height=height, rectangles=parts)


def part(x: int, y: int, width: int, height: int, pixels: bytes | None = None) -> Rectangle:
    content = zstd.compress(bytes(max(0, width * height * 3)) if pixels is None else pixels)
    return Rectangle(x=x, y=y, width=width, height=height, pixels=content)


@pytest.mark.parametrize(
    "bad",
    {
        "no width": picture(0, 1),
        "negative": picture(-4, -4),
        "enormous": picture(2**31, 2**31),
        "past 64 bits": picture(2**62, 1),
        "a rectangle outside": picture(4, 4, part(3, 3, 2, 2)),
        "a rectangle to the left": picture(4, 4, part(-1, 0, 2, 2)),
        "a rectangle of negative size": picture(4, 4, part(0, 0, -2, -2)),
        "too few pixels": picture(2, 2, part(0, 0, 2, 2, b"x")),
        "a bomb": picture(1, 1, part(0, 0, 1, 1, bytes(1 << 24))),
        "layer upon layer": picture(4, 4, part(0, 0, 4, 4), part(0, 0, 4, 4)),
        "changes of nothing": picture(1, 1, key=False),
        "no zstd": picture(1, 1, Rectangle(x=0, y=0, width=1, height=1, pixels=b"abc")),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_picture_that_cannot_be_drawn_is_the_fault_of_its_batch(bad: tuple[str, Frame]) -> None:
    """It used to end the export half way, with plaintext on the disk."""
    with pytest.raises(FaultError) as failure:
        opened(screens(bad[1]))
    assert failure.value.fault is Fault.WRONG_CONTENT


def test_the_pictures_of_a_batch_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte could ask for a thousand pictures of two hundred megabytes each."""
    monkeypatch.setattr(reader.pictures, "MOST_PIXELS_A_BATCH", 40)
    canvas = Canvas()
    for _ in range(2):
        canvas.draw(picture(4, 5))
    with pytest.raises(MalformedError, match="minute"):
        canvas.draw(picture(4, 5))


def test_a_picture_that_stayed_since_no_year_is_the_fault_of_its_batch() -> None:
    """Its beginning is written as a date, as every instant is."""
    stayed = Still(at=BootInstant(5 * 10**9), of=BootInstant(1), since=BootInstant(-(2**63)))
    with pytest.raises(FaultError) as failure:
        opened(screens(stayed))
    assert failure.value.fault is Fault.WRONG_CONTENT


def test_names_in_an_export_are_ours(tmp_path: Path) -> None:
    """A sequence number is the only word of a device in a name, and it is a number."""
    sealed = screens(
        msgspec.structs.replace(picture(1, 1), sequence=-(2**63)),
        msgspec.structs.replace(picture(1, 1), sequence=2**63 - 1),
    )
    out = tmp_path / "out"
    export([sealed.hash], lambda _batch: opened(sealed), out, wall(NOW))
    for path in out.rglob("*"):
        assert path.resolve().is_relative_to(out)
    assert len(list((out / "frames").iterdir())) == 2


class Listing:
    """A collector's door that answers each listing with the next page, and the last for ever."""

    def __init__(self, *pages: FrameList) -> None:
        self.pages = list(pages)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: object = None
    ) -> Response:
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        return Response(status=200, headers={}, body=msgspec.json.encode(page))


def stored(index: int, name: bytes = bytes(32)) -> StoredFrame:
    return StoredFrame(
        batch_hash=name, index=index, category=Category.KEYS, day="2027-03-15", bytes=1
    )


@pytest.mark.parametrize(
    "pages",
    {
        "the same page for ever": (FrameList(frames=(stored(3),), more=True),),
        "backwards": (
            FrameList(frames=(stored(3),), more=True),
            FrameList(frames=(stored(2),), more=True),
        ),
        "a name of 10 kB": (FrameList(frames=(stored(0, bytes(10_000)),), more=False),),
        "no name": (FrameList(frames=(stored(0, b""),), more=False),),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_listing_without_end_or_names_is_refused(
    pages: tuple[str, tuple[FrameList, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector can refuse to work, but not keep a reader busy for ever."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path))
    monkeypatch.setattr(reader.fetch, "_door", lambda *_: Listing(*pages[1]))
    end = reader.fetch.Collector(ReaderPremises(paths_for("reader")))
    with pytest.raises(RejectedError):
        list(end.frames(ACME.grant()))
