"""Statements that are made into SQL once, held against SQLAlchemy's own way (`index.prepared`)."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError

from base.errors import RetryableError
from collector.index.prepared import Adding, Asking
from collector.index.sqlite import SqliteIndex
from collector.index.tables import guard_keys, leaves, salts

SUBJECTS = [bytes([number]) * 16 for number in range(9)]
MONTHS = ["2027-03", "2027-04"]
OF_SEVERAL = (
    select(guard_keys.c.subject, guard_keys.c.month, guard_keys.c.key_id)
    .where(
        guard_keys.c.month.in_(bindparam("months", expanding=True)),
        guard_keys.c.category == bindparam("category"),
        guard_keys.c.subject.in_(bindparam("subjects", expanding=True)),
    )
    .order_by(guard_keys.c.subject, guard_keys.c.month)
    .limit(7)
)


@pytest.fixture(name="index")
def _index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        with index.writing() as connection:
            rows = [
                {
                    "subject": subject,
                    "category": category,
                    "month": month,
                    "key_id": (subject + month.encode())[-16:],
                    "public_key": b"key",
                    "signature": b"signature",
                    "also": None,
                }
                for subject in SUBJECTS
                for category in ("keys", "pointer")
                for month in MONTHS
            ]
            Adding(guard_keys.insert()).all(connection, rows)
        yield index


@pytest.mark.parametrize("many", range(len(SUBJECTS) + 1))
def test_lists_of_every_length_are_answered_as_sqlalchemy_answers(
    index: SqliteIndex, many: int
) -> None:
    """Also none, and also where the text was made for another length, lists in another order."""
    asking = Asking(OF_SEVERAL)
    for months in ([], MONTHS[:1], MONTHS):
        given = {"subjects": SUBJECTS[:many], "category": "keys", "months": months}
        with index.reading() as connection:
            theirs = [tuple(row) for row in connection.execute(OF_SEVERAL, given)]
            assert [tuple(row) for row in asking.all(connection, **given)] == theirs
            assert [tuple(row) for row in asking.all(connection, **given)] == theirs


def test_a_call_may_name_its_values_in_any_order(index: SqliteIndex) -> None:
    """Lists of one length must not change places."""
    asking = Asking(OF_SEVERAL)
    with index.reading() as connection:
        one = asking.all(connection, subjects=SUBJECTS[:2], category="keys", months=MONTHS)
        two = asking.all(connection, months=MONTHS, category="keys", subjects=SUBJECTS[:2])
    assert [*one] == [*two] != []


def test_a_row_has_the_names_of_its_columns(index: SqliteIndex) -> None:
    """And the first of none is None."""
    asking = Asking(OF_SEVERAL)
    with index.reading() as connection:
        row = asking.first(connection, subjects=SUBJECTS, category="pointer", months=MONTHS)
        assert row is not None
        assert (row.subject, row.month) == (SUBJECTS[0], MONTHS[0])
        assert asking.first(connection, subjects=SUBJECTS, category="", months=MONTHS) is None


def test_what_is_added_is_of_the_transaction(index: SqliteIndex) -> None:
    """What the block ends with happens to it, too: nothing, here."""
    adding = Adding(leaves.insert())

    def spoils() -> None:
        with index.writing() as connection:
            adding.all(connection, [{"number": 0, "kind": "halt", "entry": b"", "at": 1}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spoils()
    with index.reading() as connection:
        assert connection.execute(select(leaves.c.number)).all() == []


def test_what_goes_wrong_is_said_as_ever_and_without_values(index: SqliteIndex) -> None:
    """Whoever stands above it knows SQLAlchemy's errors only, and ids do not get into the log."""
    asking = Asking(OF_SEVERAL)
    with index.writing() as connection:
        connection.exec_driver_sql("DROP TABLE guard_keys")
    with pytest.raises(RetryableError) as gone, index.reading() as connection:
        asking.all(connection, subjects=SUBJECTS, category="keys", months=["2099-01"])
    assert "guard_keys" in str(gone.value)
    assert "2099-01" not in str(gone.value)

    with pytest.raises(IntegrityError) as orphan, index.writing() as connection:
        Adding(salts.insert()).all(connection, [{"leaf": 77, "salt": b"a salt of nobody"}])
    assert "a salt of nobody" not in str(orphan.value)


def test_who_writes_one_after_the_other_writes_by_one_connection(index: SqliteIndex) -> None:
    """It knows what it has read and written of the file, as long as nobody else writes."""
    drivers = []
    for _ in range(3):
        with index.reading(), index.writing() as connection:
            drivers.append(connection.connection.driver_connection)
    assert drivers[0] is drivers[1] is drivers[2]
