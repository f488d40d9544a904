"""The gate and its ledger as formulas, for any number of categories and any length of time.

What the explicit search leaves out is here without bounds: clocks are whole numbers, policies
are numbered without end, and the category is any one of however many there are; an act names
it, another one, or all.  The formulas are made from the real tables of `states` and from the
real `decide`; that the rest says what the code says is compared in test_induction.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import product
from typing import Any, Final, NamedTuple, TypeAlias

import z3

from agent.consent import states
from agent.consent.gate import CategoryFacts, Fact, Facts, Verdict
from agent.consent.states import Act, Consent, Ending, Flag, Halt, Pause, Stop
from tests.model.world import KEPT_FACTS, ONE, SURROUNDINGS, Rules
from wire.category import Category

Formula: TypeAlias = Any  # z3 ships no types
State: TypeAlias = dict[str, Formula]

GLOBAL: Final = tuple(n for n in Facts.__dataclass_fields__ if n != "categories")
OWN: Final = tuple(CategoryFacts.__dataclass_fields__)

_SORTS: Final = {
    kind: z3.EnumSort(kind.__name__, [f"{kind.__name__}.{each.name}" for each in kind])
    for kind in (Consent, Flag, Pause, Ending, Stop, Halt)
}
_VALUES: Final = {
    each: value
    for kind, (_sort, values) in _SORTS.items()
    for each, value in zip(kind, values, strict=True)
}


def value(state: StrEnum) -> Formula:
    """Return the constant that stands for *state*."""
    return _VALUES[state]


_BOOLEANS: Final = (
    "up", "valid", "has_policy", "narrower", "doubt", "noticed", "same_boot",
    "making_pause", "closing", "mark", "unclean", "told_paused", "told_out", "told_withdrawn",
)  # fmt: skip
_NUMBERS: Final = ("policy", "grant", "boot", "wall", "until_boot", "until_wall", "end")


def state(suffix: str) -> State:
    """Return fresh variables for one state; `end` is the true end of the pause promised."""
    return {
        **{name: z3.Bool(name + suffix) for name in (*_BOOLEANS, *SURROUNDINGS)},
        **{name: z3.Int(name + suffix) for name in _NUMBERS},
        **{
            kind.__name__.lower(): z3.Const(kind.__name__.lower() + suffix, sort)
            for kind, (sort, _values) in _SORTS.items()
        },
    }


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of move: who makes it, when it can be made, what is different after it."""

    who: str
    name: str
    when: Formula
    then: Mapping[str, Formula]

    def between(self, before: State, after: State) -> Formula:
        """Return the formula of this move from *before* to *after*."""
        same = [after[name] == self.then.get(name, before[name]) for name in before]
        return z3.And(self.when, *same)


@dataclass(frozen=True)
class Encoding:
    """The formulas, made from *rules* and from the tables as they are at this moment."""

    rules: Rules

    # --- the gate --------------------------------------------------------------------------

    def opens(self, s: State) -> Formula:
        """Whether the source of the category may be open."""
        return z3.And(s["up"], _any_row(permitted(self.rules.decide).opened, self.facts(s)))

    def keeps(self, s: State) -> Formula:
        """Whether what happens now may be kept."""
        return z3.And(s["up"], _any_row(permitted(self.rules.decide).kept, self.facts(s)))

    def facts(self, s: State) -> dict[str, Formula]:
        """Return for each fact whether it is YES, as `facts_of` says."""
        pause, out = self.pause_now(s), s["flag"] != value(Flag.CLEAR)
        consent = z3.If(
            z3.Or(
                s["grant"] == 0,
                z3.And(s["has_policy"], z3.Or(s["grant"] == s["policy"], s["narrower"])),
            ),
            s["consent"],
            self.row("CONSENT", s["consent"], Act.CHANGE_POLICY),
        )
        given = consent == value(Consent.GIVEN)
        kept = {
            "not_halted": z3.And(s["halt"] == value(Halt.UNHALTED), s["stop"] == value(Stop.GOING)),
            "policy_valid": s["valid"],
            "clock_trusted": z3.Not(z3.Or(s["doubt"], s["noticed"])),
            "not_paused": z3.And(pause != value(Pause.PAUSED), z3.Not(s["making_pause"])),
            "resume_clicked": pause == value(Pause.RUNNING),
            "opted_in": z3.Not(z3.Or(out, s["closing"])),
            "consented": z3.Or(given, consent == value(Consent.STALE)),
            "consent_fits_policy": z3.And(given, s["has_policy"]),
        }
        assert kept.keys() == KEPT_FACTS
        return {**kept, **{name: s[name] for name in SURROUNDINGS}}

    def pause_now(self, s: State) -> Formula:
        """Return the pause at this moment, as `pause_at` says."""
        over = z3.And(
            s["wall"] >= s["until_wall"],
            z3.Or(z3.Not(s["same_boot"]), s["boot"] >= s["until_boot"]),
        )
        ran_out = z3.And(s["pause"] == value(Pause.PAUSED), over)
        return z3.If(ran_out, self.row("PAUSE", s["pause"], Act.RUN_OUT), s["pause"])

    # --- the tables ------------------------------------------------------------------------

    def row(self, table: str, at: Formula, act: Act) -> Formula:
        """Return where the real *table* leads from *at*; where it has no row, to *at*."""
        led = at
        for (start, by), to in getattr(states, table).items():
            if by is act:
                led = z3.If(at == value(start), value(to), led)
        return led

    def legal(self, table: str, at: Formula, act: Act) -> Formula:
        """Whether the real *table* has a row for *act* from *at*."""
        return z3.Or([at == value(start) for start, by in getattr(states, table) if by is act])

    # --- the moves -------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[Step]:
        """Yield every kind of move from *s*; what an act chooses freely is a fresh variable."""
        yield from self._acts(s)
        yield from self._restrictions(s)
        yield from self._outside(s)

    def _acts(self, s: State) -> Iterator[Step]:
        quiet = z3.And(s["up"], z3.Bool("nothing_under_way"))
        grant = {
            "consent": self.row("CONSENT", s["consent"], Act.GRANT),
            "grant": s["policy"],
            "told_withdrawn": z3.BoolVal(val=False),
            "closing": z3.BoolVal(val=False),
        }
        opt_in = {
            "flag": self.row("FLAG", s["flag"], Act.OPT_IN),
            "told_out": z3.BoolVal(val=False),
            "closing": z3.BoolVal(val=False),
        }
        resume = {
            "pause": self.row("PAUSE", s["pause"], Act.RESUME),
            "ending": self.row("ENDING", s["ending"], Act.RESUME),
            "told_paused": z3.BoolVal(val=False),
            "unclean": z3.BoolVal(val=False),
            "making_pause": z3.BoolVal(val=False),
        }
        for act, table, then in (
            (Act.GRANT, "CONSENT", grant),
            (Act.OPT_IN, "FLAG", opt_in),
            (Act.RESUME, "PAUSE", resume),
        ):
            can = z3.And(quiet, self.legal(table, s[table.lower()], act))
            when = z3.And(can, s["has_policy"]) if act is Act.GRANT else can
            who = "click" if act in self.rules.clicks else "anybody"
            yield Step(who=who, name=act.value, when=when, then=then)
        confirm = {"doubt": z3.BoolVal(val=False), "noticed": z3.BoolVal(val=False)}
        yield Step(who="click", name="confirm clock", when=quiet, then=confirm)

    def _restrictions(self, s: State) -> Iterator[Step]:
        # It names this category, or another one; the others of `all` move in the same way.
        yes = z3.BoolVal(val=True)
        at_once = self.rules.restriction_counts_at_once
        ask = {"mark": z3.BoolVal(val=self.rules.leaves_a_mark)}
        pausing = {"making_pause": yes} if at_once else {}
        ending = {"closing": yes} if at_once else {}
        yield Step(who="anybody", name="ask pause", when=s["up"], then={**ask, **pausing})
        yield Step(who="anybody", name="ask an end", when=s["up"], then={**ask, **ending})
        length = z3.Int("length")
        paused = {
            "pause": self.row("PAUSE", s["pause"], Act.PAUSE),
            "ending": self.row("ENDING", s["ending"], Act.PAUSE),
            "unclean": z3.BoolVal(val=False),
            "until_boot": s["boot"] + length,
            "until_wall": s["wall"] + length,
            "end": s["boot"] + length,
            "same_boot": yes,
            "told_paused": yes,
            "making_pause": z3.BoolVal(val=False),
            "mark": z3.Bool("still_marked"),
        }
        out = {
            "flag": self.row("FLAG", s["flag"], Act.OPT_OUT),
            "told_out": yes,
            "closing": z3.BoolVal(val=False),
            "mark": z3.Bool("still_marked"),
        }
        withdrawn = {
            "consent": self.row("CONSENT", s["consent"], Act.WITHDRAW),
            "grant": z3.IntVal(0),
            "told_withdrawn": yes,
            "closing": z3.BoolVal(val=False),
            "mark": z3.Bool("still_marked"),
        }
        when = z3.And(s["up"], length > 0, self.legal("PAUSE", s["pause"], Act.PAUSE))
        yield Step(who="anybody", name="pause", when=when, then=paused)
        when = z3.And(s["up"], self.legal("FLAG", s["flag"], Act.OPT_OUT))
        yield Step(who="anybody", name="opt out", when=when, then=out)
        when = z3.And(s["up"], self.legal("CONSENT", s["consent"], Act.WITHDRAW))
        yield Step(who="anybody", name="withdraw", when=when, then=withdrawn)

    def _calls(self, s: State) -> Iterator[Step]:
        for act, table in (
            (Act.STOP, "STOP"),
            (Act.LIFT_STOP, "STOP"),
            (Act.HALT, "HALT"),
            (Act.LIFT_HALT, "HALT"),
        ):
            part = table.lower()
            then = {part: self.row(table, s[part], act)}
            if act is Act.LIFT_HALT:
                then["consent"] = self.row("CONSENT", s["consent"], act)
            when = z3.And(s["up"], self.legal(table, s[part], act))
            yield Step(who="organisation", name=act.value, when=when, then=then)
        ran_out = self.pause_now(s)
        see = Act.SEE_NOTICE
        seen = z3.And(
            s["up"],
            s["indicator_shown"],
            z3.Not(z3.Or(s["doubt"], s["noticed"], s["making_pause"], s["closing"])),
            self.legal("PAUSE", ran_out, see),
            self.legal("ENDING", s["ending"], see),
        )
        over = {
            "pause": self.row("PAUSE", ran_out, see),
            "ending": self.row("ENDING", s["ending"], see),
            "told_paused": z3.BoolVal(val=False),
        }
        yield Step(who="presence", name="notice seen", when=seen, then=over)
        close = {"ending": self.row("ENDING", s["ending"], Act.AWAIT_CLICK)}
        yield Step(who="anybody", name="await click", when=s["up"], then=close)

    def _outside(self, s: State) -> Iterator[Step]:
        yes, no = z3.BoolVal(val=True), z3.BoolVal(val=False)
        around = {name: z3.Bool(f"next_{name}") for name in SURROUNDINGS}
        unknown = dict.fromkeys(SURROUNDINGS, no)
        unclean = z3.Or(s["unclean"], s["making_pause"], s["closing"])
        mark = z3.And(
            z3.BoolVal(val=self.rules.leaves_a_mark),
            z3.Or(s["mark"], s["making_pause"], s["closing"]),
        )
        crash = {"up": no, "making_pause": no, "closing": no, "mark": mark, "unclean": unclean}
        pause = z3.If(s["mark"], self.row("PAUSE", s["pause"], Act.STOP_UNCLEANLY), s["pause"])
        ending = self.row("ENDING", s["ending"], Act.STOP_UNCLEANLY)
        ending = z3.If(s["mark"], ending, s["ending"])
        start = {
            "up": yes,
            "mark": no,
            "pause": pause,
            "ending": ending,
            "noticed": z3.Bool("next_noticed"),
        }
        knows = [z3.BoolVal(val=known is True) for known in self.rules.restarts_knowing]
        started = {**start, **dict(zip(SURROUNDINGS, knows, strict=True))}
        passed, wall = z3.Int("passed"), z3.Int("next_wall")
        newer = z3.Int("newer")
        yield Step(who="machine", name="surroundings", when=s["up"], then=around)
        yield Step(who="machine", name="crash", when=s["up"], then={**crash, **unknown})
        yield Step(who="machine", name="start", when=z3.Not(s["up"]), then=started)
        yield Step(who="machine", name="boot", when=z3.Not(s["up"]), then={"same_boot": no})
        yield Step(who="machine", name="set the wall clock", when=yes, then={"wall": wall})
        yield Step(who="machine", name="notice", when=s["up"], then={"noticed": yes})
        yield Step(who="machine", name="doubt", when=s["up"], then={"doubt": yes})
        damaged = {"valid": no, "has_policy": no}
        yield Step(who="machine", name="damage the policy", when=yes, then=damaged)
        time = {"boot": s["boot"] + passed, "wall": s["wall"] + passed}
        yield Step(who="time", name="pass", when=passed >= 0, then=time)
        yield Step(who="time", name="policy over", when=yes, then={"valid": no})
        older = z3.And(s["up"], s["grant"] != 0, s["grant"] != s["policy"])
        stale = {"consent": self.row("CONSENT", s["consent"], Act.CHANGE_POLICY)}
        yield Step(who="machine", name="expire", when=older, then=stale)
        fresh = z3.And(newer > s["policy"])
        published = {"policy": newer, "valid": yes, "has_policy": yes, "narrower": no}
        less = {**published, "narrower": yes}
        yield Step(who="organisation", name="new policy", when=fresh, then=published)
        yield Step(who="organisation", name="narrower policy", when=fresh, then=less)
        judged = z3.If(s["narrower"], s["consent"], stale["consent"])
        noted = {"grant": s["policy"], "narrower": no, "consent": judged}
        known = z3.And(older, s["has_policy"])
        yield Step(who="machine", name="note policy", when=known, then=noted)
        yield from self._calls(s)
        yield Step(who="organisation", name="renew", when=s["has_policy"], then={"valid": yes})


class Permitted(NamedTuple):
    """The rows of the gate's truth table that permit to open, and to keep."""

    opened: frozenset[tuple[bool, ...]]
    kept: frozenset[tuple[bool, ...]]


@cache
def permitted(judge: Callable[[Facts], Verdict]) -> Permitted:
    """Return what *judge* permits of its whole truth table.

    Each row is asked four times: with what is not known as NO and as UNKNOWN, and with the
    other categories permitted and unknown.  All four have to agree.

    Raises:
        AssertionError: They do not: a category is not judged by its own facts alone.

    """
    opened, kept = set(), set()
    for row in product((True, False), repeat=len(GLOBAL) + len(OWN)):
        verdicts = [judge(facts) for facts in _facts_of_row(row)]
        may = {(ONE in v.sources, ONE in v.categories) for v in verdicts}
        assert len(may) == 1, f"NO is not UNKNOWN, or another category has a say: {row}"
        ((open_, keep),) = may
        opened |= {row} if open_ else set()
        kept |= {row} if keep else set()
    return Permitted(frozenset(opened), frozenset(kept))


def _any_row(rows: frozenset[tuple[bool, ...]], facts: dict[str, Formula]) -> Formula:
    names = (*GLOBAL, *OWN)
    return z3.Or(
        [
            z3.And(
                [facts[n] if yes else z3.Not(facts[n]) for n, yes in zip(names, row, strict=True)]
            )
            for row in rows
        ]
    )


def _facts_of_row(row: tuple[bool, ...]) -> Iterator[Facts]:
    others = dict.fromkeys(OWN, Fact.YES)
    for no in (Fact.NO, Fact.UNKNOWN):
        known = [Fact.YES if yes else no for yes in row]
        own = CategoryFacts(**dict(zip(OWN, known[len(GLOBAL) :], strict=True)))
        whole: Mapping[str, Any] = dict(zip(GLOBAL, known, strict=False))
        yield Facts(**whole, categories={ONE: own})
        permitted = dict.fromkeys(Category, CategoryFacts(**others))
        yield Facts(**whole, categories={**permitted, ONE: own})
