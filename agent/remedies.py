"""What keeps the agent from recording, as findings; and for each reason of the gate, what to do.

`REMEDIES` has an entry for every `Reason`; a test fails for one that has none.  A decision
of the data subject is told, and never counts as something that is out of order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

from agent.consent.facts import Situation, facts_of
from agent.consent.gate import MOMENTARY, blocking
from wire.category import Category
from wire.control import Reason


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: what was found, and what to do where something is wrong.

    `told` is what of it may be told to others; `what` itself, where nothing has to be left out.
    """

    name: str
    what: str
    mend: str = ""
    blocks: bool = False
    told: str = ""

    @property
    def mark(self) -> str:
        """How the finding begins its line."""
        if self.blocks:
            return "BLOCKS"
        return "note" if self.mend else "ok"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a reason; `chosen` says that the data subject wants it so."""

    mend: str
    chosen: bool = False


REMEDIES: Final[Mapping[Reason, Remedy]] = MappingProxyType(
    {
        Reason.HALTED_BY_ORG: Remedy(
            "Ask who runs the programme; a stop ends with its cause, a halt with a new policy."
        ),
        Reason.OPTED_OUT: Remedy("If you want it: opt in again in the tray's menu.", chosen=True),
        Reason.NOT_CONSENTED: Remedy(
            "If you want it: agree in the tray's menu, What may be recorded.", chosen=True
        ),
        Reason.CONSENT_STALE: Remedy(
            "Read the new policy in the tray's menu, What may be recorded, and decide again.",
            chosen=True,
        ),
        Reason.POLICY_INVALID: Remedy(
            "Check the clock; then ask who runs the programme for a current policy."
        ),
        Reason.CLOCK_UNTRUSTED: Remedy(
            "Set the clock of this machine right, then confirm it in the tray's menu."
        ),
        Reason.INDICATOR_MISSING: Remedy("Without a visible icon nothing is recorded."),
        Reason.SESSION_BLOCKED: Remedy("Unlock your session, and work in it at this machine."),
        Reason.PAUSED_UNTIL: Remedy(
            "If you want it: Resume in the tray's menu, or wait for its end.", chosen=True
        ),
        Reason.RESUME_PENDING: Remedy(
            "If you want it: Resume in the tray's menu, or its notice.", chosen=True
        ),
        Reason.OUTSIDE_SCOPE: Remedy(
            "Work in a window of a listed program; `assent-agent config` lists them.", chosen=True
        ),
        Reason.SENSITIVE: Remedy(
            "Leave the field for secrets; if there is none, install at-spi2-core.", chosen=True
        ),
        Reason.REDACTOR_DOWN: Remedy(
            "Quit in the tray's menu, then `assent-agent run`; if that does not help, have it"
            " installed again."
        ),
        Reason.STORAGE_BLOCKED: Remedy(
            "Make room on the disk; what waits to be sent needs a collector that answers, and "
            "sealing needs the guard's key, which comes through the collector."
        ),
        Reason.ACTIVE: Remedy(""),
    }
)

CHECKED_APART: Final = frozenset(
    {Reason.POLICY_INVALID, Reason.INDICATOR_MISSING, Reason.SESSION_BLOCKED}
)
"""Reasons that a check of `doctor` names by itself, with a cause."""


def from_the_gate(situation: Situation, details: Mapping[Reason, str]) -> list[Finding]:
    """Return a finding for each lasting reason against a category that the policy asks for.

    *details* say more about a reason than its name does.
    """
    facts, policy = facts_of(situation), situation.policy.policy
    asked = [c for c in Category if policy is None or policy.rule(c) is not None]
    against = {category: blocking(facts, category) for category in asked}
    found = []
    for reason in Reason:
        # What nobody agreed to cannot have been agreed to under another policy.
        hidden = {Reason.NOT_CONSENTED} if reason is Reason.CONSENT_STALE else set()
        categories = [
            c.value
            for c, reasons in against.items()
            if reason in reasons and not hidden & set(reasons)
        ]
        if categories and reason not in MOMENTARY | CHECKED_APART:
            found.append(_finding(reason, ", ".join(categories), details.get(reason, "")))
    return found


def _finding(reason: Reason, categories: str, detail: str) -> Finding:
    remedy = REMEDIES[reason]
    return Finding(
        name=reason.value,
        what=f"{categories}: {detail}" if detail else categories,
        mend=remedy.mend,
        blocks=not remedy.chosen,
        told=categories,
    )
