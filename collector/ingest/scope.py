"""Whether a frame belongs here: what its core says, against what the index knows.  Pure.

Scope, jurisdiction, policy, consent, guard key and dates, each refused by its own name; step 6 of
`receive`.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from base.clock import NANOSECONDS
from collector.ingest.bearing import Bearing
from collector.ingest.taken_back import check_not_closed, check_not_taken_back, check_not_withdrawn
from collector.jurisdiction import check_served
from collector.refusal import RefusedError, Why
from collector.rights.consents import check_covers
from wire.days import days_of_consent, not_in_force, not_of_consent
from wire.frame import Core
from wire.ids import DeviceId, PolicyDigest, WallInstant
from wire.policy import Policy


def check_belongs(core: Core, origin: str, tenant: str, device: DeviceId) -> None:
    """Check that it is for this collector and tenant, and of the device that sends it.

    Raises:
        RefusedError: It is not.

    """
    if core.origin != origin:
        raise RefusedError(Why.NOT_THIS_ORIGIN, "the frame is for another collector")
    if core.tenant != tenant:
        raise RefusedError(Why.NOT_THIS_TENANT, "the frame is for another tenant")
    if core.device != device:
        raise RefusedError(Why.NOT_THIS_DEVICE, "the frame is of another device")


def check_place(core: Core, bearing: Bearing) -> None:
    """Check that its device is where this collector, and the policy in force, take batches from.

    Raises:
        RefusedError: It is not.

    """
    check_served(bearing.places.get(core.device, ""), bearing.served)


def check_policy(core: Core, policy: Policy) -> None:
    """Check that its policy asks for what it is.

    Raises:
        RefusedError: It does not.

    """
    if core.programme != policy.programme:
        raise RefusedError(Why.NOT_THIS_PROGRAMME, "the frame is of another programme")
    if core.purpose != policy.purpose:
        raise RefusedError(Why.CONSENT_MISMATCH, "the policy has another purpose")
    if policy.rule(core.category) is None:
        raise RefusedError(Why.CATEGORY_REFUSED, f"the policy does not ask for {core.category}")


def check_consent(core: Core, bearing: Bearing) -> None:
    """Check that a consent record is here that covers it, and that nothing was taken back.

    Raises:
        RefusedError: There is none, it is about something else, or it does not hold any more.

    """
    consent = bearing.consents.get(core.grant)
    if consent is None:
        raise RefusedError(Why.CONSENT_UNKNOWN, "its consent record is not here; send it first")
    if consent.device != core.device:
        raise RefusedError(Why.NOT_THIS_DEVICE, "its consent record is of another device")
    if consent.subject != core.subject:
        raise RefusedError(Why.NOT_THIS_SUBJECT, "its consent record is of another data subject")
    if consent.category != core.category:
        raise RefusedError(Why.CONSENT_MISMATCH, f"the consent is not for {core.category}")
    check_covers(bearing.policy, PolicyDigest(consent.policy), core)
    check_not_withdrawn(consent.withdrawn)
    demanded = bearing.requests.get(core.subject, ())
    check_not_taken_back(
        demanded,
        core.category,
        core.day,
        given_at=consent.given_at,
        came_at=consent.received_at,
    )


def check_guard_key(core: Core, bearing: Bearing) -> None:
    """Check that it is sealed to the guard's key of its data subject, category and month.

    Raises:
        RefusedError: It is not, or the guard has erased that key by its own hand.

    """
    check_not_closed(bearing.orders.get(core.subject, ()), core.category, core.day)
    if bearing.guard_keys.get((core.subject, core.category, core.day[:7])) != core.guard_key:
        raise RefusedError(
            Why.GUARD_KEY_UNKNOWN, "it is not sealed to the guard's key of its month; ask for that"
        )


def check_dates(core: Core, bearing: Bearing, now: WallInstant) -> None:
    """Check that it is of a day of its consent and policy, and may be kept, and not for longer.

    Raises:
        RefusedError: It may not.

    """
    day, expires = _date(core.day), _date(core.expires)
    if expires < datetime.fromtimestamp(now / NANOSECONDS, UTC).date():
        raise RefusedError(Why.EXPIRED, f"the frame was to be kept until {core.expires} only")
    policy, in_force = bearing.published(core.policy)
    for said in not_of_consent(core.day, _days(bearing, core, policy)):
        raise RefusedError(Why.OUTSIDE_CONSENT, f"the frame {said}")
    for said in not_in_force(core.day, in_force):
        raise RefusedError(Why.POLICY_NOT_IN_FORCE, f"the frame {said}")
    rule = policy.rule(core.category)
    if rule is not None and expires > day + timedelta(days=rule.retention_days):
        raise RefusedError(
            Why.KEPT_TOO_LONG, f"the policy keeps {core.category} for {rule.retention_days} days"
        )


def _days(bearing: Bearing, core: Core, policy: Policy) -> tuple[str, str]:
    """Return the first and last day of its consent, which `check_consent` has found."""
    consent = bearing.consents[core.grant]
    agreed = bearing.policy(PolicyDigest(consent.policy))
    return days_of_consent(
        consent.given_at, consent.ended_at, agreed.reconfirm_days, policy.reconfirm_days
    )


@lru_cache(maxsize=1024)  # the batches of a day name the same two
def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as exc:
        raise RefusedError(Why.MALFORMED, "a date in the core is none") from exc
    if day.isoformat() != text:  # Python also reads forms that do not sort as text
        raise RefusedError(Why.MALFORMED, "a date in the core is not written as in 2027-03-15")
    return day
