# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector migrate`: the index as this version of the program wants it.

Nothing else changes tables.  It says first what it would do, and does it only when told to.
"""

from contextlib import closing
from typing import Final

import click

from base import durable
from collector.index import Changeable
from collector.index.opening import open_index
from collector.index.postgres import PostgresIndex
from collector.index.schema import require_current
from collector.index.sqlite import SqliteIndex
from collector.index.tables import SCHEMA_VERSION
from collector.index.transfer import copy_all, count_all
from collector.premises import Premises, our_premises
from collector.store.files import FileStore
from wire.ids import BatchHash

_NOT_YET: Final = (
    "Nothing was changed. Stop every collector of this index, copy the index, then say --yes."
)


@click.command("migrate")
@click.option("--yes", is_flag=True, help="Do it; without, it is only shown.")
def migrate_command(yes: bool) -> None:
    """Bring the index to this version, or into PostgreSQL.

    Needed after an upgrade when serve says so, and once when config.toml begins to name a
    PostgreSQL database: then all rows of the SQLite file are copied there. Each is one
    transaction: when it fails, everything is as it was.

    \b
    Example:
      assent-collector migrate
      assent-collector migrate --yes
    """
    premises = our_premises()
    premises.config()  # says what to do where nothing is set up yet
    with premises.alone(), closing(open_index(premises, any_version=True)) as index:
        if isinstance(index, PostgresIndex) and _moves_in(premises, index):
            with closing(SqliteIndex(premises.index_file, any_version=True)) as source:
                _change(premises, source, done=yes)
                _move(premises, source, index, done=yes)
            waits = True
        else:
            waits = _change(premises, index, done=yes)
    if not waits:
        click.echo("There is nothing to do.")
    elif not yes:
        click.echo(_NOT_YET)


def _moves_in(premises: Premises, index: PostgresIndex) -> bool:
    """Whether the database is empty, and a file is there that can go into it."""
    with index.changing() as connection:
        return index.version(connection) == 0 and premises.index_file.exists()


def _change(premises: Premises, index: Changeable, *, done: bool) -> bool:
    """Bring tables to this version, if *done*; return whether there was something to do."""
    # alembic takes longer to load than all else; no other command needs it.
    from collector.index.migration import migrate, pending  # noqa: PLC0415

    with index.reading() as connection:
        found = index.version(connection)
        if found == 0:
            require_current(index, connection)  # says that there is none
        steps = pending(index, connection)
    click.echo(f"{index.place} has the tables of version {found} of {SCHEMA_VERSION}.")
    for step in steps:
        click.echo(f"To version {step.version}: {step.says}.")
    if not steps or not done:
        return bool(steps)
    store = FileStore(premises.objects)
    for remark in migrate(index, lambda batch: store.get(BatchHash(batch))):
        click.echo(f"Note: {remark}.")
    # Version 1 kept the lease in a file.
    durable.remove(premises.paths.state / "timestamp.json")
    click.echo(f"It has those of version {SCHEMA_VERSION} now.")
    return True


def _move(premises: Premises, source: SqliteIndex, index: PostgresIndex, *, done: bool) -> None:
    if not done:
        click.echo(f"All its rows are copied into the {index.place}, which is empty.")
        return
    with source.reading() as read, index.changing() as written:
        index.create_in(written)
        copied = copy_all(read, written)
        assert count_all(written) == copied  # noqa: S101 - rather nothing than a part
    source.close()
    kept = premises.index_file.with_suffix(".sqlite.moved")
    premises.index_file.replace(kept)
    durable.sync_folder(kept.parent)
    click.echo(f"{copied} rows are in the {index.place} now.")
    click.echo(f"{kept} is as it was, and no longer used: delete it, for nothing is erased there.")
