# ruff: noqa: D103 - what each function finds, and why, stands once, in lint.RULES
"""What each rule of the lint looks at: a policy and a day in, the places that break it out.

Pure.  Which name, reason and remedy belong to which check stands in `lint.RULES`.
"""

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from governance.claims import review
from wire.age import decode_recipient
from wire.category import Category, registry
from wire.ed25519 import public_key
from wire.errors import MalformedError
from wire.grant import party_of
from wire.hours import minutes
from wire.lease import LONGEST_LEASE_SECONDS
from wire.policy import RECONFIRM_DAYS, Hours, KeyState, Policy
from wire.text import is_plain
from wire.tlog import ALGORITHM_COSIGNATURE, ALGORITHM_ED25519, parse_verifier_key

TO_FILL_IN: Final = "FILL IN"
PROHIBITED_ALWAYS: Final = "performance-evaluation"
LONGEST_RETENTION_DAYS: Final = 730  # two years; what trains longer than that is a new purpose
LONGEST_HOLD_SECONDS: Final = 14 * 86_400  # beyond, a full spool stops capture instead
SHORTEST_LEASE_SECONDS: Final = 60  # shorter, and every hiccup of a network stops capture
LEAST_PARTIES: Final = 2
LEAST_RECONFIRM_DAYS: Final = 7  # more often, and people say yes to be left alone
HIGHEST_RATE_HZ: Final = {
    Category.KEYS: 1_000.0,  # more than any keyboard sends
    Category.POINTER: 1_000.0,
    Category.SCREEN: 30.0,  # a film, not a record of work
    Category.WINDOW: 100.0,
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PIN: Final = re.compile(r"[0-9a-f]{64}")


# --- who asks, and on what ground ---------------------------------------------------------


def not_filled_in(policy: Policy, _today: date) -> Iterator[str]:
    for where, text in _texts(msgspec.to_builtins(policy), ""):
        if TO_FILL_IN in text:
            yield where


def hidden_text(policy: Policy, _today: date) -> Iterator[str]:
    for where, text in _texts(msgspec.to_builtins(policy), ""):
        if not is_plain(text.replace("\n", "") if where == "notice" else text):
            yield where


def bad_version(policy: Policy, _today: date) -> Iterator[str]:
    if policy.version < 1:
        yield f"version is {policy.version}"


def bad_name(policy: Policy, _today: date) -> Iterator[str]:
    for where, name in (("programme", policy.programme), ("tenant", policy.collector.tenant)):
        if not _NAME.fullmatch(name):
            yield f"{where} is {name!r}"


def no_controller(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.controller.name.strip() or not policy.controller.contact.strip():
        yield "controller has no name or no contact"


def no_representatives(policy: Policy, _today: date) -> Iterator[str]:
    them = policy.representatives
    if not them.name.strip() or not them.contact.strip():
        yield "representatives have no name or no contact"
    elif _same(them.name, policy.controller.name):
        yield "representatives are the controller"


def no_jurisdiction(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.jurisdictions or not all(j.strip() for j in policy.jurisdictions):
        yield "jurisdictions name none"


def no_assessment(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.assessment.id.strip():
        yield "assessment has no id"


def assessment_expired(policy: Policy, today: date) -> Iterator[str]:
    try:
        expires = date.fromisoformat(policy.assessment.expires)
    except ValueError:
        yield f"assessment expires on {policy.assessment.expires!r}, which is no date"
        return
    if expires < today:
        yield f"assessment expired on {expires}"


def no_review(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.review.strip():
        yield "review names none"


def another_review(policy: Policy, _today: date) -> Iterator[str]:
    if policy.review.strip() and policy.review != review().digest:
        yield f"review names {policy.review}, which is not the review of this version"


def performance_allowed(policy: Policy, _today: date) -> Iterator[str]:
    if PROHIBITED_ALWAYS not in policy.prohibited_purposes:
        yield f"prohibited_purposes lacks {PROHIBITED_ALWAYS}"


def purpose_prohibited(policy: Policy, _today: date) -> Iterator[str]:
    if policy.purpose in policy.prohibited_purposes:
        yield f"{policy.purpose} is purpose and prohibited"


def silent_notice(policy: Policy, _today: date) -> Iterator[str]:
    notice = " ".join(policy.notice.split())
    must_name = {
        "the controller": policy.controller.name,
        "the representatives": policy.representatives.name,
        "who runs the guard": policy.guard.run_by,
    } | {f"reader {number}": r for number, r in enumerate(policy.readers, 1)}
    for who, name in must_name.items():
        if " ".join(name.split()) not in notice:
            yield f"notice does not name {who} ({name})"
    if policy.test_only and "test" not in notice.casefold():
        yield "notice does not say that this is a test"


# --- what is recorded, how finely, how long -----------------------------------------------


def no_category(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.categories:
        yield "categories are empty"


def category_twice(policy: Policy, _today: date) -> Iterator[str]:
    for category, count in Counter(rule.category for rule in policy.categories).items():
        if count > 1:
            yield f"categories has {category} {count} times"


def unknown_level(policy: Policy, _today: date) -> Iterator[str]:
    for rule in policy.categories:
        known = registry()[rule.category].levels
        if rule.level not in known:
            yield f"{rule.category} has level {rule.level!r}, not one of {', '.join(known)}"


def text_outside_test(policy: Policy, _today: date) -> Iterator[str]:
    for rule in policy.categories:
        if rule.level == "text" and not policy.test_only:
            yield f"{rule.category} is asked for at level text"


def rate(policy: Policy, _today: date) -> Iterator[str]:
    for rule in policy.categories:
        highest = HIGHEST_RATE_HZ[rule.category]
        if not math.isfinite(rule.rate_hz) or not 0 < rule.rate_hz <= highest:
            yield f"{rule.category} has rate_hz {rule.rate_hz:g}; above 0, at most {highest:g}"


def continuous_screenshots(policy: Policy, _today: date) -> Iterator[str]:
    for rule in policy.categories:
        if rule.category is Category.SCREEN and not rule.justification.strip():
            yield f"screen is asked for {_often(rule.rate_hz)}, and nobody says what for"


def no_hours(policy: Policy, _today: date) -> Iterator[str]:
    if policy.rule(Category.SCREEN) is not None and not policy.hours:
        yield "screen is asked for at any hour"


def bad_hours(policy: Policy, _today: date) -> Iterator[str]:
    for number, span in enumerate(policy.hours, 1):
        if not minutes((span,)):
            yield f"hours {number} are {hours_in_words(span)}, which is never"


def reconfirm(policy: Policy, _today: date) -> Iterator[str]:
    if not LEAST_RECONFIRM_DAYS <= policy.reconfirm_days <= RECONFIRM_DAYS:
        yield f"reconfirm_days is {policy.reconfirm_days}"


def hours_in_words(span: Hours) -> str:
    """Return a span as people write it: "mon, tue 08:00 to 18:00"."""
    return f"{', '.join(span.days) or 'no day'} {span.begin} to {span.end}"


def _often(rate_hz: float) -> str:
    if not math.isfinite(rate_hz) or rate_hz <= 0:
        return "at no rate"
    return f"up to {rate_hz:g} times a second" if rate_hz >= 1 else f"every {1 / rate_hz:.0f} s"


def endless_retention(policy: Policy, _today: date) -> Iterator[str]:
    for rule in policy.categories:
        if not 1 <= rule.retention_days <= LONGEST_RETENTION_DAYS:
            yield f"{rule.category} is kept for {rule.retention_days} days"


def wildcard(policy: Policy, _today: date) -> Iterator[str]:
    for number, app in enumerate(policy.applications, 1):
        for field, text in (("process", app.process), ("window_class", app.window_class)):
            if not text.strip() or any(sign in text for sign in "*?"):
                yield f"application {number} has {field} {text!r}"


def hold(policy: Policy, _today: date) -> Iterator[str]:
    if not 1 <= policy.hold_seconds <= LONGEST_HOLD_SECONDS:
        yield f"hold_seconds is {policy.hold_seconds}"


def lease(policy: Policy, _today: date) -> Iterator[str]:
    if not SHORTEST_LEASE_SECONDS <= policy.lease_seconds <= LONGEST_LEASE_SECONDS:
        yield f"lease_seconds is {policy.lease_seconds}"


# --- who may open, and who guards ---------------------------------------------------------


def no_recipient(policy: Policy, _today: date) -> Iterator[str]:
    if not any(r.state is KeyState.SEALED_TO for r in policy.recipients):
        yield "recipients name no key to which new batches are sealed"
    for recipient in policy.recipients:
        try:
            decode_recipient(recipient.key)
        except MalformedError as exc:
            yield f"recipient {recipient.name!r}: {exc}"


def guard_is_controller(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.guard.run_by.strip():
        yield "guard does not say who runs it"
    elif _same(policy.guard.run_by, policy.controller.name):
        yield f"guard is run by {policy.guard.run_by}, the controller"


def bad_key(policy: Policy, _today: date) -> Iterator[str]:
    raw = _raw_keys(policy) | {
        f"approver {approver.name!r}": approver.key for approver in policy.approvers
    }
    for where, text in raw.items():
        try:
            public_key(_raw(text))
        except MalformedError:
            yield f"{where} is not an Ed25519 key in base64"
    notes = (
        ("guard witness", policy.guard.witness, ALGORITHM_COSIGNATURE),
        ("collector log", policy.collector.log, ALGORITHM_ED25519),
        *((f"witness {w.name!r}", w.key, ALGORITHM_COSIGNATURE) for w in policy.witnesses),
    )
    for where, text, wanted in notes:
        try:
            _name, algorithm, _key = parse_verifier_key(text)
        except MalformedError:
            algorithm = -1
        if algorithm != wanted:
            yield f"{where} is not a C2SP verifier key of algorithm {wanted}"


def _raw_keys(policy: Policy) -> dict[str, str]:
    return {
        "guard signing_key": policy.guard.signing_key,
        "guard lease_key": policy.guard.lease_key,
        "collector lease_key": policy.collector.lease_key,
    }


def same_key_twice(policy: Policy, _today: date) -> Iterator[str]:
    holders: dict[bytes, list[str]] = {}
    named = [(where, _raw(text)) for where, text in _raw_keys(policy).items()]
    named += [(f"approver {a.name!r}", _raw(a.key)) for a in policy.approvers]
    named += [(f"recipient {r.name!r}", r.key.strip().lower().encode()) for r in policy.recipients]
    noted = [("guard witness", policy.guard.witness), ("log", policy.collector.log)]
    noted += [(f"witness {each.name!r}", each.key) for each in policy.witnesses]
    for where, text in noted:
        try:
            named.append((where, parse_verifier_key(text)[2]))
        except MalformedError:
            continue  # `bad-key` says so
    for where, key in named:
        if key:
            holders.setdefault(key, []).append(where)
    for places in holders.values():
        if len(places) > 1:
            yield " and ".join(places) + " are one key"


def threshold(policy: Policy, _today: date) -> Iterator[str]:
    asked = policy.approval_threshold
    of_key = {approver.key: party_of(approver.party) for approver in policy.approvers}
    there = len(set(of_key.values()))  # people of one party are one approval
    if asked < LEAST_PARTIES:
        yield f"approval_threshold is {asked}"
    if there == 1:
        yield f"all approvers are of {policy.approvers[0].party}"
    elif asked > there:
        yield f"approval_threshold is {asked}, but the approvers are of {there} parties"


def approver_twice(policy: Policy, _today: date) -> Iterator[str]:
    for name, count in Counter(a.name for a in policy.approvers).items():
        if count > 1:
            yield f"{count} approvers are called {name!r}"


def shared_administrator(policy: Policy, _today: date) -> Iterator[str]:
    if _same(policy.controller.contact, policy.representatives.contact):
        yield f"controller and representatives are both reached at {policy.controller.contact}"
    for recipient in policy.recipients:
        if _same(recipient.name, policy.guard.run_by):
            yield f"{recipient.name} reads, and runs the guard"
        if any(_same(recipient.name, approver.name) for approver in policy.approvers):
            yield f"{recipient.name} reads, and approves the reading"
    parties: dict[str, dict[str, str]] = {}
    for approver in policy.approvers:
        of_one = parties.setdefault(party_of(approver.name), {})
        of_one[party_of(approver.party)] = f"{approver.name} approves for {approver.party}"
    for said in parties.values():
        if len(said) > 1:
            yield ", and ".join(said.values())


# --- the one door -------------------------------------------------------------------------


def bad_origin(policy: Policy, _today: date) -> Iterator[str]:
    origin = policy.collector.origin
    try:
        parts = urlsplit(origin)
        plain = f"{parts.scheme}://{parts.netloc}" == origin and parts.port != 0
    except ValueError:
        plain, parts = False, urlsplit("")
    if not plain or parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        yield f"collector origin is {origin!r}"


def no_pin(policy: Policy, _today: date) -> Iterator[str]:
    if not policy.collector.tls_pins:
        yield "collector tls_pins are empty"
    for pin in policy.collector.tls_pins:
        if not _PIN.fullmatch(pin):
            yield f"pin {pin!r} is not 64 hexadecimal digits"


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - plain JSON
    match value:
        case str():
            yield where, value
        case dict():
            for key, inner in value.items():
                yield from _texts(inner, f"{where}.{key}" if where else str(key))
        case list() | tuple():
            for number, inner in enumerate(value, 1):
                yield from _texts(inner, f"{where}[{number}]")
        case _:
            pass  # numbers and truth values hold no text


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _same(one: str, other: str) -> bool:
    return party_of(one) == party_of(other)
