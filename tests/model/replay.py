"""Judges what a real agent decided once more: each verdict, and each change of state.

`replay` reads the file that ASSENT_DECISIONS names.  A decision is accepted if the gate says
the same of its facts, if the facts are those of its states, and if its states follow from the
ones before by moves that the real tables have.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.consent import states
from agent.consent.gate import decide
from agent.consent.states import Act, Consent, Flag, Pause
from agent.decisions import Decision, facts_in
from wire.category import Category

MOST_ACTS: Final = 2
"""Between two decisions: what was asked for is written, and what it ran into ran out."""


class NotAcceptedError(AssertionError):
    """A real run did what the model does not allow."""


def replay(file: Path) -> int:
    """Judge every decision in *file* again and return how many there were.

    Raises:
        NotAcceptedError: Which one, and why.

    """
    decisions = list(_read(file))
    for decision in decisions:
        _check_verdict(decision)
        _check_states(decision)
    for before, after in pairwise(decisions):
        _check_order(before, after)
        _check_moves(before, after)
    return len(decisions)


def _read(file: Path) -> Iterator[Decision]:
    if not file.exists():
        return  # no agent ever ran here
    *lines, torn = file.read_bytes().split(b"\n")
    if torn:
        lines += [] if _is_cut_short(torn) else [torn]
    for number, line in enumerate(lines, 1):
        try:
            yield msgspec.json.decode(line, type=Decision)
        except msgspec.MsgspecError as exc:
            raise NotAcceptedError(f"line {number} is no decision: {exc}") from exc


def _is_cut_short(line: bytes) -> bool:
    """Whether *line* is the beginning of one: what a killed agent leaves, and nothing else."""
    return line.startswith(b'{"run":') and not line.endswith(b"}")


def _check_verdict(decision: Decision) -> None:
    try:
        verdict = decide(facts_in(decision))
    except (KeyError, TypeError) as exc:
        raise NotAcceptedError(f"no facts of the gate: {exc}: {decision}") from exc
    said = msgspec.structs.replace(
        decision,
        sources=sorted(verdict.sources),
        categories=sorted(verdict.categories),
        reasons=dict(verdict.reasons),
        reason=verdict.reason,
        shown=verdict.shown,
    )
    if said != decision:
        raise NotAcceptedError(f"the gate says {verdict} of {decision}")


def _check_states(decision: Decision) -> None:
    """Check that no fact says yes where the states say no."""
    each = {*Category}
    if {*decision.own} != each or {*decision.consent} != each or {*decision.flag} != each:
        raise NotAcceptedError(f"a category is missing: {decision}")
    whole, yes = decision.facts, "YES"
    claims = [
        (whole["not_paused"] == yes, decision.pause is not Pause.PAUSED),
        (whole["resume_clicked"] == yes, decision.pause is Pause.RUNNING),
    ]
    for category in Category:
        own, consent = decision.own[category], decision.consent[category]
        claims += [
            (own["opted_in"] == yes, decision.flag[category] is Flag.CLEAR),
            (own["consented"] == yes, consent in (Consent.GIVEN, Consent.STALE)),
            (own["consent_fits_policy"] == yes, consent is Consent.GIVEN),
        ]
    if not all(stands for claimed, stands in claims if claimed):
        raise NotAcceptedError(f"its facts are not those of its states: {decision}")


def _check_order(before: Decision, after: Decision) -> None:
    if before.run == after.run and after.at < before.at:
        raise NotAcceptedError(f"time went back before {after}")


def _check_moves(before: Decision, after: Decision) -> None:
    if before.run != after.run and {*after.consent.values()} == {Consent.UNKNOWN}:
        return  # a start without a record: whatever was known before, nothing is consented
    moved: list[tuple[str, StrEnum, StrEnum]] = [("PAUSE", before.pause, after.pause)]
    for category in Category:
        moved.append(("CONSENT", before.consent[category], after.consent[category]))
        moved.append(("FLAG", before.flag[category], after.flag[category]))
    for table, start, end in moved:
        if end not in reachable(getattr(states, table), start):
            raise NotAcceptedError(f"no move leads from {start} to {end} ({table}): {after}")


def reachable(table: Mapping[tuple[Any, Act], Any], start: StrEnum) -> set[StrEnum]:
    """Return where at most `MOST_ACTS` moves of *table* lead from *start*."""
    found: set[StrEnum] = {start}
    for _ in range(MOST_ACTS):
        found |= {to for (at, _act), to in table.items() if at in found}
    return found
