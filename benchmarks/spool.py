"""A batch through the spool (put, leave the hold, read, mark, acknowledge) against fsyncs alone.

The floor writes the same bytes once, durably, and removes the file: no less will do for
anything that must survive a crash.
"""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.handover import SealedBatch, Span
from agent.numbers import Numbers
from agent.spool import Spool
from base.clock import SystemClock
from base.durable import sync_folder
from benchmarks.desk import ROOT
from benchmarks.result import Row, alternated
from wire.category import Category
from wire.frame import join_unsigned
from wire.ids import GrantHash, PolicyDigest

REPEATS: Final = 30


def run() -> list[Row]:
    """Return batches a second, of two sizes, on the disk that this folder is on."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder:
        return [_measured(Path(folder), size) for size in (64 << 10, 1 << 20)]


def _measured(folder: Path, size: int) -> Row:
    where = folder / str(size)
    where.mkdir()
    now = SystemClock().now()
    spool = Spool(where / "spool", Ed25519PrivateKey.generate(), Numbers(where), now)

    def ours() -> None:
        spool.put(_batch(size), now)
        spool.leave_hold(now, 0)
        (waiting,) = spool.ready()
        spool.read(waiting.name)
        spool.mark_maybe_sent(waiting.name)
        spool.ack(waiting.name)

    def floor() -> None:
        path = where / "bare"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, secrets.token_bytes(size))
        os.fsync(descriptor)
        os.close(descriptor)
        sync_folder(where)
        path.unlink()

    mine, bare = alternated(ours, floor, REPEATS)
    return Row(
        bench="spool",
        what=f"{size >> 10} KiB in, signed, out",
        ours=1 / mine,
        floor=1 / bare,
        unit="batches/s",
        more_is_better=True,
    )


def _batch(size: int) -> SealedBatch:
    unsigned = join_unsigned(b"core", b"shelf", secrets.token_bytes(size))
    return SealedBatch(
        name=hashlib.sha256(unsigned).hexdigest(),
        category=Category.KEYS,
        grant=GrantHash(bytes(32)),
        policy=PolicyDigest(b"p" * 32),
        span=Span(first_wall=1, last_wall=1, first_boot=1, last_boot=1, boot_id="bench"),
        events=1,
        expires="2099-01-01",
        unsigned=unsigned,
        age_header=bytes(1_600),
    )
