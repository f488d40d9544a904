"""The promises of the gate by induction, without any bound on time, policies or categories.

Each promise holds in the beginning; and where all hold, whatever happens next, all hold
afterwards.  The solver looks for a state and a move that break this, and there is none.
What is proved is made from the real tables and the real gate: a mutant breaks the proof.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest
import z3

from agent.consent.entries import (
    Entry,
    Expired,
    Granted,
    OptedIn,
    OptedOut,
    Paused,
    Resumed,
    Withdrawn,
)
from agent.consent.gate import Fact, Facts
from agent.consent.states import Act, Consent, Ending, Flag, Halt, Pause, Stop
from base.errors import ConsentError
from tests.model.mutants import MUTANTS
from tests.model.symbolic import Encoding, Formula, State, Step, state, value
from tests.model.world import (
    KEPT_FACTS,
    NOTHING_KNOWN,
    ONE,
    TICK,
    Clock,
    Kept,
    Named,
    PolicyState,
    Rules,
    World,
    situation_of,
)

pytestmark = pytest.mark.slow

_ASKS_NO_MORE = ("renew", "narrower policy", Act.LIFT_STOP)


def promises(encoding: Encoding, s: State) -> dict[str, Formula]:
    """Return what has to hold in every state: the promises, and what carries them."""
    opens = encoding.opens(s)
    running = s["pause"] == value(Pause.RUNNING)
    shut = z3.Or(z3.Not(running), s["making_pause"], s["closing"])
    paused = z3.And(s["told_paused"], s["same_boot"], s["boot"] < s["end"])
    return {
        "i1 nothing without a yes": z3.Implies(
            opens,
            z3.And(
                s["consent"] == value(Consent.GIVEN),
                z3.Or(s["grant"] == s["policy"], s["narrower"]),
                s["grant"] != 0,
                s["valid"],
                s["flag"] == value(Flag.CLEAR),
            ),
        ),
        "i2 a pause that was acknowledged is silence": z3.Implies(s["told_paused"], z3.Not(opens)),
        "i2 an opt-out that was acknowledged is silence": z3.Implies(s["told_out"], z3.Not(opens)),
        "i2 a withdrawal that was acknowledged is silence": z3.Implies(
            s["told_withdrawn"], z3.Not(opens)
        ),
        "i2 what is asked for counts at once": z3.Implies(
            z3.Or(s["making_pause"], s["closing"]), z3.Not(opens)
        ),
        "i3 no light, no capture": z3.Implies(opens, s["indicator_shown"]),
        "i9 what was acknowledged is written": z3.And(
            z3.Implies(s["told_paused"], z3.Not(running)),
            z3.Implies(s["told_out"], s["flag"] == value(Flag.OPTED_OUT)),
            z3.Implies(s["told_withdrawn"], s["consent"] == value(Consent.WITHDRAWN)),
        ),
        "an unclean stop waits for a click": z3.Implies(
            s["unclean"],
            z3.Or(
                z3.And(z3.Not(running), s["ending"] == value(Ending.CLICK)),
                z3.And(z3.Not(s["up"]), s["mark"]),
            ),
        ),
        "a restriction leaves its mark": z3.Implies(
            z3.And(s["unclean"], s["up"]), z3.And(shut, z3.Not(opens))
        ),
        "a pause keeps its length": z3.And(
            z3.Implies(
                paused,
                z3.And(s["pause"] == value(Pause.PAUSED), s["until_boot"] == s["end"]),
            ),
            z3.Implies(paused, encoding.pause_now(s) == value(Pause.PAUSED)),
        ),
        "a halt shuts": z3.Implies(
            opens, z3.And(s["halt"] == value(Halt.UNHALTED), s["stop"] == value(Stop.GOING))
        ),
        "a doubted clock shuts": z3.Implies(opens, z3.Not(z3.Or(s["doubt"], s["noticed"]))),
        "what is kept is open": z3.Implies(encoding.keeps(s), opens),
        # What carries the others: a consent that is GIVEN has its record beside it.
        "a consent has its record": z3.And(
            z3.Implies(s["consent"] == value(Consent.GIVEN), s["grant"] > 0),
            z3.Implies(
                s["grant"] != 0,
                z3.Or(s["consent"] == value(Consent.GIVEN), s["consent"] == value(Consent.STALE)),
            ),
            s["grant"] <= s["policy"],
            s["policy"] > 0,
            z3.Implies(s["valid"], s["has_policy"]),
        ),
    }


def of_moves(encoding: Encoding, step: Step, s: State, t: State) -> Iterator[tuple[str, Formula]]:
    """Yield what each move has to keep to: who may open a source."""
    begins = z3.And(encoding.opens(t), z3.Not(encoding.opens(s)))
    if step.who in ("time", "anybody"):
        yield f"i4 {step.who} opens nothing", z3.Not(begins)
    if step.who == "organisation" and step.name not in _ASKS_NO_MORE:
        yield "i4 the organisation opens nothing", z3.Not(begins)
    if step.name == "notice seen":
        yield (
            "a notice ends no promised pause",
            z3.Not(z3.And(s["told_paused"], s["same_boot"], s["boot"] < s["end"])),
        )
        yield "after an unclean stop no notice counts", z3.Not(s["unclean"])
    elif step.who != "click":
        relaxed = z3.Or(
            z3.And(t["consent"] == value(Consent.GIVEN), s["consent"] != value(Consent.GIVEN)),
            z3.And(t["flag"] == value(Flag.CLEAR), s["flag"] != value(Flag.CLEAR)),
            z3.And(t["pause"] == value(Pause.RUNNING), s["pause"] != value(Pause.RUNNING)),
        )
        yield "i4 only a click relaxes a choice", z3.Not(relaxed)
    if step.name == "start":
        yield "a restart opens nothing", z3.Not(encoding.opens(t))


def beginning(s: State) -> Formula:
    """Return what is true of a device that was just enrolled: nothing but its policy."""
    nothing = [
        "up", "doubt", "noticed", "making_pause", "closing", "mark", "unclean",
        "told_paused", "told_out", "told_withdrawn",
    ]  # fmt: skip
    return z3.And(
        *(z3.Not(s[name]) for name in nothing),
        s["consent"] == value(Consent.UNKNOWN),
        s["flag"] == value(Flag.CLEAR),
        s["pause"] == value(Pause.RUNNING),
        s["ending"] == value(Ending.NOTICE),
        s["halt"] == value(Halt.UNHALTED),
        s["stop"] == value(Stop.GOING),
        s["grant"] == 0,
        s["policy"] > 0,
        z3.Implies(s["valid"], s["has_policy"]),
    )


def broken(encoding: Encoding) -> Iterator[str]:
    """Yield every promise that the solver can break, with the move that breaks it."""
    s, t = state(""), state("'")
    before, after = promises(encoding, s), promises(encoding, t)
    for name, promise in before.items():
        if _possible(beginning(s), z3.Not(promise)):
            yield f"{name}: not in the beginning"
    for step in encoding.steps(s):
        moved = z3.And(*before.values(), step.between(s, t))
        kept = [*after.items(), *of_moves(encoding, step, s, t)]
        for name, promise in kept:
            if _possible(moved, z3.Not(promise)):
                yield f"{name}: {step.name}"


def _possible(*formulas: Formula) -> bool:
    solver = z3.Solver()
    solver.add(*formulas)
    answer = solver.check()
    assert answer != z3.unknown, "the solver gave up"
    return bool(answer == z3.sat)


def test_the_promises_are_kept_for_ever(figure: Callable[[str], None]) -> None:
    """In the beginning, and after any move from any state in which they are kept."""
    encoding = Encoding(Rules())
    s = state("")
    steps = list(encoding.steps(s))
    figure(f"{len(promises(encoding, s))} promises proved over {len(steps)} kinds of moves")
    assert list(broken(encoding)) == []


def test_the_proof_is_not_about_nothing() -> None:
    """States that keep every promise exist: with an open source, and every move can be made."""
    encoding = Encoding(Rules())
    s, t = state(""), state("'")
    all_kept = z3.And(*promises(encoding, s).values())
    assert _possible(all_kept, encoding.keeps(s))
    for step in encoding.steps(s):
        assert _possible(all_kept, step.between(s, t)), step.name


UNPROVABLE = {
    "the gate forgets consent_fits_policy": "i1",
    "the gate forgets indicator_shown": "i3",
    "the gate forgets resume_clicked": "i2",
    "the gate forgets opted_in": "i1",
    "withdrawing keeps consent": "i9",
    "a changed policy keeps consent": "i1",
    "an opt-out raises no flag": "i9",
    "a pause does not pause": "i9",
    "a pause that runs out resumes": "i2",
    "an unclean stop is forgotten": "an unclean stop",
    "an unclean stop ends a pause": "i4",
    "a crash leaves no mark": "an unclean stop",
    "a restart presumes that all is well": "a restart",
    "a script may grant": "i4",
    "a script may resume": "i4",
}


@pytest.mark.parametrize(("name", "breaks"), UNPROVABLE.items(), ids=UNPROVABLE.keys())
def test_of_a_mutant_nothing_can_be_proved(name: str, breaks: str) -> None:
    """The proof is made from the tables and the gate: with a rule turned round, it fails."""
    with MUTANTS[name].alive() as rules:
        assert any(each.startswith(breaks) for each in broken(Encoding(rules)))


# --- the formulas say what the code says ----------------------------------------------------


def _concrete(world: World, s: State) -> list[tuple[Formula, Formula]]:
    """Return *s* with the values of an explicit *world*."""
    kept = world.kept
    policies = {Named.NOTHING: 0, Named.OLDER: 1, Named.THIS: 2}
    values: Mapping[str, Any] = {
        "consent": value(kept.consent),
        "flag": value(kept.flag),
        "pause": value(kept.pause),
        "valid": world.policy is PolicyState.VALID,
        "has_policy": world.policy is not PolicyState.NONE,
        "narrower": world.narrower
        and kept.grant is Named.OLDER
        and world.policy in (PolicyState.VALID, PolicyState.UNLEASED),
        "ending": value(kept.ending),
        "stop": value(Stop.STOPPED if kept.stopped else Stop.GOING),
        "halt": value(Halt.UNHALTED if kept.halt is Named.NOTHING else Halt.HALTED),
        "doubt": kept.doubt,
        "noticed": world.clock is Clock.NOTICED,
        "same_boot": kept.same_boot,
        "making_pause": world.asked is Act.PAUSE,
        "closing": world.asked in (Act.OPT_OUT, Act.WITHDRAW),
        "policy": 2,
        "grant": policies[kept.grant],
        "boot": 0,
        "wall": 0,
        "until_boot": kept.boot_left * TICK,
        "until_wall": kept.wall_left * TICK,
    }
    return [(s[name], _constant(each)) for name, each in values.items()]


def _constant(each: object) -> Formula:
    match each:
        case bool():
            return z3.BoolVal(each)
        case int():
            return z3.IntVal(each)
        case _:
            return each


def _worlds() -> Iterator[World]:
    """Yield one world for each thing that the ledger can say, under each policy and act."""
    for kept in _all_kept():
        world = World(up=True, kept=kept, policy=PolicyState.VALID, surroundings=NOTHING_KNOWN)
        yield world
        for policy in PolicyState:
            yield world._replace(policy=policy, narrower=True)
        yield world._replace(policy=PolicyState.UNLEASED)
        yield world._replace(policy=PolicyState.OVER)
        yield world._replace(policy=PolicyState.NONE)
        yield world._replace(clock=Clock.NOTICED)
        yield world._replace(asked=Act.PAUSE)
        yield world._replace(asked=Act.WITHDRAW)


def _all_kept() -> list[Kept]:
    given = [(c, Named.NOTHING) for c in Consent if c is not Consent.GIVEN]
    consents = [*given, (Consent.GIVEN, Named.THIS), (Consent.GIVEN, Named.OLDER)]
    consents.append((Consent.STALE, Named.OLDER))
    pauses = [
        Kept(pause=Pause.RUNNING),
        Kept(pause=Pause.RESUME_PENDING),
        *(
            Kept(pause=Pause.PAUSED, boot_left=b, wall_left=w, same_boot=same)
            for b, w, same in product((0, 1), (0, 1), (True, False))
            if same or not b
        ),
    ]
    return [
        pause._replace(consent=consent, grant=grant, flag=flag, halt=halt, doubt=doubt)
        for (consent, grant), pause, flag, halt, doubt in product(
            consents, pauses, Flag, (Named.NOTHING, Named.OLDER), (False, True)
        )
    ]


def test_the_formulas_of_the_facts_are_those_of_the_code() -> None:
    """For everything that a ledger can say, `facts_of` and the formulas agree on each fact."""
    encoding, s = Encoding(Rules()), state("")
    formulas = {n: f for n, f in encoding.facts(s).items() if n in KEPT_FACTS}
    for world in _worlds():
        facts: Facts = encoding.rules.facts_of(situation_of(world, world.asked))
        own = facts.categories[ONE]
        real = {n: getattr(own if hasattr(own, n) else facts, n) is Fact.YES for n in formulas}
        agree = z3.And([formula == real[name] for name, formula in formulas.items()])
        assert z3.is_true(z3.simplify(z3.substitute(agree, _concrete(world, s)))), f"{world}"


def test_the_formulas_of_the_ledger_are_those_of_the_code() -> None:
    """What an entry makes of consent, flag and pause is the same in formula and code."""
    rules, s = Rules(), state("")
    named = {step.name: step for step in Encoding(rules).steps(s)}
    kinds: dict[type[Entry], str] = {
        Expired: "expire", Granted: "grant", OptedIn: "opt_in", Resumed: "resume", Paused: "pause",
        OptedOut: "opt out", Withdrawn: "withdraw",
    }  # fmt: skip
    for (kind, name), kept in product(kinds.items(), _all_kept()):
        if kind is Expired and kept.grant is not Named.OLDER:
            continue
        given = _concrete(World(kept=kept, policy=PolicyState.VALID), s)
        try:
            after = rules.written(kept, kind)
        except ConsentError:
            when = z3.simplify(z3.substitute(named[name].when, given))
            assert z3.is_false(when), f"{name}: {kept}"
            continue
        for part, real in zip(("consent", "flag", "pause", "ending"), _parts(after), strict=True):
            led = z3.simplify(z3.substitute(named[name].then.get(part, s[part]), given))
            assert led.eq(value(real)), f"{name}, {part}: {kept}"


def _parts(kept: Kept) -> tuple[Consent, Flag, Pause, Ending]:
    return kept.consent, kept.flag, kept.pause, kept.ending
