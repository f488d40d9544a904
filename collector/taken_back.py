"""Whether the data subject has taken back what a batch or consent rests on.

What was demanded holds for all that was agreed to before: for the batches that are here, and
for those that come later.
"""

from typing import Final

from sqlalchemy import Connection, bindparam, or_, select

from collector.index.tables import requests
from collector.refusal import RefusedError, Why
from wire.category import Category
from wire.ids import SubjectId, WallInstant

_TAKEN_BACK: Final = (
    select(requests.c.leaf)
    .where(
        requests.c.subject == bindparam("subject"),
        or_(requests.c.category.is_(None), requests.c.category == bindparam("category")),
        or_(
            requests.c.first_day == "",
            (requests.c.first_day <= bindparam("day")) & (requests.c.last_day >= bindparam("day")),
        ),
        requests.c.made_at >= bindparam("given_at"),
    )
    .limit(1)
)


def check_not_taken_back(
    connection: Connection, subject: SubjectId, category: Category, day: str, given_at: WallInstant
) -> None:
    """Check that no request of *subject* covers this; *day* is empty for a consent record.

    Raises:
        RefusedError: One does; that is final.

    """
    asked = {"subject": subject, "category": category, "day": day, "given_at": given_at}
    if connection.execute(_TAKEN_BACK, asked).first() is not None:
        raise RefusedError(Why.ERASED, "the data subject has taken this back")
