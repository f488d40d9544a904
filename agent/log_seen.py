"""What this device has seen of the collector's log, and whether what it is shown continues that.

A log that lies goes back behind what it has shown, goes on from somewhere else, or shows
different things to different people.  The first two do not continue the largest head that was
seen here (`follow`); the third does not continue what the guard's witness has cosigned, which
is one history for everybody (`compare`).

`log-XXXXXXXX.json`, one for each key of a log, keeps that largest head and, if there is one,
the head that could not be proved to belong to it.  Both are signed by the log: where they do
not fit, they are the proof that it lied.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from agent.disk import Disk
from base import durable
from base.clock import NANOSECONDS
from base.errors import RejectedError, line_of
from base.stored import Versioned, refuse_newer
from wire.errors import UNREADABLE, ForgedError, WireError
from wire.tlog import Checkpoint, verify_checkpoint, verify_consistency, verify_cosignature

_LOG: Final = logging.getLogger(__name__)

LATE_SECONDS: Final = 900  # three rounds of the collector's witness; clocks differ, too

Prove: TypeAlias = Callable[[int, int], tuple[bytes, ...] | None]
"""Asks for the proof that the log of the first size is a prefix of that of the second.

None says that there is no such proof; raises where nobody is there, or none is given to us.
"""

SPLIT: Final = "the collector's log does not continue what this device has seen of it"
UNSEEN: Final = "the collector does not show its witness what it shows to this device"
UNWITNESSED: Final = "no witness has seen the collector's log for longer than a lease lasts"


class SplitError(RejectedError):
    """The log shows different things at different times, or to different people."""


class Seen(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of one log; instants are of the wall clock, nanoseconds."""

    head: str = ""  # the largest that was seen, as its log signed it; empty: none yet
    seen_at: int = 0
    witnessed_at: int  # by the newest cosignature, or when this memory began
    doubt: str = ""  # a head that could not be proved to be of the same history


class LogSeen:
    """The memory of one device, in its state folder.  May be used by several threads."""

    def __init__(self, folder: Path, disk: Disk = durable) -> None:
        """Nothing is taken from it yet: which log is the right one is not known.

        Raises:
            NewerError: A later version of this program keeps its memory there.

        """
        for path in folder.glob("log-*.json"):
            with contextlib.suppress(OSError):
                refuse_newer(path.read_bytes(), path)
        self._folder = folder
        self._disk = disk
        # For remembering only: never held while somebody is asked, who may take for ever.
        self._lock = threading.Lock()
        self._known: dict[str, Seen] = {}

    def follow(self, note: str, log_key: str, prove: Prove, now: int) -> None:
        """Take the head *note* for true, if it and the largest one seen are of one history.

        A doubt that there is ends only with its proof, whatever else is shown meanwhile.

        Raises:
            SplitError: It cannot be proved; that is remembered.
            WireError: It is no head of the log of this key.
            AssentError: Of `prove`; the head is neither believed nor doubted.

        """
        verify_checkpoint(note, log_key)
        asked = functools.cache(prove)  # nothing twice where another thread was faster
        while True:
            known = self._of(log_key, now)
            seen, split = _after(known, note, log_key, asked, now)
            if self._keep(log_key, known, seen):
                break
        if split is not None:
            raise split

    def compare(self, note: str, keys: tuple[str, str], prove: Prove, now: int) -> None:
        """Compare what was seen here with *note*, the newest head that the witness cosigned.

        *keys* are those of the log and of the witness.

        Raises:
            SplitError: They are of two histories, or the witness does not see what is shown here.
            WireError: It is no such head.
            AssentError: Of `prove`.

        """
        log_key, witness_key = keys
        at = min(verify_cosignature(note, witness_key) * NANOSECONDS, now)
        self.follow(note, log_key, prove, now)
        size = verify_checkpoint(note, log_key).size
        while True:
            seen = self._of(log_key, now)
            largest = verify_checkpoint(seen.head, log_key).size
            if size < largest and at > seen.seen_at + LATE_SECONDS * NANOSECONDS:
                raise SplitError(UNSEEN)
            witnessed_at = max(at, seen.witnessed_at)
            after = msgspec.structs.replace(seen, witnessed_at=witnessed_at)
            if self._keep(log_key, seen, after):
                return

    def check_witnessed(self, log_key: str, now: int, lease_seconds: int) -> None:
        """Check that a witness has seen the log not much longer ago than a lease lasts.

        Raises:
            SplitError: None has.

        """
        seen = self._of(log_key, now)
        if now - seen.witnessed_at > (lease_seconds + LATE_SECONDS) * NANOSECONDS:
            raise SplitError(UNWITNESSED)

    # --- the file -----------------------------------------------------------------------

    def _of(self, log_key: str, now: int) -> Seen:
        if log_key not in self._known:
            self._known.setdefault(log_key, self._read(log_key) or Seen(witnessed_at=now))
        return self._known[log_key]

    def _keep(self, log_key: str, known: Seen, seen: Seen) -> bool:
        """Remember *seen*, unless another thread has put something in the place of *known*.

        A disk that refuses costs what was seen since the last time, no more.
        """
        with self._lock:
            if self._known[log_key] is not known:
                return False
            if seen == known:
                return True
            self._known[log_key] = seen
            try:
                self._disk.replace(self._path(log_key), msgspec.json.encode(seen))
            except OSError as exc:
                _LOG.warning("what was seen of the collector's log is not kept: %s", exc.strerror)
        return True

    def _read(self, log_key: str) -> Seen | None:
        path = self._path(log_key)
        try:
            seen = msgspec.json.decode(path.read_bytes(), type=Seen)
            for note in filter(None, (seen.head, seen.doubt)):
                verify_checkpoint(note, log_key)
        except FileNotFoundError:
            return None
        except (OSError, WireError, *UNREADABLE) as exc:
            why = line_of(exc) if isinstance(exc, OSError) else str(exc)
            _LOG.warning("what was seen of the collector's log is lost: %s", why)
            return None
        return seen

    def _path(self, log_key: str) -> Path:
        """Return where what was seen of this log is kept; a key id is hexadecimal."""
        return self._folder / f"log-{log_key.split('+')[1]}.json"


def _after(
    seen: Seen, note: str, log_key: str, prove: Prove, now: int
) -> tuple[Seen, SplitError | None]:
    """Return *seen* after the head *note*, and why it is not believed."""
    for shown in filter(None, dict.fromkeys((seen.doubt, note))):
        try:
            seen = _followed(seen, shown, log_key, prove, now)
        except SplitError as exc:
            if seen.doubt != shown:  # once; it is looked at again and again
                size = verify_checkpoint(shown, log_key).size
                _LOG.error("the log's head of %d leaves: %s", size, exc.__cause__)
            return msgspec.structs.replace(seen, doubt=shown), exc
    return seen, None


def _followed(seen: Seen, note: str, log_key: str, prove: Prove, now: int) -> Seen:
    """Return *seen* after the head *note*; raises SplitError."""
    shown = verify_checkpoint(note, log_key)
    largest = verify_checkpoint(seen.head, log_key) if seen.head else None
    if largest is not None:
        _check_one_history(largest, shown, prove)
    if seen.doubt == note:
        seen = msgspec.structs.replace(seen, doubt="")
    if largest is not None and shown.size <= largest.size:
        return seen
    return msgspec.structs.replace(seen, head=note, seen_at=now)


def _check_one_history(one: Checkpoint, other: Checkpoint, prove: Prove) -> None:
    smaller, larger = sorted((one, other), key=lambda head: head.size)
    if smaller.size == 0:
        return  # every log begins empty
    proof = () if smaller.size == larger.size else prove(smaller.size, larger.size)
    if proof is None:
        none = ForgedError(f"there is no proof from {smaller.size} leaves to {larger.size}")
        raise SplitError(SPLIT) from none
    try:
        verify_consistency(
            old=smaller.size,
            new=larger.size,
            proof=proof,
            old_root=smaller.root,
            new_root=larger.root,
        )
    except ForgedError as exc:
        raise SplitError(SPLIT) from exc
