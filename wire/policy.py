"""The policy: what the controller may ask, signed by every party that has to agree.

A policy travels as the target `policy.json` of a TUF repository (the TUF specification,
v1.0): `root.json` names the keys and the threshold, `targets.json` names the digest of
the policy, `snapshot.json` the version of the targets; how long that holds is said by the
timestamp (`wire.lease`).  `verify` is the only way to a `Policy`; whoever holds one knows that
the threshold of signatures was there.  What a device records is policy ∩ grants.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from wire.category import Category, registry
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError
from wire.ids import PolicyDigest
from wire.metadata import (
    UNUSABLE,
    Root,
    Snapshot,
    Targets,
    check_in_time,
    check_signed,
    metadata_of,
    root_of,
)

TARGET_NAME: Final = "policy.json"
TARGETS_NAME: Final = "targets.json"  # what the snapshot calls the targets
LEASE_SECONDS: Final = 4 * 3600  # half a working day: who is offline for lunch goes on
RECONFIRM_DAYS: Final = 180  # at most, whatever a policy says; half a year is soon forgotten


class _Part(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """Common shape: frozen, and an unknown field is an error, not a surprise."""


class Purpose(StrEnum):
    """What batches may be used for; one purpose a policy."""

    TRAIN_COMPUTER_USE = "train-computer-use"

    @property
    def words(self) -> str:
        """How a data subject reads it, after "used"."""
        return _PURPOSE_WORDS[self]


_PURPOSE_WORDS: Final = {Purpose.TRAIN_COMPUTER_USE: "to train AI that uses computers"}


class Party(_Part, frozen=True, kw_only=True):
    """An organisation, and where a person reaches it."""

    name: str
    contact: str


class Application(_Part, frozen=True, kw_only=True):
    """A program that may be recorded: executable name and X window class, both exact."""

    process: str
    window_class: str


class CategoryRule(_Part, frozen=True, kw_only=True):
    """What may be recorded of one category, how finely, how often, how long kept."""

    category: Category
    level: str
    rate_hz: float  # ceiling; for keys and pointer the events, for screen the looks a second
    retention_days: int
    justification: str = ""  # why the purpose needs it; pictures of a screen must have one


class Weekday(StrEnum):
    """A day of the week, in the order of `datetime.weekday`."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


class Hours(_Part, frozen=True, kw_only=True):
    """A span of some weekdays, by the wall clock of the workstation: from `begin` until `end`.

    Both are local times of one day; `end` is not part of it and may be 24:00.
    """

    days: tuple[Weekday, ...]
    begin: Annotated[str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
    end: Annotated[str, msgspec.Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z")]


class KeyState(StrEnum):
    """What a reader's key may still do; `wire.recipients` has the rules."""

    SEALED_TO = "sealed-to"
    OPENS = "opens"
    REVOKED = "revoked"


class Recipient(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """A reader's key: `key` is an age1pq... recipient; of one reader there may be several.

    `signs` is base64 of the raw Ed25519 key by which its holder says what follows it.  A key
    that `follows` another names it by its key id, hexadecimal, and brings that one's `word`,
    base64.  What is not said is not written, so that earlier versions read what they know.
    """

    name: str
    key: str
    state: KeyState = KeyState.SEALED_TO
    signs: str = ""
    follows: str = ""
    word: str = ""


class FormerKeys(_Part, frozen=True, kw_only=True):
    """Keys by which a guard was known before.

    `word` is base64 of what the former signing key says of those that followed.
    """

    signing_key: str
    witness: str
    lease_key: str
    word: str


class Guard(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """The second lock: who runs it, its signing key and its witness key.

    `signing_key` is base64 of the raw Ed25519 key that signs the keys it hands out;
    `witness` is a C2SP verifier key; `lease_key`, raw Ed25519 too, is its half of the lease.
    `follows` are the keys before these, the oldest first (`wire.guard_follows`); none is not
    written, so that earlier versions read what they know.
    """

    name: str
    run_by: str
    signing_key: str
    witness: str
    lease_key: str
    follows: tuple[FormerKeys, ...] = ()


class Witness(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """One more witness of the log beside the guard's: `key` is a C2SP verifier key.

    `follows` are its keys of before, the oldest first, and `words` what each of them says of
    the one after it (`wire.guard_follows`); none is not written.
    """

    name: str
    party: str  # who runs it; of one party only one counts
    key: str
    follows: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Collector(_Part, frozen=True, kw_only=True):
    """The one door: where sealed batches go.

    `origin` is scheme, host and port; `tls_pins` are hexadecimal SHA-256 of the server's
    SubjectPublicKeyInfo, any of which will do; `log` is the C2SP verifier key of its log;
    `lease_key`, base64 of raw Ed25519, is its half of the lease.
    """

    origin: str
    tenant: str
    tls_pins: tuple[str, ...]
    log: str
    lease_key: str


class Approver(_Part, frozen=True, kw_only=True):
    """Somebody whose signature an access grant needs; `key` is base64 of raw Ed25519."""

    name: str
    party: str
    key: str


class Assessment(_Part, frozen=True, kw_only=True):
    """The data protection impact assessment that covers this programme."""

    id: str
    expires: str  # ISO date


class Policy(_Part, frozen=True, kw_only=True):
    """Everything a controller may ask of a data subject's device; see DESIGN section 4."""

    version: int
    programme: str
    controller: Party
    representatives: Party
    jurisdictions: tuple[str, ...]
    purpose: Purpose
    prohibited_purposes: tuple[str, ...]
    categories: tuple[CategoryRule, ...]
    applications: tuple[Application, ...]  # none by default: then nothing is recorded
    hold_seconds: int  # how long a sealed batch waits on the device before it may leave
    lease_seconds: int = LEASE_SECONDS  # how long a device goes on without hearing from both
    recipients: tuple[Recipient, ...]
    guard: Guard
    collector: Collector
    approvers: tuple[Approver, ...]
    approval_threshold: int
    assessment: Assessment
    review: str  # SHA-256 of the privacy review that the parties read, in hexadecimal
    notice: str  # plain text, blank lines between paragraphs
    test_only: bool = False  # permits level `text`; shown to the data subject in the notice
    hours: tuple[Hours, ...] = ()  # when anything may be recorded at all; none: at any time
    reconfirm_days: int = RECONFIRM_DAYS  # a consent is confirmed at least so often
    witnesses: tuple[Witness, ...] = ()  # of the log, beside the guard's own
    quorum: int = 1  # of witnesses' parties, the guard's among them, before each release

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of those who can open something, each once."""
        able = (r.name for r in self.recipients if r.state is not KeyState.REVOKED)
        return tuple(dict.fromkeys(able))

    def rule(self, category: Category) -> CategoryRule | None:
        """Return the rule for *category*, or None when the policy does not ask for it."""
        return next((r for r in self.categories if r.category is category), None)

    def words(self, category: Category) -> str:
        """Return the exact words a data subject agrees to for *category*, below its title.

        Raises:
            NotCoveredError: The policy does not ask for that category, or (unverified) for a
                level that the registry has no words for.

        """
        rule = self.rule(category)
        if rule is None:
            raise NotCoveredError(f"the policy does not ask for {category}")
        entry = registry()[category]
        if rule.level not in entry.levels:
            raise NotCoveredError(f"nobody can agree to {category} at the level {rule.level!r}")
        prohibited = [purpose.replace("-", " ") for purpose in self.prohibited_purposes]
        days = f"{rule.retention_days} day{'' if rule.retention_days == 1 else 's'}"
        needed = f"Needed because: {rule.justification}\n" if rule.justification else ""
        return (
            f"{entry.levels[rule.level]}\nNever recorded: {entry.never}\n{needed}"
            f"Used {self.purpose.words}, never for {_listed(prohibited, 'or')}. "
            f"Opened by {_listed(self.readers, 'and')}, each time only "
            f"after {self.guard.name}, run by {self.guard.run_by}, has found it logged. "
            f"Kept for {days}."
        )


def _listed(names: Sequence[str], link: str) -> str:
    """Return *names* as a sentence lists them: "a, b and c"; "nothing" when there are none."""
    return f" {link} ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "nothing"


def encode_policy(policy: Policy) -> bytes:
    """Return the bytes of *policy* as they are signed: indented JSON in field order."""
    return msgspec.json.format(msgspec.json.encode(policy), indent=2) + b"\n"


def decode_policy(data: bytes) -> Policy:
    """Return the policy in *data*, unverified; for drafting and linting only.

    Raises:
        MalformedError: Not JSON, or not the fields and types of a policy.

    """
    try:
        return msgspec.json.decode(data, type=Policy)
    except UNREADABLE as exc:  # ValidationError is one too
        raise MalformedError(f"the policy cannot be read: {exc}") from exc


def policy_digest(data: bytes) -> PolicyDigest:
    """Return the digest by which grants and batches name a policy."""
    return PolicyDigest(hashlib.sha256(data).digest())


def words_sha256(policy: Policy, category: Category) -> bytes:
    """Return the digest of the words shown, which the consent record keeps."""
    return hashlib.sha256(policy.words(category).encode()).digest()


def verify(*, root: bytes, snapshot: bytes, targets: bytes, policy: bytes, now: datetime) -> Policy:
    """Return the policy, having checked every signature and expiry that stands before it.

    *root* is the trusted root, *now* an aware UTC datetime.  For how long a device may go by
    it is another question: `wire.lease`.

    Raises:
        MalformedError: One of the four is not in its format, or asks for an unknown level.
        ForgedError: Too few signatures, or another digest or version than what is signed.
        ExpiredError: All of that was right, until metadata expired.

    """
    signed = verify_signatures(root=root, snapshot=snapshot, targets=targets, policy=policy)
    check_dates(root=root, snapshot=snapshot, targets=targets, now=now)
    return signed


def check_dates(*, root: bytes, snapshot: bytes, targets: bytes, now: datetime) -> None:
    """Check that none of the metadata that sign a policy has expired at *now*.

    Raises:
        ExpiredError: One has.

    """
    check_in_time(now, metadata_of(root, Root))
    check_in_time(now, metadata_of(targets, Targets))
    check_in_time(now, metadata_of(snapshot, Snapshot))


def verify_signatures(*, root: bytes, snapshot: bytes, targets: bytes, policy: bytes) -> Policy:
    """Return the policy as `verify` does, whenever it may have expired.

    Raises:
        MalformedError: One of the four is not in its format, or asks for an unknown level.
        ForgedError: Too few signatures, or another digest or version than what is signed.

    """
    trusted = root_of(root)
    frame, offered = metadata_of(snapshot, Snapshot), metadata_of(targets, Targets)
    check_signed(trusted, frame)
    check_signed(trusted, offered)
    named = frame.signed.meta.get(TARGETS_NAME)
    if named is None or named.version != offered.signed.version:
        raise ForgedError("the policy's snapshot names other targets than these")
    info = offered.signed.targets.get(TARGET_NAME)
    if info is None:
        raise ForgedError(f"the signed metadata do not name {TARGET_NAME}")
    try:
        named.verify_length_and_hashes(targets)
        info.verify_length_and_hashes(policy)
    except UNUSABLE as exc:
        raise ForgedError(f"the policy is not signed as it must be: {exc}") from exc
    return _known(decode_policy(policy))


def _known(policy: Policy) -> Policy:
    """Return *policy*; unknown is no, and nobody can agree to what there are no words for."""
    for rule in policy.categories:
        if rule.level not in registry()[rule.category].levels:
            raise MalformedError(
                f"the policy asks for {rule.category} at the level {rule.level!r}, which this"
                " version does not know; a newer one may"
            )
    return policy
