"""Policies and access requests in plain words, for those who are about to sign them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from governance.checks import hours_in_words
from wire.category import registry
from wire.grant import AccessRequest
from wire.policy import RECONFIRM_DAYS, CategoryRule, KeyState, Policy, Recipient


def policy_in_words(policy: Policy) -> tuple[str, ...]:
    """Return what *policy* asks of a data subject, one line a thing."""
    lines = [
        f"Programme {policy.programme}, policy version {policy.version}"
        + (" (TEST ONLY: may record typed text)" if policy.test_only else ""),
        f"{policy.controller.name} ({policy.controller.contact}) asks",
        f"{policy.representatives.name} ({policy.representatives.contact}) represent those asked",
        f"For {policy.purpose} ({policy.purpose.words})",
        f"Never for {', '.join(policy.prohibited_purposes) or 'nothing'}",
        f"Where: {', '.join(policy.jurisdictions)}",
    ]
    lines += [_rule_in_words(rule) for rule in policy.categories]
    programs = ", ".join(f"{a.process} ({a.window_class})" for a in policy.applications)
    lines += [
        f"Only in: {programs}" if programs else "In no program at all: the list is empty",
        f"When: {'; '.join(map(hours_in_words, policy.hours)) or 'at any hour'}",
        f"Confirmed after 30 days, then every {min(RECONFIRM_DAYS, policy.reconfirm_days)}",
        f"Held on the device for {policy.hold_seconds} s before it may leave",
        f"A device goes on for {policy.lease_seconds} s without hearing from collector and guard",
        f"Goes to {policy.collector.origin} and nowhere else",
        f"Readers: {', '.join(map(_key_in_words, policy.recipients))}; each access needs "
        f"{policy.approval_threshold} of "
        + ", ".join(f"{a.name} ({a.party})" for a in policy.approvers)
        + ", of as many parties",
        f"The second lock, {policy.guard.name}, is run by {policy.guard.run_by}",
        f"Assessment {policy.assessment.id}, valid until {policy.assessment.expires}",
        f"Privacy review {policy.review} (assent-govern review)",
        "Whoever is asked reads this notice:",
    ]
    lines += [f"  {line}" for line in policy.notice.splitlines() if line]
    return tuple(lines)


def _key_in_words(key: Recipient) -> str:
    said = key.name if key.state is KeyState.SEALED_TO else f"{key.name} ({key.state})"
    return f"{said}, a key that follows {key.follows[:8]}" if key.follows else said


def _rule_in_words(rule: CategoryRule) -> str:
    entry = registry()[rule.category]
    sentence = entry.levels.get(rule.level, "a level without words")
    return (
        f"Records {entry.title.lower()} at level {rule.level}, at most {rule.rate_hz:g} a second, "
        f"kept {rule.retention_days} days: {sentence}"
        + (f" Needed because: {rule.justification}" if rule.justification else "")
    )


def request_in_words(request: AccessRequest) -> tuple[str, ...]:
    """Return what approving *request* would allow, one line a thing."""
    expires = datetime.fromtimestamp(request.expires_at / 1e9, UTC)
    return (
        f"{request.reader} asks to open: {', '.join(request.categories)}",
        f"recorded from {request.first_day} to {request.last_day} (both included)",
        f"of everybody who agreed to take part in programme {request.programme}",
        f"for {request.purpose}, because: {request.why}",
        f"Only the key {request.recipient[:20]}...{request.recipient[-6:]} will open it",
        f"This grant ends on {expires:%Y-%m-%d %H:%M} UTC; request {request.request_id}",
    )


def signatures_in_words(signers: Mapping[str, bool]) -> tuple[str, ...]:
    """Return one line for each party of the policy: signed, or not yet."""
    return tuple(
        f"{'signed by' if signed else 'NOT YET signed by'} {party or 'an unnamed party'}"
        for party, signed in sorted(signers.items())
    )
