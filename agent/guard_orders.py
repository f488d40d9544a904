"""What the guard has erased of this data subject by its own hand, as it signed it.

`guard-orders.json` keeps the orders.  They restrict and nothing else: what they cover cannot be
opened by anybody any more, so it is not recorded, not asked a key for, and not kept.  They come
by way of the collector; a file that is lost is filled again by its next answer.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from base import durable
from base.clock import NANOSECONDS
from base.stored import Versioned, refuse_newer
from wire.category import Category, registry
from wire.errors import UNREADABLE, NotCoveredError, WireError
from wire.guard_order import Order, SignedOrder, verify_order
from wire.ids import LAST_INSTANT, LEAST_INSTANT, SubjectId

_LOG: Final = logging.getLogger(__name__)

FILE_NAME: Final = "guard-orders.json"


class _Kept(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: Order


class GuardOrders:
    """The orders that were believed."""

    def __init__(self, folder: Path, subject: SubjectId) -> None:
        """Read what is kept.

        Raises:
            NewerError: A later version of this program wrote the file.

        """
        self._path = folder / FILE_NAME
        self._subject = subject
        self._orders = dict.fromkeys(self._read())
        self._unkept = False

    @property
    def all(self) -> tuple[Order, ...]:
        """Each order, the first that was heard of first."""
        return tuple(self._orders)

    def believed(
        self, said: Iterable[SignedOrder], origin: str, signing_key: str
    ) -> tuple[Order, ...]:
        """Return what of *said* the guard has signed of this data subject; it takes a while."""
        orders, refused = [], []
        for one in said:
            try:
                orders.append(self._verified(one, origin, signing_key))
            except WireError as exc:
                refused.append(str(exc))
        if refused:  # one line an answer: whoever sends nonsense sends a lot, and again
            _LOG.warning(
                "%d orders that the collector passed on are not the guard's to us: %s",
                len(refused),
                refused[0],
            )
        return tuple(orders)

    def hear(self, believed: Iterable[Order]) -> list[Order]:
        """Go by what was *believed*; return what of it is new.

        Raises:
            OSError: It counts until the agent ends, and is not kept: hear it again.

        """
        new = [order for order in dict.fromkeys(believed) if order not in self._orders]
        if new or self._unkept:
            self._orders |= dict.fromkeys(new)  # first: a full disk must not undo a restriction
            self._unkept = True
            kept = [_Kept(order=order) for order in self._orders]
            durable.replace(self._path, msgspec.json.encode(kept))
            self._unkept = False
        return new

    def covers(self, category: Category, month: str) -> bool:
        """Whether nothing of *category* and *month* can be opened any more."""
        return any(order.covers(category, month) for order in self._orders)

    def words(self) -> tuple[str, ...]:
        """Return a line for each, for the data subject."""
        return tuple(map(words, self._orders))

    def _verified(self, signed: SignedOrder, origin: str, signing_key: str) -> Order:
        order = verify_order(signed, origin, signing_key)
        if order.subject != self._subject:
            raise NotCoveredError("the guard's order is about somebody else")
        return order

    def _read(self) -> list[Order]:
        try:
            data = self._path.read_bytes()
            refuse_newer(data, self._path)
            return [kept.order for kept in msgspec.json.decode(data, type=list[_Kept])]
        except (OSError, *UNREADABLE):
            return []  # they are heard again


def words(order: Order) -> str:
    """Return what an order means, in one line for the data subject."""
    what = "everything" if order.category is None else registry()[order.category].title
    when = f" of {order.month}" if order.month else ""
    at = min(max(order.at, LEAST_INSTANT), LAST_INSTANT)  # an earlier version kept any
    day = f"{datetime.fromtimestamp(at // NANOSECONDS, UTC):%Y-%m-%d}"
    return (
        f"{what}{when}: the guard erased its keys on {day}; "
        "nobody can open what was sent, and no more of it is recorded"
    )
