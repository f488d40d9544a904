"""One moment of the abstract world, and what the real code makes of it.

A `World` is small enough to be searched to the end: time is ticks, a policy is this one or
an older one, one category stands for all.  It has no rules of its own.  `Rules` holds them,
and they are the agent's: `standing.after` moves what the ledger keeps, `facts_of` turns it
into facts, `decide` judges them.  A mutant is `Rules` with one of these exchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum, auto
from functools import partial
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.consent.clocks import PAUSE_NANOSECONDS, Deadline
from agent.consent.entries import (
    ClickAwaited,
    ClockConfirmed,
    ClockDoubted,
    Entry,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    Line,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    PolicyChanged,
    Refused,
    Resumed,
    StopLifted,
    Stopped,
    StoppedUncleanly,
    Withdrawn,
)
from agent.consent.facts import Situation, facts_of, policy_changed
from agent.consent.gate import CategoryFacts, Fact, Facts, Verdict, decide
from agent.consent.policy import PolicyInForce
from agent.consent.standing import Grant, Standing, after
from agent.consent.states import CLICKS, Act, Consent, Ending, Flag, Pause
from base.clock import Now
from tests.fakes.organisation import Organisation
from tests.fakes.repository import a_lease
from wire.category import Category
from wire.consent_receipt import Evidence
from wire.grant import grant_hash, verify_consent
from wire.ids import PolicyDigest

ONE: Final = Category.KEYS
"""The category that is searched; that each stands for itself alone is in test_induction."""

PAUSE_TICKS: Final = 1
TICK: Final = PAUSE_NANOSECONDS // PAUSE_TICKS


class Clock(StrEnum):
    """What is true of the wall clock, and whether the agent has found out."""

    RIGHT = auto()
    SET_AHEAD = auto()  # and not noticed yet
    SET_BACK = auto()
    NOTICED = auto()  # it was set, and the agent knows


class PolicyState(StrEnum):
    """What lies on the disk."""

    NONE = auto()  # or unreadable, or with a signature that does not hold
    VALID = auto()
    UNLEASED = auto()  # valid, but its lease is over, or nobody knows of one
    OVER = auto()  # expired; or it was read again without a lease


class Named(StrEnum):
    """Which policy something names."""

    NOTHING = auto()
    THIS = auto()  # the one on the disk
    OLDER = auto()


class Kept(NamedTuple):
    """What the ledger adds up to.  It survives every crash."""

    consent: Consent = Consent.UNKNOWN
    grant: Named = Named.NOTHING  # the policy under which the consent stands
    flag: Flag = Flag.CLEAR
    pause: Pause = Pause.RUNNING
    boot_left: int = 0  # ticks until the end of the pause, by the boot clock
    wall_left: int = 0  # and by the wall clock
    same_boot: bool = True  # or the boot clock knows nothing of this pause
    ending: Ending = Ending.NOTICE
    stopped: bool = False
    halt: Named = Named.NOTHING  # the policy under which it was called
    doubt: bool = False


Surroundings: TypeAlias = tuple[bool | None, ...]  # as in `Fact.of`: None is unknown


class World(NamedTuple):
    """The abstract world at one moment.

    `told_...` and `true_left` are ghosts: what the data subject was told, which no part of
    the agent reads.  `asked` is a restriction that is not on the disk yet.
    """

    up: bool = False
    kept: Kept = Kept()
    policy: PolicyState = PolicyState.NONE
    narrower: bool = False  # it is proved to ask for no more than the older one
    clock: Clock = Clock.RIGHT
    surroundings: Surroundings = ()
    asked: Act | None = None
    under_way: bool = False
    mark: bool = False  # left on the disk by a restriction that was not finished
    unclean: bool = False  # ghost: one was not finished, and nobody has clicked since
    told_paused: bool = False
    told_out: bool = False
    told_withdrawn: bool = False
    true_left: int = 0

    def knows(self, name: str) -> bool:
        """Whether the surrounding fact *name* is known to permit."""
        return self.surroundings[SURROUNDINGS.index(name)] is True


# --- what surrounds the agent --------------------------------------------------------------

KEPT_FACTS: Final = frozenset(
    {
        "not_halted", "policy_valid", "clock_trusted", "not_paused", "resume_clicked",
        "opted_in", "consented", "consent_fits_policy",
    }
)  # fmt: skip
"""The facts that follow from ledger, policy and clocks."""

SURROUNDINGS: Final = tuple(
    each.name
    for kind in (Facts, CategoryFacts)
    for each in fields(kind)
    if each.name not in KEPT_FACTS | {"categories"}
)
"""All others: each may change at any moment.  A fact that is added to the gate is one."""

NOTHING_KNOWN: Final[Surroundings] = (None,) * len(SURROUNDINGS)
ALL_WELL: Final[Surroundings] = (True,) * len(SURROUNDINGS)


def surroundings(deviating: int, *, values: tuple[bool | None, ...]) -> list[Surroundings]:
    """Return those in which at most *deviating* facts have one of *values*, and none known."""
    found = [
        each
        for each in product((True, *values), repeat=len(SURROUNDINGS))
        if sum(fact is not True for fact in each) <= deviating
    ]
    return [*dict.fromkeys([*found, NOTHING_KNOWN])]


# --- from the abstract to the real and back ------------------------------------------------

_ORGANISATION: Final = Organisation()
DEVICE: Final = _ORGANISATION.device.public_key()
_POLICY: Final = _ORGANISATION.policy()
_LESS: Final = _ORGANISATION.policy(hold_seconds=_POLICY.hold_seconds + 1)
_DIGESTS: Final = {
    Named.THIS: PolicyDigest(b"\2" * 32),
    Named.OLDER: PolicyDigest(b"\1" * 32),
}
_NAMED: Final = {digest: named for named, digest in _DIGESTS.items()}
PARTY: Final = "collector"
_START: Final = 1_000 * TICK
NOW: Final = Now(boot=_START, wall=100 * _START, boot_id="this boot")
_LEASE: Final = a_lease(NOW)


def _grant(named: Named) -> Grant:
    signed = _ORGANISATION.consent(_DIGESTS[named])
    record = verify_consent(signed, DEVICE)
    return Grant(signed=signed, record=record, hash=grant_hash(signed), first_at=record.given_at)


_GRANTS: Final = {named: _grant(named) for named in _DIGESTS}

_EVIDENCE: Final = {
    grant.hash: Evidence(signed=grant.signed, words="", notice="") for grant in _GRANTS.values()
}


def standing_of(kept: Kept) -> Standing:
    """Return the real standing that *kept* stands for."""
    until = Deadline(
        wall=NOW.wall + kept.wall_left * TICK,
        boot=NOW.boot + kept.boot_left * TICK,
        boot_id=NOW.boot_id if kept.same_boot else "an earlier boot",
    )
    halted = Halted(policy=_DIGESTS[kept.halt], why="") if kept.halt is not Named.NOTHING else None
    grants = {ONE: _GRANTS[kept.grant]} if kept.grant is not Named.NOTHING else {}
    return Standing(
        consents={**Standing().consents, ONE: kept.consent},
        grants=grants,
        stands_under={ONE: _DIGESTS[kept.grant]} if grants else {},
        evidence=_EVIDENCE,
        flags={**Standing().flags, ONE: kept.flag},
        pause=kept.pause,
        paused_until=until if kept.pause is Pause.PAUSED else None,
        ending=kept.ending,
        stopped={PARTY: "a drill failed"} if kept.stopped else {},
        halted=halted,
        clock_doubt="set" if kept.doubt else "",
        last_seen=NOW,
    )


def kept_of(standing: Standing) -> Kept:
    """Return what stands for *standing*."""
    under = standing.stands_under.get(ONE)
    until = standing.paused_until if standing.pause is Pause.PAUSED else None
    same_boot = until is None or until.boot_id == NOW.boot_id
    return Kept(
        consent=standing.consents[ONE],
        grant=Named.NOTHING if under is None else _NAMED[under],
        flag=standing.flags[ONE],
        pause=standing.pause,
        boot_left=max(0, until.boot - NOW.boot) // TICK if until and same_boot else 0,
        wall_left=max(0, until.wall - NOW.wall) // TICK if until else 0,
        same_boot=same_boot,
        ending=standing.ending,
        stopped=bool(standing.stopped),
        halt=Named.NOTHING
        if standing.halted is None
        else _NAMED.get(PolicyDigest(standing.halted.policy), Named.THIS),
        doubt=bool(standing.clock_doubt),
    )


ENTRIES: Final[Mapping[type[Entry], Entry]] = {
    type(entry): entry
    for entry in (
        Granted(signed=_GRANTS[Named.THIS].signed, words="", notice=""),
        Refused(signed=_GRANTS[Named.THIS].signed, words="", notice=""),
        Withdrawn(category=ONE),
        Expired(grant=_GRANTS[Named.OLDER].hash),
        OptedOut(category=ONE),
        OptedIn(category=ONE),
        Paused(until_wall=NOW.wall + PAUSE_NANOSECONDS, until_boot=NOW.boot + PAUSE_NANOSECONDS),
        Resumed(),
        NoticeSeen(seconds=60, since=NOW.boot),
        ClickAwaited(),
        StoppedUncleanly(),
        Stopped(by=PARTY, why="a drill failed"),
        StopLifted(by=PARTY),
        HaltLifted(policy=_DIGESTS[Named.THIS]),
        PolicyChanged(policy=_DIGESTS[Named.THIS], widened={}),
        Halted(policy=_DIGESTS[Named.THIS], why=""),
        ClockDoubted(why="set"),
        ClockConfirmed(),
    )
}
"""One entry of each kind, as it is written in the abstract world."""


# --- the rules -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The agent's rules: the real ones, unless a mutant exchanged one."""

    decide: Callable[[Facts], Verdict] = decide
    facts_of: Callable[[Situation], Facts] = facts_of
    after: Callable[[Standing, Line, Ed25519PublicKey], Standing] = after
    clicks: frozenset[Act] = CLICKS
    restarts_knowing: Surroundings = NOTHING_KNOWN
    leaves_a_mark: bool = True
    tells_before_writing: bool = False
    restriction_counts_at_once: bool = True
    _kept: dict[tuple[Kept, type[Entry]], Kept] = field(default_factory=dict)
    _noted: dict[tuple[object, ...], Kept | None] = field(default_factory=dict)
    _facts: dict[tuple[object, ...], Facts] = field(default_factory=dict)
    _verdicts: dict[tuple[object, ...], Verdict] = field(default_factory=dict)

    def written(self, kept: Kept, kind: type[Entry]) -> Kept:
        """Return what the ledger adds up to once an entry of *kind* is on the disk.

        Raises:
            ConsentError: The real tables have no such move.

        """
        key = kept, kind
        if key not in self._kept:
            self._kept[key] = self._moved(kept, ENTRIES[kind])
        return self._kept[key]

    def noted(self, world: World) -> Kept | None:
        """Return what the ledger adds up to with the policy in force noted; None if it is."""
        key = world.kept, world.policy, world.narrower
        if key not in self._noted:
            situation = situation_of(world, asked=None)
            entry = policy_changed(situation.standing, situation.policy)
            self._noted[key] = None if entry is None else self._moved(world.kept, entry)
        return self._noted[key]

    def _moved(self, kept: Kept, entry: Entry) -> Kept:
        line = Line(n=1, prev="", wall=NOW.wall, boot=NOW.boot, boot_id=NOW.boot_id, entry=entry)
        return kept_of(self.after(standing_of(kept), line, DEVICE))

    def verdict(self, world: World) -> Verdict:
        """Return what the gate says in *world*."""
        key = self._core(world), world.surroundings
        if key not in self._verdicts:
            self._verdicts[key] = self.decide(self.facts(world))
        return self._verdicts[key]

    def facts(self, world: World) -> Facts:
        """Return the facts on which the gate decides in *world*."""
        core = self._core(world)
        if core not in self._facts:
            asked = world.asked if self.restriction_counts_at_once else None
            self._facts[core] = self.facts_of(situation_of(world, asked))
        return _surrounded(self._facts[core], world.surroundings)

    def _core(self, world: World) -> tuple[object, ...]:
        """Return what all facts but those of the surroundings follow from."""
        return world.kept, world.policy, world.narrower, world.clock is Clock.NOTICED, world.asked


def situation_of(world: World, asked: Act | None) -> Situation:
    """Return what the real agent would know in *world*, its surroundings aside."""
    signed = world.policy in (PolicyState.VALID, PolicyState.UNLEASED)
    leased = world.policy is PolicyState.VALID
    none = world.policy is PolicyState.NONE
    return Situation(
        now=NOW,
        standing=standing_of(world.kept),
        policy=PolicyInForce(
            policy=_POLICY if signed else None,
            digest=None if none else _DIGESTS[Named.THIS],
            lease=_LEASE if leased else None,
            earlier={_DIGESTS[Named.OLDER]: _POLICY if world.narrower else _LESS},
        ),
        clock_doubt="set" if world.clock is Clock.NOTICED else "",
        making_pause=asked is Act.PAUSE,
        closing=frozenset({ONE} if asked in (Act.OPT_OUT, Act.WITHDRAW) else ()),
    )


def _surrounded(facts: Facts, known: Surroundings) -> Facts:
    """Return *facts* with those of the surroundings in their place."""
    named = dict(zip(SURROUNDINGS, map(Fact.of, known), strict=True))
    of_category = {each.name for each in fields(CategoryFacts)}
    own = replace(facts.categories[ONE], **{n: f for n, f in named.items() if n in of_category})
    whole = partial(replace, facts, categories={**facts.categories, ONE: own})
    return whole(**{name: fact for name, fact in named.items() if name not in of_category})
