"""The collector is killed at random moments while batches come in and are deleted.

What was acknowledged is there, once, under the receipt of then; what was deleted is gone and
stays so; nothing half lies around, and the log only ever grew.
"""

import contextlib
import hashlib
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import pytest
from sqlalchemy import func, select

from base.door import DoorError, Response
from collector.assembly import Collector
from collector.index.tables import batches, leaves, tombstones
from tests.conftest import NewPlace, Size
from tests.fakes.buckets import Rented
from tests.fakes.ceph import Ceph
from tests.fakes.death import deaths, fuse
from tests.fakes.planted import planted_by
from tests.fakes.postgres import Server
from tests.fakes.searched import found
from tests.fakes.site import PLAINTEXT, Site, Workstation, collector_site
from tests.fakes.tls import WAIT_SECONDS
from wire.collector_http import Deleted
from wire.frame import join_unsigned, split
from wire.ids import BatchHash
from wire.leaf import Kind
from wire.receipt import decode_receipt, verify_receipt
from wire.sealing import sign

# Python 3.11 forgets the socket of a server that died between `connect` and the handshake
# (ssl.SSLSocket._create raises without closing); it is collected a moment later.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed <ssl\.SSLSocket:ResourceWarning")

ROOT: Final = Path(__file__).resolve().parents[2]
STARTING_SECONDS: Final = (0.05, 1.5)  # after the first instant of starting
SERVING_SECONDS: Final = (0.0, 0.2)  # after the last of some receipts
SERVING_SHARE: Final = 0.7
MOST_RECEIPTS: Final = 20  # in one life, before the fuse is lit
PATIENCE_SECONDS: Final = 120.0
THREADS: Final = 3
DELETED_SHARE: Final = 0.2  # of what is sent
NEW_FRAMES: Final = 300  # in each life; more than it can take in

Orders: TypeAlias = "queue.SimpleQueue[tuple[Callable[[bytes], None], bytes]]"


@dataclass(kw_only=True)
class Uploads:
    """What the devices sent, were promised, and asked to delete."""

    workstation: Workstation
    dice: random.Random
    base: bytes  # the frame that all are made of: the same content under other numbers
    made: int = 0
    receipts: dict[bytes, bytes] = field(default_factory=dict)  # by frame
    open: set[bytes] = field(default_factory=set)  # sent, and no answer came
    asked: set[bytes] = field(default_factory=set)  # asked to be deleted
    deleted: set[bytes] = field(default_factory=set)  # and confirmed

    @classmethod
    def of(cls, site: Site, dice: random.Random) -> "Uploads":
        """Enrol a device there; nothing is sent yet."""
        workstation = site.workstation()
        base = workstation.seals(workstation.consents())
        return cls(workstation=workstation, dice=dice, base=base)

    def new_frame(self) -> bytes:
        """Return a frame that was never sent."""
        self.made += 1
        parts = split(self.base)
        unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
        return sign(unsigned, self.made, self.workstation.org.device)

    def orders(self) -> Orders:
        """Return what is to be done in one life: the unanswered first, then new ones."""
        orders: Orders = queue.SimpleQueue()
        for frame in sorted(self.open):
            orders.put((self.put, frame))
        for frame in sorted(self.asked - self.deleted):
            orders.put((self.delete, frame))
        for _ in range(NEW_FRAMES):
            deletes = self.dice.random() < DELETED_SHARE
            orders.put((self.put_and_delete if deletes else self.put, self.new_frame()))
        return orders

    def wait_for(self, receipts: int, server: "subprocess.Popen[str]") -> None:
        """Wait until so many more have come; then there is work under way."""
        wanted, deadline = len(self.receipts) + receipts, time.monotonic() + PATIENCE_SECONDS
        wait_until_serving(server)
        while len(self.receipts) < wanted:
            assert time.monotonic() < deadline, "no receipts come"
            time.sleep(0.002)

    def put(self, frame: bytes) -> None:
        """Send a frame; without an answer it stays open."""
        self.open.add(frame)
        body = accepted(self.workstation.puts(frame)).body
        assert self.receipts.setdefault(frame, body) == body, "another receipt than before"
        self.open.discard(frame)

    def put_and_delete(self, frame: bytes) -> None:
        """Send a frame and take it back; when only an answer was lost, do not send it again."""
        if frame not in self.asked:
            self.put(frame)
        self.delete(frame)

    def delete(self, frame: bytes) -> None:
        """Ask for a deletion; without an answer it is asked again."""
        self.asked.add(frame)
        answer = msgspec.json.decode(accepted(self.workstation.deletes(frame)).body, type=Deleted)
        assert answer.stored
        self.deleted.add(frame)


class NotYetError(Exception):
    """A collector that was started again takes no batch before its first drill has passed."""


def accepted(answer: Response) -> Response:
    if answer.status == 503 and b"undrilled" in answer.body:
        raise NotYetError
    assert answer.status in (200, 201), answer.body
    return answer


@pytest.mark.slow
@pytest.mark.soak
def test_a_collector_that_is_killed_at_any_moment_loses_and_repeats_nothing(
    tmp_path: Path,
    new_place: NewPlace,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """See the module; full size is 1,000 SIGKILLs, 10 SIGABRTs and 10 SIGSEGVs, on each index."""
    folder = tmp_path / "site"
    with collector_site(folder, index_url=new_place(tmp_path).url) as site:
        uploads = Uploads.of(site, dice)
    ways = deaths(size(share=4, full=1_000), size(share=1, full=10), dice)
    figure(die_again_and_again(site, uploads, ways, lambda: names_in(site.premises.objects)))


@pytest.mark.slow
@pytest.mark.soak
def test_one_whose_batches_lie_in_a_bucket_and_whose_index_is_in_postgresql_does_not_either(
    tmp_path: Path,
    ceph: Ceph,
    postgres: Server,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """A real store and a real server that outlive it; full size is as above."""
    folder, rented = tmp_path / "site", Rented.of(ceph)
    with collector_site(folder, index_url=postgres.index()) as site:
        uploads = Uploads.of(site, dice)
    # Nothing was handed in yet: from here on batches go to the bucket.
    with site.premises.config_file.open("a") as config:
        config.write(rented.toml())
    rented.write_credentials(site.premises.paths.config / "store.credentials")
    ways = deaths(size(share=2, full=1_000), size(share=1, full=10), dice)
    figure(die_again_and_again(site, uploads, ways, lambda: names_of(rented)))
    assert names_in(site.premises.objects) == set()  # all of it was there


def names_in(folder: Path) -> set[str]:
    """Return which batches lie in files."""
    return {path.name for path in folder.glob("??/*")}


def names_of(rented: Rented) -> set[str]:
    """Return which batches lie in a bucket, whole; no mark and no probe is left there."""
    objects = rented.objects()
    assert {name.split("/")[-3] for name in objects} <= {"objects"}
    for name, frame in objects.items():
        assert name.split("/")[-2] == hash_of(frame).hex()
    return {name.split("/")[-2] for name in objects}


def die_again_and_again(
    site: Site, uploads: Uploads, ways: Sequence[signal.Signals], stored: Callable[[], set[str]]
) -> str:
    """Let the collector die in all these *ways*; check that nothing is lost or doubled.

    *stored* says by another way than the collector's which batches are there.  Return the figures.
    """
    folder = site.premises.paths.config.parent
    notes: list[tuple[int, str]] = []
    for how in ways:
        before = set(uploads.receipts)
        live(folder, uploads, how)
        check(site, uploads, uploads.receipts.keys() - before, notes, stored)

    with served(folder) as server:
        wait_until_serving(server)
        for frame in sorted(uploads.open):
            uploads.put(frame)
        for frame in sorted(uploads.asked - uploads.deleted):
            uploads.delete(frame)
        for frame in sorted(uploads.deleted):
            assert uploads.workstation.puts(frame).status == 410
    check(site, uploads, set(uploads.receipts), notes, stored)
    check_one_leaf_each(site, uploads)
    assert len(uploads.receipts) > len(ways)
    assert uploads.deleted
    assert found(PLAINTEXT[:26].decode(), [folder]) == []
    return (
        f"{len(ways)} deaths ({dict(sorted(Counter(way.name for way in ways).items()))}); of "
        f"{len(uploads.receipts)} acknowledged batches 0 lost or twice, of {len(uploads.deleted)} "
        "deleted ones 0 back"
    )


def live(folder: Path, uploads: Uploads, how: signal.Signals) -> None:
    """Serve, upload and delete with three threads, until *how* ends the server."""
    orders, dead, failed = uploads.orders(), threading.Event(), list[BaseException]()

    def work() -> None:
        while not dead.is_set():
            try:
                order, frame = orders.get_nowait()
            except queue.Empty:
                return
            try:
                persist(dead, order, frame)
            except BaseException as exc:  # noqa: BLE001 - told by the main thread
                failed.append(exc)

    with served(folder) as server:
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            seconds = uploads.dice.uniform(*STARTING_SECONDS)
            if uploads.dice.random() < SERVING_SHARE:  # however long it takes to get there
                uploads.wait_for(uploads.dice.randrange(MOST_RECEIPTS), server)
                seconds = uploads.dice.uniform(*SERVING_SECONDS)
            with fuse(server.pid, how, seconds):
                pass  # until it has burnt
            assert server.wait(WAIT_SECONDS) == -how
        finally:
            dead.set()
            server.kill()
            for thread in threads:
                thread.join()
    sys.stdout.write(f"{how.name} after {seconds:.3f} s, {len(uploads.receipts)} receipts\n")
    for exc in failed:
        raise exc


def persist(dead: threading.Event, order: Callable[[bytes], None], frame: bytes) -> None:
    """Carry out one order, again and again until there is an answer, or nobody to give one."""
    while not dead.is_set():
        try:
            order(frame)
        except (DoorError, NotYetError):
            time.sleep(0.01)  # not up yet, not drilled, or no more
        else:
            return


@contextlib.contextmanager
def served(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run `assent-collector serve` on the folders of a site, core files welcome."""
    child = subprocess.Popen(
        ["prlimit", "--core=unlimited", "--", sys.executable, "-m", "collector", "serve"],
        cwd=folder,
        env={
            **os.environ,
            "ASSENT_HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        try:
            yield child
        finally:
            child.terminate()


def wait_until_serving(server: "subprocess.Popen[str]") -> None:
    assert server.stdout is not None
    assert server.stdout.readline().startswith("serving")


def check(
    site: Site,
    uploads: Uploads,
    promised: set[bytes],
    notes: list[tuple[int, str]],
    stored: Callable[[], set[str]],
) -> None:
    """After the next start: every receipt holds, every row has its file, every file its row."""
    collector = Collector.open(site.premises)
    if collector.index.is_shared:  # its marks could be another's; `watch` looks at old ones
        collector.settle(collector.store.unsettled())
    with collector.index.reading() as connection:
        rows = set(connection.execute(select(batches.c.batch)).scalars())
        unswept = select(tombstones.c.batch).where(tombstones.c.swept_at.is_(None))
        assert connection.execute(unswept).all() == []
    names = {row.hex() for row in rows}
    assert names <= stored() <= names | planted_by(collector)
    assert list(collector.store.unsettled()) == []
    assert not rows & {hash_of(frame) for frame in uploads.deleted}
    assert rows >= {hash_of(frame) for frame in uploads.receipts.keys() - uploads.asked}
    for frame in promised - uploads.asked:
        check_receipt(collector, frame, uploads.receipts[frame])
    for length, note in notes:
        assert collector.log.checkpoint(length) == note, "the log has another history"
    notes.append((length := collector.log.take_up(), collector.log.checkpoint(length)))
    collector.close()


def check_receipt(collector: Collector, frame: bytes, body: bytes) -> None:
    """The receipt verifies, would be given again as it is, and its frame is there."""
    batch = hash_of(frame)
    receipt = decode_receipt(body)
    verify_receipt(receipt, batch, receipt.core_hash, collector.log.verifier_key)
    assert collector.store.get(batch) == frame
    assert msgspec.json.encode(collector.receiver.receipt(batch)) == body


def check_one_leaf_each(site: Site, uploads: Uploads) -> None:
    """The log has one leaf for each batch and one for each deletion, however often asked."""
    collector = Collector.open(site.premises)
    with collector.index.reading() as connection:
        counted = select(leaves.c.kind, func.count()).group_by(leaves.c.kind)
        kinds = {row[0]: row[1] for row in connection.execute(counted)}
    collector.close()
    assert kinds[Kind.BATCH] == len(uploads.receipts)
    assert kinds.get(Kind.TOMBSTONE, 0) == len(uploads.deleted)


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())
