"""A batch comes in: what is taken, what is refused by which name, what is left behind."""

import errno
import hashlib
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection

import msgspec
import pytest
from sqlalchemy import func, select

from base.door import Response
from base.errors import RetryableError
from base.pki import Role, client_uri, spki_sha256
from collector.assembly import Collector
from collector.index.tables import batches, leaves
from collector.ingest import receive
from collector.store.files import FileStore, Mark
from tests.conftest import NewPlace
from tests.fakes.organisation import ed25519
from tests.fakes.site import Site, Workstation, collector_site, fetches, refusal, today
from tests.fakes.tls import WAIT_SECONDS
from wire.category import Category
from wire.collector_http import Terms
from wire.frame import core_hash, split
from wire.ids import BatchHash
from wire.receipt import decode_receipt, verify_receipt


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def is_stored(site: Site, frame: bytes) -> bool:
    """Whether there is a row, and the file that every row has; and neither without the other."""
    batch = hash_of(frame)
    with site.collector.index.reading() as connection:
        row = connection.execute(select(batches.c.leaf).where(batches.c.batch == batch)).first()
    assert (row is not None) == (site.collector.store.get(batch) is not None)
    return row is not None


def leaf_count(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


def test_a_batch_is_stored_and_its_receipt_verifies(site: Site, workstation: Workstation) -> None:
    """201, and the agent may delete its copy: the log says that the batch is in."""
    frame = workstation.seals(workstation.consents())
    answer = workstation.puts(frame)

    assert answer.status == 201, answer.body
    receipt = decode_receipt(answer.body)
    digest = core_hash(split(frame).core)
    verify_receipt(receipt, hash_of(frame), digest, site.policy.collector.log)
    assert site.collector.store.get(hash_of(frame)) == frame
    assert is_stored(site, frame)


def test_the_same_bytes_again_get_the_same_receipt_and_no_second_leaf(
    site: Site, workstation: Workstation
) -> None:
    """An answer that was lost can be asked for again, also when the log has grown since."""
    signed = workstation.consents()
    frame = workstation.seals(signed)
    first = workstation.puts(frame)
    assert workstation.puts(workstation.seals(signed)).status == 201
    before = leaf_count(site)
    again = workstation.puts(frame)

    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    assert leaf_count(site) == before


def test_two_puts_of_the_same_bytes_at_once_are_one_batch(
    site: Site, workstation: Workstation
) -> None:
    """One is new, all get the same receipt, there is one leaf and one file."""
    frame = workstation.seals(workstation.consents())
    before = leaf_count(site)
    answers: list[Response] = []
    gate = threading.Barrier(4)

    def put() -> None:
        gate.wait(WAIT_SECONDS)
        answers.append(workstation.puts(frame))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status for answer in answers) == [200, 200, 200, 201]
    assert len({answer.body for answer in answers}) == 1
    assert leaf_count(site) == before + 1
    assert is_stored(site, frame)
    assert list(site.collector.store.unsettled()) == []


# --- refused, by name -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"origin": "https://elsewhere.example"}, (403, "not-this-origin")),
        ({"tenant": "other"}, (403, "not-this-tenant")),
        ({"device": b"d" * 32}, (403, "not-this-device")),
        ({"programme": "other"}, (403, "not-this-programme")),
        ({"subject": b"s" * 16}, (403, "not-this-subject")),
        ({"policy": b"p" * 32}, (409, "policy-unknown")),
        ({"grant": b"g" * 32}, (409, "consent-unknown")),
        ({"purpose": "sale"}, (422, "consent-mismatch")),
        ({"category": Category.SCREEN}, (422, "consent-mismatch")),
        ({"day": "2020-01-01"}, (422, "guard-key-unknown")),
        ({"expires": today(-1)}, (422, "expired")),
        ({"expires": today(3650)}, (422, "kept-too-long")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "-".join(value),
)
def test_a_frame_outside_the_scope_is_refused_by_name(
    site: Site, workstation: Workstation, changes: dict[str, object], refused: tuple[int, str]
) -> None:
    """Each field of the core is judged, and nothing is stored."""
    frame = workstation.spoils(workstation.seals(workstation.consents()), **changes)

    assert refusal(workstation.puts(frame)) == refused
    assert not is_stored(site, frame)


def test_a_category_that_the_policy_does_not_ask_for_is_refused(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is asked before the consent."""
    frame = workstation.seals(workstation.consents())
    monkeypatch.setattr(type(site.policy), "rule", lambda *_: None)
    assert refusal(workstation.puts(frame)) == (422, "category-refused")


def test_a_frame_under_the_consent_of_another_device_is_refused(
    site: Site, workstation: Workstation
) -> None:
    """A consent record speaks for the device that signed it."""
    other = site.workstation()
    signed = other.consents()
    workstation.consents()
    assert refusal(workstation.puts(workstation.seals(signed))) == (403, "not-this-device")


def test_a_frame_sealed_to_another_key_than_the_guards_is_refused(
    workstation: Workstation,
) -> None:
    """It would outlive the erasure of its subject."""
    frame = workstation.seals(workstation.consents())
    spoiled = workstation.spoils(frame, guard_key=b"k" * 16)
    assert refusal(workstation.puts(spoiled)) == (422, "guard-key-unknown")


def test_a_frame_of_another_device_is_refused(site: Site, workstation: Workstation) -> None:
    """A device hands in what it signed itself, nothing else."""
    other = site.workstation()
    frame = other.seals(other.consents())

    assert refusal(workstation.puts(frame)) == (422, "forged")
    assert not is_stored(site, frame)
    assert other.puts(frame).status == 201


@pytest.mark.parametrize("cut", [0, 7, 40, 2000, -73, -1])
def test_a_truncated_frame_is_malformed(site: Site, workstation: Workstation, cut: int) -> None:
    """Wherever it ends too early."""
    frame = workstation.seals(workstation.consents())[:cut] or b"\0"
    assert refusal(workstation.puts(frame)) == (422, "malformed")
    assert not is_stored(site, frame)


def test_foreign_bytes_and_bytes_behind_a_frame_are_malformed(workstation: Workstation) -> None:
    """Only frames, each exactly one."""
    frame = workstation.seals(workstation.consents())
    for foreign in (b"GIF89a" + bytes(1000), frame + b"\0", frame + frame):
        assert refusal(workstation.puts(foreign)) == (422, "malformed")


def test_a_changed_bit_is_forged(workstation: Workstation) -> None:
    """In the body, where only the signature can tell."""
    frame = bytearray(workstation.seals(workstation.consents()))
    frame[-200] ^= 1
    assert refusal(workstation.puts(bytes(frame))) == (422, "forged")


def test_a_batch_is_named_by_its_hash_and_by_nothing_else(
    site: Site, workstation: Workstation
) -> None:
    """Another hash, and names that are none."""
    frame = workstation.seals(workstation.consents())
    name = hash_of(frame).hex()

    assert refusal(workstation.puts(frame, "0" * 64)) == (422, "wrong-hash")
    for other in (name.upper(), name[:-2], name + "00", "x" * 64, f"{name[:-2]}%2e"):
        assert refusal(workstation.puts(frame, other)) == (404, "not-found")
    assert not is_stored(site, frame)


# --- bounds -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workstation]:
    limits = "frame_bytes = 2000\njson_bytes = 2000\nuploads = 1\nbody_seconds = 0.3"
    with collector_site(tmp_path_factory.mktemp("small"), limits) as running:
        yield running.workstation()


def raw(small: Workstation, head: bytes, body: bytes = b"") -> bytes:
    """Send bytes as they are with this workstation's certificate; return what comes back."""
    context = ssl.create_default_context(cadata=small.site.premises.authority().pem.decode())
    context.load_cert_chain(*small.files)
    port = int(small.site.origin.rpartition(":")[2])
    with (
        create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(head + b"\r\nhost: x\r\nconnection: close\r\n\r\n" + body)
        answer = b""
        while more := sock.recv(65536):
            answer += more
        return answer


def test_a_frame_that_is_too_large_is_refused_before_it_is_sent(small: Workstation) -> None:
    """By what the head announces: no 100 Continue."""
    answer = raw(
        small,
        b"PUT /v1/batches/%s HTTP/1.1\r\nexpect: 100-continue\r\n" % (b"0" * 64)
        + b"content-length: 2001",
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too-large" in answer
    assert refusal(small.puts(bytes(2001))) == (413, "too-large")
    assert refusal(small.puts(bytes(2000))) == (422, "malformed")


def test_a_frame_whose_length_is_not_announced_is_cut_off_at_the_bound(small: Workstation) -> None:
    """Hashing while it comes does not mean taking whatever comes."""
    chunk = b"200\r\n" + bytes(512) + b"\r\n"
    name = hashlib.sha256(bytes(2048)).hexdigest().encode()
    answer = raw(
        small,
        b"PUT /v1/batches/%s HTTP/1.1\r\ntransfer-encoding: chunked" % name,
        chunk * 4 + b"0\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_request_that_never_ends_gives_its_place_back(small: Workstation) -> None:
    """With one place for uploads, a client that stalls holds up the next for a moment only."""
    stalled = raw(small, b"PUT /v1/batches/%s HTTP/1.1\r\ncontent-length: 1000" % (b"0" * 64))
    assert stalled.startswith(b"HTTP/1.1 503 ")
    assert refusal(small.puts(b"next")) == (422, "malformed")
    stalled = raw(small, b"POST /v1/renew HTTP/1.1\r\ncontent-length: 1000")
    assert stalled.startswith(b"HTTP/1.1 503 ")


def test_other_requests_are_bounded_too(small: Workstation) -> None:
    """JSON of more than the configured size is not read."""
    answer = small.door.request("POST", "/v1/consents", b" " * 2001)
    assert refusal(answer) == (413, "too-large")
    assert raw(small, b"POST /v1/enroll HTTP/1.1\r\ncontent-length: 999999").startswith(
        b"HTTP/1.1 413 "
    )


# --- what is left behind ----------------------------------------------------------------


def reopened(site: Site) -> None:
    """Do at once what the next start would do; beside other collectors, what `watch` does later."""
    site.collector.put_right()
    if site.collector.index.is_shared:
        site.collector.settle(site.collector.store.unsettled())


def test_a_full_disk_stores_nothing_and_says_try_later(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Fails*: 507, no row, no file, no mark."""
    frame = workstation.seals(workstation.consents())

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = workstation.puts(frame)
    monkeypatch.undo()

    assert refusal(answer) == (507, "storage-full")
    assert answer.retry_after_seconds == 300
    assert not is_stored(site, frame)
    assert list(site.collector.store.unsettled()) == []
    assert workstation.puts(frame).status == 201


def test_a_crash_between_file_and_row_leaves_a_marked_file_that_the_next_start_removes(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Crash after the file*: never acknowledged, so it goes; then it may come again."""
    frame = workstation.seals(workstation.consents())

    def lost(*_: object) -> int:
        raise RetryableError("power cut")

    monkeypatch.setattr(receive, "append_all", lost)
    assert refusal(workstation.puts(frame)) == (503, "not-ready")
    monkeypatch.undo()

    assert site.collector.store.get(hash_of(frame)) == frame
    assert [mark.batch for mark in site.collector.store.unsettled()] == [hash_of(frame)]
    reopened(site)
    assert not is_stored(site, frame)
    assert list(site.collector.store.unsettled()) == []
    assert workstation.puts(frame).status == 201
    assert is_stored(site, frame)


def test_a_frame_may_come_again_before_that_start(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the first try serves the second; the next start keeps it."""
    frame = workstation.seals(workstation.consents())

    def lost(*_: object) -> int:
        raise RetryableError("power cut")

    monkeypatch.setattr(receive, "append_all", lost)
    workstation.puts(frame)
    monkeypatch.undo()
    assert workstation.puts(frame).status == 201
    reopened(site)

    assert is_stored(site, frame)
    assert list(site.collector.store.unsettled()) == []


def test_a_crash_after_the_row_keeps_the_batch(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Fails but persisted*: the row was committed, only the mark is still there."""
    frame = workstation.seals(workstation.consents())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        assert workstation.puts(frame).status == 201
    assert len(list(site.collector.store.unsettled())) == 1
    reopened(site)

    assert is_stored(site, frame)
    assert list(site.collector.store.unsettled()) == []


def test_a_halt_that_comes_during_the_upload_wins(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halted is asked again in the transaction; nothing is acknowledged after a halt."""
    frame = workstation.seals(workstation.consents())
    real = FileStore.put

    def put_during_a_halt(store: FileStore, batch: BatchHash, data: bytes) -> Mark:
        site.halts("stop")
        return real(store, batch, data)

    monkeypatch.setattr(FileStore, "put", put_during_a_halt)
    assert refusal(workstation.puts(frame)) == (503, "halted")
    monkeypatch.undo()
    site.publishes()
    reopened(site)

    assert not is_stored(site, frame)
    assert workstation.puts(frame).status == 201


# --- blindness --------------------------------------------------------------------------


def test_nothing_that_the_collector_has_imports_what_could_open_a_batch(site: Site) -> None:
    """Keys in its folders: TLS, CA, log, lease, and the one for the guard. No other secret."""
    secret = {
        path.relative_to(site.premises.paths.config).as_posix()
        for path in site.premises.paths.config.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    }
    assert secret == {"ca.key", "tls.key", "log.key", "lease.key", "guard/client.key"}


def test_another_process_can_open_the_same_collector_and_finds_everything(
    site: Site, workstation: Workstation
) -> None:
    """All that counts is on the disk when the answer is given."""
    frame = workstation.seals(workstation.consents())
    answer = workstation.puts(frame)
    second = Collector.open(site.premises)
    again = second.receiver.receipt(hash_of(frame))
    second.close()

    assert again == decode_receipt(answer.body)


def test_a_device_key_that_is_not_enrolled_puts_nothing(site: Site) -> None:
    """Certified by the right authority but not in the index: unknown."""
    key = ed25519()
    uri = client_uri("acme", Role.DEVICE, spki_sha256(key.public_key()).hex())
    answer = site.certify(key, uri).request("PUT", "/v1/batches/" + "0" * 64, b"x")
    assert refusal(answer) == (401, "unknown-client")


def test_a_batch_under_a_narrower_policy_than_was_agreed_to_is_taken(
    tmp_path: Path,
) -> None:
    """A consent stands under a policy that asks for less; a wider one is refused by name."""
    with collector_site(tmp_path) as site:
        workstation = site.workstation()
        signed = workstation.consents()
        site.publishes(applications=())
        assert workstation.puts(workstation.seals(signed)).status == 201
        site.publishes(hold_seconds=1)
        answer = workstation.puts(workstation.seals(signed))
        assert refusal(answer) == (422, "consent-mismatch")
        assert b"this one widens hold_seconds" in answer.body


def test_a_reader_gets_the_policies_to_compare_and_a_device_does_not(tmp_path: Path) -> None:
    """Of a batch that its grant covers: that of the consent, and that of the recording."""
    with collector_site(tmp_path) as site:
        workstation, reader = site.workstation(), site.reader("training-team")
        signed, texts, frame = workstation.consents(), list[bytes](), b""
        for number in (1, 2):
            frame = workstation.seals(signed)
            assert workstation.puts(frame).status == 201
            texts.append((site.policy_folder / "policy.json").read_bytes())
            answer = fetches(reader, site.grant(), hash_of(frame), "/terms")
            assert msgspec.json.decode(answer.body, type=Terms).policies == tuple(texts[:number])
            site.publishes(applications=())
        asked = fetches(workstation.door, site.grant(), hash_of(frame), "/terms")
        assert refusal(asked) == (403, "wrong-role")
