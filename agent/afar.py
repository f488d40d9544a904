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
from wire.errors import WireError
from wire.rights import Request, SignedRequest, verify_request

_LOG: Final = logging.getLogger(__name__)


def to_withdraw(
    demands: Iterable[SignedRequest], standing: Standing, asker: Asker
) -> frozenset[Category]:
    """Return the categories whose consent *demands* take back; empty when all is done already."""
    requests = [r for d in demands if (r := _believed(d, asker)) is not None]
    return frozenset(
        category
        for category, grant in standing.grants.items()
        for request in requests
        if not request.has_span
        and request.category in (None, category)
        and grant.record.given_at <= request.made_at
    )


def _believed(signed: SignedRequest, asker: Asker) -> Request | None:
    try:
        request = verify_request(signed, asker.origin)
    except WireError as exc:
        _LOG.warning("a demand that the collector passed on is not the data subject's: %s", exc)
        return None
    if signed.rights_key != asker.rights_key or signed.device_key:
        _LOG.warning("a demand that the collector passed on is not of our rights key")
        return None
    return request
