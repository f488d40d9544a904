"""The tables of states: complete where they must be, and with few ways to a yes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from agent.consent.states import (
    CLICKS,
    CONSENT,
    FLAG,
    HALT,
    OPEN,
    PAUSE,
    PROVED,
    STOP,
    Act,
    Consent,
    Ending,
    Flag,
    Halt,
    IllegalMoveError,
    Pause,
    Stop,
    consent_after,
    ending_after,
    flag_after,
    halt_after,
    pause_after,
    stop_after,
)

TABLES: tuple[Mapping[Any, StrEnum], ...] = (CONSENT, FLAG, PAUSE, STOP, HALT)


@pytest.mark.parametrize("table", TABLES, ids=["consent", "flag", "pause", "stop", "halt"])
def test_nothing_but_a_click_or_a_proof_leads_to_a_state_that_can_capture(
    table: Mapping[Any, StrEnum],
) -> None:
    """I4: GIVEN and CLEAR are reached by clicks alone, the others by clicks and what is proved."""
    entering = {act for (state, act), after in table.items() if after in OPEN and state not in OPEN}
    allowed = CLICKS if table in (CONSENT, FLAG) else CLICKS | PROVED
    assert entering <= allowed
    assert entering


def test_time_and_crashes_and_the_organisation_are_neither_clicks_nor_proofs() -> None:
    """What anybody but the data subject can bring about opens nothing by itself."""
    alone = {Act.RUN_OUT, Act.STOP_UNCLEANLY, Act.CHANGE_POLICY, Act.STOP, Act.HALT}
    assert not alone & (CLICKS | PROVED)
    opened = [
        (state, act)
        for table in TABLES
        for (state, act), after in table.items()
        if act in alone and after in OPEN and state not in OPEN
    ]
    assert opened == []


@pytest.mark.parametrize("state", Consent)
def test_every_consent_can_be_withdrawn_and_goes_stale(state: Consent) -> None:
    """A no may always be said; neither a new policy nor a halt that is lifted makes a yes."""
    assert consent_after(state, Act.WITHDRAW) is Consent.WITHDRAWN
    assert consent_after(state, Act.CHANGE_POLICY) is not Consent.GIVEN
    assert consent_after(state, Act.LIFT_HALT) is not Consent.GIVEN
    assert consent_after(state, Act.GRANT) is Consent.GIVEN


@pytest.mark.parametrize("state", Flag)
def test_every_flag_can_be_raised(state: Flag) -> None:
    """An opt-out is never out of reach."""
    assert flag_after(state, Act.OPT_OUT) is Flag.OPTED_OUT


@pytest.mark.parametrize("state", Pause)
def test_a_pause_can_be_had_in_every_state(state: Pause) -> None:
    """Also while paused: that is a new window."""
    assert pause_after(state, Act.PAUSE) is Pause.PAUSED


@pytest.mark.parametrize("state", Pause)
def test_an_unclean_stop_never_leaves_capture_running(state: Pause) -> None:
    """Nobody knows what was asked for, so a click is needed."""
    assert pause_after(state, Act.STOP_UNCLEANLY) is not Pause.RUNNING


@pytest.mark.parametrize("state", Ending)
def test_after_an_unclean_stop_a_pause_ends_by_a_click_alone(state: Ending) -> None:
    """Also a pause that was on the disk already, whose end would have had a notice."""
    assert ending_after(state, Act.STOP_UNCLEANLY) is Ending.CLICK
    with pytest.raises(IllegalMoveError):
        ending_after(Ending.CLICK, Act.SEE_NOTICE)


def test_a_pause_that_runs_out_does_not_end_by_that() -> None:
    """Time alone never starts capture."""
    assert pause_after(Pause.PAUSED, Act.RUN_OUT) is Pause.RESUME_PENDING


@pytest.mark.parametrize("state", [Pause.RUNNING, Pause.PAUSED])
def test_a_notice_ends_only_a_pause_that_ran_out(state: Pause) -> None:
    """A pause is never shortened by anything but a click."""
    with pytest.raises(IllegalMoveError):
        pause_after(state, Act.SEE_NOTICE)


@pytest.mark.parametrize("state", Ending)
def test_whoever_closes_the_notice_is_waited_for(state: Ending) -> None:
    """Until they pause again, or resume."""
    assert ending_after(state, Act.AWAIT_CLICK) is Ending.CLICK
    assert ending_after(state, Act.PAUSE) is Ending.NOTICE


@pytest.mark.parametrize("state", Stop)
def test_a_stop_can_be_called_at_any_time_and_is_no_matter_of_halts(state: Stop) -> None:
    """That a halt is over does not say that the fault is mended."""
    assert stop_after(state, Act.STOP) is Stop.STOPPED
    assert {act for _state, act in STOP} == {Act.STOP, Act.LIFT_STOP}


@pytest.mark.parametrize("state", Halt)
def test_a_halt_can_be_called_at_any_time_and_is_no_matter_of_stops(state: Halt) -> None:
    """That a fault is mended does not lift it."""
    assert halt_after(state, Act.HALT) is Halt.HALTED
    assert {act for _state, act in HALT} == {Act.HALT, Act.LIFT_HALT}


def test_a_move_that_no_table_has_is_refused() -> None:
    """Not ignored: whoever asks for it has made a mistake."""
    with pytest.raises(IllegalMoveError):
        pause_after(Pause.RUNNING, Act.RUN_OUT)
    with pytest.raises(IllegalMoveError):
        consent_after(Consent.GIVEN, Act.PAUSE)
    with pytest.raises(IllegalMoveError):
        flag_after(Flag.CLEAR, Act.GRANT)
    with pytest.raises(IllegalMoveError):
        stop_after(Stop.GOING, Act.LIFT_STOP)
    with pytest.raises(IllegalMoveError):
        halt_after(Halt.UNHALTED, Act.LIFT_HALT)
