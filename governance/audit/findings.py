"""What an audit can find: each rule with its name, and the record that breaks it."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from base.lines import shown


class Rule(StrEnum):
    """What was not kept; names are stable, words are not."""

    FILE_CHANGED = "file-changed"
    UNREADABLE = "unreadable"
    WRONG_LEAF = "wrong-leaf"  # a record that does not open the leaf that it names
    UNEXPLAINED = "unexplained"  # a leaf that no record opens
    REWRITTEN = "history-rewritten"
    NOT_WITNESSED = "not-witnessed"
    STALE = "stale"
    POLICY_UNTRUSTED = "policy-untrusted"
    POLICY_NOT_IN_FORCE = "policy-not-in-force"
    CONSENT_FORGED = "consent-forged"
    NO_CONSENT = "no-consent"
    NOT_CONSENTED = "not-consented"  # there is a consent, and it does not cover this
    OUTSIDE_CONSENT = "outside-consent"  # before it was given, or after it had ended
    TAKEN_BACK = "taken-back"
    BATCH_FORGED = "batch-forged"
    TWICE = "twice"
    KEPT_TOO_LONG = "kept-too-long"  # its last day is later than the policy allows
    NOT_DELETED = "not-deleted"
    DELETED_LATE = "deleted-late"
    NO_TOMBSTONE = "no-tombstone"
    DEMAND_FORGED = "demand-forged"
    NOT_ERASED = "not-erased"
    UNCONFIRMED = "erasure-unconfirmed"
    NOT_APPROVED = "access-not-approved"
    NOT_COVERED = "access-not-covered"
    UNLOGGED = "access-unlogged"
    AFTER_END = "access-after-end"
    DURING_HALT = "during-halt"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that was not kept, and by what; `leaf` is None where it is not about one."""

    rule: Rule
    leaf: int | None = None
    what: str

    @property
    def line(self) -> str:
        """It in one line for a person, whatever names a bundle gave to its files."""
        where = "" if self.leaf is None else f"leaf {self.leaf}: "
        return shown(f"{self.rule}  {where}{self.what}")


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return *findings* by leaf; those about the whole come first."""
    return sorted(findings, key=lambda f: (-1 if f.leaf is None else f.leaf, f.rule, f.what))
