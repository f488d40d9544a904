"""Each rule of the lint refuses exactly what it is for, and nothing else."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from governance.draft import Wishes, draft
from governance.lint import RULES, lint
from tests.fakes.organisation import (
    CONTROLLER,
    COUNCIL,
    NOW,
    READER,
    Organisation,
    ed25519,
    raw,
)
from wire.category import Category
from wire.policy import (
    Application,
    Approver,
    Assessment,
    CategoryRule,
    FormerKeys,
    Hours,
    KeyState,
    Party,
    Policy,
    Recipient,
    Weekday,
    Witness,
    decode_policy,
    encode_policy,
)
from wire.sealing import new_identity
from wire.succession import entry_of
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key

ORGANISATION: Final = Organisation()
GOOD: Final = ORGANISATION.policy()
FIRST, LATER, OTHER = (new_identity() for _ in range(3))
OLD, NEW = entry_of(READER, FIRST), entry_of(READER, LATER, FIRST)
TODAY: Final = NOW.date()


def changed(**changes: object) -> Policy:
    return msgspec.structs.replace(GOOD, **changes)


def rule(**changes: object) -> Policy:
    first, *others = GOOD.categories
    return changed(categories=(msgspec.structs.replace(first, **changes), *others))


def guard(**changes: object) -> Policy:
    return changed(guard=msgspec.structs.replace(GOOD.guard, **changes))


def collector(**changes: object) -> Policy:
    return changed(collector=msgspec.structs.replace(GOOD.collector, **changes))


def approver(number: int, **changes: object) -> Policy:
    approvers = list(GOOD.approvers)
    approvers[number] = msgspec.structs.replace(approvers[number], **changes)
    return changed(approvers=tuple(approvers))


def third_approver(**changes: object) -> Policy:
    key = base64.b64encode(bytes(range(32))).decode()
    alan = Approver(name="Alan", party=f" {CONTROLLER.upper()}", key=key)
    return changed(approvers=(*GOOD.approvers, alan), **changes)


def approvers_of_one_party() -> Policy:
    ada, grace = GOOD.approvers
    return changed(approvers=(ada, msgspec.structs.replace(grace, party=f"{CONTROLLER} ")))


def state(of: Recipient, to: KeyState = KeyState.SEALED_TO, **changes: str) -> Recipient:
    return msgspec.structs.replace(of, state=to, **changes)


def former(**changes: str) -> FormerKeys:
    """Return keys that said nothing of what follows them."""
    key = base64.b64encode(raw(ed25519())).decode()
    witness = verifier_key("council.example", ALGORITHM_COSIGNATURE, bytes(range(32)))
    said = FormerKeys(signing_key=key, witness=witness, lease_key=key, word="AAAA")
    return msgspec.structs.replace(said, **changes)


def screen(**changes: object) -> Policy:
    rules = [
        msgspec.structs.replace(r, **changes) if r.category is Category.SCREEN else r
        for r in GOOD.categories
    ]
    return changed(categories=tuple(rules))


def watched(**changes: object) -> Policy:
    """Return a policy with one more witness, and a quorum of two."""
    key = verifier_key("union.example", ALGORITHM_COSIGNATURE, bytes(range(32)))
    union = Witness(name="union", party="The Union", key=key)
    return changed(witnesses=(msgspec.structs.replace(union, **changes),), quorum=2)


def one_person_for_two_parties() -> Policy:
    ada, grace = GOOD.approvers
    return changed(approvers=(ada, msgspec.structs.replace(grace, name=ada.name.upper())))


BROKEN: Final[dict[str, list[Callable[[], Policy]]]] = {
    "not-filled-in": [lambda: changed(jurisdictions=("FILL IN: where",))],
    "hidden-text": [
        lambda: guard(name="Council lock\x1b[3A\x1b[J"),
        lambda: rule(justification="for\rthis"),
        lambda: changed(assessment=Assessment(id="DPIA-7\x9b2J", expires="2028-01-01")),
        lambda: changed(applications=(Application(process="gedit", window_class="G\nedit"),)),
        lambda: changed(applications=(Application(process="gedit", window_class="\u202eG"),)),
        lambda: changed(representatives=Party(name=COUNCIL, contact="\u2066x@y.example")),
        lambda: changed(notice=GOOD.notice + "\x1b[3A"),
        lambda: changed(notice=GOOD.notice.replace("\n", "\r\n")),
    ],
    "bad-version": [lambda: changed(version=0)],
    "bad-name": [
        lambda: changed(programme="Pilot 1"),
        lambda: collector(tenant="acme:device"),
    ],
    "no-controller": [
        lambda: changed(controller=Party(name=CONTROLLER, contact=" ")),
    ],
    "no-representatives": [
        lambda: changed(representatives=Party(name="", contact="x@y.example")),
        lambda: changed(representatives=Party(name=f" {CONTROLLER.upper()}", contact="x@y")),
    ],
    "no-jurisdiction": [lambda: changed(jurisdictions=())],
    "no-assessment": [lambda: changed(assessment=Assessment(id="", expires="2028-01-01"))],
    "assessment-expired": [
        lambda: changed(assessment=Assessment(id="DPIA-7", expires="2027-03-14")),
        lambda: changed(assessment=Assessment(id="DPIA-7", expires="never")),
    ],
    "no-review": [lambda: changed(review=" ")],
    "another-review": [
        lambda: changed(review="cd" * 32),
        lambda: changed(review=GOOD.review.upper()),
    ],
    "performance-not-prohibited": [lambda: changed(prohibited_purposes=("sale",))],
    "purpose-prohibited": [
        lambda: changed(prohibited_purposes=(*GOOD.prohibited_purposes, GOOD.purpose)),
    ],
    "silent-notice": [
        lambda: changed(notice="Please agree."),
        lambda: guard(run_by="Somebody Else"),
        lambda: changed(test_only=True),
    ],
    "no-category": [lambda: changed(categories=())],
    "category-twice": [lambda: changed(categories=(*GOOD.categories, GOOD.categories[0]))],
    "unknown-level": [lambda: rule(level="everything")],
    "text-outside-test": [lambda: rule(level="text")],
    "rate-out-of-range": [
        lambda: rule(rate_hz=0),
        lambda: rule(rate_hz=-1),
        lambda: rule(rate_hz=float("inf")),
        lambda: changed(
            categories=(
                CategoryRule(
                    category=Category.SCREEN,
                    level="window",
                    rate_hz=60,
                    retention_days=1,
                    justification="because",
                ),
            )
        ),
    ],
    "continuous-screenshots": [lambda: screen(justification=" ")],
    "no-hours": [lambda: changed(hours=())],
    "bad-hours": [
        lambda: changed(hours=(Hours(days=(), begin="08:00", end="18:00"),)),
        lambda: changed(hours=(Hours(days=(Weekday.MONDAY,), begin="18:00", end="08:00"),)),
    ],
    "reconfirm-out-of-range": [
        lambda: changed(reconfirm_days=181),
        lambda: changed(reconfirm_days=6),
    ],
    "endless-retention": [lambda: rule(retention_days=731), lambda: rule(retention_days=0)],
    "application-not-exact": [
        lambda: changed(applications=(Application(process="*", window_class="Gedit"),)),
        lambda: changed(applications=(Application(process="gedit", window_class=""),)),
    ],
    "no-hold": [lambda: changed(hold_seconds=0), lambda: changed(hold_seconds=15 * 86_400)],
    "lease-out-of-range": [
        lambda: changed(lease_seconds=86_401),
        lambda: changed(lease_seconds=59),
        lambda: changed(lease_seconds=-1),
    ],
    "no-recipient": [
        lambda: changed(recipients=()),
        lambda: changed(recipients=(Recipient(name=READER, key="age1pq1nonsense"),)),
        lambda: changed(recipients=(state(OLD, KeyState.OPENS),)),
        lambda: changed(recipients=(state(OLD, KeyState.REVOKED),)),
    ],
    "two-keys-of-a-reader": [lambda: changed(recipients=(OLD, entry_of(READER, LATER)))],
    "key-in-two-states": [
        lambda: changed(recipients=(OLD, state(OLD, KeyState.REVOKED), NEW)),
        lambda: changed(recipients=(state(OLD, KeyState.OPENS, key=OLD.key.upper()), OLD)),
    ],
    "follows-nothing": [
        lambda: changed(recipients=(NEW,)),
        lambda: changed(recipients=(state(OLD, KeyState.OPENS, signs=""), NEW)),
        lambda: changed(recipients=(state(OLD, KeyState.OPENS), state(NEW, word=NEW.signs))),
        lambda: changed(recipients=(OLD, state(NEW, KeyState.OPENS))),
        lambda: changed(
            recipients=(
                state(OLD, KeyState.OPENS),
                NEW,
                state(entry_of(READER, OTHER, FIRST), KeyState.OPENS),
            )
        ),
    ],
    "guard-run-by-controller": [
        lambda: guard(run_by=f"{CONTROLLER.lower()} "),
        lambda: guard(run_by=""),
    ],
    "guard-follows-nothing": [
        lambda: guard(follows=(former(),)),
        lambda: guard(follows=(former(), former())),
        lambda: guard(follows=(former(signing_key=GOOD.guard.signing_key),)),
        lambda: guard(follows=(former(word="?"),)),
        lambda: watched(follows=(former().witness,), words=("AAAA",)),
        lambda: watched(words=("AAAA",)),
    ],
    "witness-not-independent": [
        lambda: watched(party=f" {CONTROLLER.upper()}"),
        lambda: watched(party=GOOD.guard.run_by),
        lambda: watched(party=""),
        lambda: watched(name=GOOD.guard.name),
    ],
    "quorum-out-of-reach": [
        lambda: changed(quorum=0),
        lambda: changed(quorum=2),
        lambda: msgspec.structs.replace(watched(), quorum=1),
        lambda: msgspec.structs.replace(watched(), quorum=3),
    ],
    "bad-key": [
        lambda: watched(key="nonsense"),
        lambda: guard(signing_key="AAAA"),
        lambda: guard(witness=GOOD.collector.log),  # a log's key, not a witness's
        lambda: collector(log="nonsense"),
        lambda: collector(lease_key="AAAA"),
        lambda: guard(lease_key=""),
        lambda: approver(0, key="?"),
    ],
    "same-key-twice": [
        lambda: approver(0, key=GOOD.approvers[1].key),
        lambda: approver(0, key=GOOD.guard.signing_key),
        lambda: collector(lease_key=GOOD.guard.lease_key),
        lambda: watched(key=GOOD.guard.witness),
    ],
    "shared-administrator": [
        lambda: changed(representatives=Party(name=COUNCIL, contact=" Privacy@acme.example")),
        lambda: guard(run_by=READER),
        lambda: approver(0, name=READER),
        one_person_for_two_parties,
    ],
    "threshold-too-low": [
        lambda: changed(approval_threshold=1),
        lambda: changed(approval_threshold=3),
        lambda: third_approver(approval_threshold=3),
        approvers_of_one_party,
        lambda: changed(approvers=()),
    ],
    "approver-twice": [lambda: approver(0, name=GOOD.approvers[1].name)],
    "origin-not-https": [
        lambda: collector(origin="http://collector.acme.example"),
        lambda: collector(origin="https://collector.acme.example/path"),
        lambda: collector(origin="https://someone@collector.acme.example"),
        lambda: collector(origin="https://collector.acme.example:99999999"),
    ],
    "no-pin": [lambda: collector(tls_pins=()), lambda: collector(tls_pins=("AB" * 32,))],
}
CASES: Final = [
    pytest.param(name, make, id=f"{name}-{number}")
    for name, makes in BROKEN.items()
    for number, make in enumerate(makes, 1)
]
# What one mistake also breaks: these are said too, and rightly.
ALSO: Final = {
    "bad-key": {"same-key-twice"},
    "no-representatives": {"silent-notice"},
    "key-in-two-states": {"same-key-twice", "no-recipient", "follows-nothing"},
    "follows-nothing": {"two-keys-of-a-reader"},
    "guard-run-by-controller": {"silent-notice"},
    "same-key-twice": {"threshold-too-low", "quorum-out-of-reach"},
    "witness-not-independent": {"quorum-out-of-reach"},
    "approver-twice": {"shared-administrator"},
}


def test_a_policy_with_nothing_wrong_is_not_refused() -> None:
    """The policy that all other tests break passes; otherwise they would prove nothing."""
    assert lint(GOOD, TODAY) == ()


def test_a_party_may_have_a_second_approver_for_when_the_first_is_away() -> None:
    """It gains nothing by it: people of one party are one approval."""
    assert lint(third_approver(), TODAY) == ()


@pytest.mark.parametrize(("name", "make"), CASES)
def test_each_mistake_is_refused_by_its_name(name: str, make: Callable[[], Policy]) -> None:
    """A policy with one mistake is refused for that mistake, and for no other."""
    found = {refusal.rule.name for refusal in lint(make(), TODAY)}
    assert name in found
    assert found <= {name} | ALSO.get(name, set())


def test_every_rule_has_a_policy_that_breaks_it() -> None:
    """No rule stands in the list that nothing can break."""
    assert {rule.name for rule in RULES} == set(BROKEN)


def test_every_refusal_says_why_and_how_to_mend_it_in_one_line() -> None:
    """Name, reason and remedy are there, each on one line."""
    for rule in RULES:
        for text in (rule.name, rule.why, rule.mend):
            assert text
            assert "\n" not in text


def test_level_text_is_permitted_in_a_test_policy_that_says_so() -> None:
    """A test policy may record characters, and its notice tells the data subject."""
    keys = msgspec.structs.replace(GOOD.categories[0], level="text")
    policy = changed(categories=(keys,), test_only=True, notice=f"This is a test.\n\n{GOOD.notice}")
    assert lint(policy, TODAY) == ()


def test_a_draft_records_nothing_and_cannot_be_signed_as_it_is() -> None:
    """Safe defaults: no application, lowest levels, 1 Hz of screens; gaps are refused."""
    policy = draft(Wishes())
    assert policy.applications == ()
    assert {rule.category: rule.level for rule in policy.categories} == {
        Category.KEYS: "classes",
        Category.POINTER: "events",
        Category.SCREEN: "window",
        Category.WINDOW: "program",
    }
    screen = policy.rule(Category.SCREEN)
    assert screen is not None
    assert screen.rate_hz == 1
    assert "not-filled-in" in {refusal.rule.name for refusal in lint(policy, TODAY)}


def test_a_test_draft_says_in_its_notice_that_it_is_a_test() -> None:
    """The data subject learns it from the first sentence."""
    assert draft(Wishes(test_only=True)).notice.startswith("This is a test.")


@pytest.mark.parametrize(
    ("hold", "days", "said"),
    [
        (1, 1, "for 1 second, and until it leaves | kept for 1 day at most"),
        (119, 90, "for 119 seconds, and until it leaves | kept for 90 days at most"),
        (120, 90, "for 2 minutes, and until it leaves | kept for 90 days at most"),
        (600, 90, "for 10 minutes, and until it leaves | kept for 90 days at most"),
        (5_400, 90, "for 90 minutes, and until it leaves | kept for 90 days at most"),
        (9_059, 90, "for 2.5 hours, and until it leaves | kept for 90 days at most"),
    ],
)
def test_the_notice_says_times_as_a_person_would(hold: int, days: int, said: str) -> None:
    """Grammar for one, larger units for more, and never longer than it is."""
    notice = draft(Wishes(hold_seconds=hold, retention_days=days)).notice
    for part in said.split(" | "):
        assert part in notice


def test_a_draft_survives_being_written_and_read() -> None:
    """What is drafted is what is linted and signed."""
    assert decode_policy(encode_policy(GOOD)) == GOOD


def test_the_guide_explains_every_field_and_names_every_rule() -> None:
    """docs/guides/policy.md is complete, so a draft can be filled in with it alone."""
    guide = (Path(__file__).parents[2] / "docs/guides/policy.md").read_text()
    for name in (*(rule.name for rule in RULES), *Policy.__struct_fields__):
        assert f"`{name}`" in guide, name
