"""When a consent has to be confirmed: 30 days after the first yes, then every 180.  Pure.

Somebody who said yes once forgets it.  The first month shows what it is like, so the first
confirmation comes early; a policy may ask sooner, and never later.  Whoever confirms in the
week before has confirmed.
"""

from typing import Final

from agent.consent.standing import Grant
from base.clock import NANOSECONDS, Now
from wire.ids import WallInstant
from wire.policy import RECONFIRM_DAYS, Policy

FIRST_DAYS: Final = 30
OFFER_DAYS: Final = 7  # how long before its end the tray offers to confirm
_DAY: Final = 86_400 * NANOSECONDS


def confirm_by(grant: Grant, policy: Policy | None) -> WallInstant:
    """Return until when *grant* stands without a new yes."""
    most = RECONFIRM_DAYS if policy is None else min(RECONFIRM_DAYS, policy.reconfirm_days)
    first = grant.first_at + min(FIRST_DAYS, most) * _DAY
    last = grant.record.given_at
    return WallInstant(first if last < first - OFFER_DAYS * _DAY else last + most * _DAY)


def is_due(grant: Grant, policy: Policy | None, now: Now) -> bool:
    """Whether *grant* does not stand any more at *now*."""
    return now.wall >= confirm_by(grant, policy)


def is_offered(grant: Grant, policy: Policy | None, now: Now) -> bool:
    """Whether it is time to offer the data subject to confirm *grant*."""
    return now.wall >= confirm_by(grant, policy) - OFFER_DAYS * _DAY
