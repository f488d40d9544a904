"""Statements that every upload needs: made into SQL once, not each time they are executed.

SQLite answers most of them in a few microseconds; SQLAlchemy takes ten times as long to find
its text, write a list of values into it and wrap what comes back.  So these keep the text that
SQLAlchemy made, and give it to SQLite within the transaction of the connection that they are
given.  Behind PostgreSQL they go SQLAlchemy's way: the one to its server takes longer.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import Connection, Insert, Select
from sqlalchemy.exc import DBAPIError

Found: TypeAlias = Any  # a row, whose attributes are named as its columns
_Text: TypeAlias = tuple[str, Sequence[int], Sequence[Any]]

_SQLITE: Final = "sqlite"


class Asking:
    """A SELECT; for a parameter that is `expanding` it is given a list."""

    def __init__(self, statement: Select[Any]) -> None:
        """Keep *statement*, of columns that SQLite has as they are: bytes, text and integers."""
        self._statement = statement
        columns = statement.selected_columns.keys()
        row: Any = namedtuple("Found", columns)  # type: ignore[misc]  # noqa: PYI024 - only the statement knows which
        self._as_row = row._make
        self._texts: dict[tuple[int, ...], _Text] = {}

    def all(self, connection: Connection, **given: Any) -> Sequence[Found]:  # noqa: ANN401 - what a column may hold
        """Return all rows, in no order but the statement's."""
        if connection.dialect.name != _SQLITE:
            return connection.execute(self._statement, given).all()
        # By name: a text that is known must not depend on how a call names its values.
        full = {name: _filled(given[name]) for name in sorted(given)}
        text, order, constants = self._text(connection, full)
        values = [*constants]
        for value in full.values():
            values += value if isinstance(value, list) else [value]
        rows = _executed(connection, text, [values[number] for number in order])
        return [*map(self._as_row, rows)]

    def first(self, connection: Connection, **given: Any) -> Found | None:  # noqa: ANN401 - as above
        """Return the first row, or None."""
        rows = self.all(connection, **given)
        return rows[0] if rows else None

    def _text(self, connection: Connection, given: Mapping[str, Any]) -> _Text:
        """Return the SQL for lists as long as these, the order of its values, and its constants.

        The order is one of numbers: first those of the constants, then of what was given.
        """
        lengths = tuple(len(value) for value in given.values() if isinstance(value, list))
        known = self._texts.get(lengths)
        if known is None:
            known = self._texts[lengths] = _compiled(self._statement, connection, given)
        return known


class Adding:
    """An INSERT of all columns of its table."""

    def __init__(self, statement: Insert) -> None:
        """Keep *statement*."""
        self._statement = statement
        self._text: tuple[str, Sequence[str]] | None = None

    def all(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add *rows*."""
        if connection.dialect.name != _SQLITE:
            connection.execute(self._statement, rows)
            return
        if self._text is None:
            compiled = self._statement.compile(dialect=connection.dialect)
            self._text = str(compiled), [*(compiled.positiontup or ())]
        text, names = self._text
        _executed_for_each(connection, text, [[row[name] for name in names] for row in rows])


def _filled(value: Any) -> Any:  # noqa: ANN401 - a list, or one value
    """Return a list with its last value again and again, up to a power of two.

    Else there would be a text for each length, more than SQLite's driver keeps prepared.
    """
    if not isinstance(value, list) or not value:
        return value
    return value + value[-1:] * ((1 << (len(value) - 1).bit_length()) - len(value))


def _compiled(statement: Select[Any], connection: Connection, given: Mapping[str, Any]) -> _Text:
    marks: list[object] = []

    def marked(value: Any) -> Any:  # noqa: ANN401 - a list, or one value
        new = [object() for _ in value] if isinstance(value, list) else [object()]
        marks.extend(new)
        return new if isinstance(value, list) else new[0]

    compiled = statement.compile(dialect=connection.dialect)
    expanded = compiled.construct_expanded_state({name: marked(given[name]) for name in given})
    values = expanded.positional_parameters
    constants = [value for value in values if not any(value is mark for mark in marks)]
    all_of_them = [*constants, *marks]
    order = [next(at for at, each in enumerate(all_of_them) if each is value) for value in values]
    return expanded.statement, order, constants


def _executed(connection: Connection, text: str, values: Sequence[Any]) -> Sequence[Any]:
    try:
        return _driver(connection).execute(text, values).fetchall()
    except sqlite3.Error as exc:
        raise _as_sqlalchemy_says(text, exc) from exc


def _executed_for_each(connection: Connection, text: str, rows: Sequence[Sequence[Any]]) -> None:
    try:
        _driver(connection).executemany(text, rows)
    except sqlite3.Error as exc:
        raise _as_sqlalchemy_says(text, exc) from exc


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _as_sqlalchemy_says(text: str, error: sqlite3.Error) -> Exception:
    """Return what the index expects; without the values, which are ids."""
    return DBAPIError.instance(text, None, error, sqlite3.Error, hide_parameters=True)
