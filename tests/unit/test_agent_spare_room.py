"""On a full disk what waits still leaves, so that there is room again."""

import errno
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.handover import SealedBatch, Span
from agent.numbers import Numbers
from agent.spare_room import FILE_NAME, SPARE_BYTES, SpareRoom
from agent.spool import Spool
from base import durable
from base.clock import NANOSECONDS, Now
from wire.category import Category
from wire.frame import join_unsigned
from wire.ids import GrantHash, PolicyDigest

NOW = Now(boot=1_000 * NANOSECONDS, wall=1_800_000_000 * NANOSECONDS, boot_id="one")
LATER = Now(boot=2_000 * NANOSECONDS, wall=1_900_000_000 * NANOSECONDS, boot_id="one")


class SmallDisk:
    """The real disk, on which *folder* may take no more than `capacity` bytes."""

    def __init__(self, folder: Path, capacity: int) -> None:
        self.folder = folder
        self.capacity = capacity

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def replace(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        self._need(len(data))  # the old file is there until the new one is whole
        durable.replace(path, data, mode=mode)

    def append(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        self._need(len(data))
        durable.append(path, data, mode=mode)

    def remove(self, path: Path) -> None:
        durable.remove(path)

    def sync_folder(self, folder: Path) -> None:
        durable.sync_folder(folder)

    def _need(self, more: int) -> None:
        if self.used() + more > self.capacity:
            raise OSError(errno.ENOSPC, "No space left on device")


def sealed(body: bytes) -> SealedBatch:
    unsigned = join_unsigned(b"core", b"shelf", body)
    return SealedBatch(
        name=hashlib.sha256(unsigned).hexdigest(),
        category=Category.KEYS,
        grant=GrantHash(b"g" * 32),
        policy=PolicyDigest(b"p" * 32),
        span=Span(first_wall=0, last_wall=0, first_boot=0, last_boot=0, boot_id="one"),
        events=3,
        expires="2030-01-01",
        unsigned=unsigned,
        age_header=b"header" * 300,
    )


def a_spool(folder: Path, disk: SmallDisk | SpareRoom) -> Spool:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return Spool(folder / "spool", key, Numbers(folder), NOW, disk=disk)


@pytest.fixture
def small(tmp_path: Path) -> SmallDisk:
    return SmallDisk(tmp_path, capacity=10 << 20)


def filled(small: SmallDisk, disk: SmallDisk | SpareRoom) -> Spool:
    """Return a spool with batches ready to be sent, on a disk that others filled to the brim."""
    spool = a_spool(small.folder, disk)
    for number in range(3):
        spool.put(sealed(bytes([number]) * 100_000), NOW)
    spool.leave_hold(LATER, 0)
    assert len(spool.ready()) == 3
    small.capacity = small.used()
    return spool


def test_without_spare_room_nothing_would_ever_leave(small: SmallDisk) -> None:
    """The control: the mark before the first byte finds no block."""
    spool = filled(small, small)
    with pytest.raises(OSError, match="No space left"):
        spool.mark_maybe_sent(spool.ready()[0].name)


def test_on_a_full_disk_every_batch_leaves_and_the_room_is_kept_again(small: SmallDisk) -> None:
    """Marked, receipted, gone; and then the spare file is there for the next time."""
    spool = filled(small, SpareRoom(small.folder))
    disk = SpareRoom(small.folder, small)
    spool = a_spool(small.folder, disk)
    for batch in spool.ready():
        spool.mark_maybe_sent(batch.name)
        spool.ack(batch.name)
    assert spool.batches() == []
    assert spool.number_sent() == 3
    assert (small.folder / FILE_NAME).stat().st_size == SPARE_BYTES
    assert small.used() <= small.capacity


def test_on_a_full_disk_a_deletion_is_still_written_down(small: SmallDisk) -> None:
    """A no of the data subject waits for no room."""
    filled(small, SpareRoom(small.folder))
    spool = a_spool(small.folder, SpareRoom(small.folder, small))
    spool.ask_deletion(b"h" * 32, "forgotten")
    assert spool.deletions() == [(b"h" * 32).hex()]
    assert spool.forget() == 3
    assert (small.folder / FILE_NAME).exists()


def test_the_spare_room_is_not_for_what_is_captured(small: SmallDisk) -> None:
    """On a full disk a new batch is refused, and the room stays for what makes room."""
    spool = filled(small, SpareRoom(small.folder))
    spool = a_spool(small.folder, SpareRoom(small.folder, small))
    with pytest.raises(OSError, match="No space left"):
        spool.put(sealed(b"new" * 1000), NOW)
    assert (small.folder / FILE_NAME).exists()
    assert len(spool.batches()) == 3


def test_a_batch_that_leaves_its_hold_takes_none_of_it(small: SmallDisk) -> None:
    """Signing needs room for a second copy: it waits until something has left."""
    first = a_spool(small.folder, SpareRoom(small.folder))
    first.put(sealed(b"x" * 100_000), NOW)
    small.capacity = small.used()
    spool = a_spool(small.folder, SpareRoom(small.folder, small))
    with pytest.raises(OSError, match="No space left"):
        spool.leave_hold(LATER, 0)
    assert (small.folder / FILE_NAME).exists()


def test_another_failure_than_a_full_disk_is_what_it_is(small: SmallDisk) -> None:
    """The spare file is no remedy for a broken disk."""

    class Broken(SmallDisk):
        def _need(self, more: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

    spool = filled(small, SpareRoom(small.folder))
    spool = a_spool(small.folder, SpareRoom(small.folder, Broken(small.folder, 0)))
    with pytest.raises(OSError, match="Input/output error"):
        spool.mark_maybe_sent(spool.ready()[0].name)
    assert (small.folder / FILE_NAME).exists()


def test_a_disk_that_is_full_from_the_start_has_no_spare_file_until_there_is_room(
    tmp_path: Path,
) -> None:
    """Nobody fails for want of it; it is made once something was removed."""
    small = SmallDisk(tmp_path, capacity=0)
    disk = SpareRoom(tmp_path, small)
    assert not (tmp_path / FILE_NAME).exists()
    (tmp_path / "old").write_bytes(b"old")
    small.capacity = 1 << 20
    disk.remove(tmp_path / "old")
    assert (tmp_path / FILE_NAME).exists()
