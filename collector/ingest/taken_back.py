"""Whether what a batch or consent rests on was taken back, by the data subject or the guard.

What was demanded holds for all that was agreed to before: for the batches that are here, and
for those that come later.  A consent that its device has withdrawn covers nothing that comes later.
What the guard has erased by its own hand stays closed for good.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from sqlalchemy import bindparam, func, select

from collector.index.prepared import Asking
from collector.index.tables import orders, requests
from collector.refusal import RefusedError, Why
from wire.category import Category
from wire.ids import WallInstant

_WHAT: Final = (
    requests.c.subject,
    requests.c.category,
    requests.c.first_day,
    requests.c.last_day,
)
# Of demands for the same thing the last one says it all, however often it was asked for.
OF_SUBJECTS: Final = Asking(
    select(*_WHAT, func.max(requests.c.made_at).label("made_at"))
    .where(requests.c.subject.in_(bindparam("subjects", expanding=True)))
    .group_by(*_WHAT)
)
ORDERS: Final = Asking(
    select(orders.c.subject, orders.c.category, orders.c.month).where(
        orders.c.subject.in_(bindparam("subjects", expanding=True))
    )
)


class Ordered(Protocol):
    """A row of `ORDERS`."""

    category: str | None  # None: all
    month: str  # empty: every one


class Request(Protocol):
    """A row of `OF_SUBJECTS`."""

    category: str | None  # None: all
    first_day: str  # empty: ever
    last_day: str
    made_at: int


def check_not_taken_back(
    found: Iterable[Request], category: Category, day: str, given_at: WallInstant
) -> None:
    """Check that none of *found* covers this; *day* is empty for a consent record.

    Raises:
        RefusedError: One does; that is final.

    """
    for request in found:
        of_it = request.category is None or request.category == category
        of_day = not request.first_day or request.first_day <= day <= request.last_day
        if of_it and of_day and request.made_at >= given_at:
            raise RefusedError(Why.ERASED, "the data subject has taken this back")


def check_not_withdrawn(leaf: int | None) -> None:
    """Check that no *leaf* of the log says that the consent was withdrawn.

    One that has expired, too, still covers what was recorded before and waits to be sent.

    Raises:
        RefusedError: One does; that is final.

    """
    if leaf is not None:
        raise RefusedError(Why.ERASED, "the consent to this has been withdrawn")


def check_not_closed(found: Iterable[Ordered], category: Category, day: str) -> None:
    """Check that the guard has not erased, by its own hand, the key of *category* and *day*.

    *day* may be a month.

    Raises:
        RefusedError: It has, and makes no other; that is final.

    """
    for order in found:
        if order.category in (None, category) and day.startswith(order.month):
            raise RefusedError(Why.ERASED, "the guard has erased the key of this for good")
