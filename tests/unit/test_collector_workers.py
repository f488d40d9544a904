"""Devices' connections held by processes of their own: nothing changes but how many fit."""

import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from base.door import DoorError, Response
from base.errors import SetupError
from base.serving import Listener
from benchmarks.meter import Meter
from collector.app import build
from collector.store import Marked
from collector.store.files import FileStore
from collector.workers import crew
from collector.workers.crew import Crew
from tests.conftest import Size
from tests.fakes.site import Site, collector_site, lists, refusal
from tests.fakes.staffed import WORKERS, Staffed, credentials, hash_of, staffed_site
from tests.fakes.tls import WAIT_SECONDS
from wire.collector_http import State
from wire.receipt import decode_receipt, verify_receipt

pytestmark = pytest.mark.slow


@pytest.fixture
def staffed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Staffed]:
    with staffed_site(tmp_path, monkeypatch) as made:
        yield made


def test_an_upload_gets_the_receipt_that_it_always_gets(staffed: Staffed) -> None:
    """New, again, and as the index would say it by itself; its frame is there, settled."""
    site, frame = staffed.site, staffed.home.seals(staffed.home.consents())
    for each in (frame, staffed.again(frame, 2), staffed.again(frame, 3)):
        first, second = staffed.home.puts(each), staffed.home.puts(each)
        assert (first.status, second.status) == (201, 200)
        assert first.body == second.body
        assert first.body == msgspec.json.encode(site.collector.receiver.receipt(hash_of(each)))
        receipt = decode_receipt(first.body)
        key = site.collector.log.verifier_key
        verify_receipt(receipt, hash_of(each), receipt.core_hash, key)
        assert site.collector.store.get(hash_of(each)) == each
    staffed.waits_for(lambda: list(site.collector.store.unsettled()) == [])


def test_who_is_refused_is_refused_by_the_same_name(staffed: Staffed) -> None:
    """Each step of an upload, and what else can be asked; nothing is left in the store."""
    site, home = staffed.site, staffed.home
    frame, other = home.seals(home.consents()), site.workstation()
    limit = site.collector.config.limits.frame_bytes
    assert refusal(home.puts(frame, "ab" * 32)) == (422, "wrong-hash")
    assert refusal(home.puts(b"no frame")) == (422, "malformed")
    assert refusal(home.puts(frame[:-1] + bytes([frame[-1] ^ 1]))) == (422, "forged")
    assert refusal(home.puts(home.spoils(frame, tenant="else"))) == (403, "not-this-tenant")
    assert refusal(home.puts(home.spoils(frame, grant=bytes(32)))) == (409, "consent-unknown")
    assert refusal(home.puts(bytes(limit + 1))) == (413, "too-large")
    assert refusal(other.puts(frame)) == (422, "forged")
    assert refusal(home.puts(frame, "nonsense")) == (404, "not-found")
    path = f"/v1/batches/{hash_of(frame).hex()}"
    assert refusal(site.door().request("PUT", path, frame)) == (401, "no-certificate")
    assert refusal(lists(home.door, site.grant())) == (403, "wrong-role")
    assert home.puts(frame).status == 201
    assert home.deletes(frame).status == 200
    assert refusal(home.puts(frame)) == (410, "erased")
    site.halts("the works council asked for it")
    assert refusal(home.puts(staffed.again(frame, 5))) == (503, "halted")
    said = home.door.request("GET", "/v1/state")
    assert msgspec.json.decode(said.body, type=State).halted
    assert list(site.premises.objects.glob("??/*")) == []


def test_what_is_taken_back_is_refused_although_ones_like_it_were_taken(staffed: Staffed) -> None:
    """A worker stores at once what is like the batch before; the index has the last word."""
    frame = staffed.home.seals(staffed.home.consents())
    for number in range(2, 8):  # so that each worker has seen one
        assert staffed.home.puts(staffed.again(frame, number)).status == 201
    assert staffed.home.asks(staffed.home.demands()).status == 200
    for number in range(8, 12):
        assert refusal(staffed.home.puts(staffed.again(frame, number))) == (410, "erased")
    assert list(staffed.site.premises.objects.glob("??/*")) == []


def test_limits_of_a_device_hold_for_all_workers_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever worker its connections come to."""
    limits = "device_uploads_per_minute = 5\ndevice_requests_per_minute = 0\n"
    with staffed_site(tmp_path, monkeypatch, limits) as staffed:
        home, frame = staffed.home, staffed.home.seals(staffed.home.consents())
        answers = []
        for number in range(2, 12):
            each = staffed.again(frame, number)
            door = staffed.site.door(*home.files)  # a connection of its own
            path = f"/v1/batches/{hash_of(each).hex()}"
            answers.append(door.request("PUT", path, each).status)
    assert answers.count(201) in (5, 6)  # one grows back every 12 s
    assert answers.count(429) == 10 - answers.count(201)


def test_a_worker_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(
    staffed: Staffed,
) -> None:
    """Again and again, while batches come in; a device that got no answer sends it again."""
    frame, taken, sent = staffed.home.seals(staffed.home.consents()), list[bytes](), [1]
    stop = threading.Event()

    def upload() -> None:
        door = staffed.site.door(*staffed.home.files)
        while not stop.is_set():
            sent[0] += 1
            each = staffed.again(frame, sent[0])
            answer: Response | None = None
            while answer is None:
                try:
                    answer = door.request("PUT", f"/v1/batches/{hash_of(each).hex()}", each)
                except DoorError:
                    time.sleep(0.01)
            assert answer.status in (200, 201), answer.body
            taken.append(each)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        for _ in range(3):
            before = len(taken)
            staffed.waits_for(lambda before=before: len(taken) > before + 3)  # type: ignore[misc]
            killed = set(staffed.pids)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            staffed.waits_for(
                lambda killed=killed: len(set(staffed.pids) - killed) == WORKERS  # type: ignore[misc]
            )
    finally:
        stop.set()
        thread.join()
    for each in taken:
        assert staffed.site.collector.store.get(hash_of(each)) == each
        assert staffed.home.puts(each).status == 200


def test_a_worker_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else its part of a fleet would wait until somebody looks."""
    monkeypatch.setattr(crew, "PING_SECONDS", 0.5)
    with staffed_site(tmp_path, monkeypatch) as staffed:
        frame = staffed.home.seals(staffed.home.consents())
        all_serve(staffed)
        hung = set(staffed.pids)
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        staffed.waits_for(lambda: len(set(staffed.pids) - hung) == WORKERS)
        assert staffed.home.puts(frame).status == 201
    assert "a worker hangs" in caplog.text


def test_workers_that_die_all_the_time_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one line for whoever runs it: a restart does not mend that."""
    monkeypatch.setattr(crew, "MOST_DEATHS", 2)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with collector_site(tmp_path / "site") as site:
        monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "nothing-here"))
        with pytest.raises(SetupError, match="end all the time"):
            Crew(Listener("127.0.0.1", 0)).run(build(site.collector), credentials(site))


def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not there now may be in a moment; who came meanwhile has waited."""
    monkeypatch.setattr(crew, "RETRY_SECONDS", 0.1)
    python, begins = tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'

    def comes_back() -> None:
        while "could not be started: No such file" not in caplog.text:
            time.sleep(0.01)
        python.touch(0o700)
        python.write_text(begins)

    threading.Thread(target=comes_back, daemon=True).start()
    monkeypatch.setattr(sys, "executable", str(python))
    with staffed_site(tmp_path, monkeypatch) as staffed:
        assert staffed.home.puts(staffed.home.seals(staffed.home.consents())).status == 201
    assert "could not be started: No such file" in caplog.text


def test_a_worker_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was told to stop does, whatever its workers are waiting for."""
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 0.5)
    with staffed_site(tmp_path, monkeypatch) as staffed:
        assert staffed.home.puts(staffed.home.seals(staffed.home.consents())).status == 201
        for pid in staffed.pids:
            os.kill(pid, signal.SIGSTOP)
        staffed.site.serving.close()
        assert staffed.pids == []


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        ("GET /v1/state HTTP/1.1\r\nX-Endless: ", "a"),
        ("POST /v1/enroll HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n"),
        ("POST /v1/enroll HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", "a"),
        ("GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz HTTP/1.1\r\n\r\n"),
    ],
    ids=["head", "trailers", "trailer", "requests-that-wait-for-no-answer"],
)
def test_a_stranger_s_request_without_end_is_not_read(
    staffed: Staffed, begins: str, goes_on: str
) -> None:
    """As much as h11 reads; then the connection is closed, and others are answered."""
    with stranger(staffed.site) as sock:
        sock.sendall(begins.encode())
        ended = b""
        try:
            for _ in range(64):
                sock.sendall(goes_on.encode() * ((64 << 10) // len(goes_on)))
            while part := sock.recv(64 << 10):
                ended += part
        except OSError:  # it had hung up before all was written
            ended += b"HTTP/1.1 400 hung up"
    assert ended.count(b"HTTP/1.1") <= 2
    assert ended.count(b"HTTP/1.1 400") <= 1
    assert staffed.home.puts(staffed.home.seals(staffed.home.consents())).status == 201


def all_serve(staffed: Staffed) -> None:
    """Wait until each worker answers; the kernel deals connections out to their sockets."""
    for _ in range(20):
        with stranger(staffed.site) as sock:
            sock.sendall(b"GET /v1/nothing HTTP/1.1\r\n\r\n")
            read_until(sock, b"HTTP/1.1")


@contextmanager
def stranger(site: Site) -> Iterator[ssl.SSLSocket]:
    """Connect to a worker without a certificate."""
    port = int(site.origin.rpartition(":")[2])
    context = ssl.create_default_context(cadata=site.premises.trusted_pem())
    with (
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        yield sock


def test_a_body_that_does_not_come_holds_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the owner nor the worker waits longer than a body may take."""
    with (
        staffed_site(tmp_path, monkeypatch, "body_seconds = 0.3") as staffed,
        stranger(staffed.site) as sock,
    ):
        sock.sendall(b"POST /v1/enroll HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        assert read_until(sock, b"it took too long").startswith(b"HTTP/1.1 503")
        # What came too late is the rest of a request that was answered; the next one counts.
        sock.sendall(b"too late!GET /healthz HTTP/1.1\r\n\r\n")
        read_until(sock, b"HTTP/1.1")


def read_until(sock: ssl.SSLSocket, end: bytes) -> bytes:
    read = b""
    while end not in read:
        part = sock.recv(64 << 10)
        assert part, read
        read += part
    return read


def test_a_disk_that_is_full_is_said_by_its_name(
    staffed: Staffed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker notices; the owner says so."""
    frame = staffed.home.seals(staffed.home.consents())
    all_serve(staffed)  # one that comes later would make the folder anew
    objects = staffed.site.premises.objects
    objects.joinpath("incoming").rename(objects / "elsewhere")
    assert refusal(staffed.home.puts(frame)) == (507, "storage-full")
    objects.joinpath("elsewhere").rename(objects / "incoming")
    assert staffed.home.puts(frame).status == 201


@pytest.mark.soak
def test_memory_stays_flat_however_many_come(
    staffed: Staffed, size: Size, figure: Callable[[str], None]
) -> None:
    """But for the log, of which every leaf's hash is kept in memory: some 150 bytes for each."""
    frame = staffed.home.seals(staffed.home.consents())
    many = size(share=300, full=100_000)
    first = many // 10

    def put(numbers: range) -> None:
        for number in numbers:
            assert staffed.home.puts(staffed.again(frame, number)).status == 201

    def resident() -> float:
        pids = staffed.pids
        assert len(pids) == WORKERS
        return sum(Meter(pid).read().resident_megabytes for pid in pids)

    put(range(2, first))
    before = resident()
    put(range(first, many))
    after = resident()
    assert after - before < 16, "a worker keeps what it has answered"
    figure(f"{many:,} uploads: workers' memory {before:.0f} MB, then {after:.0f} MB")


def test_marks_are_the_store_s_own(tmp_path: Path) -> None:
    """What `put` returns can be settled; the same that a worker does."""
    store = FileStore(tmp_path)
    mark: Marked = store.put(hash_of(b"frame"), b"frame")
    assert [one.batch for one in store.unsettled()] == [mark.batch]
    mark.settle()
    assert list(store.unsettled()) == []
