"""One mutant for each rule: the rules of the gate with exactly one taken out or turned round.

Nothing is known to be tested by a search that would not find the rule's absence.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace as replace_line

from agent.consent import facts, standing, states
from agent.consent.clocks import Deadline
from agent.consent.entries import (
    ClockDoubted,
    Entry,
    Granted,
    Halted,
    HaltLifted,
    Line,
    OptedOut,
    Paused,
    PolicyChanged,
    Withdrawn,
)
from agent.consent.facts import Situation, facts_of
from agent.consent.gate import CategoryFacts, Fact, Facts, Verdict, decide
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Standing, after
from agent.consent.states import CLICKS, Act, Consent, Flag, Pause
from base.clock import Now
from tests.model.search import (
    A_WAY_BACK,
    EVERY_FAULT,
    EVERY_SURROUNDING,
    Bounds,
    hopeless,
    search,
)
from tests.model.world import ALL_WELL, ONE, SURROUNDINGS, Rules
from wire.category import Category
from wire.policy import Policy

LIVENESS: Final = "liveness"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """What is exchanged, and the invariant that has to notice."""

    killer: str
    rules: Mapping[str, Any] = field(default_factory=dict)
    patches: tuple[tuple[object, str, object], ...] = ()
    bounds: Bounds = EVERY_FAULT

    @contextmanager
    def alive(self) -> Iterator[Rules]:
        """Yield the mutated rules, while they are in force."""
        with pytest.MonkeyPatch.context() as patch:
            for where, name, value in self.patches:
                patch.setattr(where, name, value)
            yield Rules(**self.rules)

    def is_killed(self) -> bool:
        """Whether the search finds `killer` broken."""
        with self.alive() as rules:
            found = search(rules, self.bounds, until=self.killer)
            if self.killer == LIVENESS:
                return bool(hopeless(found, rules))
            return self.killer in found.violations


# --- the gate: a condition is forgotten, or unknown is a yes ---------------------------------


def _forgetting(name: str) -> Callable[[Facts], Verdict]:
    return lambda known: decide(_with(known, name, lambda _fact: Fact.YES))


def _believing(name: str) -> Callable[[Facts], Verdict]:
    unknown_is_yes = {Fact.UNKNOWN: Fact.YES}
    return lambda known: decide(_with(known, name, lambda fact: unknown_is_yes.get(fact, fact)))


def _with(known: Facts, name: str, change: Callable[[Fact], Fact]) -> Facts:
    if name in {each.name for each in fields(CategoryFacts)}:
        own = known.categories[ONE]
        changed = replace(own, **{name: change(getattr(own, name))})
        return replace(known, categories={**known.categories, ONE: changed})
    return replace(known, **{name: change(getattr(known, name))})  # type: ignore[arg-type]


CONDITIONS: Final = {
    "not_halted": "a_halt_shuts",
    "policy_valid": "only_a_valid_policy_opens",
    "clock_trusted": "a_doubted_clock_shuts",
    "indicator_shown": "i3_no_light_no_capture",
    "session_ours": "another_session_shuts",
    "not_paused": "the_reason_is_the_weightiest",  # RESUME_PENDING still shuts
    "resume_clicked": "a_pause_on_the_ledger_shuts",
    "inside_scope": "outside_scope_nothing_is_kept",
    "not_sensitive": "what_is_sensitive_is_not_kept",
    "redactor_up": "without_redaction_nothing_is_open",
    "opted_in": "an_opt_out_flag_shuts",
    "consented": "the_reason_is_the_weightiest",  # CONSENT_STALE still shuts
    "consent_fits_policy": "i1_nothing_without_a_yes",
    "storable": "without_storage_nothing_is_open",
}
"""Every fact of the gate, and what is broken when the gate forgets it."""


def _gate_mutants() -> dict[str, Mutant]:
    forgetting = {
        f"the gate forgets {name}": Mutant(
            killer=killer, rules={"decide": _forgetting(name)}, bounds=EVERY_SURROUNDING
        )
        for name, killer in CONDITIONS.items()
        if name != "clock_trusted"
    }
    believing = {
        f"unknown {name} is a yes": Mutant(
            killer=CONDITIONS[name], rules={"decide": _believing(name)}, bounds=EVERY_SURROUNDING
        )
        for name in SURROUNDINGS
    }
    clock = Mutant(
        killer=CONDITIONS["clock_trusted"], rules={"decide": _forgetting("clock_trusted")}
    )
    return {**forgetting, **believing, "the gate forgets clock_trusted": clock}


# --- the tables: one row leads elsewhere ------------------------------------------------------


def _row(table: str, state: StrEnum, act: Act, to: StrEnum) -> tuple[object, str, object]:
    rows = getattr(states, table)
    assert (state, act) in rows
    assert rows[state, act] is not to
    return states, table, MappingProxyType({**rows, (state, act): to})


def _table_mutants() -> dict[str, Mutant]:
    consent, flag, pause = partial(_row, "CONSENT"), partial(_row, "FLAG"), partial(_row, "PAUSE")
    rows = {
        "withdrawing keeps consent": (
            "i9_what_was_acknowledged_is_on_the_disk",
            consent(Consent.GIVEN, Act.WITHDRAW, Consent.GIVEN),
        ),
        "a withdrawal is not remembered": (
            "i9_what_was_acknowledged_is_on_the_disk",
            consent(Consent.GIVEN, Act.WITHDRAW, Consent.UNKNOWN),
        ),
        "a changed policy keeps consent": (
            "i1_nothing_without_a_yes",
            consent(Consent.GIVEN, Act.CHANGE_POLICY, Consent.GIVEN),
        ),
        "an opt-out raises no flag": (
            "i9_what_was_acknowledged_is_on_the_disk",
            flag(Flag.CLEAR, Act.OPT_OUT, Flag.CLEAR),
        ),
        "a second opt-out lowers the flag": (
            "i4_only_a_click_relaxes_a_choice",
            flag(Flag.OPTED_OUT, Act.OPT_OUT, Flag.CLEAR),
        ),
        "a pause does not pause": (
            "i9_what_was_acknowledged_is_on_the_disk",
            pause(Pause.RUNNING, Act.PAUSE, Pause.RUNNING),
        ),
        "pausing again resumes": (
            "i4_only_a_click_relaxes_a_choice",
            pause(Pause.PAUSED, Act.PAUSE, Pause.RUNNING),
        ),
        "pausing again does not begin anew": (
            "a_pause_keeps_its_length",
            pause(Pause.RESUME_PENDING, Act.PAUSE, Pause.RESUME_PENDING),
        ),
        "a pause that runs out resumes": (
            "i4_time_alone_starts_nothing",
            pause(Pause.PAUSED, Act.RUN_OUT, Pause.RUNNING),
        ),
        "an unclean stop is forgotten": (
            "i2_after_an_unclean_stop_somebody_clicks",
            pause(Pause.RUNNING, Act.STOP_UNCLEANLY, Pause.RUNNING),
        ),
        "an unclean stop ends a pause": (
            "i4_only_a_click_relaxes_a_choice",
            pause(Pause.PAUSED, Act.STOP_UNCLEANLY, Pause.RUNNING),
        ),
        "a second unclean stop resumes": (
            "i4_only_a_click_relaxes_a_choice",
            pause(Pause.RESUME_PENDING, Act.STOP_UNCLEANLY, Pause.RUNNING),
        ),
        "a grant gives nothing": (LIVENESS, consent(Consent.UNKNOWN, Act.GRANT, Consent.UNKNOWN)),
        "withdrawn for ever": (LIVENESS, consent(Consent.WITHDRAWN, Act.GRANT, Consent.WITHDRAWN)),
        "opted out for ever": (LIVENESS, flag(Flag.OPTED_OUT, Act.OPT_IN, Flag.OPTED_OUT)),
        "paused for ever": (
            LIVENESS,
            pause(Pause.RESUME_PENDING, Act.RESUME, Pause.RESUME_PENDING),
        ),
    }
    return {
        name: Mutant(
            killer=killer,
            patches=(patch,),
            bounds=A_WAY_BACK if killer == LIVENESS else EVERY_FAULT,
        )
        for name, (killer, patch) in rows.items()
    }


# --- the ledger, restarts and clocks ------------------------------------------------------------


def _ignoring(kind: type[Entry]) -> Callable[[Standing, Line, Ed25519PublicKey], Standing]:
    def ignore(standing: Standing, line: Line, device: Ed25519PublicKey) -> Standing:
        return standing if isinstance(line.entry, kind) else after(standing, line, device)

    return ignore


def _besides(
    kind: type[Entry], **changes: object
) -> Callable[[Standing, Line, Ed25519PublicKey], Standing]:
    def change(standing: Standing, line: Line, device: Ed25519PublicKey) -> Standing:
        moved = after(standing, line, device)
        return replace(moved, **changes) if isinstance(line.entry, kind) else moved  # type: ignore[arg-type]

    return change


def _wall_alone(deadline: Deadline, now: Now) -> bool:
    return now.wall >= deadline.wall


def _boot_alone(deadline: Deadline, now: Now) -> bool:
    return now.boot >= deadline.boot


def _not_yet_asked(situation: Situation) -> Facts:
    return facts_of(replace(situation, making_pause=False, closing=frozenset()))


def _forgetting_what_widens(standing: Standing, line: Line, device: Ed25519PublicKey) -> Standing:
    if isinstance(line.entry, PolicyChanged):
        line = replace_line(line, entry=replace_line(line.entry, widened={}))
    return after(standing, line, device)


def _asking_for_no_more(_agreed: Policy, _policy: Policy) -> dict[Category, tuple[str, ...]]:
    return dict.fromkeys(Category, ())


def _whatever_its_lease(policy: PolicyInForce, _now: Now) -> bool:
    return policy.policy is not None


CLEAR: Final = dict.fromkeys(Category, Flag.CLEAR)
ALL_GIVEN: Final = dict.fromkeys(Category, Consent.GIVEN)

OTHERS: Final = {
    "a halt is over at once": Mutant(
        killer="a_halt_shuts", patches=((facts, "is_frozen", lambda _standing: False),)
    ),
    "the wall clock alone ends a pause": Mutant(
        killer="a_pause_keeps_its_length", patches=((standing, "has_passed", _wall_alone),)
    ),
    "the clock of another boot ends a pause": Mutant(
        killer="a_pause_keeps_its_length", patches=((standing, "has_passed", _boot_alone),)
    ),
    "a restart presumes that all is well": Mutant(
        killer="a_restart_starts_nothing", rules={"restarts_knowing": ALL_WELL}
    ),
    "a crash leaves no mark": Mutant(
        killer="i2_after_an_unclean_stop_somebody_clicks", rules={"leaves_a_mark": False}
    ),
    "silence is acknowledged before it is written": Mutant(
        killer="i9_what_was_acknowledged_is_on_the_disk", rules={"tells_before_writing": True}
    ),
    "what is not written does not count": Mutant(
        killer="i2_a_restriction_counts_before_it_is_written",
        rules={"facts_of": _not_yet_asked},
    ),
    "a pause is not written": Mutant(
        killer="i9_what_was_acknowledged_is_on_the_disk", rules={"after": _ignoring(Paused)}
    ),
    "an opt-out is not written": Mutant(
        killer="i9_what_was_acknowledged_is_on_the_disk", rules={"after": _ignoring(OptedOut)}
    ),
    "a withdrawal is not written": Mutant(
        killer="i9_what_was_acknowledged_is_on_the_disk", rules={"after": _ignoring(Withdrawn)}
    ),
    "a grant lowers the flags": Mutant(
        killer="i9_what_was_acknowledged_is_on_the_disk",
        rules={"after": _besides(Granted, flags=CLEAR)},
    ),
    "every policy is taken for narrower": Mutant(
        killer="i1_nothing_without_a_yes", patches=((facts, "widened", _asking_for_no_more),)
    ),
    "a wider policy is noted as one that is not": Mutant(
        killer="a_policy_that_changed_is_asked_about", rules={"after": _forgetting_what_widens}
    ),
    "noting a policy is taken for a yes": Mutant(
        killer="i4_only_a_click_relaxes_a_choice",
        rules={"after": _besides(PolicyChanged, consents=ALL_GIVEN)},
    ),
    "a halt that is lifted asks nobody": Mutant(
        killer="lifting_a_halt_asks_again",
        patches=(_row("CONSENT", Consent.GIVEN, Act.LIFT_HALT, Consent.GIVEN),),
    ),
    "what a lifted halt made stale stands again": Mutant(
        killer="i4_only_a_click_relaxes_a_choice",
        rules={"after": _besides(HaltLifted, consents=ALL_GIVEN)},
    ),
    "a lease that is over does not shut": Mutant(
        killer="only_a_valid_policy_opens",
        patches=((PolicyInForce, "holds", _whatever_its_lease),),
    ),
    "a halt ends pauses": Mutant(
        killer="i4_only_a_click_relaxes_a_choice",
        rules={"after": _besides(Halted, pause=Pause.RUNNING)},
    ),
    "a doubted clock lowers the flags": Mutant(
        killer="i4_only_a_click_relaxes_a_choice",
        rules={"after": _besides(ClockDoubted, flags=CLEAR)},
    ),
    **{
        f"a script may {act}": Mutant(killer=killer, rules={"clicks": CLICKS - {act}})
        for act, killer in {
            Act.GRANT: "i4_a_script_starts_nothing",
            Act.OPT_IN: "i4_only_a_click_relaxes_a_choice",
            Act.RESUME: "i4_a_script_starts_nothing",
        }.items()
    },
}

MUTANTS: Final = {**_gate_mutants(), **_table_mutants(), **OTHERS}
