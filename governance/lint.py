"""What a policy must not be: unlawful, careless, or impossible to hold anybody to.

`RULES` is the whole list, in the order in which it is reported.  Each rule has a name that
never changes, why it is there, and how to mend a policy that breaks it.  `lint` is pure;
nothing is signed that it refuses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from governance import checks, guard_keys, reader_keys, watching
from wire.category import Category
from wire.lease import LONGEST_LEASE_SECONDS
from wire.policy import RECONFIRM_DAYS, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that a policy must not be; `broken` yields each place where it is."""

    name: str
    why: str
    mend: str
    broken: Callable[[Policy, date], Iterator[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A rule, and the place where a policy breaks it."""

    rule: Rule
    where: str


def lint(policy: Policy, today: date) -> tuple[Refusal, ...]:
    """Return everything that stands against signing *policy*; nothing means it may be signed."""
    return tuple(
        Refusal(rule=rule, where=where) for rule in RULES for where in rule.broken(policy, today)
    )


RULES: Final = (
    Rule(
        name="not-filled-in",
        why="A draft's gaps are for a person to fill; nobody can agree to them.",
        mend=f"Replace every text that contains {checks.TO_FILL_IN!r}.",
        broken=checks.not_filled_in,
    ),
    Rule(
        name="hidden-text",
        why="Control characters steer a terminal: who is to sign would not see what is there.",
        mend="Write plain text; only the notice has more than one line.",
        broken=checks.hidden_text,
    ),
    Rule(
        name="bad-version",
        why="Devices refuse a policy that is older than the one they know.",
        mend="Count versions from 1 upwards, one for each signed policy.",
        broken=checks.bad_version,
    ),
    Rule(
        name="bad-name",
        why="Programme and tenant stand in certificates and in every batch, in the clear.",
        mend="Use 1 to 63 of a-z, 0-9 and hyphen.",
        broken=checks.bad_name,
    ),
    Rule(
        name="no-controller",
        why="Data subjects have to know who answers to them, and reach them.",
        mend="Give the controller's legal name and a contact that a person reads.",
        broken=checks.no_controller,
    ),
    Rule(
        name="no-representatives",
        why="Nobody but the controller would have to agree to this policy.",
        mend="Name the works council or other elected representatives, and their own contact.",
        broken=checks.no_representatives,
    ),
    Rule(
        name="no-jurisdiction",
        why="Which law protects the data subjects has to be settled before, not after.",
        mend="List the country codes of where the data subjects work.",
        broken=checks.no_jurisdiction,
    ),
    Rule(
        name="no-assessment",
        why="Monitoring at work needs a data protection impact assessment (GDPR, article 35).",
        mend="Carry it out and put its id into assessment.",
        broken=checks.no_assessment,
    ),
    Rule(
        name="assessment-expired",
        why="An assessment covers what was foreseen then, not what is done now.",
        mend="Review the assessment and put its new date (YYYY-MM-DD) into assessment.",
        broken=checks.assessment_expired,
    ),
    Rule(
        name="no-review",
        why="A promise that nobody compared with what is tested is only a promise.",
        mend="Read what `assent-govern review` prints, and put its digest into review.",
        broken=checks.no_review,
    ),
    Rule(
        name="another-review",
        why="Then what runs is not what was reviewed; that is how such programmes went wrong.",
        mend="Read the review of this version (`assent-govern review`), and name that one.",
        broken=checks.another_review,
    ),
    Rule(
        name="performance-not-prohibited",
        why="People who may be judged by it cannot freely agree.",
        mend=f"Add {checks.PROHIBITED_ALWAYS!r} to prohibited_purposes.",
        broken=checks.performance_allowed,
    ),
    Rule(
        name="purpose-prohibited",
        why="The policy forbids what it is for, so no grant could ever be used.",
        mend="Take the purpose out of prohibited_purposes, or choose another purpose.",
        broken=checks.purpose_prohibited,
    ),
    Rule(
        name="silent-notice",
        why="The data subject agrees to the notice, so it has to name who does what.",
        mend="Name them in the notice, letter for letter as in the policy.",
        broken=checks.silent_notice,
    ),
    Rule(
        name="no-category",
        why="There would be nothing to agree to.",
        mend=f"Ask for at least one of {', '.join(Category)}.",
        broken=checks.no_category,
    ),
    Rule(
        name="category-twice",
        why="Two rules for one category leave open which of them was agreed to.",
        mend="Keep the narrower one.",
        broken=checks.category_twice,
    ),
    Rule(
        name="unknown-level",
        why="A level that is not in the registry has no words to agree to.",
        mend="Use a level of wire/categories.toml.",
        broken=checks.unknown_level,
    ),
    Rule(
        name="text-outside-test",
        why="What people type holds passwords and private words, and is not minimised yet.",
        mend="Ask for level classes, or set test_only for a test with nobody's real work.",
        broken=checks.text_outside_test,
    ),
    Rule(
        name="rate-out-of-range",
        why="A rate of 0 records nothing; a very high one is a film of a person.",
        mend="Ask for what the purpose needs; 1 Hz of screens is a usual start.",
        broken=checks.rate,
    ),
    Rule(
        name="continuous-screenshots",
        why="Pictures of a screen show other people, and more than any purpose needs.",
        mend="Say in the rule's justification what the purpose needs them for, or do without.",
        broken=checks.continuous_screenshots,
    ),
    Rule(
        name="no-hours",
        why="A screen that may be recorded at any hour is recorded outside of work too.",
        mend="List the hours of work in hours.",
        broken=checks.no_hours,
    ),
    Rule(
        name="bad-hours",
        why="Hours that never come are a mistake, and nobody knows what was meant.",
        mend="Name weekdays, and an end after the beginning; a night is two spans.",
        broken=checks.bad_hours,
    ),
    Rule(
        name="reconfirm-out-of-range",
        why="A yes that is never asked for again is forgotten; one asked for daily is a nuisance.",
        mend=f"Let consents be confirmed every {checks.LEAST_RECONFIRM_DAYS} to "
        f"{RECONFIRM_DAYS} days.",
        broken=checks.reconfirm,
    ),
    Rule(
        name="endless-retention",
        why="What is kept without an end is used beyond its purpose.",
        mend=f"Keep each category for 1 to {checks.LONGEST_RETENTION_DAYS} days.",
        broken=checks.endless_retention,
    ),
    Rule(
        name="application-not-exact",
        why="A pattern lets in programs that nobody thought of.",
        mend="List each program by its exact process name and window class.",
        broken=checks.wildcard,
    ),
    Rule(
        name="no-hold",
        why="Without a hold nobody can take back the last minutes before they leave.",
        mend=f"Hold batches for 1 to {checks.LONGEST_HOLD_SECONDS} seconds; 600 is a usual start.",
        broken=checks.hold,
    ),
    Rule(
        name="lease-out-of-range",
        why="A long lease lets a device go on that nobody can reach any more.",
        mend=f"Ask for {checks.SHORTEST_LEASE_SECONDS} to {LONGEST_LEASE_SECONDS} seconds;"
        " 14400 (4 hours) is usual.",
        broken=checks.lease,
    ),
    Rule(
        name="no-recipient",
        why="A batch is sealed to its readers; without a reader's key nobody could open it.",
        mend="Add the recipient.json that `assent-reader keygen` or `keys rotate` wrote.",
        broken=checks.no_recipient,
    ),
    Rule(
        name="two-keys-of-a-reader",
        why="A reader needs one key; with two, nobody can tell a change of key from a new reader.",
        mend="Seal to the newer one, and let the older one open (`assent-govern recipient`).",
        broken=reader_keys.two_sealed_to,
    ),
    Rule(
        name="key-in-two-states",
        why="A key that is revoked and is not would be decided by whoever reads it.",
        mend="Name each key once; revoked is for good.",
        broken=reader_keys.contradicting,
    ),
    Rule(
        name="follows-nothing",
        why="Only the holder of the key before can say that the reader is still the same.",
        mend="Take the entry from the reader's recipient.json, and keep the key before it listed.",
        broken=reader_keys.follows_nothing,
    ),
    Rule(
        name="guard-run-by-controller",
        why="A second lock whose key the first party holds is no lock.",
        mend="Let the representatives or an independent party run the guard, and name them.",
        broken=checks.guard_is_controller,
    ),
    Rule(
        name="guard-follows-nothing",
        why="Only the holder of the keys before can say that the guard is still the same.",
        mend="Take the guard's entry from its guard.json (`assent-govern guard rotate`).",
        broken=guard_keys.follows_nothing,
    ),
    Rule(
        name="witness-not-independent",
        why="A log is watched only by whom its owner cannot ask to look away, and once a party.",
        mend="Name one witness of each party, none of them the controller's.",
        broken=watching.witness_of_nobody_else,
    ),
    Rule(
        name="quorum-out-of-reach",
        why="With too few witnesses nothing could be opened; with a quorum of one the others "
        "would watch for nothing.",
        mend=f"Ask for {watching.LEAST_QUORUM} parties' witnesses at least where there is more "
        "than the guard's own, and for no more than are named.",
        broken=watching.quorum,
    ),
    Rule(
        name="bad-key",
        why="With a key that cannot be read, every check against it fails.",
        mend="Copy it whole from what `assent-guard init` or `assent-collector init` printed.",
        broken=checks.bad_key,
    ),
    Rule(
        name="same-key-twice",
        why="One key in two places is one party in two places.",
        mend="Let each party make a key of its own.",
        broken=checks.same_key_twice,
    ),
    Rule(
        name="shared-administrator",
        why="Whoever holds two of these offices watches over themselves.",
        mend="Let others represent, read, approve and guard than who asks, and than each other.",
        broken=checks.shared_administrator,
    ),
    Rule(
        name="threshold-too-low",
        why="One party could approve an access by itself, or nobody ever could.",
        mend="Ask for two approvals at least, and name approvers of as many parties: people of one"
        " party count once.",
        broken=checks.threshold,
    ),
    Rule(
        name="approver-twice",
        why="Approvals are told apart by name.",
        mend="Give each approver a name of their own.",
        broken=checks.approver_twice,
    ),
    Rule(
        name="origin-not-https",
        why="Devices talk to this origin and no other, and only over TLS.",
        mend="Give scheme, host and port only, as https://collector.example:8443.",
        broken=checks.bad_origin,
    ),
    Rule(
        name="no-pin",
        why="Without a pin any certificate authority could take the collector's place.",
        mend="Add the SHA-256 of the collector's SubjectPublicKeyInfo, in lower-case hexadecimal.",
        broken=checks.no_pin,
    ),
)
