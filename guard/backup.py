"""A copy of the keys that ages out, and the way back from it.

A copy has in it what is erased after it was made.  So it says when that was, goes back for
`BACKUP_DAYS` only (until then an erasure is *pending*), and what was erased since is erased
again when it does (`guard.erasures`).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from base.clock import NANOSECONDS
from base.durable import replace, sync_folder
from base.errors import RetryableError, SetupError
from guard.erasures import Erasures
from wire.ids import WallInstant

BACKUP_DAYS: Final = 7  # what the guard signs for: docs/spec/rights-v1.md
_DAY: Final = 24 * 3600 * NANOSECONDS
_MARKS: Final = ("copy_made_at", "copy_erasures")  # tables that a copy has besides


def back_up(keys_file: Path, to: Path, now: WallInstant) -> None:
    """Write a copy of *keys_file* to *to*, also beside a running guard.

    Raises:
        SetupError: *to* is there already, or cannot be made.
        RetryableError: There is no room, or the keys cannot be read now.

    """
    try:
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise SetupError(f"{to}: {exc.strerror}; name a new file") from exc
    try:
        with _said(to), closing(_reading(keys_file)) as keys, closing(sqlite3.connect(to)) as copy:
            keys.backup(copy)
            # Read after the keys were: it can know of more erasures than they, never of fewer.
            lines = Erasures(keys_file).lines()
            with copy:
                copy.execute("CREATE TABLE copy_made_at (at INTEGER)")
                copy.execute("INSERT INTO copy_made_at VALUES (?)", (now,))
                copy.execute("CREATE TABLE copy_erasures (lines BLOB)")
                copy.execute("INSERT INTO copy_erasures VALUES (?)", (lines,))
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without others beside it
        _sync(to)
    except BaseException:
        to.unlink(missing_ok=True)
        raise


def restore(copy: Path, keys_file: Path, now: WallInstant, *, erasures_lost: bool) -> WallInstant:
    """Put *copy* in the place of *keys_file*, which is gone; return when it was made.

    With *erasures_lost* the erasures that the copy knows of are all that is known.

    Raises:
        SetupError: It is none of `back_up`, too old, or not to be put there.
        RetryableError: There is no room.

    """
    if keys_file.exists() and keys_file.stat().st_size:
        raise SetupError(
            f"{keys_file} is there; a copy would lose the keys that were made since: if it is "
            "damaged, move it away first"
        )
    erasures = Erasures(keys_file)
    if not erasures.path.exists() and not erasures_lost:
        raise SetupError(
            f"{erasures.path} is missing, and with it what was erased since the copy was made; "
            "bring it from the old disk, or say --erasures-lost"
        )
    coming = keys_file.with_name(f".{keys_file.name}.{os.getpid()}.tmp")
    coming.unlink(missing_ok=True)
    os.close(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with _said(copy), closing(_reading(copy)) as found, closing(sqlite3.connect(coming)) as new:
            made_at, lines = _marks(copy, found)
            _check_age(copy, made_at, now)
            found.backup(new)
            for table in _MARKS:
                new.execute(f"DROP TABLE {table}")
            new.commit()
        _sync(coming)
        if not erasures.path.exists():
            replace(erasures.path, lines)
        for beside in ("-wal", "-shm"):  # of the file that is gone: not of this one
            keys_file.with_name(keys_file.name + beside).unlink(missing_ok=True)
        coming.replace(keys_file)
        sync_folder(keys_file.parent)
    finally:
        coming.unlink(missing_ok=True)
    return made_at


def _marks(copy: Path, found: sqlite3.Connection) -> tuple[WallInstant, bytes]:
    try:
        (made_at,) = found.execute("SELECT at FROM copy_made_at").fetchone()
        (lines,) = found.execute("SELECT lines FROM copy_erasures").fetchone()
        (state,) = found.execute("PRAGMA quick_check").fetchone()
    except (sqlite3.DatabaseError, TypeError) as exc:
        raise SetupError(f"{copy} is no copy that assent-guard backup made") from exc
    if state != "ok":
        raise SetupError(f"{copy} is damaged; take another copy")
    return WallInstant(made_at), lines


def _check_age(copy: Path, made_at: WallInstant, now: WallInstant) -> None:
    days = (now - made_at) // _DAY
    if days < 0:
        raise SetupError(f"{copy} was made later than now; check the clock")
    if days >= BACKUP_DAYS:
        raise SetupError(
            f"{copy} is {days} days old; after {BACKUP_DAYS} a copy is no way back any more: "
            "data subjects were told that what they had erased is gone from backups; destroy it"
        )


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise RetryableError(f"{path}: {exc}; nothing was changed") from exc
