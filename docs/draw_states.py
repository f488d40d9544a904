"""Draws docs/states.md from the tables of the agent and the words of the tray.

python docs/draw_states.py          writes the page
python docs/draw_states.py --check  says whether it is up to date (exit code 1: it is not)
"""

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agent.consent.effects import EFFECTS
from agent.consent.gate import MOMENTARY, CategoryFacts, Fact, Facts, decide
from agent.consent.states import (
    CLICKS,
    CONSENT,
    ENDING,
    FLAG,
    HALT,
    OPEN,
    PAUSE,
    PROVED,
    STOP,
    Act,
)
from tray.view import MARKS, WORDS
from wire.category import Category
from wire.control import Reason

PAGE: Final = Path(__file__).parent / "states.md"

HEAD: Final = """\
# States

<!-- Drawn by docs/draw_states.py from agent/consent and tray/view.py; a test compares. Do not edit. -->

What is open, kept, sent and shown in each state, and every way from one to another. "You" is the data subject.

## Why nothing is recorded

Of several reasons the weightiest counts, from top to bottom; what is not known counts as a no. *Open* are the sources, that is, hooks of
keyboard and pointer and looks at the screen. Reasons marked * are of one category; the others go on. Deletions that you asked for leave in
every state.

| reason | open | kept | sent | shown | ends by |
|---|---|---|---|---|---|
"""

MOVES: Final = """
## Every way to move

Recording needs one of each kind: {needed}. Moves marked *click* take your click in the tray's own window; moves marked *proved* hold only
with a proof that is written down beside them ([decision 40](decisions/0040-the-notice-of-a-pause-that-ran-out.md)). What a drawing does
not have cannot happen: it is refused, and nothing is written.
"""

DRAWINGS: Final[tuple[tuple[str, str, Mapping[Any, StrEnum]], ...]] = (
    ("Consent", "one for each category", CONSENT),
    ("Opt-out flag", "one for each category; a flag set outside the tray counts as well", FLAG),
    ("Pause", "one for all categories", PAUSE),
    ("How a pause that ran out ends", "", ENDING),
    ("Stop", "one for each party that may call it", STOP),
    ("Halt", "one for all", HALT),
)


def page() -> str:
    """Return the page as it should be."""
    rows = "".join(f"{row(reason)}\n" for reason in Reason)
    needed = ", ".join(f"*{words(state)}*" for state in sorted(OPEN))
    return HEAD + rows + MOVES.format(needed=needed) + "".join(map(drawn, DRAWINGS))


def row(reason: Reason) -> str:
    """Return the line of the table for *reason*."""
    effect = EFFECTS[reason]
    shown = WORDS.get(reason, "Paused, and the time left")
    if reason is Reason.ACTIVE:
        shown = "Recording, and what"
    mark = "recording" if reason is Reason.ACTIVE else MARKS[reason]
    star = "*" if is_of_one_category(reason) else ""
    name = reason.value + star
    cells = (name, open_under(reason), effect.kept.value, effect.sent.value)
    return f"| {' | '.join(cells)} | “{shown}” ({mark}) | {effect.ends} |"


def open_under(reason: Reason) -> str:
    """Return what the gate leaves open when this is the only reason."""
    if reason is Reason.ACTIVE:
        return "what you agreed to"
    kept = Category.KEYS in decide(facts(reason)).sources
    assert kept == (reason in MOMENTARY)  # noqa: S101 - the page would be wrong
    return "stay open; what they see is dropped in memory" if kept else "nothing"


def is_of_one_category(reason: Reason) -> bool:
    """Whether other categories go on under *reason*, as far as the gate is concerned."""
    verdict = decide(facts(reason))
    return Category.KEYS not in verdict.categories and Category.SCREEN in verdict.categories


GENERAL: Final = {
    Reason.HALTED_BY_ORG: "not_halted",
    Reason.POLICY_INVALID: "policy_valid",
    Reason.CLOCK_UNTRUSTED: "clock_trusted",
    Reason.INDICATOR_MISSING: "indicator_shown",
    Reason.SESSION_BLOCKED: "session_ours",
    Reason.PAUSED_UNTIL: "not_paused",
    Reason.RESUME_PENDING: "resume_clicked",
    Reason.OUTSIDE_SCOPE: "inside_scope",
    Reason.SENSITIVE: "not_sensitive",
    Reason.REDACTOR_DOWN: "redactor_up",
}
OF_A_CATEGORY: Final = {
    Reason.OPTED_OUT: "opted_in",
    Reason.NOT_CONSENTED: "consented",
    Reason.CONSENT_STALE: "consent_fits_policy",
    Reason.STORAGE_BLOCKED: "storable",
}


GIVEN: Final = dict.fromkeys(OF_A_CATEGORY.values(), Fact.YES)


def facts(reason: Reason) -> Facts:
    """Return facts in which nothing but *reason* is against recording, for the keyboard if it can.

    Each fact is a no by itself: that the verdict names the reason is checked.
    """
    well = CategoryFacts(**GIVEN)
    each = dict.fromkeys(Category, well)
    if reason in OF_A_CATEGORY:
        each[Category.KEYS] = CategoryFacts(**(GIVEN | {OF_A_CATEGORY[reason]: Fact.NO}))
    general = dict.fromkeys(GENERAL.values(), Fact.YES)
    if reason in GENERAL:
        general[GENERAL[reason]] = Fact.NO
    found = Facts(**general, categories=each)
    assert decide(found).reasons[Category.KEYS] is reason  # noqa: S101 - the page would be wrong
    return found


def drawn(drawing: tuple[str, str, Mapping[Any, StrEnum]]) -> str:
    """Return a section with the drawing of one table."""
    title, of, table = drawing
    heading = f"\n### {title}\n\n" + (f"{of[0].upper()}{of[1:]}.\n\n" if of else "")
    lines = "\n".join(f"    {line}" for line in arrows(table))
    return f"{heading}```mermaid\nstateDiagram-v2\n{lines}\n```\n"


def arrows(table: Mapping[Any, StrEnum]) -> Iterator[str]:
    """Yield an arrow for each two states, with all acts that lead from one to the other."""
    acts: dict[tuple[StrEnum, StrEnum], list[Act]] = {}
    for (state, act), after in table.items():
        acts.setdefault((state, after), []).append(act)
    for (state, after), between in acts.items():
        yield f"{state} --> {after}: {', '.join(map(named, between))}"


def named(act: Act) -> str:
    """Return an act as a drawing names it."""
    how = " (click)" if act in CLICKS else " (proved)" if act in PROVED else ""
    return words(act) + how


def words(name: StrEnum) -> str:
    """Return the name of a state or an act as a person reads it."""
    return name.value.replace("_", " ")


def main() -> None:
    """Write the page, or compare."""
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text("utf-8") == page() else 1)
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
