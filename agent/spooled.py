"""What the device remembers of batches: of those it has, has sent, and has asked to be deleted.

Records only, as they lie in the folder of `spool`, which says when each is written.
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from agent.disk import Disk
from agent.handover import Span
from agent.numbers import LARGEST_NUMBER
from base.clock import NANOSECONDS, Now
from base.stored import Versioned, refuse_newer
from wire.category import Category
from wire.errors import UNREADABLE
from wire.ids import BatchHash, GrantHash, PolicyDigest


class Local(Versioned, frozen=True, kw_only=True):
    """What the device remembers of one batch while it has it."""

    category: Category | None  # None: its record was lost, nobody knows any more
    grant: GrantHash
    policy: PolicyDigest  # under which it was recorded
    span: Span
    events: int
    expires: str
    age_header: bytes
    put_wall: int
    put_boot: int
    put_boot_id: str
    sequence: Annotated[int, msgspec.Meta(ge=1, le=LARGEST_NUMBER)] | None = None
    maybe_sent: bool = False  # a byte of it may have left
    why: str = ""  # in quarantine: what the collector said, or what is wrong with it here

    def was_held_for(self, now: Now, seconds: int) -> bool:
        """Whether its hold is over on both clocks; after a reboot only the wall clock can tell."""
        hold = seconds * NANOSECONDS
        if now.boot_id == self.put_boot_id and now.boot - self.put_boot < hold:
            return False
        return now.wall - self.put_wall >= hold


class Deletion(Versioned, frozen=True, kw_only=True):
    """A batch that the collector has to forget."""

    why: str


class Forgetting(Versioned, frozen=True, kw_only=True):
    """The batches that are to go, by name, from before the first of them until after the last."""

    names: tuple[str, ...]
    why: str


class Sent(Versioned, frozen=True, kw_only=True):
    """A batch that the collector has a receipt for; it is kept there until `expires`."""

    hash: bytes
    category: Category | None
    expires: str
    deleted: bool = False  # the collector confirmed that it has deleted it


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """One batch on the disk: which, where, how large, and what is remembered of it."""

    name: str
    folder: str
    bytes: int
    local: Local

    @property
    def hash(self) -> BatchHash:
        """The batch's hash; meaningful once it is signed."""
        return BatchHash(bytes.fromhex(self.name))

    def is_meant(
        self,
        category: Category | None,
        since: Now | None,
        days: tuple[str, str] | None,
        policy: PolicyDigest | None,
    ) -> bool:
        """Whether it is of *category*, reaches to *since*, touches *days* and is of *policy*.

        None is any.
        """
        local = self.local
        return (
            (category is None or local.category in (None, category))
            and (since is None or local.span.reaches(since))
            and (days is None or local.span.touches(*days))
            and (policy is None or local.policy == policy)
        )


def mended(path: Path, now: Now | None, disk: Disk) -> dict[bytes, Sent]:
    """Return what was sent and not expired; mend the file *path* where it has more, or less.

    Raises:
        OSError: It cannot be read or written.
        NewerError: A later version of this program wrote a line of it.

    """
    data = path.read_bytes() if path.exists() else b""
    kept, unreadable = kept_in(data, path, now)
    if unreadable:
        # What an erasure has to ask for may stand there.  A crash after this leaves copy
        # and file: done again, with the same result.
        disk.replace(path.with_suffix(".unreadable"), data)
    whole = b"".join(msgspec.json.encode(sent) + b"\n" for sent in kept.values())
    if whole != data:
        disk.replace(path, whole)
    return kept


def kept_in(data: bytes, path: Path, now: Now | None) -> tuple[dict[bytes, Sent], bool]:
    """Return of *data*, the list of what was sent in *path*, what is neither expired nor deleted.

    And whether some of it cannot be read.

    Raises:
        NewerError: A later version of this program wrote a line of it.

    """
    today = "" if now is None else f"{datetime.fromtimestamp(now.wall / NANOSECONDS, UTC):%F}"
    # What follows the last newline was cut short; before a line that a disk refused after it
    # had taken all of it, there is an empty one (`Spool`, `spare_room`).
    found = [read_sent(line, path) for line in data.split(b"\n")[:-1] if line]
    last = {sent.hash: sent for sent in found if sent is not None}
    kept = {h: sent for h, sent in last.items() if sent.expires >= today and not sent.deleted}
    return kept, None in found


def read_sent(line: bytes, path: Path) -> Sent | None:
    """Return a record in *path*, the list of what was sent; None if it cannot be read.

    Raises:
        NewerError: A later version of this program wrote it.

    """
    refuse_newer(line, path)
    try:
        return msgspec.json.decode(line, type=Sent)
    except UNREADABLE:
        return None


def read_local(path: Path) -> Local:
    """Return the record of a batch.

    Without a readable one nobody knows whether it may be sent: it never is, and it is
    forgotten together with whatever is forgotten.

    Raises:
        NewerError: A later version of this program wrote it.

    """
    with contextlib.suppress(OSError, *UNREADABLE):
        data = path.read_bytes()
        refuse_newer(data, path)
        return msgspec.json.decode(data, type=Local)
    ever = 1 << 62
    return Local(
        category=None,
        grant=GrantHash(b""),
        policy=PolicyDigest(b""),
        span=Span(first_wall=0, last_wall=ever, first_boot=0, last_boot=ever, boot_id=""),
        events=0,
        expires="9999-12-31",
        age_header=b"",
        put_wall=0,
        put_boot=0,
        put_boot_id="",
        maybe_sent=True,
        why="its record on this device cannot be read",
    )
