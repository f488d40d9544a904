"""Every way in which the abstract world can move, and who moves it.

A move of the ledger is an entry of the real kind, through `Rules.written`; one that the real
tables refuse is none.  What has no entry (time, crashes, the surroundings) is told here.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum, auto
from functools import partial
from typing import Final, NamedTuple

from agent.consent.entries import (
    ClickAwaited,
    ClockConfirmed,
    ClockDoubted,
    Entry,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    Refused,
    Resumed,
    StopLifted,
    Stopped,
    StoppedUncleanly,
    Withdrawn,
)
from agent.consent.states import Act, Consent
from base.errors import ConsentError
from tests.model.world import (
    NOTHING_KNOWN,
    ONE,
    PAUSE_TICKS,
    Clock,
    Kept,
    Named,
    PolicyState,
    Rules,
    Surroundings,
    World,
)
from wire.control import Reason

_SIGNED: Final = (PolicyState.VALID, PolicyState.UNLEASED)
"""Under these a policy can be shown and agreed to; only under the first is anything open."""


class Who(StrEnum):
    """Who or what makes a move."""

    CLICK = auto()  # the data subject, in the tray's own window
    ANYBODY = auto()  # the data subject, or a script in their name
    PRESENCE = auto()  # a notice that was in sight of the data subject for its whole time
    ORGANISATION = auto()
    TIME = auto()
    MACHINE = auto()


class Move(NamedTuple):
    """One edge: who made it, its name, and the world after it."""

    who: Who
    name: str
    to: World


CLICKED: Final[dict[Act, type[Entry]]] = {
    Act.GRANT: Granted,
    Act.OPT_IN: OptedIn,
    Act.RESUME: Resumed,
}
RESTRICTING: Final[dict[Act, type[Entry]]] = {
    Act.PAUSE: Paused,
    Act.OPT_OUT: OptedOut,
    Act.WITHDRAW: Withdrawn,
}

BENIGN: Final = frozenset(
    {
        "start", "surroundings", "notice", "doubt", "written", "tick", "new policy", "renew",
        "narrower policy", "note policy", "lift stop", "lift halt",
    }
)  # fmt: skip
"""What an environment does that means well: with it and clicks, everything can be resumed."""


def moves(world: World, rules: Rules, around: Sequence[Surroundings]) -> Iterator[Move]:
    """Yield every move that can be made in *world*."""
    if world.up:
        yield from _clicks(world, rules)
        yield from _restrictions(world, rules)
        yield from _machine(world, rules, around)
        if world.kept.grant is Named.OLDER:
            yield from _ledger(world, rules, Who.MACHINE, "expire", Expired)
            yield from _noted(world, rules)
        yield from _notice(world, rules)
        yield from _calls(world, rules)
    else:
        yield Move(Who.MACHINE, "start", _started(world, rules))
        if world.clock is not Clock.SET_AHEAD and (
            world.clock is not Clock.NOTICED or world.kept.doubt
        ):
            # Set ahead over a boot, a clock cannot be told from one that is right: outside.
            yield Move(Who.MACHINE, "boot", _booted(world))
    yield from _policies(world)
    yield from _time(world)
    yield from _clock(world)


# --- the data subject ----------------------------------------------------------------------


def _clicks(world: World, rules: Rules) -> Iterator[Move]:
    if world.under_way:
        return  # a click that crosses a "stop" is refused
    for act, entry in CLICKED.items():
        if act is Act.GRANT and world.policy not in _SIGNED:
            continue
        for _who, name, to in _ledger(world, rules, Who.CLICK, act.value, entry):
            clicked = _after_click(to, act)
            yield Move(Who.CLICK, name, clicked)
            if act not in rules.clicks:
                yield Move(Who.ANYBODY, name, clicked)
    for move in _ledger(world, rules, Who.CLICK, "confirm clock", ClockConfirmed):
        # Whoever says that the clock is right says when the pause ends.
        left = min(world.true_left, world.kept.wall_left)
        yield move._replace(to=move.to._replace(clock=Clock.RIGHT, true_left=left))


def _after_click(world: World, act: Act) -> World:
    # A click also takes back what was asked for and the disk refused.
    ended = {Act.PAUSE} if act is Act.RESUME else {Act.OPT_OUT, Act.WITHDRAW}
    taken_back = world._replace(asked=None if world.asked in ended else world.asked)
    match act:
        case Act.GRANT:
            return taken_back._replace(told_withdrawn=False)
        case Act.OPT_IN:
            return taken_back._replace(told_out=False)
        case _:
            return taken_back._replace(told_paused=False, true_left=0, unclean=False)


def _restrictions(world: World, rules: Rules) -> Iterator[Move]:
    if world.under_way:
        if world.asked is not None:
            yield Move(Who.MACHINE, "written", _written_down(world, world.asked, rules))
        refused = world._replace(under_way=False, mark=rules.leaves_a_mark)
        yield Move(Who.MACHINE, "disk refuses", refused)
        return
    for act in RESTRICTING:
        if world.asked in (None, act):
            asked = world._replace(asked=act, under_way=True)
            told = _told(asked, act) if rules.tells_before_writing else asked
            yield Move(Who.ANYBODY, act.value, told)


def _written_down(world: World, act: Act, rules: Rules) -> World:
    never_given = world.kept.consent is Consent.UNKNOWN and act is Act.WITHDRAW
    kept = rules.written(world.kept, Refused if never_given else RESTRICTING[act])
    return _told(world._replace(kept=kept, asked=None, under_way=False), act)


def _told(world: World, act: Act) -> World:
    match act:
        case Act.PAUSE:
            # Whoever pauses, starts over: what was cut short before is known now.
            return world._replace(told_paused=True, true_left=PAUSE_TICKS, unclean=False)
        case Act.OPT_OUT:
            return world._replace(told_out=True)
        case _:
            return world._replace(told_withdrawn=True)


def _ledger(world: World, rules: Rules, who: Who, name: str, kind: type[Entry]) -> Iterator[Move]:
    try:
        yield Move(who, name, world._replace(kept=rules.written(world.kept, kind)))
    except ConsentError:
        return


# --- the machine ---------------------------------------------------------------------------


def _machine(world: World, rules: Rules, around: Sequence[Surroundings]) -> Iterator[Move]:
    machine = partial(Move, Who.MACHINE)
    for known in around:
        if known != world.surroundings:
            yield machine("surroundings", world._replace(surroundings=known))
    mark = (world.mark or world.under_way) and rules.leaves_a_mark
    yield machine(
        "crash",
        world._replace(
            up=False,
            surroundings=NOTHING_KNOWN,
            asked=None,
            under_way=False,
            mark=mark,
            unclean=world.unclean or world.under_way or world.asked is not None,
        ),
    )
    if world.clock in (Clock.SET_AHEAD, Clock.SET_BACK):
        yield machine("notice", world._replace(clock=Clock.NOTICED))
    if world.clock is Clock.NOTICED and not world.kept.doubt:
        yield from _ledger(world, rules, Who.MACHINE, "doubt", ClockDoubted)


def _started(world: World, rules: Rules) -> World:
    """Believe the disk, and nothing else; see test_a_restart_is_the_real_one."""
    kept = rules.written(world.kept, StoppedUncleanly) if world.mark else world.kept
    set_while_down = world.clock in (Clock.SET_AHEAD, Clock.SET_BACK)
    return world._replace(
        up=True,
        kept=kept,
        mark=False,
        surroundings=rules.restarts_knowing,
        clock=Clock.NOTICED if set_while_down else world.clock,
    )


def _booted(world: World) -> World:
    return world._replace(kept=world.kept._replace(same_boot=False, boot_left=0))


def _clock(world: World) -> Iterator[Move]:
    if world.clock is Clock.RIGHT:
        for clock, left in ((Clock.SET_AHEAD, 0), (Clock.SET_BACK, PAUSE_TICKS)):
            running = world.kept.wall_left or world.kept.boot_left
            kept = world.kept._replace(wall_left=left if running else world.kept.wall_left)
            yield Move(Who.MACHINE, clock.value, world._replace(clock=clock, kept=kept))


# --- a pause that ran out -------------------------------------------------------------------


def _notice(world: World, rules: Rules) -> Iterator[Move]:
    """Let the notice be seen, or closed; it is there while nothing weightier shuts."""
    shown = rules.verdict(world).reasons[ONE] is Reason.RESUME_PENDING
    # That the clock was set is noticed within a second, and the notice takes sixty.
    if shown and not world.under_way and world.clock is Clock.RIGHT:
        for who, name, to in _ledger(world, rules, Who.PRESENCE, "notice seen", NoticeSeen):
            yield Move(who, name, to._replace(told_paused=False, true_left=0))
        yield from _ledger(world, rules, Who.ANYBODY, "await click", ClickAwaited)


# --- organisation and time -----------------------------------------------------------------


def _calls(world: World, rules: Rules) -> Iterator[Move]:
    organisation = partial(_ledger, world, rules, Who.ORGANISATION)
    if not world.kept.stopped:
        yield from organisation("stop", Stopped)
    yield from organisation("lift stop", StopLifted)
    if world.policy is not PolicyState.NONE and world.kept.halt is Named.NOTHING:
        yield from organisation("halt", Halted)
    if world.policy in _SIGNED and world.kept.halt is Named.OLDER:
        yield from organisation("lift halt", HaltLifted)


def _noted(world: World, rules: Rules) -> Iterator[Move]:
    """Note the policy in force: what it widens is stale from then on, the rest stands under it."""
    kept = rules.noted(world)
    if kept is not None:
        yield Move(Who.MACHINE, "note policy", world._replace(kept=kept, narrower=False))


def _policies(world: World) -> Iterator[Move]:
    newer = {Named.THIS: Named.OLDER}
    kept: Kept = world.kept._replace(
        grant=newer.get(world.kept.grant, world.kept.grant),
        halt=newer.get(world.kept.halt, world.kept.halt),
    )
    organisation = partial(Move, Who.ORGANISATION)
    another = world._replace(kept=kept, policy=PolicyState.VALID, narrower=False)
    yield organisation("new policy", another)
    if kept.grant is Named.OLDER:
        yield organisation("narrower policy", another._replace(narrower=True))
    if world.policy in (PolicyState.UNLEASED, PolicyState.OVER):
        yield organisation("renew", world._replace(policy=PolicyState.VALID))
    if world.policy is PolicyState.VALID:
        yield Move(Who.TIME, "lease over", world._replace(policy=PolicyState.UNLEASED))
    if world.policy in _SIGNED:
        yield Move(Who.TIME, "policy over", world._replace(policy=PolicyState.OVER))
        yield Move(Who.MACHINE, "policy damaged", world._replace(policy=PolicyState.NONE))


def _time(world: World) -> Iterator[Move]:
    kept = world.kept
    if kept.wall_left or kept.boot_left or world.true_left:
        passed = kept._replace(
            wall_left=max(0, kept.wall_left - 1), boot_left=max(0, kept.boot_left - 1)
        )
        left = max(0, world.true_left - 1)
        yield Move(Who.TIME, "tick", world._replace(kept=passed, true_left=left))
