"""What must be true of every state and of every move, each under the name of its promise.

They speak of the world and of what the data subject was told, never of the facts that the
gate was given: a rule that forgets something must not make its own proof forget it too.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from agent.consent.gate import WEIGHTIEST_FIRST, Verdict
from agent.consent.states import Act, Consent, Flag, Pause
from tests.model.moves import Move, Who
from tests.model.world import ONE, Clock, Named, PolicyState, World
from wire.control import Reason


class Step(NamedTuple):
    """A move, with what the gate said before and after it."""

    before: World
    move: Move
    verdict: Verdict
    verdict_after: Verdict

    @property
    def opens(self) -> bool:
        """Whether a source may be open after the move that might not be before it."""
        return is_open(self.verdict_after) and not is_open(self.verdict)


StateInvariant: TypeAlias = Callable[[World, Verdict], bool]
StepInvariant: TypeAlias = Callable[[Step], bool]

ON_STATES: Final[list[StateInvariant]] = []
ON_STEPS: Final[list[StepInvariant]] = []


def _state(check: StateInvariant) -> StateInvariant:
    ON_STATES.append(check)
    return check


def _step(check: StepInvariant) -> StepInvariant:
    ON_STEPS.append(check)
    return check


def is_open(verdict: Verdict) -> bool:
    """Whether the source may be open."""
    return ONE in verdict.sources


def is_captured(verdict: Verdict) -> bool:
    """Whether what happens now may be kept."""
    return ONE in verdict.categories


def has_consent(world: World) -> bool:
    """Whether a live grant covers the policy on the disk: that very one, or a wider one."""
    kept = world.kept
    signed = world.policy in (PolicyState.VALID, PolicyState.UNLEASED)
    narrower = kept.grant is Named.OLDER and world.narrower and signed
    return kept.consent is Consent.GIVEN and (kept.grant is Named.THIS or narrower)


# --- on states: what is open at all ---------------------------------------------------------


@_state
def i1_nothing_without_a_yes(world: World, verdict: Verdict) -> bool:
    """I1: a source is open only under a live grant that fits the policy in force."""
    return not is_open(verdict) or has_consent(world)


@_state
def i2_an_acknowledged_pause_is_silence(world: World, verdict: Verdict) -> bool:
    """I2: who was told "silent" by a pause is not recorded until it is resumed."""
    return not (is_open(verdict) and world.told_paused)


@_state
def i2_an_acknowledged_opt_out_is_silence(world: World, verdict: Verdict) -> bool:
    """I2: the same for an opt-out."""
    return not (is_open(verdict) and world.told_out)


@_state
def i2_an_acknowledged_withdrawal_is_silence(world: World, verdict: Verdict) -> bool:
    """I2: the same for a withdrawal."""
    return not (is_open(verdict) and world.told_withdrawn)


@_state
def i2_a_restriction_counts_before_it_is_written(world: World, verdict: Verdict) -> bool:
    """I2: what was asked for and is not on the disk yet, or was refused by it, shuts."""
    return not (is_open(verdict) and world.asked is not None)


@_state
def i2_after_an_unclean_stop_somebody_clicks(world: World, verdict: Verdict) -> bool:
    """I2: a restriction that a crash cut short keeps capture shut until a click."""
    return not (is_open(verdict) and world.unclean)


@_state
def i3_no_light_no_capture(world: World, verdict: Verdict) -> bool:
    """I3: the indicator is known to be shown."""
    return not is_open(verdict) or world.knows("indicator_shown")


@_state
def i9_what_was_acknowledged_is_on_the_disk(world: World, _verdict: Verdict) -> bool:
    """I9: withdrawal, opt-out and pause are durable before anybody is told."""
    kept = world.kept
    return (
        (not world.told_withdrawn or kept.consent is Consent.WITHDRAWN)
        and (not world.told_out or kept.flag is Flag.OPTED_OUT)
        and (not world.told_paused or kept.pause is not Pause.RUNNING)
    )


@_state
def an_opt_out_flag_shuts(world: World, verdict: Verdict) -> bool:
    """No flag is raised, whoever raised it."""
    return not is_open(verdict) or world.kept.flag is Flag.CLEAR


@_state
def a_halt_shuts(world: World, verdict: Verdict) -> bool:
    """No halt is on the ledger, under whatever policy it was called, and no stop."""
    return not is_open(verdict) or not (world.kept.stopped or world.kept.halt is not Named.NOTHING)


@_state
def only_a_valid_policy_opens(world: World, verdict: Verdict) -> bool:
    """A policy that expired, whose lease is over or that cannot be read permits nothing."""
    return not is_open(verdict) or world.policy is PolicyState.VALID


@_state
def a_doubted_clock_shuts(world: World, verdict: Verdict) -> bool:
    """Neither a doubt of this moment nor one on the ledger."""
    return not is_open(verdict) or not (world.kept.doubt or world.clock is Clock.NOTICED)


@_state
def a_pause_on_the_ledger_shuts(world: World, verdict: Verdict) -> bool:
    """Paused, or waiting for the click: sources are closed, not only ignored."""
    return not is_open(verdict) or world.kept.pause is Pause.RUNNING


@_state
def another_session_shuts(world: World, verdict: Verdict) -> bool:
    """Locked, remote, somebody else's or unknown."""
    return not is_open(verdict) or world.knows("session_ours")


@_state
def outside_scope_nothing_is_kept(world: World, verdict: Verdict) -> bool:
    """The focused program is known to be listed."""
    return not is_captured(verdict) or world.knows("inside_scope")


@_state
def what_is_sensitive_is_not_kept(world: World, verdict: Verdict) -> bool:
    """The field is known not to be secret."""
    return not is_captured(verdict) or world.knows("not_sensitive")


@_state
def without_redaction_nothing_is_open(world: World, verdict: Verdict) -> bool:
    """The redactor is known to run."""
    return not is_open(verdict) or world.knows("redactor_up")


@_state
def without_storage_nothing_is_open(world: World, verdict: Verdict) -> bool:
    """There is room, and the guard's key."""
    return not is_open(verdict) or world.knows("storable")


@_state
def what_is_kept_is_open(_world: World, verdict: Verdict) -> bool:
    """What may be kept is part of what may be open."""
    return verdict.categories <= verdict.sources


@_state
def the_reason_is_the_weightiest(world: World, verdict: Verdict) -> bool:
    """A person reads the first of DESIGN's reasons that the world gives, and no other."""
    return verdict.reasons[ONE] is next(r for r in WEIGHTIEST_FIRST if _stands(world, r))


def _stands(world: World, reason: Reason) -> bool:  # noqa: PLR0911 - one line for each reason
    kept = world.kept
    ran_out = kept.pause is Pause.PAUSED and not (kept.boot_left or kept.wall_left)
    match reason:
        case Reason.HALTED_BY_ORG:
            return kept.stopped or kept.halt is not Named.NOTHING
        case Reason.OPTED_OUT:
            return kept.flag is Flag.OPTED_OUT or world.asked in (Act.OPT_OUT, Act.WITHDRAW)
        case Reason.NOT_CONSENTED:
            return kept.consent not in (Consent.GIVEN, Consent.STALE)
        case Reason.CONSENT_STALE:
            return not has_consent(world) or world.policy is PolicyState.NONE
        case Reason.POLICY_INVALID:
            return world.policy is not PolicyState.VALID
        case Reason.CLOCK_UNTRUSTED:
            return kept.doubt or world.clock is Clock.NOTICED
        case Reason.PAUSED_UNTIL:
            return world.asked is Act.PAUSE or (kept.pause is Pause.PAUSED and not ran_out)
        case Reason.RESUME_PENDING:
            return kept.pause is not Pause.RUNNING
        case Reason.ACTIVE:
            return True
        case _:
            return not world.knows(_SURROUNDING[reason])


_SURROUNDING: Final = {
    Reason.INDICATOR_MISSING: "indicator_shown",
    Reason.SESSION_BLOCKED: "session_ours",
    Reason.OUTSIDE_SCOPE: "inside_scope",
    Reason.SENSITIVE: "not_sensitive",
    Reason.REDACTOR_DOWN: "redactor_up",
    Reason.STORAGE_BLOCKED: "storable",
}


# --- on moves: who may open -----------------------------------------------------------------

_TAKEN_BACK_BY: Final = {
    "renew": (Reason.POLICY_INVALID, Reason.CONSENT_STALE),
    "narrower policy": (Reason.POLICY_INVALID, Reason.CONSENT_STALE),
    "lift stop": (Reason.HALTED_BY_ORG,),
}
"""By which of its acts the organisation may open, and the reasons that each may end.

A policy that is over cannot be compared, so that a consent may be stale until it is renewed.
"""


@_step
def i4_time_alone_starts_nothing(step: Step) -> bool:
    """I4: no tick and no expiry opens a source."""
    return not (step.opens and step.move.who is Who.TIME)


@_step
def i4_a_script_starts_nothing(step: Step) -> bool:
    """I4: what anybody may do in the data subject's name only restricts."""
    return not (step.opens and step.move.who is Who.ANYBODY)


@_step
def i4_the_organisation_gives_back_only_its_own_no(step: Step) -> bool:
    """I4: it opens by renewing what was agreed to, by asking for no more, or lifting its own stop.

    What had shut before was the organisation's own, each time; nobody else's no is touched.
    """
    if not (step.opens and step.move.who is Who.ORGANISATION):
        return True
    shut_by = step.verdict.reasons[ONE]
    return shut_by in _TAKEN_BACK_BY.get(step.move.name, ())


@_step
def i4_only_a_click_relaxes_a_choice(step: Step) -> bool:
    """I4: no grant, no lowered flag without a click; a pause ends by one, or a notice seen."""
    before, after = step.before.kept, step.move.to.kept
    seen = step.move.who is Who.PRESENCE
    asks_no_more = step.move.name in ("narrower policy", "renew")
    relaxed = (
        (after.consent is Consent.GIVEN and before.consent is not Consent.GIVEN)
        or (after.grant is not Named.NOTHING and before.grant is Named.NOTHING)
        # Noting a policy moves under what a consent stands, and never makes one stand.
        or (has_consent(step.move.to) and not has_consent(step.before) and not asks_no_more)
        or (after.flag is Flag.CLEAR and before.flag is not Flag.CLEAR)
        or (after.pause is Pause.RUNNING and before.pause is not Pause.RUNNING and not seen)
        or (before.doubt and not after.doubt)
    )
    return not relaxed or step.move.who is Who.CLICK


@_step
def lifting_a_halt_asks_again(step: Step) -> bool:
    """The end of a halt leaves no consent as it was."""
    return step.move.name != "lift halt" or step.move.to.kept.consent is not Consent.GIVEN


@_step
def a_notice_ends_what_ran_out_and_nothing_else(step: Step) -> bool:
    """Seen before the true end of a pause, or after an unclean stop, a notice ends nothing."""
    early = step.before.true_left > 0 or step.before.unclean
    return not (step.move.who is Who.PRESENCE and early)


@_step
def a_restart_starts_nothing(step: Step) -> bool:
    """A start opens nothing before indicator, session and policy are proved again."""
    return step.move.name != "start" or not is_open(step.verdict_after)


@_step
def a_pause_keeps_its_length(step: Step) -> bool:
    """Before its true end nobody reads that a pause ran out, except after a click."""
    after = step.move.to
    early = after.told_paused and after.true_left > 0
    says_over = step.verdict_after.reasons[ONE] is Reason.RESUME_PENDING
    # After a boot there is the wall clock alone; that it was set is noticed a second later.
    unnoticed = after.clock is Clock.SET_AHEAD and not after.kept.same_boot
    return not (early and says_over and step.move.who is not Who.CLICK and not unnoticed)


@_step
def a_policy_that_changed_is_asked_about(step: Step) -> bool:
    """One that is not proved to ask for no more opens nothing, and noting it settles that."""
    wider = step.before.kept.grant is Named.OLDER and not step.before.narrower
    settled = step.move.name != "note policy" or not wider
    return (step.move.name != "new policy" or not is_open(step.verdict_after)) and (
        settled or step.move.to.kept.consent is not Consent.GIVEN
    )


@_step
def a_restriction_restricts(step: Step) -> bool:
    """Pause, opt-out and withdrawal shut in that very move, and stay shut when written."""
    asked = {Act.PAUSE.value, Act.OPT_OUT.value, Act.WITHDRAW.value, "written", "disk refuses"}
    return step.move.name not in asked or not is_open(step.verdict_after)
