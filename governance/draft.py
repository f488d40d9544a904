"""A first policy with safe defaults: no application, the lowest level of each category, 1 Hz.

What only people can know is left as "FILL IN: ...", which the lint refuses, so that a
draft is never signed by mistake.  docs/guides/policy.md explains each field.
"""

from typing import Final

import msgspec

from governance.checks import LEAST_PARTIES, PROHIBITED_ALWAYS, TO_FILL_IN
from governance.notice import notice_of
from wire.category import Category, registry
from wire.policy import (
    LEASE_SECONDS,
    RECONFIRM_DAYS,
    Application,
    Approver,
    Assessment,
    CategoryRule,
    Collector,
    Guard,
    Hours,
    Party,
    Policy,
    Purpose,
    Recipient,
    Weekday,
)

SAFE_RATE_HZ: Final = {
    Category.KEYS: 100.0,
    Category.POINTER: 60.0,
    Category.SCREEN: 1.0,
    Category.WINDOW: 10.0,
}
RETENTION_DAYS: Final = 90
HOLD_SECONDS: Final = 600
WORKING_HOURS: Final = (Hours(days=tuple(Weekday)[:5], begin="08:00", end="18:00"),)
PROHIBITED: Final = (
    PROHIBITED_ALWAYS,
    "disciplinary-action",
    "attendance-control",
    "sale-to-third-parties",
)
TO_SAY_WHY: Final = f"{TO_FILL_IN}: why the purpose needs pictures of the screen"


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever drafts knows already; everything else is safe, or left to fill in."""

    programme: str = "pilot"
    tenant: str = "main"
    controller: str = f"{TO_FILL_IN}: legal name of the employer"
    controller_contact: str = f"{TO_FILL_IN}: an address that a person reads"
    representatives: str = f"{TO_FILL_IN}: works council or other elected representatives"
    representatives_contact: str = f"{TO_FILL_IN}: their own address"
    jurisdictions: tuple[str, ...] = (f"{TO_FILL_IN}: country code of the data subjects",)
    origin: str = f"{TO_FILL_IN}: https://host:port of the collector"
    pins: tuple[str, ...] = (f"{TO_FILL_IN}: as `assent-collector init` printed it",)
    log_key: str = f"{TO_FILL_IN}: as `assent-collector init` printed it"
    collector_lease_key: str = f"{TO_FILL_IN}: as `assent-collector init` printed it"
    guard_name: str = "the guard"
    guard_run_by: str = f"{TO_FILL_IN}: who runs the guard; never the controller"
    guard_key: str = f"{TO_FILL_IN}: as `assent-guard init` printed it"
    witness: str = f"{TO_FILL_IN}: as `assent-guard init` printed it"
    guard_lease_key: str = f"{TO_FILL_IN}: as `assent-guard init` printed it"
    recipients: tuple[Recipient, ...] = ()
    approvers: tuple[Approver, ...] = ()
    threshold: int = LEAST_PARTIES
    categories: tuple[Category, ...] = tuple(Category)
    levels: tuple[tuple[Category, str], ...] = ()
    rates: tuple[tuple[Category, float], ...] = ()
    justifications: tuple[tuple[Category, str], ...] = ()
    applications: tuple[Application, ...] = ()
    hours: tuple[Hours, ...] = WORKING_HOURS
    reconfirm_days: int = RECONFIRM_DAYS
    hold_seconds: int = HOLD_SECONDS
    lease_seconds: int = LEASE_SECONDS
    retention_days: int = RETENTION_DAYS
    assessment: str = f"{TO_FILL_IN}: id of the data protection impact assessment"
    assessment_expires: str = f"{TO_FILL_IN}: YYYY-MM-DD"
    review: str = f"{TO_FILL_IN}: the digest that `assent-govern review` prints"
    notice: str = ""  # empty: written from the rest
    version: int = 1
    test_only: bool = False


def draft(wishes: Wishes) -> Policy:
    """Return the policy of *wishes*; it may still need filling in, and the lint will say so."""
    levels, rates = dict(wishes.levels), dict(wishes.rates)
    why = {Category.SCREEN: TO_SAY_WHY} | dict(wishes.justifications)
    rules = tuple(
        CategoryRule(
            category=category,
            level=levels.get(category, registry()[category].lowest_level),
            rate_hz=rates.get(category, SAFE_RATE_HZ[category]),
            retention_days=wishes.retention_days,
            justification=why.get(category, ""),
        )
        for category in wishes.categories
    )
    policy = Policy(
        version=wishes.version,
        programme=wishes.programme,
        controller=Party(name=wishes.controller, contact=wishes.controller_contact),
        representatives=Party(name=wishes.representatives, contact=wishes.representatives_contact),
        jurisdictions=wishes.jurisdictions,
        purpose=Purpose.TRAIN_COMPUTER_USE,
        prohibited_purposes=PROHIBITED,
        categories=rules,
        applications=wishes.applications,
        hold_seconds=wishes.hold_seconds,
        lease_seconds=wishes.lease_seconds,
        recipients=wishes.recipients,
        guard=Guard(
            name=wishes.guard_name,
            run_by=wishes.guard_run_by,
            signing_key=wishes.guard_key,
            witness=wishes.witness,
            lease_key=wishes.guard_lease_key,
        ),
        collector=Collector(
            origin=wishes.origin,
            tenant=wishes.tenant,
            tls_pins=wishes.pins,
            log=wishes.log_key,
            lease_key=wishes.collector_lease_key,
        ),
        approvers=wishes.approvers,
        approval_threshold=wishes.threshold,
        assessment=Assessment(id=wishes.assessment, expires=wishes.assessment_expires),
        review=wishes.review,
        notice=wishes.notice,
        test_only=wishes.test_only,
        hours=wishes.hours,
        reconfirm_days=wishes.reconfirm_days,
    )
    if wishes.notice:
        return policy
    return msgspec.structs.replace(policy, notice=notice_of(policy))
