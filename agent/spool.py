"""Stage 6: sealed batches wait here for their hold, then for the collector.

    spool/held/NAME.frame          sealed, unsigned; NAME is the SHA-256 of these bytes
    spool/held/NAME.local          what the device remembers of it, age header included
    spool/ready/HASH.frame         signed; the bytes that leave, HASH is their SHA-256
    spool/ready/HASH.local         with `why` when the collector will never accept it: quarantine
    spool/deletions/HASH.json      asked of the collector, until it has confirmed
    spool/forgetting.json          what is being forgotten at this moment
    spool/sent.jsonl               what was receipted: hash, category, expiry; no content

A batch exists when its `.frame` does: `.local` is written before it and removed after it.
Each write that matters says what a crash there leaves; the next start sweeps what is left
over, and the normal run of the code finishes the rest.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.disk import Disk
from agent.handover import SealedBatch
from agent.numbers import Numbers
from agent.spooled import Deletion, Forgetting, Local, Sent, Spooled, mended, read_local
from base import durable
from base.clock import Now
from base.stored import refuse_newer
from wire.category import Category
from wire.errors import UNREADABLE, MalformedError
from wire.ids import PolicyDigest
from wire.rights import Request
from wire.sealing import sign

_LOG: Final = logging.getLogger(__name__)
QUOTA_BYTES: Final = 1 << 30
HELD: Final = "held"
READY: Final = "ready"
DELETIONS: Final = "deletions"
FORGETTING: Final = "forgetting.json"
SENT: Final = "sent.jsonl"
DAMAGED: Final = "its bytes on this device are damaged"


class Spool:
    """The folder and what is in it.  One process holds it (the agent's lock)."""

    def __init__(
        self,
        folder: Path,
        device: Ed25519PrivateKey,
        numbers: Numbers,
        now: Now | None,
        *,
        quota_bytes: int = QUOTA_BYTES,
        disk: Disk = durable,
    ) -> None:
        """Find what is there, sweep what a crash left over.

        *now* None says that the clock is not believed: then nothing has expired.

        Raises:
            OSError: The folder cannot be used.
            NewerError: A later version of this program wrote a record in it.

        """
        self._folder = folder
        self._device = device
        self._numbers = numbers
        self._disk = disk
        self.quota_bytes = quota_bytes
        self.forgotten = 0
        self._cut_short = False  # the last line of `sent.jsonl` may be a part of one
        for each in (folder, folder / HELD, folder / READY, folder / DELETIONS):
            durable.private_folder(each)
        durable.sweep(folder)
        self._batches = {s.name: s for name in (HELD, READY) for s in self._scan(name)}
        self._unsure: dict[str, Spooled] = {}  # a write failed, and may have left the frame
        self._numbering = ""  # the batch that gets a number; its record may say so already
        self._deletions = set(self._scan_deletions())
        self._sent = mended(folder / SENT, now, disk)
        for spooled in self._batches.values():
            if spooled.local.sequence is not None:
                numbers.batch_taken(spooled.local.sequence)
        self._go_on_forgetting()

    # --- in ---------------------------------------------------------------------------

    def put(self, sealed: SealedBatch, now: Now) -> None:
        """Keep *sealed* for its hold.  Putting the same batch twice is putting it once.

        Raises:
            OSError: It is not durable; the caller still has the only copy.

        """
        local = Local(
            category=sealed.category,
            grant=sealed.grant,
            policy=sealed.policy,
            span=sealed.span,
            events=sealed.events,
            expires=sealed.expires,
            age_header=sealed.age_header,
            put_wall=now.wall,
            put_boot=now.boot,
            put_boot_id=now.boot_id,
        )
        self._write(HELD, sealed.name, local, sealed.unsigned)

    def leave_hold(self, now: Now, hold_seconds: int) -> None:
        """Sign what has been held for long enough, so that it may be sent.

        A batch that may have its number comes first, or another would get the same; its hold
        was over, whatever the clocks say since.

        Raises:
            OSError: A write failed; the rest stays held and is tried at the next call.  Or one
                cannot be read: it alone stays, and is tried again.

        """
        held = sorted(self._in(HELD), key=lambda s: (not self._has_number(s), s.local.put_wall))
        unread: OSError | None = None
        for spooled in held:
            over = spooled.local.was_held_for(now, hold_seconds)
            if not spooled.local.why and (over or self._has_number(spooled)):
                try:
                    unsigned = self._path(spooled, ".frame").read_bytes()
                except OSError as exc:
                    if self._may_have_the_next_number(spooled):
                        raise  # or another would get it
                    unread = exc
                else:
                    self._sign(spooled, unsigned)
        if unread is not None:
            raise unread

    def _has_number(self, held: Spooled) -> bool:
        return held.local.sequence is not None or held.name == self._numbering

    def _may_have_the_next_number(self, held: Spooled) -> bool:
        number = held.local.sequence or 0
        return held.name == self._numbering or number >= self._numbers.next_batch()

    def _sign(self, held: Spooled, unsigned: bytes) -> None:
        if self._is_damaged(held, unsigned):
            return
        sequence = held.local.sequence or self._numbers.next_batch()
        numbered = msgspec.structs.replace(held.local, sequence=sequence)
        # A crash after this leaves a held batch with a number, and `__init__` takes the
        # number from it: no other batch gets it, and none is skipped.
        if held.local.sequence is None:
            self._numbering = held.name
            self._write_local(replace(held, local=numbered))
            self._numbering = ""
        self._numbers.batch_taken(sequence)
        frame = sign(unsigned, sequence, self._device)
        name = hashlib.sha256(frame).hexdigest()
        # A crash after this leaves both: Ed25519 is deterministic, so signing again finds
        # the same file, and only then is the held one removed.
        if name not in self._batches:
            self._write(READY, name, numbered, frame)
        self._drop(held)

    def batches(self) -> list[Spooled]:
        """Return everything that is here, whatever its state."""
        return sorted(self._batches.values(), key=lambda spooled: (spooled.folder, spooled.name))

    # --- out --------------------------------------------------------------------------

    def ready(self) -> list[Spooled]:
        """Return what may be sent, the oldest number first."""
        usable = (s for s in self._in(READY) if not s.local.why)
        return sorted(usable, key=lambda spooled: spooled.local.sequence or 0)

    def read(self, name: str) -> bytes:
        """Return the bytes of a signed frame.

        Raises:
            MalformedError: They are damaged, and set aside.

        """
        spooled = self._batches[name]
        frame = self._path(spooled, ".frame").read_bytes()
        if self._is_damaged(spooled, frame):
            raise MalformedError(f"a batch is set aside for good: {DAMAGED}")
        return frame

    def has(self, name: str) -> bool:
        """Whether a signed batch of that hash is here, not forgotten and not set aside."""
        spooled = self._batches.get(name)
        return spooled is not None and spooled.folder == READY and not spooled.local.why

    def mark_maybe_sent(self, name: str) -> None:
        """Note durably that a byte of it may leave from now on.

        A crash after this leaves a batch that counts as sent when it is forgotten: the
        collector is asked to delete what it may never have got, which does no harm.

        Raises:
            OSError: It is not durable; nothing may be sent.

        """
        spooled = self._batches[name]
        if not spooled.local.maybe_sent:
            local = msgspec.structs.replace(spooled.local, maybe_sent=True)
            self._write_local(replace(spooled, local=local))

    def ack(self, name: str) -> None:
        """Delete a batch for which the collector's receipt was verified.

        Raises:
            OSError: It is still here and will be offered again.

        """
        spooled = self._batches[name]
        local = spooled.local
        sent = Sent(hash=spooled.hash, category=local.category, expires=local.expires)
        # A crash after this leaves the batch here and noted as sent: it is sent once more,
        # and the collector answers with the same receipt.
        if sent.hash not in self._sent:
            self._note(sent)
            self._sent[sent.hash] = sent
        self._drop(spooled)

    def quarantine(self, name: str, why: str) -> None:
        """Set a batch aside that can never be accepted; it stays until forgotten.

        Raises:
            OSError: It will be offered once more after a restart.

        """
        spooled = self._batches[name]
        aside = replace(spooled, local=msgspec.structs.replace(spooled.local, why=why))
        self._batches[name] = aside
        self._write_local(aside)

    def _is_damaged(self, spooled: Spooled, frame: bytes) -> bool:
        """Whether *frame* is not what it was named for; signed, garbage would be genuine."""
        if damaged := hashlib.sha256(frame).hexdigest() != spooled.name:
            _LOG.warning("a batch of %s is set aside: %s", spooled.local.category, DAMAGED)
            self.quarantine(spooled.name, DAMAGED)
        return damaged

    def drop(self, name: str) -> None:
        """Delete a batch that the collector was told to forget.

        Raises:
            OSError: It is still here and will be offered again.

        """
        self._drop(self._batches[name])
        self.forgotten += 1

    # --- forget -----------------------------------------------------------------------

    def recorded(self) -> frozenset[tuple[Category, PolicyDigest]]:
        """Return of what there are batches, and under which policies they were recorded."""
        known = (spooled.local for spooled in self._all())
        return frozenset((each.category, each.policy) for each in known if each.category)

    def forget(
        self,
        category: Category | None = None,
        since: Now | None = None,
        why: str = "forgotten",
        *,
        days: tuple[str, str] | None = None,
        policy: PolicyDigest | None = None,
    ) -> int:
        """Delete batches of *category*, that reach to *since*, of *days* (or all); return how many.

        With *policy* only what was recorded under it.  What may have been sent is asked of the
        collector first, durably.

        Raises:
            OSError: Not all of them are gone; calling again goes on.

        """
        found = [s for s in self._all() if s.is_meant(category, since, days, policy)]
        if found:
            # A crash after this leaves some of them: the next start forgets the rest.  A full
            # disk must not keep anything from being forgotten.
            note = Forgetting(names=tuple(spooled.name for spooled in found), why=why)
            with contextlib.suppress(OSError):
                self._disk.replace(self._folder / FORGETTING, msgspec.json.encode(note))
            self._forget(found, why)
        return len(found)

    def _forget(self, found: list[Spooled], why: str) -> None:
        for spooled in found:
            # A crash after this leaves a batch and the wish to delete it: whichever is done
            # first at the next start, the collector ends without it.
            if spooled.local.maybe_sent:
                self.ask_deletion(spooled.hash, why)
            self._drop(spooled)
            self.forgotten += 1
        with contextlib.suppress(OSError):  # then the next start finds nothing left to do
            self._disk.remove(self._folder / FORGETTING)

    def _go_on_forgetting(self) -> None:
        path = self._folder / FORGETTING
        try:
            refuse_newer(data := path.read_bytes(), path)
            note = msgspec.json.decode(data, type=Forgetting)
        except FileNotFoundError:
            return
        except UNREADABLE:  # no crash leaves that; what was to go is not known any more
            note = Forgetting(names=tuple(self._batches), why="forgotten")
        self._forget([self._batches[n] for n in note.names if n in self._batches], note.why)

    def ask_deletion(self, batch: bytes, why: str) -> None:
        """Queue a deletion at the collector.

        Raises:
            OSError: It is not durable.

        """
        path = self._folder / DELETIONS / f"{batch.hex()}.json"
        self._disk.replace(path, msgspec.json.encode(Deletion(why=why)))
        self._deletions.add(batch.hex())

    def sent(self, category: Category | None = None) -> list[Sent]:
        """Return what the collector has receipted, of *category* or of all."""
        return [
            s for s in self._sent.values() if category is None or s.category in (None, category)
        ]

    def deletions(self) -> list[str]:
        """Return the hashes that the collector has yet to confirm as deleted."""
        return sorted(self._deletions)

    def deletion_confirmed(self, name: str) -> None:
        """Note that the collector has deleted it, or will refuse it when it comes.

        Raises:
            OSError: It will be asked again, which does no harm.

        """
        # A crash after this leaves the question standing; it is asked once more.
        sent = self._sent.get(bytes.fromhex(name))
        if sent is not None:
            self._note(msgspec.structs.replace(sent, deleted=True))
            del self._sent[sent.hash]
        self._disk.remove(self._folder / DELETIONS / f"{name}.json")
        self._deletions.discard(name)

    def erased(self, request: Request) -> None:
        """Note of what was sent that the collector has proved an erasure that covers it.

        Raises:
            OSError: Not all of it is noted; what was asked of single batches goes on.

        """
        if not request.has_span:
            for sent in self.sent(request.category):
                self.deletion_confirmed(sent.hash.hex())

    # --- how much ---------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """What the batches take on the disk."""
        return sum(spooled.bytes for spooled in self._batches.values())

    @property
    def has_room(self) -> bool:
        """Whether more may be captured."""
        return self.used_bytes < self.quota_bytes

    def number_held(self) -> int:
        """Return how many batches are in their hold."""
        return sum(1 for spooled in self._in(HELD) if not spooled.local.why)

    def number_quarantined(self) -> int:
        """Return how many batches will never be sent."""
        return sum(1 for spooled in self._batches.values() if spooled.local.why)

    def number_sent(self) -> int:
        """Return how many batches the collector has, as far as it was told to us."""
        return len(self._sent)

    # --- files ------------------------------------------------------------------------

    def _all(self) -> list[Spooled]:
        """Return everything that is here or may be here, for who must not leave any of it."""
        return list({**self._unsure, **self._batches}.values())

    def _in(self, folder: str) -> Iterator[Spooled]:
        return (spooled for spooled in self._batches.values() if spooled.folder == folder)

    def _path(self, spooled: Spooled, ending: str) -> Path:
        return self._folder / spooled.folder / (spooled.name + ending)

    def _write(self, folder: str, name: str, local: Local, frame: bytes) -> None:
        spooled = Spooled(name=name, folder=folder, bytes=len(frame), local=local)
        # A crash between the two leaves a `.local` without its `.frame`: swept at the start.
        self._write_local(spooled)
        self._unsure[name] = spooled
        self._disk.replace(self._path(spooled, ".frame"), frame)
        del self._unsure[name]
        self._batches[name] = spooled

    def _note(self, sent: Sent) -> None:
        """Append to what was sent; behind a part that a full disk left, on a line of its own."""
        line = msgspec.json.encode(sent) + b"\n"
        before, self._cut_short = self._cut_short, True
        self._disk.append(self._folder / SENT, b"\n" + line if before else line)
        self._cut_short = False

    def _write_local(self, spooled: Spooled) -> None:
        self._disk.replace(self._path(spooled, ".local"), msgspec.json.encode(spooled.local))
        if spooled.name in self._batches:
            self._batches[spooled.name] = spooled

    def _drop(self, spooled: Spooled) -> None:
        frame = self._path(spooled, ".frame")
        # A crash between the two leaves a `.local` without its `.frame`: swept at the start.
        try:
            self._disk.remove(frame)
        finally:
            # A disk that says that it failed may have done it: what is gone is gone.
            if not frame.exists():
                self._batches.pop(spooled.name, None)
                self._unsure.pop(spooled.name, None)
        self._disk.remove(self._path(spooled, ".local"))

    def _scan(self, folder: str) -> Iterator[Spooled]:
        """Yield the batches of a folder; remove what a crash cut short."""
        for path in sorted((self._folder / folder).iterdir()):
            if path.suffix == ".frame":
                yield Spooled(
                    name=path.stem,
                    folder=folder,
                    bytes=path.stat().st_size,
                    local=read_local(path.with_suffix(".local")),
                )
            elif path.suffix != ".local" or not path.with_suffix(".frame").exists():
                self._disk.remove(path)

    def _scan_deletions(self) -> Iterator[str]:
        for path in sorted((self._folder / DELETIONS).iterdir()):
            if path.suffix == ".json":
                yield path.stem
            else:
                self._disk.remove(path)
