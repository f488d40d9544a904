"""The tables of consent, flag and pause: complete where they must be, and with one way to yes."""

import pytest

from agent.consent.states import (
    CLICKS,
    CONSENT,
    FLAG,
    PAUSE,
    Act,
    Consent,
    Flag,
    IllegalMoveError,
    Pause,
    consent_after,
    flag_after,
    pause_after,
)

CAPTURING = {Consent.GIVEN, Flag.CLEAR, Pause.RUNNING}


@pytest.mark.parametrize("table", [CONSENT, FLAG, PAUSE])
def test_nothing_but_a_click_leads_to_a_state_that_can_capture(
    table: dict[tuple[object, Act], object],
) -> None:
    """I4: from outside, GIVEN, CLEAR and RUNNING are reached by GRANT, OPT_IN and RESUME alone."""
    entering = {
        act
        for (state, act), after in table.items()
        if after in CAPTURING and state not in CAPTURING
    }
    assert entering <= CLICKS
    assert entering


@pytest.mark.parametrize("state", Consent)
def test_every_consent_can_be_withdrawn_and_goes_stale(state: Consent) -> None:
    """A no may always be said; a new policy never makes a yes."""
    assert consent_after(state, Act.WITHDRAW) is Consent.WITHDRAWN
    assert consent_after(state, Act.CHANGE_POLICY) is not Consent.GIVEN


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


def test_a_pause_that_runs_out_waits_for_a_click() -> None:
    """Time alone never starts capture."""
    assert pause_after(Pause.PAUSED, Act.RUN_OUT) is Pause.RESUME_PENDING


def test_a_move_that_no_table_has_is_refused() -> None:
    """Not ignored: whoever asks for it has made a mistake."""
    with pytest.raises(IllegalMoveError):
        pause_after(Pause.RUNNING, Act.RUN_OUT)
    with pytest.raises(IllegalMoveError):
        consent_after(Consent.GIVEN, Act.PAUSE)
    with pytest.raises(IllegalMoveError):
        flag_after(Flag.CLEAR, Act.GRANT)
