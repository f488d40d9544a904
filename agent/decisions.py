"""What the gate was asked and what it answered, so that each decision can be judged again.

For whoever has to explain afterwards why something was, or was not, captured: when, on which
facts and states, with what verdict.  Never what was on the screen, which program or window,
or what was typed: a decision has no field that could hold it.

The last ones are kept in memory.  Where the variable ASSENT_DECISIONS names a file they are
written there too, for the tests, which put every decision of a run before the gate and the
tables again.  It is off unless somebody asks: when a person was at work can be read from it.
"""

import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.consent.facts import Situation
from agent.consent.gate import CategoryFacts, Fact, Facts, Verdict
from agent.consent.standing import pause_at
from agent.consent.states import Consent, Flag, Pause
from wire.category import Category
from wire.control import Reason

_LOG: Final = logging.getLogger(__name__)

VARIABLE: Final = "ASSENT_DECISIONS"
KEPT: Final = 1000
MOST_BYTES: Final = 64 << 20  # a file that somebody forgot does not fill a disk


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One decision: states, the facts made of them and of what surrounds, the verdict.

    `run` is the process that decided, `at` the boot clock.
    """

    run: int
    at: int
    consent: dict[Category, Consent]
    flag: dict[Category, Flag]
    pause: Pause
    facts: dict[str, str]
    own: dict[Category, dict[str, str]]  # the facts of each category
    sources: list[Category]
    categories: list[Category]
    reasons: dict[Category, Reason]
    reason: Reason
    shown: Reason


def decision_of(situation: Situation, facts: Facts, verdict: Verdict) -> Decision:
    """Return the decision in the form in which it is kept."""
    standing = situation.standing
    whole = {name: getattr(facts, name) for name in facts.__dataclass_fields__}
    del whole["categories"]
    return Decision(
        run=os.getpid(),
        at=situation.now.boot,
        consent=dict(standing.consents),
        flag=dict(standing.flags),
        pause=pause_at(standing, situation.now),
        facts=_named(whole),
        own={
            category: _named({n: getattr(own, n) for n in own.__dataclass_fields__})
            for category, own in facts.categories.items()
        },
        sources=sorted(verdict.sources),
        categories=sorted(verdict.categories),
        reasons=dict(verdict.reasons),
        reason=verdict.reason,
        shown=verdict.shown,
    )


def _named(facts: Mapping[str, Fact]) -> dict[str, str]:
    return {name: fact.name for name, fact in facts.items()}


def facts_in(decision: Decision) -> Facts:
    """Return the facts on which *decision* was made.

    Raises:
        KeyError: It names none of the three values.
        TypeError: It names a fact that the gate does not have.

    """
    return Facts(
        **{name: Fact[value] for name, value in decision.facts.items()},
        categories={
            category: CategoryFacts(**{name: Fact[value] for name, value in own.items()})
            for category, own in decision.own.items()
        },
    )


class Decisions:
    """The last decisions that differ from the one before, the newest last."""

    def __init__(self) -> None:
        self.last: deque[Decision] = deque(maxlen=KEPT)
        self._file: Path | None = None
        self._written = 0

    def note(self, situation: Situation, facts: Facts, verdict: Verdict) -> None:
        """Keep what was decided, if states, facts or verdict have changed."""
        decision = decision_of(situation, facts, verdict)
        before = self.last[-1] if self.last else None
        if before is not None and msgspec.structs.replace(before, at=decision.at) == decision:
            return
        self.last.append(decision)
        if before is None or before.reasons != decision.reasons:
            _LOG.debug("verdict: %s %s", verdict.reason, ", ".join(decision.categories))
        self._write(decision)

    def write_where_asked(self, environment: Mapping[str, str]) -> None:
        """Write to the file that `VARIABLE` names, if it names one."""
        if file := environment.get(VARIABLE):
            self.write_to(Path(file))

    def write_to(self, file: Path) -> None:
        """Write those that are kept, and each from now on, to the end of *file*."""
        _LOG.warning("every decision is written to the file that %s names", VARIABLE)
        self._file = file
        for decision in self.last:
            self._write(decision)

    def _write(self, decision: Decision) -> None:
        if self._file is None:
            return
        line = msgspec.json.encode(decision) + b"\n"
        self._written += len(line)
        if self._written > MOST_BYTES:
            _LOG.warning("the file of decisions is full; no more are written")
            self._file = None
            return
        try:
            # Not durable: it is for looking at, and what it is about must not wait for a disk.
            file = os.open(
                self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600
            )
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as exc:
            _LOG.warning("the file of decisions cannot be written (%s)", exc.strerror)
            self._file = None
