"""All rows of one index into another that has none, as they are: from SQLite to PostgreSQL."""

from typing import Final

from sqlalchemy import Connection, func, select, text

from collector.index.tables import metadata

_AT_ONCE: Final = 1_000


def count_all(connection: Connection) -> int:
    """Return how many rows there are in all tables."""
    counts = (select(func.count()).select_from(table) for table in metadata.sorted_tables)
    return sum(int(connection.execute(count).scalar_one()) for count in counts)


def copy_all(source: Connection, target: Connection) -> int:
    """Copy every row; return how many they are."""
    copied = 0
    for table in metadata.sorted_tables:  # what is referred to comes first
        found = source.execute(select(table), execution_options={"yield_per": _AT_ONCE})
        for part in found.mappings().partitions():
            target.execute(table.insert(), [dict(row) for row in part])
            copied += len(part)
    if target.dialect.name == "postgresql":
        _count_on(target)
    return copied


def _count_on(connection: Connection) -> None:
    """Let numbers that the database gives go on after those that were copied."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        last = connection.execute(select(func.max(column))).scalar()
        if last is not None:
            named = {"table": table.name, "column": column.name, "last": last}
            going_on = text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
            connection.execute(going_on, named)
