"""Where consent stands, and every way to move: six small tables, all in this file.

A category has a consent and an opt-out flag; the agent has one pause, which ends in one of
two ways; the organisation can stop and halt.  The page docs/states.md is drawn from these
tables and the tests read them; `ledger` replays its records through them, and nothing else
moves a state.  Capture needs GIVEN, CLEAR, RUNNING, GOING and UNHALTED at once.

What can lead there is in two short lists: `CLICKS`, which are the data subject's, and
`PROVED`, which hold only with a proof that is written down beside them.
"""

from collections.abc import Mapping
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final, TypeVar

from base.errors import ConsentError


class IllegalMoveError(ConsentError):
    """The record was asked to move in a way that its table does not have."""


class Consent(StrEnum):
    """The consent for one category; the names are those of the W3C Data Privacy Vocabulary."""

    UNKNOWN = auto()  # nothing on record, or the record cannot be read
    GIVEN = auto()
    STALE = auto()  # given, but not for what the policy asks now, or too long ago
    WITHDRAWN = auto()


class Flag(StrEnum):
    """The opt-out flag of one category."""

    CLEAR = auto()
    OPTED_OUT = auto()


class Pause(StrEnum):
    """The pause, which holds for all categories."""

    RUNNING = auto()
    PAUSED = auto()
    RESUME_PENDING = auto()  # the pause ran out, or nobody knows what was asked for


class Ending(StrEnum):
    """What ends a pause that has run out."""

    NOTICE = auto()  # a click, or a notice that was in sight of the data subject for 60 s
    CLICK = auto()  # a click and nothing else, however long that takes


class Stop(StrEnum):
    """What one party that may stop the programme has called: one state for each party."""

    GOING = auto()
    STOPPED = auto()  # until its cause is gone: a drill that failed, an outage


class Halt(StrEnum):
    """Whether the programme is halted, for everybody."""

    UNHALTED = auto()
    HALTED = auto()  # until a new policy that the threshold has signed


class Act(StrEnum):
    """What a person, the policy, the clock or a crash can do to these states."""

    GRANT = auto()
    WITHDRAW = auto()
    CHANGE_POLICY = auto()
    OPT_OUT = auto()
    OPT_IN = auto()
    PAUSE = auto()
    RUN_OUT = auto()
    RESUME = auto()
    SEE_NOTICE = auto()  # the notice was in sight, and the data subject there, for its 60 s
    AWAIT_CLICK = auto()  # the data subject closed the notice
    STOP_UNCLEANLY = auto()  # a crash while a restriction was being made
    STOP = auto()
    LIFT_STOP = auto()
    HALT = auto()
    LIFT_HALT = auto()


CLICKS: Final = frozenset({Act.GRANT, Act.OPT_IN, Act.RESUME})
"""The acts that can lead to more capture: only the tray's own window may ask for them."""

PROVED: Final = frozenset({Act.SEE_NOTICE, Act.LIFT_STOP, Act.LIFT_HALT})
"""The acts that can lead to more capture without a click at that moment.

SEE_NOTICE needs a pause that ran out and the data subject's presence (`notice`); LIFT_STOP
gives back only what the same party's stop had closed; LIFT_HALT makes every consent stale,
so that nothing is captured before it is granted again.
"""

CONSENT: Final[Mapping[tuple[Consent, Act], Consent]] = MappingProxyType(
    {
        (Consent.UNKNOWN, Act.GRANT): Consent.GIVEN,
        (Consent.GIVEN, Act.GRANT): Consent.GIVEN,
        (Consent.STALE, Act.GRANT): Consent.GIVEN,
        (Consent.WITHDRAWN, Act.GRANT): Consent.GIVEN,
        (Consent.GIVEN, Act.CHANGE_POLICY): Consent.STALE,
        (Consent.STALE, Act.CHANGE_POLICY): Consent.STALE,
        (Consent.UNKNOWN, Act.CHANGE_POLICY): Consent.UNKNOWN,
        (Consent.WITHDRAWN, Act.CHANGE_POLICY): Consent.WITHDRAWN,
        # A halt that is lifted asks everybody again, whatever the new policy says.
        (Consent.GIVEN, Act.LIFT_HALT): Consent.STALE,
        (Consent.STALE, Act.LIFT_HALT): Consent.STALE,
        (Consent.UNKNOWN, Act.LIFT_HALT): Consent.UNKNOWN,
        (Consent.WITHDRAWN, Act.LIFT_HALT): Consent.WITHDRAWN,
        # What was not confirmed in time is asked again; it was still a yes.
        (Consent.GIVEN, Act.RUN_OUT): Consent.STALE,
        (Consent.STALE, Act.RUN_OUT): Consent.STALE,
        (Consent.UNKNOWN, Act.RUN_OUT): Consent.UNKNOWN,
        (Consent.WITHDRAWN, Act.RUN_OUT): Consent.WITHDRAWN,
        # Withdrawing what was never given is no error: a no may always be said.
        (Consent.UNKNOWN, Act.WITHDRAW): Consent.WITHDRAWN,
        (Consent.GIVEN, Act.WITHDRAW): Consent.WITHDRAWN,
        (Consent.STALE, Act.WITHDRAW): Consent.WITHDRAWN,
        (Consent.WITHDRAWN, Act.WITHDRAW): Consent.WITHDRAWN,
    }
)

FLAG: Final[Mapping[tuple[Flag, Act], Flag]] = MappingProxyType(
    {
        (Flag.CLEAR, Act.OPT_OUT): Flag.OPTED_OUT,
        (Flag.OPTED_OUT, Act.OPT_OUT): Flag.OPTED_OUT,
        (Flag.OPTED_OUT, Act.OPT_IN): Flag.CLEAR,
        (Flag.CLEAR, Act.OPT_IN): Flag.CLEAR,
    }
)

PAUSE: Final[Mapping[tuple[Pause, Act], Pause]] = MappingProxyType(
    {
        (Pause.RUNNING, Act.PAUSE): Pause.PAUSED,
        (Pause.PAUSED, Act.PAUSE): Pause.PAUSED,  # a new window
        (Pause.RESUME_PENDING, Act.PAUSE): Pause.PAUSED,
        (Pause.PAUSED, Act.RUN_OUT): Pause.RESUME_PENDING,
        (Pause.RUNNING, Act.RESUME): Pause.RUNNING,  # a second click on an old window
        (Pause.PAUSED, Act.RESUME): Pause.RUNNING,
        (Pause.RESUME_PENDING, Act.RESUME): Pause.RUNNING,
        (Pause.RESUME_PENDING, Act.SEE_NOTICE): Pause.RUNNING,
        # Nobody knows what the person asked for, so a click is needed; a pause that is
        # on the disk keeps its length and ends in the same place.
        (Pause.RUNNING, Act.STOP_UNCLEANLY): Pause.RESUME_PENDING,
        (Pause.RESUME_PENDING, Act.STOP_UNCLEANLY): Pause.RESUME_PENDING,
        (Pause.PAUSED, Act.STOP_UNCLEANLY): Pause.PAUSED,
    }
)

ENDING: Final[Mapping[tuple[Ending, Act], Ending]] = MappingProxyType(
    {
        # Whoever pauses, or resumes by a click, starts over.
        (Ending.NOTICE, Act.PAUSE): Ending.NOTICE,
        (Ending.CLICK, Act.PAUSE): Ending.NOTICE,
        (Ending.NOTICE, Act.RESUME): Ending.NOTICE,
        (Ending.CLICK, Act.RESUME): Ending.NOTICE,
        (Ending.NOTICE, Act.SEE_NOTICE): Ending.NOTICE,
        (Ending.NOTICE, Act.AWAIT_CLICK): Ending.CLICK,
        (Ending.CLICK, Act.AWAIT_CLICK): Ending.CLICK,
        (Ending.NOTICE, Act.STOP_UNCLEANLY): Ending.CLICK,
        (Ending.CLICK, Act.STOP_UNCLEANLY): Ending.CLICK,
    }
)

STOP: Final[Mapping[tuple[Stop, Act], Stop]] = MappingProxyType(
    {
        (Stop.GOING, Act.STOP): Stop.STOPPED,
        (Stop.STOPPED, Act.STOP): Stop.STOPPED,
        (Stop.STOPPED, Act.LIFT_STOP): Stop.GOING,
    }
)

HALT: Final[Mapping[tuple[Halt, Act], Halt]] = MappingProxyType(
    {
        (Halt.UNHALTED, Act.HALT): Halt.HALTED,
        (Halt.HALTED, Act.HALT): Halt.HALTED,
        (Halt.HALTED, Act.LIFT_HALT): Halt.UNHALTED,
    }
)

OPEN: Final = frozenset({Consent.GIVEN, Flag.CLEAR, Pause.RUNNING, Stop.GOING, Halt.UNHALTED})
"""The states in which a source may be open: it takes one of each kind."""


def consent_after(state: Consent, act: Act) -> Consent:
    """Return the consent that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(CONSENT, state, act, f"when consent is {state}")


def flag_after(state: Flag, act: Act) -> Flag:
    """Return the flag that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(FLAG, state, act, f"when the flag is {state}")


def pause_after(state: Pause, act: Act) -> Pause:
    """Return the pause that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(PAUSE, state, act, f"when {state}")


def ending_after(state: Ending, act: Act) -> Ending:
    """Return how a pause ends after *act*.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(ENDING, state, act, f"when a pause ends with a {state}")


def stop_after(state: Stop, act: Act) -> Stop:
    """Return what a party's stop is after *act*.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(STOP, state, act, f"when {state}")


def halt_after(state: Halt, act: Act) -> Halt:
    """Return the halt that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    return _after(HALT, state, act, f"when {state}")


_S = TypeVar("_S", bound=StrEnum)


def _after(table: Mapping[tuple[_S, Act], _S], state: _S, act: Act, when: str) -> _S:
    try:
        return table[state, act]
    except KeyError:
        raise IllegalMoveError(f"cannot {act} {when}") from None
