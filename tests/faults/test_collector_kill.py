"""SIGKILL while batches come in: what was acknowledged is there, once, and nothing half."""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sqlalchemy import func, select

from base.door import DoorError, Response
from collector.assembly import Collector
from collector.index.tables import batches, leaves
from tests.fakes.site import Site, Workstation, collector_site
from tests.fakes.tls import WAIT_SECONDS
from wire.ids import BatchHash
from wire.leaf import Kind
from wire.receipt import decode_receipt, verify_receipt

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 60
KILLED_AFTER = (3, 11, 7)  # acknowledgements, one number for each life of the server


def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    """Three times killed in the middle of uploads; then all frames are sent again."""
    folder = tmp_path / "site"
    with collector_site(folder) as site:
        workstation = site.workstation()
        signed = workstation.consents()
        frames = [workstation.seals(signed) for _ in range(FRAMES)]
    acknowledged: dict[bytes, bytes] = {}
    for count in KILLED_AFTER:
        killed_after(count, folder, workstation, frames, acknowledged)
        check(site, acknowledged)

    receipts = {}
    with served(folder):
        for frame in frames:
            receipts[frame] = put(workstation, frame).body
    check(site, receipts)
    assert {frame: receipts[frame] for frame in acknowledged} == acknowledged
    collector = Collector.open(site.premises)
    with collector.index.reading() as connection:
        counted = select(func.count()).select_from(leaves).where(leaves.c.kind == Kind.BATCH)
        assert connection.execute(counted).scalar_one() == FRAMES
    collector.close()


def put(workstation: Workstation, frame: bytes) -> Response:
    answer = workstation.puts(frame)
    assert answer.status in (200, 201), answer.body
    return answer


def killed_after(
    count: int,
    folder: Path,
    workstation: Workstation,
    frames: list[bytes],
    acknowledged: dict[bytes, bytes],
) -> None:
    """Serve, upload with three threads, and kill the server after *count* new receipts."""
    missing = [frame for frame in frames if frame not in acknowledged]
    enough = threading.Event()
    before = len(acknowledged)

    def upload(some: list[bytes]) -> None:
        for frame in some:
            try:
                acknowledged[frame] = put(workstation, frame).body
            except DoorError:
                return
            if len(acknowledged) >= before + count:
                enough.set()

    with served(folder) as server:
        threads = [threading.Thread(target=upload, args=(missing[n::3],)) for n in range(3)]
        for thread in threads:
            thread.start()
        assert enough.wait(WAIT_SECONDS)
        server.kill()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def served(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run `assent-collector serve` on the folders of a site."""
    child = subprocess.Popen(
        [sys.executable, "-m", "collector", "serve"],
        cwd=ROOT,
        env={**os.environ, "ASSENT_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith("serving")
            yield child
        finally:
            child.terminate()


def check(site: Site, acknowledged: dict[bytes, bytes]) -> None:
    """After the next start: every receipt holds, every row has its file, every file its row."""
    collector = Collector.open(site.premises)
    with collector.index.reading() as connection:
        rows = set(connection.execute(select(batches.c.batch)).scalars())
    objects = {path.name for path in site.premises.objects.glob("??/*")}
    assert {row.hex() for row in rows} == objects
    assert list(collector.store.unsettled()) == []
    for frame, body in acknowledged.items():
        batch = BatchHash(hashlib.sha256(frame).digest())
        receipt = decode_receipt(body)
        verify_receipt(receipt, batch, receipt.core_hash, collector.log.verifier_key)
        assert collector.store.get(batch) == frame
        assert msgspec.json.encode(collector.receiver.receipt(batch)) == body
    collector.close()
