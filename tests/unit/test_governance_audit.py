"""One thing is not as it must be, and the audit names the rule and the leaf of it.

Each test plants one violation in a log in which all else is right (`tests.fakes.audited`), as a
collector would that wants to hide it: SHA256SUMS, salts and signatures that it can make are made.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from base.command import outcome
from base.errors import ExitCode
from governance.__main__ import cli
from governance.audit.examine import Report, examine
from governance.audit.findings import Rule
from governance.audit.reading import Bundle
from tests.fakes.audited import DAY, Audited, some_weeks
from tests.fakes.organisation import ANOTHER_ID, CONTROLLER, Organisation, ed25519, raw, wall
from wire import audit
from wire.category import Category
from wire.consent_event import ConsentEvent, sign_event
from wire.errors import WireError
from wire.frame import core_hash
from wire.grant import approve, decode_request
from wire.ids import BatchHash, GrantHash, PolicyDigest
from wire.leaf import Kind, batch_payload, event_payload, policy_payload
from wire.linked import ConsentState
from wire.policy import Approver, policy_digest
from wire.rights import Demand
from wire.tlog import leaf_hash

WEEK: Final = timedelta(days=7)


@pytest.fixture
def made() -> Audited:
    """Return a log with a policy and its first checkpoint."""
    made = Audited()
    made.publishes()
    made.is_witnessed()
    return made


def found(report: Report) -> list[tuple[Rule, int | None]]:
    return [(finding.rule, finding.leaf) for finding in report.findings]


def leaf_of(made: Audited, batch: bytes) -> int:
    return next(leaf for leaf, line in made.batches.items() if line.batch == batch)


def test_a_log_in_which_all_is_right_has_no_findings(tmp_path: Path) -> None:
    """Without this, the rest would prove nothing."""
    made = some_weeks()
    report = made.examined(tmp_path)
    assert report.findings == []
    assert (report.batches, report.erased, report.releases) == (13, 3, 11)
    assert report.cosigned_at == int(made.at.timestamp())


# --- consent ----------------------------------------------------------------------------


def test_a_batch_without_consent_is_found(made: Audited, tmp_path: Path) -> None:
    """It names a consent record that the log does not have."""
    batch = made.sends(made.agrees(), grant=GrantHash(bytes(32)))
    assert found(made.examined(tmp_path)) == [(Rule.NO_CONSENT, leaf_of(made, batch))]


def test_a_batch_that_came_before_its_consent_is_found(made: Audited, tmp_path: Path) -> None:
    """A yes that was fetched afterwards is no yes."""
    batch = made.sends(made.agreed(made.consent()))
    made.agrees()
    assert found(made.examined(tmp_path)) == [(Rule.NO_CONSENT, leaf_of(made, batch))]


@pytest.mark.parametrize("days", [-21, -8])
def test_a_batch_of_a_day_outside_its_consent_is_found(
    made: Audited, tmp_path: Path, days: int
) -> None:
    """Before it was given, and after it had ended; the days between are fine."""
    made.later(days=20)
    made.is_witnessed()
    agreed = made.agrees()
    made.later(days=10)
    made.ends(agreed, ConsentState.EXPIRED)
    made.later(days=10)
    for day in (-20, -10):
        made.sends(agreed, day=made.day(day), expires=made.day(20))
    batch = made.sends(agreed, day=made.day(days), expires=made.day(20))
    assert found(made.examined(tmp_path)) == [(Rule.OUTSIDE_CONSENT, leaf_of(made, batch))]


def test_a_consent_that_was_not_confirmed_in_time_covers_no_more(
    made: Audited, tmp_path: Path
) -> None:
    """A policy asks again after so many days, whatever the device says."""
    made.publishes(reconfirm_days=40)
    agreed = made.agrees()
    made.later(days=41)
    batch = made.sends(agreed)
    assert found(made.examined(tmp_path)) == [(Rule.OUTSIDE_CONSENT, leaf_of(made, batch))]


def test_a_batch_that_came_after_a_withdrawal_is_found(made: Audited, tmp_path: Path) -> None:
    """Also on the same day: the log has the order."""
    agreed = made.agrees()
    made.sends(agreed)
    made.ends(agreed)
    batch = made.sends(agreed)
    assert found(made.examined(tmp_path)) == [(Rule.OUTSIDE_CONSENT, leaf_of(made, batch))]


@pytest.mark.parametrize(
    "change",
    [
        {"category": Category.SCREEN},
        {"subject": bytes(16)},
        {"device": bytes(32)},
        {"programme": "other"},
        {"purpose": "performance"},
        {"origin": "https://elsewhere.example"},
        {"tenant": "other"},
    ],
    ids=str,
)
def test_a_batch_that_its_consent_does_not_cover_is_found(
    made: Audited, tmp_path: Path, change: dict[str, object]
) -> None:
    """Another category, person, device, programme, purpose or collector than was agreed to."""
    batch = made.sends(made.agrees(), **change)
    report = made.examined(tmp_path)
    assert set(found(report)) == {(Rule.NOT_CONSENTED, leaf_of(made, batch))}


def test_a_batch_under_a_wider_policy_than_was_agreed_to_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """The consent was to the policy before; a shorter hold is more than that."""
    made.publishes(hold_seconds=7200)
    agreed = made.agrees()
    made.publishes(hold_seconds=7199)
    batch = made.sends(agreed, policy=made.policy)
    report = made.examined(tmp_path)
    assert found(report) == [(Rule.NOT_CONSENTED, leaf_of(made, batch))]
    assert "hold_seconds" in report.findings[0].what


def test_a_batch_under_a_narrower_policy_than_was_agreed_to_is_covered(
    made: Audited, tmp_path: Path
) -> None:
    """What asks for less does not ask again."""
    agreed = made.agrees()
    made.publishes(hold_seconds=7200)
    made.sends(agreed, policy=made.policy)
    assert made.examined(tmp_path).findings == []


def test_a_consent_of_a_foreign_key_is_found(made: Audited, tmp_path: Path) -> None:
    """The key that is shown for the device's did not sign it, and its batches have no consent."""
    agreed = made.agrees(key=ed25519())
    batch = made.sends(agreed)
    expected = [
        (Rule.CONSENT_FORGED, leaf_of(made, batch) - 1),
        (Rule.NO_CONSENT, leaf_of(made, batch)),
    ]
    assert found(made.examined(tmp_path)) == expected


def test_a_consent_in_the_name_of_another_device_is_found(made: Audited, tmp_path: Path) -> None:
    """Signed with a key, but with another than that of the device it names."""
    made.agrees(device=bytes(32))
    assert found(made.examined(tmp_path)) == [(Rule.CONSENT_FORGED, 1)]


@pytest.mark.parametrize(
    "change",
    [
        {"retention_days": 9999},
        {"words_sha256": bytes(32)},
        {"level": "text"},
        {"state": ConsentState.REFUSED},
    ],
    ids=str,
)
def test_a_consent_to_something_else_than_the_policy_asks_is_found(
    made: Audited, tmp_path: Path, change: dict[str, object]
) -> None:
    """A no, other words, a finer level, another retention: none of it is what was asked."""
    made.agrees(**change)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_CONSENTED, 1)]


def test_an_event_that_its_device_did_not_sign_is_found(made: Audited, tmp_path: Path) -> None:
    """Nobody else can end a consent, or begin to have it ended."""
    agreed = made.agrees()
    signed = sign_event(
        ConsentEvent(grant=agreed.grant, state=ConsentState.WITHDRAWN, at=wall(made.at)), ed25519()
    )
    leaf, salt = made.log(Kind.CONSENT_EVENT, event_payload(signed.event))
    made.add(
        audit.EVENTS,
        audit.EventLine(leaf=leaf, salt=salt, event=signed.event, signature=signed.signature),
    )
    assert found(made.examined(tmp_path)) == [(Rule.CONSENT_FORGED, leaf)]


# --- policy -----------------------------------------------------------------------------


def test_a_batch_under_a_policy_that_was_never_published_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """Its digest leads nowhere."""
    batch = made.sends(made.agrees(), policy=PolicyDigest(bytes(32)))
    assert found(made.examined(tmp_path)) == [(Rule.POLICY_NOT_IN_FORCE, leaf_of(made, batch))]


def test_a_batch_of_a_day_on_which_its_policy_was_not_in_force_any_more_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """A device that is away goes by its old policy for a lease, and not for a week."""
    agreed = made.agrees()
    made.later(days=1)
    made.publishes(hold_seconds=7200)
    made.is_witnessed()
    made.sends(agreed)
    made.later(days=7)
    batch = made.sends(agreed)
    assert found(made.examined(tmp_path)) == [(Rule.POLICY_NOT_IN_FORCE, leaf_of(made, batch))]


def test_a_batch_of_a_day_on_which_its_policy_was_not_in_force_yet_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """It is said to be of a policy that nobody had signed that day."""
    agreed = made.agrees()
    made.later(days=7)
    made.is_witnessed()
    made.publishes(hold_seconds=7200)
    batch = made.sends(agreed, policy=made.policy, day=made.day(-3))
    assert found(made.examined(tmp_path)) == [(Rule.POLICY_NOT_IN_FORCE, leaf_of(made, batch))]


def test_a_batch_under_a_policy_that_had_run_out_is_found(made: Audited, tmp_path: Path) -> None:
    """Signatures are good for 90 days; who still goes by them goes by nothing."""
    agreed = made.agrees()
    made.later(days=95)
    batch = made.sends(agreed)
    assert found(made.examined(tmp_path)) == [(Rule.POLICY_NOT_IN_FORCE, leaf_of(made, batch))]


def test_a_policy_that_the_trusted_root_does_not_lead_to_ends_the_audit(
    made: Audited, tmp_path: Path
) -> None:
    """Keys that a collector made itself sign whatever it likes."""
    report = made.examined(tmp_path, root=Audited().org.publish(tmp_path / "other").root)
    assert found(report) == [(Rule.POLICY_UNTRUSTED, None)]


def test_a_policy_that_one_party_did_not_sign_is_found(made: Audited, tmp_path: Path) -> None:
    """One signature of two is none."""
    (line,) = made.lines[audit.POLICIES]
    assert isinstance(line, audit.PolicyLine)
    targets = msgspec.json.decode(line.targets)
    del targets["signatures"][0]
    made.lines[audit.POLICIES] = [
        msgspec.structs.replace(line, targets=msgspec.json.encode(targets))
    ]
    report = made.examined(tmp_path)
    assert (Rule.POLICY_UNTRUSTED, 0) in found(report)


def test_a_policy_older_than_the_one_before_it_is_found(made: Audited, tmp_path: Path) -> None:
    """Going back is not going on."""
    made.publishes(hold_seconds=7200)
    second = Audited(org=made.org, roots=made.roots)
    for line in reversed(made.lines[audit.POLICIES]):
        assert isinstance(line, audit.PolicyLine)
        leaf, salt = second.log(Kind.POLICY, policy_payload(policy_digest(line.policy)))
        second.add(audit.POLICIES, msgspec.structs.replace(line, leaf=leaf, salt=salt))
    assert (Rule.POLICY_UNTRUSTED, 1) in found(second.examined(tmp_path))


# --- batches ----------------------------------------------------------------------------


def test_a_batch_that_is_signed_by_a_foreign_key_is_found(made: Audited, tmp_path: Path) -> None:
    """A collector can log what it likes; it has no device's key."""
    batch = made.sends(made.agrees(), key=ed25519())
    assert found(made.examined(tmp_path)) == [(Rule.BATCH_FORGED, leaf_of(made, batch))]


def test_a_batch_with_another_core_than_was_logged_is_found(made: Audited, tmp_path: Path) -> None:
    """Whoever changes what a batch says of itself changes what its leaf commits to."""
    agreed = made.agrees()
    batch, other = made.sends(agreed), made.sends(agreed, expires=made.day(29))
    leaf = leaf_of(made, batch)
    core = made.batches[leaf_of(made, other)].core
    made.batches[leaf] = msgspec.structs.replace(made.batches[leaf], core=core)
    assert (Rule.WRONG_LEAF, leaf) in found(made.examined(tmp_path))


def test_a_batch_that_stands_in_the_log_twice_is_found(made: Audited, tmp_path: Path) -> None:
    """One hash, one leaf."""
    batch = made.sends(made.agrees())
    line = made.batches[leaf_of(made, batch)]
    leaf, salt = made.log(Kind.BATCH, batch_payload(BatchHash(batch), core_hash(line.core)))
    made.batches[leaf] = msgspec.structs.replace(line, leaf=leaf, salt=salt)
    assert found(made.examined(tmp_path)) == [(Rule.TWICE, None)]


# --- retention --------------------------------------------------------------------------


def test_a_batch_that_is_to_be_kept_for_longer_than_the_policy_says_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """The last day is the device's word; the policy has the longest."""
    batch = made.sends(made.agrees(), expires=made.day(91))
    assert found(made.examined(tmp_path)) == [(Rule.KEPT_TOO_LONG, leaf_of(made, batch))]


def test_a_batch_that_is_still_here_after_its_last_day_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """There is no tombstone: it was simply kept."""
    batch = made.sends(made.agrees(), expires=made.day(2))
    made.later(days=4)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_DELETED, leaf_of(made, batch))]


def test_a_tombstone_that_came_late_is_found(made: Audited, tmp_path: Path) -> None:
    """It was gone in the end, days after it had to be."""
    agreed = made.agrees()
    late, timely = made.sends(agreed, expires=made.day(2)), made.sends(agreed, expires=made.day(5))
    made.later(days=6)
    made.is_witnessed()
    leaf = made.expires(late)
    made.expires(timely)
    report = made.examined(tmp_path)
    assert found(report) == [(Rule.DELETED_LATE, leaf)]
    assert "84 hours" in report.findings[0].what


def test_a_batch_that_is_neither_shown_nor_buried_is_found(made: Audited, tmp_path: Path) -> None:
    """A record that is kept back leaves a leaf that nothing accounts for."""
    batch = made.sends(made.agrees())
    leaf = leaf_of(made, batch)
    made.drops(batch)
    assert found(made.examined(tmp_path)) == [(Rule.NO_TOMBSTONE, leaf)]


def test_a_tombstone_from_before_a_batch_does_not_bury_it(made: Audited, tmp_path: Path) -> None:
    """Nor can one of another be shown for it: each buries what came before it."""
    early = made.deletes(bytes(32))
    (line,) = made.lines[audit.TOMBSTONES]
    made.lines[audit.TOMBSTONES] = [msgspec.structs.replace(line, stored=True)]
    batch = made.sends(made.agrees())
    leaf = leaf_of(made, batch)
    made.drops(batch)
    assert early < leaf
    assert found(made.examined(tmp_path)) == [(Rule.NO_TOMBSTONE, leaf)]


def test_a_tombstone_of_a_batch_that_is_still_here_is_found(made: Audited, tmp_path: Path) -> None:
    """What is said to be gone is gone."""
    batch = made.sends(made.agrees())
    line = made.batches[leaf_of(made, batch)]
    made.deletes(batch)
    made.batches[line.leaf] = line
    rules = {finding.rule for finding in made.examined(tmp_path).findings}
    assert rules == {Rule.NOT_DELETED, Rule.NO_TOMBSTONE}


def test_a_tombstone_that_is_kept_back_is_found(tmp_path: Path) -> None:
    """Each leaf of that kind has its record."""
    report = some_weeks_without(audit.TOMBSTONES).examined(tmp_path)
    assert {Rule.UNEXPLAINED, Rule.NO_TOMBSTONE} <= {f.rule for f in report.findings}


def some_weeks_without(name: str) -> Audited:
    made = some_weeks()
    del made.lines[name]
    return made


# --- demands ----------------------------------------------------------------------------


def test_what_the_guard_erased_by_its_own_hand_is_accounted_for(
    made: Audited, tmp_path: Path
) -> None:
    """By its signed order; of another category or month nothing has to go."""
    agreed = made.agrees()
    made.orders(erases=(made.sends(agreed),), category=Category.KEYS, month=made.day(0)[:7])
    made.another_person()
    made.sends(made.agrees())
    made.orders(category=Category.SCREEN)
    made.orders(month="2026-01")
    report = made.examined(tmp_path)
    assert report.findings == []
    assert report.orders == 3


def test_a_batch_that_came_or_stayed_after_the_guard_erased_its_key_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """Nobody can open it, and yet it may not be there."""
    agreed = made.agrees()
    stayed = made.sends(agreed)
    made.orders()
    came = made.sends(agreed)
    expected = [
        (Rule.NOT_ERASED, leaf_of(made, stayed)),
        (Rule.TAKEN_BACK, leaf_of(made, came)),
    ]
    assert sorted(found(made.examined(tmp_path)), key=lambda each: each[1] or 0) == expected


def test_an_order_that_the_guard_did_not_sign_is_found(made: Audited, tmp_path: Path) -> None:
    """A collector cannot say that the guard wanted it gone."""
    batch = made.sends(made.agrees())
    leaf = leaf_of(made, batch)
    order = made.orders(erases=(batch,), guard=ed25519())
    expected = [(Rule.NO_TOMBSTONE, leaf), (Rule.DEMAND_FORGED, order), (Rule.WRONG_LEAF, order)]
    assert found(made.examined(tmp_path)) == expected


def test_a_batch_that_an_erasure_did_not_reach_is_found(made: Audited, tmp_path: Path) -> None:
    """The data subject demanded it; it is still here."""
    batch = made.sends(made.agrees())
    made.demands()
    assert found(made.examined(tmp_path)) == [(Rule.NOT_ERASED, leaf_of(made, batch))]


@pytest.mark.parametrize("demand", list(Demand))
def test_a_batch_that_came_after_its_consent_was_taken_back_is_found(
    made: Audited, tmp_path: Path, demand: Demand
) -> None:
    """With the rights key, from elsewhere; an erasure holds for what comes later, too."""
    agreed = made.agrees()
    made.demands(demand)
    batch = made.sends(agreed)
    assert found(made.examined(tmp_path)) == [(Rule.TAKEN_BACK, leaf_of(made, batch))]


def test_what_a_demand_does_not_cover_may_stay(made: Audited, tmp_path: Path) -> None:
    """Another category, other days, another person, or agreed to afterwards."""
    made.sends(made.agrees())
    made.demands(category=Category.SCREEN)
    made.demands(first_day=made.day(-9), last_day=made.day(-8))
    made.later(hours=1)
    made.another_person()
    made.demands()
    made.later(hours=1)
    made.sends(made.agrees())
    assert made.examined(tmp_path).findings == []


def test_a_consent_that_was_taken_back_before_it_came_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """A record of a yes from before the no is not taken any more."""
    made.later(hours=1)
    made.demands()
    made.agrees(given_at=wall(made.at - timedelta(hours=1)))
    assert found(made.examined(tmp_path)) == [(Rule.TAKEN_BACK, 2)]


def test_an_erasure_that_the_guard_has_not_signed_for_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """It has a day for it; what is unconfirmed is said."""
    made.agrees()
    leaf = made.demands(confirmed=False)
    assert made.examined(tmp_path / "at once").findings == []
    made.later(days=2)
    made.demands(Demand.WITHDRAW)
    assert found(made.examined(tmp_path / "later")) == [(Rule.UNCONFIRMED, leaf)]


def test_an_erasure_that_somebody_else_signed_for_is_found(made: Audited, tmp_path: Path) -> None:
    """The collector cannot speak for the guard."""
    made.agrees()
    guard, made.org.guard = made.org.guard, ed25519()
    leaf = made.demands()
    made.org.guard = guard
    assert found(made.examined(tmp_path)) == [(Rule.UNCONFIRMED, leaf)]


def test_a_demand_that_is_not_the_data_subject_s_own_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """A collector cannot say that somebody wanted it gone: the pseudonym is of the rights key."""
    batch = made.sends(made.agrees())
    leaf = leaf_of(made, batch)
    mine, other = made.org.subject, Organisation().subject_identity
    made.org.subject_identity = other
    demand = made.demands(subject=mine, erases=(batch,))
    expected = [
        (Rule.NO_TOMBSTONE, leaf),
        (Rule.DEMAND_FORGED, demand),
        (Rule.WRONG_LEAF, demand),
    ]
    assert found(made.examined(tmp_path)) == expected


# --- accesses ---------------------------------------------------------------------------


def test_a_release_that_no_record_explains_is_found(made: Audited, tmp_path: Path) -> None:
    """Whoever had it opened, it stands in the log, and is kept back."""
    leaf = made.releases_of(made.approves(), made.sends(made.agrees()))
    made.releases.clear()
    assert found(made.examined(tmp_path)) == [(Rule.UNLOGGED, leaf)]


def test_a_batch_that_a_reader_can_open_without_a_release_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """The reader's list and the log are held against each other."""
    agreed, grant = made.agrees(), made.approves()
    logged, other = made.sends(agreed), made.sends(agreed)
    made.releases_of(grant, logged)
    report = made.examined(tmp_path, opened=frozenset({logged, other}))
    assert found(report) == [(Rule.UNLOGGED, None)]
    assert other.hex() in report.findings[0].what


def test_a_release_that_is_not_of_this_leaf_is_found(made: Audited, tmp_path: Path) -> None:
    """It is said to be an access to one batch, and was to another."""
    agreed, grant = made.agrees(), made.approves()
    batch, other = made.sends(agreed), made.sends(agreed)
    leaf = made.releases_of(grant, batch)
    made.releases[0] = msgspec.structs.replace(made.releases[0], batch=other)
    assert found(made.examined(tmp_path)) == [(Rule.UNLOGGED, leaf), (Rule.WRONG_LEAF, leaf)]


def test_what_went_back_to_its_data_subject_needs_their_order_and_no_approval(
    made: Audited, tmp_path: Path
) -> None:
    """Without the order in the bundle nobody knows who had it opened."""
    batch = made.sends(made.agrees(), recipients=made.own_keys())
    leaf = made.gives_back(made.asks_back(batch), batch)
    assert found(made.examined(tmp_path / "one")) == []
    made.lines[audit.RETURNS] = []
    expected = [(Rule.NOT_APPROVED, leaf), (Rule.UNLOGGED, leaf)]
    assert sorted(found(made.examined(tmp_path / "two"))) == expected


def test_an_order_for_somebody_elses_batch_or_key_is_found(made: Audited, tmp_path: Path) -> None:
    """A reader cannot pass for the person: neither with an own key, nor with an own order."""
    batch = made.sends(made.agrees(), recipients=made.own_keys())
    other = made.sends(made.agrees(record_id=ANOTHER_ID), recipients=made.own_keys())
    leaves = [
        made.gives_back(made.asks_back(batch), other),
        made.gives_back(made.asks_back(batch, recipient=made.org.recipient), batch),
        made.gives_back(made.asks_back(batch, origin="https://other.example"), batch),
    ]
    made.another_person()
    leaves.append(made.gives_back(made.asks_back(batch), batch))
    report = made.examined(tmp_path)
    assert {rule for rule, _ in found(report)} == {Rule.NOT_COVERED}
    assert sorted({leaf for _, leaf in found(report) if leaf is not None}) == leaves


def test_an_order_that_the_rights_key_did_not_sign_is_found(made: Audited, tmp_path: Path) -> None:
    """The collector made it up: it counts for nothing."""
    batch = made.sends(made.agrees(), recipients=made.own_keys())
    signed = made.asks_back(batch)
    forged = msgspec.structs.replace(signed, signature=bytes(64))
    made.lines[audit.RETURNS] = [audit.ReturnLine(signed=forged)]
    made.gives_back(signed, batch)
    rules = {rule for rule, _ in found(made.examined(tmp_path))}
    assert rules == {Rule.UNREADABLE, Rule.NOT_APPROVED, Rule.UNLOGGED}


@pytest.mark.parametrize("approvers", [("Ada",), ("Ada", "Ada"), ("Ada", "Mallory")], ids=str)
def test_a_release_by_the_wrong_approvers_is_found(
    made: Audited, tmp_path: Path, approvers: tuple[str, ...]
) -> None:
    """Too few, one twice, or one whom the policy does not name."""
    batch, grant = made.sends(made.agrees()), made.approves("Ada")
    for name in approvers[1:]:
        other = approve(grant.request, name, made.org.ada)
        made.shows(msgspec.structs.replace(grant, approvals=(other,)))
    leaf = made.releases_of(grant, batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


def test_an_approval_that_its_approver_did_not_sign_is_found(made: Audited, tmp_path: Path) -> None:
    """A name is no signature."""
    batch, grant = made.sends(made.agrees()), made.approves("Ada")
    other = approve(grant.request, "Grace", ed25519())
    made.shows(msgspec.structs.replace(grant, approvals=(other,)))
    leaf = made.releases_of(grant, batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


def test_approvers_count_by_the_policy_that_was_in_force(made: Audited, tmp_path: Path) -> None:
    """Ada left: what she approved stands, and nothing that came after."""
    batch, grant = made.sends(made.agrees()), made.approves()
    made.releases_of(grant, batch)
    eve = Approver(name="Eve", party=CONTROLLER, key=base64.b64encode(raw(ed25519())).decode())
    kept = tuple(each for each in made.in_force.approvers if each.name != "Ada")
    made.publishes(approvers=(*kept, eve))
    leaf = made.releases_of(made.approves(request_id="r-2"), batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


@pytest.mark.parametrize(
    "change",
    [
        {"categories": (Category.SCREEN,)},
        {"first_day": "2027-03-16"},
        {"last_day": "2027-03-14"},
    ],
    ids=str,
)
def test_a_release_beyond_its_approval_is_found(
    made: Audited, tmp_path: Path, change: dict[str, object]
) -> None:
    """Approved was another category, or were other days."""
    batch = made.sends(made.agrees())
    leaf = made.releases_of(made.approves(**change), batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_COVERED, leaf)]


def test_a_release_under_an_approval_that_had_expired_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """The witness says that the leaf was not there before it expired."""
    batch, grant = made.sends(made.agrees()), made.approves(expires_at=wall(made.at + WEEK))
    made.later(days=8)
    made.is_witnessed()
    leaf = made.releases_of(grant, batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


def test_a_release_under_an_approval_for_longer_than_a_grant_may_last_is_found(
    made: Audited, tmp_path: Path
) -> None:
    """No guard releases under one, so a leaf that says so is no release of an honest one."""
    batch = made.sends(made.agrees())
    leaf = made.releases_of(made.approves(expires_at=wall(made.at + 91 * DAY)), batch)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


def test_two_people_of_one_party_approve_no_release(made: Audited, tmp_path: Path) -> None:
    """The audit counts parties, as collector and guard do."""
    alan = ed25519()
    key = base64.b64encode(raw(alan)).decode()
    second = Approver(name="Alan", party=CONTROLLER, key=key)
    made.publishes(approvers=(*made.in_force.approvers, second))
    grant = made.org.grant(decode_request(made.approves().request), ("Ada",))
    made.lines.pop(audit.ACCESSES)
    by_alan = approve(grant.request, "Alan", alan)
    both = msgspec.structs.replace(grant, approvals=(*grant.approvals, by_alan))
    made.shows(both)
    leaf = made.releases_of(both, made.sends(made.agrees()))
    assert found(made.examined(tmp_path)) == [(Rule.NOT_APPROVED, leaf)]


def test_a_release_of_what_is_not_in_the_log_is_found(made: Audited, tmp_path: Path) -> None:
    """A batch that nobody handed in has no consent that could be shown."""
    leaf = made.releases_of(made.approves(), bytes(32))
    assert found(made.examined(tmp_path)) == [(Rule.NOT_COVERED, leaf)]


def test_a_release_after_the_end_is_found(made: Audited, tmp_path: Path) -> None:
    """After its tombstone nothing may be opened of it."""
    batch, grant = made.sends(made.agrees()), made.approves()
    core = made.cores[batch]
    made.deletes(batch)
    made.cores[batch] = core
    leaf = made.releases_of(grant, batch)
    assert found(made.examined(tmp_path)) == [(Rule.AFTER_END, leaf)]


def test_a_release_after_the_last_day_is_found(made: Audited, tmp_path: Path) -> None:
    """Also of one that should have been gone, and is still here."""
    batch, grant = made.sends(made.agrees(), expires=made.day(1)), made.approves()
    made.later(days=3)
    made.is_witnessed()
    leaf = made.releases_of(grant, batch)
    expected = [(Rule.NOT_DELETED, leaf_of(made, batch)), (Rule.AFTER_END, leaf)]
    assert found(made.examined(tmp_path)) == expected


def test_nothing_may_come_or_be_released_during_a_halt(made: Audited, tmp_path: Path) -> None:
    """Until another policy is in force."""
    agreed, grant = made.agrees(), made.approves()
    batch = made.sends(agreed)
    made.halts()
    late, leaf = made.sends(agreed), made.releases_of(grant, batch)
    made.publishes(hold_seconds=7200)
    made.sends(agreed)
    expected = [(Rule.DURING_HALT, leaf_of(made, late)), (Rule.DURING_HALT, leaf)]
    assert found(made.examined(tmp_path)) == expected


# --- the log ----------------------------------------------------------------------------


def test_a_history_that_was_rewritten_is_found(made: Audited, tmp_path: Path) -> None:
    """An entry is another than it was when the witness cosigned; the log signs all the same."""
    made.sends(made.agrees())
    made.is_witnessed()
    made.later(hours=1)
    made.sends(made.agrees(category=Category.POINTER))
    made.entries[2] = b"batch\n" + b"0" * 64 + b"\n"
    report = made.examined(tmp_path)
    assert (Rule.REWRITTEN, None) in found(report)


def test_a_second_history_is_found_by_what_somebody_was_shown(
    made: Audited, tmp_path: Path
) -> None:
    """The witness saw the one, a data subject holds a receipt of the other."""
    made.agrees()
    other = Audited(org=made.org, entries=list(made.entries), roots=made.roots)
    for data in made.entries:
        other.tree.append(leaf_hash(data))
    made.log(Kind.HALT, b"ours")
    other.log(Kind.HALT, b"theirs")
    assert made.examined(tmp_path / "a", seen=(made.checkpoint(),)).findings == []
    for number, note in enumerate((other.checkpoint(), made.checkpoint(ed25519()))):
        rule = (Rule.REWRITTEN, Rule.NOT_WITNESSED)[number]
        assert found(made.examined(tmp_path / str(number), seen=(note,))) == [(rule, None)]
    other.log(Kind.HALT, b"more")
    report = made.examined(tmp_path / "longer", seen=(other.checkpoint(),))
    assert found(report) == [(Rule.REWRITTEN, None)]


@pytest.mark.parametrize("which", ["witness", "log"])
def test_a_checkpoint_by_the_wrong_witness_or_log_is_found(
    made: Audited, tmp_path: Path, which: str
) -> None:
    """The policy names both keys, and no other will do."""
    made.agrees()
    made.is_witnessed(**{which: ed25519()})
    assert found(made.examined(tmp_path)) == [(Rule.NOT_WITNESSED, None)]


def test_a_bundle_under_an_old_head_is_found(made: Audited, tmp_path: Path) -> None:
    """What came since could be hidden so."""
    made.is_witnessed()
    now = int((made.at + 2 * WEEK).timestamp())
    assert found(made.examined(tmp_path, now=now)) == [(Rule.STALE, None)]


def test_cosignatures_that_go_back_in_time_are_found(made: Audited, tmp_path: Path) -> None:
    """Times that do not rise prove nothing."""
    made.agrees()
    made.later(hours=-5)
    assert found(made.examined(tmp_path)) == [(Rule.NOT_WITNESSED, None)]


# --- files ------------------------------------------------------------------------------


def test_a_file_that_is_changed_missing_or_added_is_found(made: Audited, tmp_path: Path) -> None:
    """Each by its name."""
    made.agrees()
    made.is_witnessed()
    bundle = made.write(tmp_path / "bundle")
    (bundle / audit.CONSENTS).write_bytes(b"")
    (bundle / audit.ERASED).unlink()
    (bundle / "note.txt").write_text("for you")
    report = examine(Bundle.open(bundle), made.trusted())
    said = " ".join(finding.what for finding in report.findings)
    assert {f.rule for f in report.findings} == {Rule.FILE_CHANGED, Rule.UNEXPLAINED}
    assert all(name in said for name in (audit.CONSENTS, audit.ERASED, "note.txt"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (audit.CONSENTS, b"{}\n"),
        (audit.EVENTS, b"\n"),
        (audit.DEMANDS, b'{"leaf":1}\n'),
        (audit.TOMBSTONES, b"[]\n"),
        (audit.POLICIES, b"\xff\n"),
        (audit.batches_name(0), b'{"leaf": 1}\n'),
        (audit.releases_name(0), b"no\n"),
        (audit.ACCESSES, b'{"request":"","approver":"","signature":""}\n'),
    ],
)
def test_a_line_that_cannot_be_read_is_one_finding(
    made: Audited, tmp_path: Path, name: str, line: bytes
) -> None:
    """With file and line; the rest is judged all the same."""
    made.is_witnessed()

    def spoil(files: dict[str, bytes]) -> None:
        files[name] += line

    report = examine(Bundle.open(made.write(tmp_path / "bundle", spoil)), made.trusted())
    assert [finding.rule for finding in report.findings] == [Rule.UNREADABLE]
    assert name in report.findings[0].what


def test_a_signed_day_that_is_no_date_is_one_finding(made: Audited, tmp_path: Path) -> None:
    """In a batch, a demand, an order or the end of a batch: its own, and the rest is judged."""
    agreed = made.agrees()
    leaves = [
        leaf_of(made, made.sends(agreed, day="2027-02-30")),
        leaf_of(made, made.sends(agreed, expires="2027-13-01")),
        made.demands(first_day="2027-02-30", last_day="2027-03-01"),
        made.orders(month="2027-13"),
    ]
    end = made.expires(made.sends(agreed, expires="some day"))
    forged = leaf_of(made, made.sends(agreed, key=ed25519()))
    named = {finding.leaf: finding.rule for finding in made.examined(tmp_path).findings}
    assert [named[leaf] for leaf in leaves] == [*[Rule.UNREADABLE] * 2, *[Rule.DEMAND_FORGED] * 2]
    assert named[end] is Rule.UNEXPLAINED
    assert named[forged] is Rule.BATCH_FORGED


def test_records_of_many_spans_are_judged_by_several_processes_as_by_one(
    made: Audited, tmp_path: Path
) -> None:
    """Each span knows its own leaves; together they are the log."""
    agreed, grant = made.agrees(), made.approves()
    for _ in range(audit.SPAN):
        made.log(Kind.HALT, b"")
    far = made.sends(agreed)
    leaves = [made.releases_of(grant, far), leaf_of(made, made.sends(agreed, key=ed25519()))]
    gone = made.sends(agreed)
    made.is_witnessed()
    made.deletes(gone)
    one = made.examined(tmp_path)
    several = examine(Bundle.open(tmp_path / "bundle"), made.trusted(), processes=2)
    assert one == several
    assert found(one) == [(Rule.BATCH_FORGED, leaves[1])]


# --- the command ------------------------------------------------------------------------


def run(*words: object) -> int:
    return outcome(cli, "assent-govern", [str(word) for word in words], refusals=(WireError,))


@pytest.fixture
def bundle(made: Audited, tmp_path: Path) -> Path:
    made.sends(made.agrees(), key=ed25519())
    made.is_witnessed()
    (tmp_path / "root.json").write_bytes(made.roots[0])
    return made.write(tmp_path / "bundle")


def test_the_command_ends_with_6_and_a_line_for_each_finding(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a script knows, and a person reads."""
    root = tmp_path / "root.json"
    code = run("audit", bundle, "--root", root, "--at", "2027-03-15")
    told = capsys.readouterr()
    assert code == ExitCode.REJECTED
    (line,) = (line for line in told.out.splitlines() if line.startswith(Rule.BATCH_FORGED))
    assert "leaf 2: batch " in line
    assert told.err.count("\n") == 1
    assert "1 finding;" in told.err


def test_a_file_whose_name_is_no_text_is_a_finding_in_json_too(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever adds one cannot keep the report from being written."""
    (Path(os.fsdecode(os.fsencode(bundle) + b"/x\xff"))).touch()
    for form in ((), ("--json",)):
        words = ("audit", bundle, "--root", tmp_path / "root.json", "--at", "2027-03-15", *form)
        assert run(*words) == ExitCode.REJECTED
        told = capsys.readouterr()
        assert "x? is not named in SHA256SUMS" in told.out
        assert told.err.count("\n") == 1


def test_the_day_of_an_audit_may_be_the_last_one_of_the_calendar(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle is too old for it, and that is what is said."""
    code = run("audit", bundle, "--root", tmp_path / "root.json", "--at", "9999-12-31")
    assert code == ExitCode.REJECTED
    assert Rule.STALE in capsys.readouterr().out


def resum(bundle: Path, name: str) -> None:
    """Have SHA256SUMS say of a file what it would of an empty one."""
    sums = audit.decode_sums((bundle / audit.SUMS).read_bytes())
    changed = sums | {name: hashlib.sha256(b"").hexdigest()}
    (bundle / audit.SUMS).write_bytes(audit.encode_sums(changed))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda b: (b / audit.SUMS).unlink(), "SHA256SUMS"),
        (lambda b: (b / audit.SUMS).write_bytes(b"no"), "no whole audit bundle"),
        (lambda b: (b / audit.STAMP).write_bytes(b"{}"), "no audit bundle of a kind"),
        (lambda b: resum(b, audit.STAMP), "is not as SHA256SUMS says"),
    ],
    ids=["missing", "nonsense", "another kind", "another sum"],
)
def test_what_is_no_bundle_is_said_in_one_line(
    bundle: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A person has to give the right folder."""
    spoil(bundle)
    assert run("audit", bundle, "--root", tmp_path / "root.json") == ExitCode.SETUP
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("option", ["--seen", "--opened", "--root"])
def test_what_is_no_checkpoint_and_no_list_is_said_in_one_line(
    bundle: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the auditor's own file that is wrong."""
    (tmp_path / "wrong").write_text("nothing of that kind")
    code = run("audit", bundle, "--root", tmp_path / "root.json", option, tmp_path / "wrong")
    told = capsys.readouterr().err
    assert code == ExitCode.SETUP
    assert "wrong" in told
    assert told.count("\n") == 1
