"""Where consent stands, and every way to move: three small tables, all in this file.

A category has a consent and an opt-out flag, the agent has one pause.  The docs drawing and
the tests read these tables; `ledger` replays its records through them, and nothing else
moves a state.  Capture needs GIVEN, CLEAR and RUNNING at once, and nothing but a click of
the data subject leads there from anywhere else (`CLICKS`).
"""

from collections.abc import Mapping
from enum import StrEnum, auto
from types import MappingProxyType
from typing import Final

from base.errors import ConsentError


class IllegalMoveError(ConsentError):
    """The record was asked to move in a way that its table does not have."""


class Consent(StrEnum):
    """The consent for one category; the names are those of the W3C Data Privacy Vocabulary."""

    UNKNOWN = auto()  # nothing on record, or the record cannot be read
    GIVEN = auto()
    STALE = auto()  # given, but for another policy than the one in force
    WITHDRAWN = auto()


class Flag(StrEnum):
    """The opt-out flag of one category."""

    CLEAR = auto()
    OPTED_OUT = auto()


class Pause(StrEnum):
    """The pause, which holds for all categories."""

    RUNNING = auto()
    PAUSED = auto()
    RESUME_PENDING = auto()  # the pause ran out; shut until somebody clicks Resume


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
    STOP_UNCLEANLY = auto()  # a crash while a restriction was being made


CLICKS: Final = frozenset({Act.GRANT, Act.OPT_IN, Act.RESUME})
"""The acts that can lead to more capture: only the tray's own window may ask for them."""

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
        # Nobody knows what the person asked for, so a click is needed; a pause that is
        # on the disk keeps its length and ends in the same place.
        (Pause.RUNNING, Act.STOP_UNCLEANLY): Pause.RESUME_PENDING,
        (Pause.RESUME_PENDING, Act.STOP_UNCLEANLY): Pause.RESUME_PENDING,
        (Pause.PAUSED, Act.STOP_UNCLEANLY): Pause.PAUSED,
    }
)


def consent_after(state: Consent, act: Act) -> Consent:
    """Return the consent that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    try:
        return CONSENT[state, act]
    except KeyError:
        raise IllegalMoveError(f"cannot {act} when consent is {state}") from None


def flag_after(state: Flag, act: Act) -> Flag:
    """Return the flag that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    try:
        return FLAG[state, act]
    except KeyError:
        raise IllegalMoveError(f"cannot {act} when the flag is {state}") from None


def pause_after(state: Pause, act: Act) -> Pause:
    """Return the pause that *act* leads to.

    Raises:
        IllegalMoveError: The table has no such move.

    """
    try:
        return PAUSE[state, act]
    except KeyError:
        raise IllegalMoveError(f"cannot {act} when {state}") from None
