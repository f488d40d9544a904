"""A real S3 store that dies, hangs up, fills up or does not let us in, under a real collector.

What was acknowledged is in the bucket; what was not is with the device, who is told when to come
again, and can.
"""

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from base.errors import RetryableError, SetupError
from collector.assembly import Collector
from tests.conftest import Size
from tests.fakes.buckets import PREFIX, Rented
from tests.fakes.ceph import PATIENCE_SECONDS, Ceph
from tests.fakes.site import UNLIMITED, Site, Workstation, collector_site, fetches, refusal
from wire.frame import batch_hash, join_unsigned, split
from wire.ids import BatchHash
from wire.receipt import decode_receipt
from wire.sealing import sign

pytestmark = pytest.mark.slow

HEAD_BYTES = 700  # of a request, about; an upload makes four
ANSWER_BYTES = 400


@contextlib.contextmanager
def bucket_site(folder: Path, rented: Rented, endpoint: str = "") -> Iterator[Site]:
    """Run a collector that keeps its batches in a bucket."""
    config = folder / "config"
    config.mkdir(mode=0o700, parents=True)
    rented.write_credentials(config / "store.credentials")
    with collector_site(folder, UNLIMITED + rented.toml(endpoint)) as site:
        yield site


@pytest.fixture
def rented(ceph: Ceph) -> Rented:
    return Rented.of(ceph)


@dataclass
class Frames:
    """New frames of one device, each of its own number."""

    workstation: Workstation
    base: bytes = b""
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def new(self) -> bytes:
        with self.lock:
            self.made += 1
            number = self.made
            self.base = self.base or self.workstation.seals(self.workstation.consents())
        parts = split(self.base)
        unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
        return sign(unsigned, number, self.workstation.org.device)


def stored(rented: Rented) -> set[bytes]:
    """Return the frames in the bucket."""
    return {content for name, content in rented.objects().items() if "/objects/" in name}


def settled(site: Site, rented: Rented) -> None:
    """Start the collector again: then there is nothing beside the frames that have a row."""
    site.restart()
    assert [name for name in rented.objects() if "/objects/" not in name] == []
    assert list(site.collector.store.unsettled()) == []


# --- the store dies ---------------------------------------------------------------------------


@pytest.mark.soak
def test_a_gateway_that_is_killed_during_uploads_loses_nothing_that_was_acknowledged(
    rented: Rented,
    tmp_path: Path,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """SIGKILL at random moments, and started again; devices come again, and all is there once."""
    deaths = size(share=3, full=100)
    with bucket_site(tmp_path / "site", rented) as site:
        uploads = Uploads(Frames(site.workstation()))
        for _ in range(deaths):
            uploads.begin()
            uploads.wait(acknowledged=dice.randrange(6))
            with rented.ceph.gateway_killed():
                uploads.wait(refused=1)
            uploads.wait(acknowledged=2)
            uploads.end()
        assert stored(rented) == uploads.acknowledged
        settled(site, rented)
        assert stored(rented) == uploads.acknowledged
        figure(f"{deaths} kills, {len(uploads.acknowledged)} acknowledged, 0 lost, 0 twice")


@dataclass
class Uploads:
    """A device that sends one frame after the other, each until it is acknowledged."""

    frames: Frames
    acknowledged: set[bytes] = field(default_factory=set)
    refused: int = 0
    failures: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def begin(self) -> None:
        self.ended.clear()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def end(self) -> None:
        """End with nothing that was not acknowledged."""
        self.ended.set()
        assert self.thread is not None
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()
        assert self.failures == []

    def wait(self, *, acknowledged: int = 0, refused: int = 0) -> None:
        """Wait until so many more answers have come."""
        wanted = (len(self.acknowledged) + acknowledged, self.refused + refused)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.acknowledged) < wanted[0] or self.refused < wanted[1]:
            assert self.failures == []
            assert time.monotonic() < deadline, "no answers come"
            time.sleep(0.005)

    def _work(self) -> None:
        try:
            while not self.ended.is_set():
                frame = self.frames.new()
                while not self._put(frame):
                    self.refused += 1
        except BaseException as exc:  # noqa: BLE001 - the test says it
            self.failures.append(exc)

    def _put(self, frame: bytes) -> bool:
        answer = self.frames.workstation.puts(frame)
        if answer.status in (200, 201):
            assert decode_receipt(answer.body).batch_hash == batch_hash(frame)
            self.acknowledged.add(frame)
            return True
        assert refusal(answer) == (503, "not-ready")
        assert answer.retry_after_seconds == 60
        return False


def test_while_the_store_is_away_questions_wait_and_nothing_is_lost(
    rented: Rented, tmp_path: Path
) -> None:
    """Uploads, fetches and deletions get 503 and a time; a deletion is carried out afterwards."""
    with bucket_site(tmp_path / "site", rented) as site:
        frames = Frames(site.workstation())
        kept, deleted = frames.new(), frames.new()
        for frame in (kept, deleted):
            assert frames.workstation.puts(frame).status == 201
        reader, grant = site.reader("training"), site.grant(reader="training")
        with rented.ceph.gateway_killed():
            late = frames.workstation.puts(frames.new())
            fetched = fetches(reader, grant, batch_hash(kept))
            forgotten = frames.workstation.deletes(deleted)
            with pytest.raises(RetryableError, match="cannot be reached"):
                Collector.open(site.premises, site.clock)
        for answer in (late, fetched, forgotten):
            assert refusal(answer) == (503, "not-ready")
            assert answer.retry_after_seconds == 60
        assert fetches(reader, grant, batch_hash(kept)).body == kept
        site.restart()  # what was entombed and not swept goes
        assert stored(rented) == {kept}
        assert frames.workstation.puts(deleted).status == 410


# --- connections that break -------------------------------------------------------------------


@dataclass
class Line:
    """A line to the store that breaks, once, after so many more bytes in one direction."""

    port: int = 0
    direction: str = ""
    left: int | None = None

    def let_through(self, more: bytes, direction: str) -> bytes:
        """Return what still goes through of *more*; less than all of it when the line breaks."""
        if self.left is None or direction != self.direction:
            return more
        through, self.left = more[: self.left], self.left - len(more)
        if len(through) < len(more):
            self.left = None
        return through


@contextlib.contextmanager
def breaking_line(endpoint: str) -> Iterator[Line]:
    """Carry bytes to *endpoint* and back until the line breaks."""
    line, listener = Line(), socket.create_server(("127.0.0.1", 0))
    line.port = listener.getsockname()[1]
    target = urlsplit(endpoint)
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        threads.append(thread)
        thread.start()
        return thread

    def connect(near: socket.socket) -> None:
        with near, socket.create_connection((target.hostname, target.port)) as far:
            ends.extend((near, far))
            up = start(_carry, near, far, line, "up")
            _carry(far, near, line, "down")
            up.join(PATIENCE_SECONDS)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                start(connect, listener.accept()[0])

    start(serve)
    try:
        yield line
    finally:
        for end in (listener, *ends):
            _shut(end)
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        listener.close()


def _carry(source: socket.socket, sink: socket.socket, line: Line, direction: str) -> None:
    with contextlib.suppress(OSError):
        while more := source.recv(65536):
            through = line.let_through(more, direction)
            sink.sendall(through)
            if len(through) < len(more):
                break
    for end in (source, sink):
        _shut(end)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@pytest.mark.soak
def test_a_line_that_breaks_at_any_byte_of_an_upload_loses_and_doubles_nothing(
    rented: Rented,
    tmp_path: Path,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """Of a mark, of the frame, of the answers: tried again, or "later"; then it is there, once."""
    breaks = size(share=16, full=500)
    with (
        breaking_line(rented.ceph.endpoint) as line,
        bucket_site(tmp_path / "site", rented, f"http://127.0.0.1:{line.port}") as site,
    ):
        frames = Frames(site.workstation())
        sent, later = set(), 0
        longest = {"up": 4 * HEAD_BYTES + len(frames.new()), "down": 4 * ANSWER_BYTES}
        for number in range(breaks):
            frame = frames.new()
            line.direction = "down" if number % 2 else "up"
            line.left = dice.randrange(longest[line.direction])
            answer = frames.workstation.puts(frame)
            assert answer.status in (201, 503), answer.body
            later += answer.status == 503
            line.left = None
            assert frames.workstation.puts(frame).status in (200, 201)
            sent.add(frame)
        assert stored(rented) == sent
        settled(site, rented)
        assert stored(rented) == sent
        figure(f"{breaks} breaks, {later} answered with later, 0 lost, 0 twice")


# --- a store that does not let us in ----------------------------------------------------------


def test_a_full_store_is_a_507_and_deletions_go_on(rented: Rented, tmp_path: Path) -> None:
    """A real quota of a real store; the mark of what was refused goes at once."""
    name = rented.owner.keys.name if rented.owner.keys else ""
    quota = ("radosgw-admin", "-n", "client.rgw", "quota")
    with bucket_site(tmp_path / "site", rented) as site:
        frames = Frames(site.workstation())
        frame = frames.new()
        assert frames.workstation.puts(frame).status == 201
        store = site.collector.store
        rented.ceph.run(*quota, "set", "--quota-scope=user", "--uid", name, "--max-size", "4096")
        rented.ceph.run(*quota, "enable", "--quota-scope=user", "--uid", name)
        try:
            late = frames.new()
            answer = frames.workstation.puts(late)
            assert refusal(answer) == (507, "storage-full")
            assert answer.retry_after_seconds == 300
            assert frames.workstation.deletes(frame).status == 200
        finally:
            rented.ceph.run(*quota, "disable", "--quota-scope=user", "--uid", name)
        assert list(store.unsettled()) == []
        assert frames.workstation.puts(late).status == 201
        assert stored(rented) == {late}


def test_rights_that_are_taken_away_are_a_503_and_one_line(
    rented: Rented, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By whoever looks after the store; and what they gave back counts at once."""
    with bucket_site(tmp_path / "site", rented) as site:
        frames = Frames(site.workstation())
        policy = rented.owner.asks("GET", rented.name, query={"policy": ""}).body.decode()
        rented.owner.asks("DELETE", rented.name, query={"policy": ""})
        frame = frames.new()
        answer = frames.workstation.puts(frame)
        assert refusal(answer) == (503, "not-ready")
        [line] = [one.getMessage() for one in caplog.records if "store-policy" in one.getMessage()]
        assert "as ingest" in line
        assert "\n" not in line
        assert batch_hash(frame).hex() not in line
        rented.owner.allows(rented.name, policy)
        assert frames.workstation.puts(frame).status == 201


def test_credentials_are_renewed_without_a_start(
    rented: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read again; what is wrong with it is said, and nothing is lost meanwhile."""
    monkeypatch.setattr("collector.store.bucket.READ_AGAIN", timedelta(0))
    store = rented.open(tmp_path)
    batch = BatchHash(hashlib.sha256(b"x").digest())
    path = tmp_path / "store.credentials"
    good = path.read_text()
    path.write_text(good.replace(rented.ingest.secret_key, "wrong"))
    with pytest.raises(SetupError, match="does not know our credentials"):
        store.put(batch, b"x")
    path.write_text("nonsense")
    with pytest.raises(SetupError, match="mend it"):
        store.put(batch, b"x")
    path.write_text(good)
    store.put(batch, b"x").settle()
    assert rented.objects() == {f"{PREFIX}/objects/{batch.hex()}/frame": b"x"}
