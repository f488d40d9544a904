"""What the data subject demanded elsewhere, with the rights key: this device follows.

Whoever left, or whose device is lost, withdraws from another machine; a device that still
runs must not go on because nobody clicked on it.  A demand is believed only with the rights
key that this device was enrolled with, and it takes away only what was agreed to before it.
"""

import logging
from collections.abc import Iterable
from typing import Final

from agent.consent.standing import Standing
from agent.erasures import Asker
from wire.category import Category
from wire.errors import NotCoveredError, WireError
from wire.rights import Request, SignedRequest, verify_request

_LOG: Final = logging.getLogger(__name__)


def believed(demands: Iterable[SignedRequest], asker: Asker) -> tuple[Request, ...]:
    """Return what of *demands* the data subject has demanded; it verifies, which takes a while."""
    requests, refused = [], []
    for demand in demands:
        try:
            requests.append(_verified(demand, asker))
        except WireError as exc:
            refused.append(str(exc))
    if refused:  # one line an answer: whoever sends nonsense sends a lot, and again
        _LOG.warning(
            "%d demands that the collector passed on are not the data subject's: %s",
            len(refused),
            refused[0],
        )
    return tuple(requests)


def to_withdraw(requests: Iterable[Request], standing: Standing) -> frozenset[Category]:
    """Return the categories whose consent *requests* take back; empty when all is done already."""
    requests = tuple(requests)
    return frozenset(
        category
        for category, grant in standing.grants.items()
        for request in requests
        if not request.has_span
        and request.category in (None, category)
        and grant.record.given_at <= request.made_at
    )


def _verified(signed: SignedRequest, asker: Asker) -> Request:
    request = verify_request(signed, asker.origin)
    if signed.rights_key != asker.rights_key or signed.device_key:
        raise NotCoveredError("it is not of our rights key")
    return request
