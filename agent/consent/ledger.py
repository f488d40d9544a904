"""The data subject's acts, in the order in which they were made, so that a crash loses none.

`consent.jsonl` is append-only and hash-chained: each line has the SHA-256 of the line
before it.  An act holds once its line is on the disk, and only then.  What a restart finds:

    no file                     nothing is consented
    a last line cut short       it was never acknowledged: put aside; a click is needed
    one without its newline     it may have been acknowledged: what restricts holds, what opens
                                is put aside; a click is needed
    a mark of an unfinished act the same: somebody asked for something, nobody knows what
    a line of a later version   refused, and left as it is: an older program does not know what
                                was agreed to, or taken back
    a line that does not fit,   the file is put aside whole, never deleted; nothing is
    or more than a newline      consented until the data subject agrees again
    behind the last

What the lines mean is said in `standing`.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.consent.entries import RESTRICT, Entry, Line, Replaced, StoppedUncleanly
from agent.consent.standing import Standing, after
from agent.disk import FolderDisk
from base import durable
from base.clock import Now
from base.errors import AssentError, ConsentError, ExitCode, line_of
from base.stored import refuse_newer
from wire.errors import UNREADABLE, MalformedError, WireError

FILE_NAME: Final = "consent.jsonl"
MARK_NAME: Final = "unfinished"
_FIRST: Final = "0" * 64  # what the first line names as the line before it


class LedgerError(AssentError):
    """An act could not be made durable; it does not hold, and capture stays shut."""

    exit_code = ExitCode.SETUP


class Ledger:
    """The file and what it adds up to.  One process holds it (the agent's lock)."""

    def __init__(self, folder: Path, device: Ed25519PublicKey, disk: FolderDisk = durable) -> None:
        """Nothing is read yet; see `open`."""
        self._path = folder / FILE_NAME
        self._mark = folder / MARK_NAME
        self._device = device
        self._disk = disk
        self._length = 0
        self._hash = _FIRST
        self._lines = 0
        self._restrictions = 0  # begun and not written down
        self.standing = Standing()

    @classmethod
    def open(
        cls, folder: Path, device: Ed25519PublicKey, now: Now, disk: FolderDisk = durable
    ) -> "Ledger":
        """Return the ledger in *folder*, mended as the module's docstring says.

        Raises:
            LedgerError: It can neither be read nor put aside.
            NewerError: A later version of this program wrote it.

        """
        ledger = cls(folder, device, disk)
        try:
            unfinished = ledger._read(now)
            if unfinished or ledger._mark.exists():
                ledger.append(StoppedUncleanly(), now)
        except OSError as exc:
            raise LedgerError(
                f"the record of your consents cannot be read: {line_of(exc)}; nothing is recorded"
            ) from exc
        return ledger

    @classmethod
    def look(cls, folder: Path, device: Ed25519PublicKey) -> Standing:
        """Return where consent stands by what `open` would replay; changes nothing.

        Raises:
            LedgerError: It cannot be read, or has a line that does not fit.
            NewerError: A later version of this program wrote it.

        """
        ledger = cls(folder, device)
        try:
            *lines, rest = ledger._path.read_bytes().split(b"\n")
            ledger._replay_all(lines)
            ledger._replay_rest(rest)
        except FileNotFoundError:
            return Standing()
        except OSError as exc:
            raise LedgerError(line_of(exc)) from exc
        except (WireError, ConsentError) as exc:
            raise LedgerError(f"the record of your consents is damaged: {exc}") from exc
        return ledger.standing

    @contextlib.contextmanager
    def restriction(self) -> Iterator[None]:
        """Leave a mark, from now until what restricts is written down.

        Whoever is killed inside, or leaves with an exception, leaves the mark for the next
        start: somebody asked for something, so a click is needed.
        """
        self._restrictions += 1
        self._leave_mark()
        yield
        self._restrictions -= 1
        self._take_mark_away()

    def append(self, entry: Entry, now: Now) -> None:
        """Make *entry* durable; `standing` is as after it when this returns.

        A crash before the fsync leaves the mark and perhaps a part of the line: a restart
        puts the part aside and waits for a click.  A crash after it leaves an act that
        holds; if the mark is still there, a click is needed besides, which is never wrong.

        Raises:
            LedgerError: It is not durable; `standing` is unchanged.
            ConsentError: The tables have no such move; nothing was written.

        """
        line = Line(
            n=self._lines,
            prev=self._hash,
            wall=now.wall,
            boot=now.boot,
            boot_id=now.boot_id,
            entry=entry,
        )
        standing = after(self.standing, line, self._device)
        data = msgspec.json.encode(line)
        self._leave_mark()
        try:
            self._cut()
            self._disk.append(self._path, data + b"\n")
        except OSError as exc:
            raise LedgerError(
                f"this could not be written down ({exc.strerror}), so it does not hold; "
                "make room on the disk and try again"
            ) from exc
        self._taken(data, standing)
        self._take_mark_away()

    def _leave_mark(self) -> None:
        """Mark that an act was begun.

        Not synced: it has to survive a crash of this process, not of the machine, for an
        act that the machine did not survive was never acknowledged.
        """
        # A full disk must not keep a restriction from being made.
        with contextlib.suppress(OSError):
            self._mark.touch(mode=0o600)

    def _take_mark_away(self) -> None:
        if not self._restrictions:
            with contextlib.suppress(OSError):  # then the next start asks for a click
                self._mark.unlink()

    def _cut(self) -> None:
        """Remove what an append that failed may have left behind the last good line."""
        if self._path.exists() and self._path.stat().st_size > self._length:
            os.truncate(self._path, self._length)

    def _taken(self, data: bytes, standing: Standing) -> None:
        self._length += len(data) + 1
        self._hash = hashlib.sha256(data).hexdigest()
        self._lines += 1
        self.standing = standing

    def _read(self, now: Now) -> bool:
        """Replay the file; whether its last line was not finished."""
        try:
            *lines, rest = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return False
        try:
            self._replay_all(lines)
            holds = self._replay_rest(rest)
        except (WireError, ConsentError) as exc:
            self._start_anew(str(exc), now)
            return False
        if holds:
            # A crash before this leaves the line as it was: the next start does the same.
            self._disk.append(self._path, b"\n")
        elif rest:
            # A crash here leaves the torn part both aside and in place: done again at the
            # next start, with the same result.
            self._disk.replace(self._path.with_suffix(".torn"), rest)
            os.truncate(self._path, self._length)
        return bool(rest)

    def _replay_all(self, lines: list[bytes]) -> None:
        # Looked at first: no line of a later version may be taken for a damaged one.
        for data in lines:
            refuse_newer(data, self._path)
        for data in lines:
            self._replay(data)

    def _replay_rest(self, rest: bytes) -> bool:
        """Replay what stands behind the last newline if it restricts; whether it did.

        A crash leaves a part of a line there, or all of one.  Whether all of one had been
        acknowledged, nobody knows; so what opens does not hold.
        """
        if not (length := _whole(rest)):
            return False
        if length < len(rest):
            raise MalformedError("there is something else in the place of the last newline")
        refuse_newer(rest, self._path)
        line = self._line(rest)
        if isinstance(line.entry, RESTRICT):
            self._taken(rest, after(self.standing, line, self._device))
        return isinstance(line.entry, RESTRICT)

    def _replay(self, data: bytes) -> None:
        self._taken(data, after(self.standing, self._line(data), self._device))

    def _line(self, data: bytes) -> Line:
        try:
            line = msgspec.json.decode(data, type=Line)
        except UNREADABLE as exc:
            raise MalformedError(f"line {self._lines + 1} cannot be read") from exc
        if line.n != self._lines or line.prev != self._hash:
            raise MalformedError(f"line {self._lines + 1} does not follow the one before it")
        return line

    def _start_anew(self, why: str, now: Now) -> None:
        aside = self._path.with_name(f"consent.unreadable-{now.wall}.jsonl")
        # A crash here leaves the file aside and no ledger: nothing is consented.
        self._path.rename(aside)
        self._disk.sync_folder(self._path.parent)
        self._length, self._hash, self._lines = 0, _FIRST, 0
        self.standing = Standing()
        self.append(Replaced(aside=aside.name, why=f"your consents: {why}"), now)


def _whole(rest: bytes) -> int:
    """Return how many bytes a whole line takes at the beginning of *rest*; 0: there is none."""
    text = rest.decode("utf-8", "surrogateescape")
    try:
        _line, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return 0
    return len(text[:end].encode("utf-8", "surrogateescape"))
