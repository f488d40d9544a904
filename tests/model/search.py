"""Breadth first through every state that can be reached, and what is found on the way."""

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.model.invariants import ON_STATES, ON_STEPS, Step, is_captured, is_open
from tests.model.moves import BENIGN, Move, Who, moves
from tests.model.world import ALL_WELL, NOTHING_KNOWN, Rules, Surroundings, World, surroundings


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much of the world a search looks at: what may surround it, which moves are left out."""

    around: Sequence[Surroundings] = (ALL_WELL, NOTHING_KNOWN)
    without: frozenset[str] = frozenset()


CLOCK_MOVES: Final = frozenset({"set_ahead", "set_back"})
NO_CLOCK: Final = Bounds(without=CLOCK_MOVES | {"disk refuses"})
A_CLOCK_AHEAD: Final = Bounds(without=frozenset({"disk refuses", "set_back", "halt"}))
EVERY_FAULT: Final = Bounds()
A_WAY_BACK: Final = Bounds(  # small: liveness is known only when all of it was searched
    around=(ALL_WELL,),
    without=NO_CLOCK.without | {"policy damaged", "halt", "policy over", "lease over"},
)
ONE_UNKNOWN: Final = Bounds(
    around=surroundings(1, values=(None,)), without=NO_CLOCK.without | {"halt"}
)
EVERY_SURROUNDING: Final = Bounds(
    around=surroundings(1, values=(False, None)), without=NO_CLOCK.without
)
PAIRS_OF_SURROUNDINGS: Final = Bounds(
    around=[*dict.fromkeys([*EVERY_SURROUNDING.around, *surroundings(2, values=(False,))])],
    without=EVERY_SURROUNDING.without,
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    edges: dict[World, list[Move]] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)  # the first of each, by its name

    @property
    def number_of_edges(self) -> int:
        """How many moves were tried."""
        return sum(map(len, self.edges.values()))


def search(rules: Rules, bounds: Bounds, *, until: str = "") -> Found:
    """Return every reachable state with its moves, and the invariants that do not hold.

    It stops early once the invariant *until* is found broken: enough to kill a mutant.
    """
    with _no_garbage():
        return _searched(rules, bounds, until)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Let nobody look for cycles in millions of tuples that have none: a seventh of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _searched(rules: Rules, bounds: Bounds, until: str) -> Found:
    start = World(surroundings=NOTHING_KNOWN)
    found = Found()
    waiting = deque([start])
    known = {start: start}  # each state once in memory, however many moves lead to it
    while waiting and until not in found.violations:
        world = waiting.popleft()
        out = [m for m in moves(world, rules, bounds.around) if m.name not in bounds.without]
        for name, where in _violated(world, out, rules):
            found.violations.setdefault(name, where)
        waiting.extend({move.to: None for move in out if move.to not in known})
        found.edges[world] = [Move(m.who, m.name, known.setdefault(m.to, m.to)) for m in out]
    return found


def _violated(world: World, out: Iterable[Move], rules: Rules) -> Iterator[tuple[str, str]]:
    verdict = rules.verdict(world)
    for state_check in ON_STATES:
        if not state_check(world, verdict):
            yield state_check.__name__, f"{world}: {verdict}"
    for move in out:
        step = Step(world, move, verdict, rules.verdict(move.to))
        for step_check in ON_STEPS:
            if not step_check(step):
                yield step_check.__name__, f"{world} -- {move.who} {move.name} -> {move.to}"


def hopeless(found: Found, rules: Rules) -> set[World]:
    """Return the states from which clicks and a benign environment cannot reach ACTIVE."""
    into: dict[World, list[World]] = {}
    for world, out in found.edges.items():
        for move in out:
            if move.who is Who.CLICK or move.name in BENIGN:
                into.setdefault(move.to, []).append(world)
    alive = {world for world in found.edges if world.up and is_captured(rules.verdict(world))}
    waiting = deque(alive)
    while waiting:
        fresh = set(into.get(waiting.popleft(), ())) - alive
        alive |= fresh
        waiting.extend(fresh)
    return found.edges.keys() - alive


def unstoppable(found: Found, rules: Rules) -> set[World]:
    """Return the capturing states in which some act of the data subject does not shut at once.

    Pause, opt-out and withdrawal are each one act, and each has to be there.
    """
    stuck = set()
    for world, out in found.edges.items():
        if is_open(rules.verdict(world)):
            acts = [move for move in out if move.who is Who.ANYBODY]
            stops = {m.name for m in acts if not is_open(rules.verdict(m.to))}
            if not stops >= {"pause", "opt_out", "withdraw"}:
                stuck.add(world)
    return stuck
