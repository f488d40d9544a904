# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-collector backup` and `restore`: a copy of the index in a file, and the way back.

There is no way to go on from an older copy: devices and witness stop where the log is shorter
than what they saw.  So a copy is worth what it is young, and restoring puts nothing in the
place of an index that is there.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
from sqlalchemy import func, select

from base.command import EXISTING_FILE
from base.durable import sync_folder
from base.errors import RetryableError, SetupError
from base.stored import require_kept
from collector.index.sqlite import SqliteIndex
from collector.index.tables import leaves
from collector.premises import Premises, our_premises


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup_command(file: Path) -> None:
    """Copy the index to FILE, while the server runs.

    Copy the batches after it, so that each row has its file. The copy opens no batch, but says
    which device handed in what and when: keep it as private as the index, and destroy it within
    days, for what is erased from now on is still in it.

    \b
    Example:
      assent-collector backup /backup/index-2027-03-01.sqlite
    """
    premises = _with_a_file()
    require_kept(premises.index_file)
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise SetupError(f"{file}: {exc.strerror}; name a new file") from exc
    try:
        with closing(SqliteIndex(premises.index_file)) as index:
            _copy(index, file)
        size = _leaves_in(file)
        _sync(file)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    click.echo(f"{file}  the index, whose log has {size} leaves")
    click.echo(f"Now copy the batches in {premises.objects}, or see that the bucket is copied.")


@click.command("restore")
@click.argument("file", type=EXISTING_FILE)
def restore_command(file: Path) -> None:
    """Put a copy of a lost index back.

    FILE is what `assent-collector backup` wrote; the server must not run. Take the newest copy
    there is, and move a damaged index away first: one that is there is never replaced. When a
    witness or a device has seen more of the log than the copy has, the server does not start,
    and devices stop.

    \b
    Example:
      assent-collector restore /backup/index-2027-03-01.sqlite
    """
    premises = _with_a_file()
    with premises.alone():
        size = restore(file, premises.index_file)
    click.echo(f"restored: the log has {size} leaves")
    click.echo(f"Put the batches back into {premises.objects} too, and run assent-collector serve.")


def restore(copy: Path, index_file: Path) -> int:
    """Put *copy* in the place of *index_file*, which is gone; return how long its log is.

    Raises:
        SetupError: It is no copy of an index, or one is there.
        RetryableError: There is no room.

    """
    if index_file.exists() and index_file.stat().st_size:
        raise SetupError(
            f"{index_file} is there; a copy would lose what came since: if it is damaged, move "
            "it away first"
        )
    coming = index_file.with_name(f".{index_file.name}.{os.getpid()}.tmp")
    coming.unlink(missing_ok=True)
    try:
        size = _leaves_in(copy)
        os.close(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _said(copy), closing(_reading(copy)) as found, closing(sqlite3.connect(coming)) as new:
            found.backup(new)
        _sync(coming)
        for beside in ("-wal", "-shm"):  # of the file that is gone: not of this one
            index_file.with_name(index_file.name + beside).unlink(missing_ok=True)
        # Until here a crash leaves no index, as before; from here on the whole copy.
        coming.replace(index_file)
        sync_folder(index_file.parent)
    finally:
        coming.unlink(missing_ok=True)
    return size


def _with_a_file() -> Premises:
    premises = our_premises()
    if url := premises.config().index.url:
        name = url.partition("?")[0].rpartition("/")[2]
        raise SetupError(
            f"the index is in PostgreSQL: copy the database {name} with pg_dump or its own "
            "archive (docs/guides/database.md)"
        )
    return premises


def _copy(index: SqliteIndex, to: Path) -> None:
    with _said(to), closing(sqlite3.connect(to)) as copy:
        index.copy_to(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without others beside it


def _leaves_in(copy: Path) -> int:
    """Return how many leaves the log of a copy has.

    Raises:
        SetupError: It is no index, or damaged.

    """
    asked = str(select(func.count()).select_from(leaves))
    try:
        with closing(_reading(copy)) as found:
            (state,) = found.execute("PRAGMA quick_check").fetchone()
            (size,) = found.execute(asked).fetchone()
    except (sqlite3.DatabaseError, TypeError) as exc:
        raise SetupError(f"{copy} is no copy that assent-collector backup made") from exc
    if state != "ok":
        raise SetupError(f"{copy} is damaged; take another copy")
    return int(size)


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


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
