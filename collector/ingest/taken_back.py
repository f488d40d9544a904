"""Whether what a batch or consent rests on was taken back, by the data subject or the guard.

What was demanded holds for all that was agreed to before: for the batches that are here, and
for those that come later.  A consent that its device has withdrawn covers nothing that comes later.
What the guard has erased by its own hand stays closed for good.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from sqlalchemy import bindparam, case, func, select

from collector.index.prepared import Asking
from collector.index.tables import orders, requests
from collector.refusal import RefusedError, Why
from wire.category import Category

_WHAT: Final = (
    requests.c.subject,
    requests.c.category,
    requests.c.first_day,
    requests.c.last_day,
)
_ASKED_AT: Final = case(
    (requests.c.made_at < requests.c.received_at, requests.c.made_at), else_=requests.c.received_at
)
# Of demands for the same thing the last one says it all, however often it was asked for.
OF_SUBJECTS: Final = Asking(
    select(
        *_WHAT,
        func.max(requests.c.made_at).label("made_at"),
        func.max(_ASKED_AT).label("asked_at"),
    )
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
    made_at: int  # by the clock of who asked
    asked_at: int  # the same, or when it came here where that was earlier


def check_not_taken_back(
    found: Iterable[Request], category: Category, day: str, *, given_at: int, came_at: int
) -> None:
    """Check that none of *found* covers this; *day* is empty for a consent record.

    What came here (*came_at*) before it was asked for was agreed to before, whatever the clock of
    its device said (*given_at*): a consent that is dated ahead could not be taken back else.

    Raises:
        RefusedError: One does; that is final.

    """
    for request in found:
        of_it = request.category is None or request.category == category
        of_day = not request.first_day or request.first_day <= day <= request.last_day
        before = request.made_at >= given_at or request.asked_at > came_at
        if of_it and of_day and before:
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
