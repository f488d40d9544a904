"""What is said to the collector next, and what each of its answers means."""

from dataclasses import replace

import pytest

from agent.handover import Answered, NoAnswer, Outcome
from agent.upload import (
    LARGEST_BACK_OFF_SECONDS,
    Ack,
    Confirmed,
    Delete,
    Erase,
    Gone,
    Holds,
    Idle,
    Quarantine,
    Register,
    Registered,
    Retry,
    Send,
    Step,
    Task,
    Unknown,
    View,
    Wait,
    back_off,
    next_task,
    on_response,
    until,
)
from wire.errors import ForgedError
from wire.ids import GrantHash

G, H = GrantHash(b"g"), GrantHash(b"h")
SEND, DELETE, REGISTER = Send(name="aa", grant=G), Delete(name="dd"), Register(grant=G)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (View(), Idle()),
        (View(ready=(SEND,)), SEND),
        (View(ready=(SEND, Send(name="bb", grant=H))), SEND),
        (View(ready=(SEND,), deletions=("dd",)), DELETE),
        (View(ready=(SEND,), unregistered=(G,)), REGISTER),
        (View(ready=(SEND,), unregistered=(H,)), Register(grant=H)),
        (View(ready=(SEND,), unregistered=(G,), later={REGISTER: 99}), Wait(until=99)),
        (View(ready=(SEND,), unregistered=(H,), later={Register(grant=H): 99}), SEND),
        (View(ready=(SEND,), frozen=True), Idle()),
        (View(unregistered=(G,), frozen=True), Idle()),
        (View(deletions=("dd",), frozen=True), DELETE),
        (View(ready=(SEND,), door_opens=50), Wait(until=50)),
        (View(ready=(SEND,), later={SEND: 70}), Wait(until=70)),
        (View(deletions=("dd",), ready=(SEND,), later={DELETE: 70}), SEND),
        (View(deletions=("dd",), ready=(SEND,), later={DELETE: 70}, door_opens=60), Wait(until=60)),
    ],
)
def test_what_comes_next(view: View, expected: Task | Wait | Idle) -> None:
    """Deletions, then consents, then batches; what waits holds up nobody else."""
    assert next_task(view, 10) == expected


def test_what_waited_long_enough_is_done() -> None:
    """At the instant itself."""
    view = View(ready=(SEND,), door_opens=50, later={SEND: 40})
    assert next_task(view, 49) == Wait(until=50)
    assert next_task(view, 50) == SEND


def refuse(_body: bytes) -> None:
    raise ForgedError("another batch")


def respond(task: Task, outcome: Outcome, *, proof: bool = True) -> Step:
    check = (lambda _body: None) if proof else refuse
    return on_response(task, outcome, failures=2, dice=0.5, check=check)


@pytest.mark.parametrize(
    ("task", "status", "expected"),
    [
        (SEND, 200, Ack(name="aa")),
        (SEND, 201, Ack(name="aa")),
        (SEND, 410, Gone(name="aa")),
        (SEND, 400, Quarantine(name="aa", why="the collector answered 400")),
        (SEND, 403, Quarantine(name="aa", why="the collector answered 403")),
        (SEND, 413, Quarantine(name="aa", why="the collector answered 413")),
        (SEND, 422, Quarantine(name="aa", why="the collector answered 422")),
        (DELETE, 200, Confirmed(name="dd")),
        (REGISTER, 201, Registered(grant=G)),
        (REGISTER, 200, Registered(grant=G)),
    ],
)
def test_what_an_answer_means(task: Task, status: int, expected: Step) -> None:
    """The table of collector-http-v1, from the device's side."""
    assert respond(task, Answered(status=status)) == expected


@pytest.mark.parametrize("status", [401, 408, 425, 500, 502, 503, 204, 302])
@pytest.mark.parametrize("task", [SEND, DELETE, REGISTER])
def test_trouble_of_the_door_is_tried_again_and_blames_no_batch(task: Task, status: int) -> None:
    """Nothing is set aside because of a server that is busy or a certificate that is old."""
    step = respond(task, Answered(status=status))
    assert isinstance(step, Retry)
    assert step.holds is Holds.DOOR


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize(
    ("task", "holds"), [(SEND, Holds.UPLOADS), (DELETE, Holds.TASK), (REGISTER, Holds.TASK)]
)
def test_a_request_that_the_collector_does_not_know_is_no_fault_of_the_batch(
    task: Task, holds: Holds, status: int
) -> None:
    """One of both is of another version: everything is kept, and the line says so."""
    step = respond(task, Answered(status=status, says="not-found: Not Found"))
    assert step == Retry(
        after_seconds=LARGEST_BACK_OFF_SECONDS,
        why=f"the collector answered {status}: not-found: Not Found; it is of another version "
        "than this assent; ask who runs it",
        holds=holds,
    )


def test_a_batch_of_a_later_version_waits_alone() -> None:
    """501: the collector cannot read it yet; the others go on."""
    says = "version-unknown: suite 2 is not known to this version"
    step = respond(SEND, Answered(status=501, says=says))
    assert step == Retry(
        after_seconds=LARGEST_BACK_OFF_SECONDS,
        why=f"the collector answered 501: {says}",
        holds=Holds.TASK,
    )


def test_a_collector_without_room_keeps_batches_waiting_and_nothing_else() -> None:
    """507: all batches wait together; a deletion makes room, a consent needs none."""
    step = respond(SEND, Answered(status=507, says="storage-full: x", retry_after_seconds=300))
    assert isinstance(step, Retry)
    assert step.holds is Holds.UPLOADS
    assert step.after_seconds >= 300
    assert step.why == "the collector answered 507: storage-full: x"
    full = View(ready=(SEND, Send(name="bb", grant=H)), deletions=("dd",), uploads_open=50)
    assert next_task(full, 10) == DELETE
    assert next_task(replace(full, deletions=()), 10) == Wait(until=50)
    assert next_task(replace(full, deletions=(), unregistered=(G,)), 10) == REGISTER
    assert next_task(replace(full, deletions=()), 50) == SEND


def test_who_sends_too_much_waits_as_long_as_told_and_holds_up_no_deletion() -> None:
    """429 to a batch: not before the collector says, and only batches wait."""
    says = "over-quota: at most 1000 bytes a day from one device; nothing is lost"
    step = respond(SEND, Answered(status=429, says=says, retry_after_seconds=700))
    assert isinstance(step, Retry)
    assert step.holds is Holds.UPLOADS
    assert step.after_seconds >= 700
    assert step.why == f"the collector answered 429: {says}"
    waiting = View(ready=(SEND,), deletions=("dd",), uploads_open=until(0, step.after_seconds))
    assert next_task(waiting, 0) == DELETE
    assert next_task(replace(waiting, deletions=()), 0) == Wait(until=until(0, step.after_seconds))


@pytest.mark.parametrize("task", [DELETE, REGISTER])
def test_who_asks_too_much_stays_away_as_long_as_told(task: Task) -> None:
    """429 to anything else: the door rests."""
    step = respond(task, Answered(status=429, says="too-many: x", retry_after_seconds=30))
    assert isinstance(step, Retry)
    assert step.holds is Holds.DOOR
    assert step.after_seconds >= 30


def test_who_demands_too_much_in_a_day_waits_with_that_demand_alone() -> None:
    """429 to an erasure: deletions, withdrawals and batches go on."""
    erase = Erase(name="rr")
    step = respond(erase, Answered(status=429, says="too-many: x", retry_after_seconds=700))
    assert isinstance(step, Retry)
    assert step.holds is Holds.TASK
    assert step.after_seconds >= 700
    waiting = View(erasures=("rr",), deletions=("dd",), later={erase: 50})
    assert next_task(waiting, 0) == DELETE


@pytest.mark.parametrize("task", [DELETE, REGISTER])
@pytest.mark.parametrize("status", [400, 403, 410, 422])
def test_a_deletion_or_a_consent_is_never_given_up(task: Task, status: int) -> None:
    """It stays unconfirmed, is asked again, and keeps nobody else waiting."""
    step = respond(task, Answered(status=status))
    assert step == Retry(
        after_seconds=LARGEST_BACK_OFF_SECONDS,
        why=f"the collector answered {status}",
        holds=Holds.TASK,
    )


def test_a_consent_that_the_collector_lacks_is_registered_again() -> None:
    """409 says which of the two is missing."""
    assert respond(SEND, Answered(status=409, says="consent-unknown: send it")) == Unknown(grant=G)
    step = respond(SEND, Answered(status=409, says="policy-unknown: wait"))
    assert isinstance(step, Retry)
    assert step.holds is Holds.TASK


@pytest.mark.parametrize("task", [SEND, DELETE, REGISTER])
def test_without_a_proof_nothing_counts_as_done(task: Task) -> None:
    """A 201 without a valid receipt deletes nothing here."""
    step = respond(task, Answered(status=201), proof=False)
    assert isinstance(step, Retry)
    assert "another batch" in step.why
    assert step.holds is Holds.TASK


def test_no_answer_says_why() -> None:
    """The one line of the transport is what the status shows."""
    step = respond(SEND, NoAnswer(why="the key is not the pinned one"))
    assert isinstance(step, Retry)
    assert step.why == "the key is not the pinned one"


def test_back_off_is_full_jitter_from_one_second_to_a_quarter_of_an_hour() -> None:
    """It grows with the failures, and the dice spread everybody over it."""
    assert back_off(0, 0.0) == 1
    assert [back_off(n, 1.0) for n in (0, 1, 5, 10, 1000)] == [1, 2, 32, 900, 900]
    assert back_off(9, 0.25) == 128


@pytest.mark.parametrize(
    ("retry_after", "dice", "seconds"),
    [(60, 0.0, 60), (60, 1.0, 75), (1e6, 0.0, 900), (0.001, 0.5, 2)],
)
def test_the_collectors_own_word_on_when_is_heard(
    retry_after: float, dice: float, seconds: float
) -> None:
    """Never earlier than it says, spread a little, and not for ever."""
    outcome = Answered(status=503, retry_after_seconds=retry_after)
    step = on_response(SEND, outcome, failures=2, dice=dice, check=refuse)
    assert isinstance(step, Retry)
    assert step.after_seconds == seconds


def test_a_refusal_is_quoted() -> None:
    """The data subject reads what the collector said."""
    step = respond(SEND, Answered(status=422, says="forged: not signed by this device"))
    assert step == Quarantine(
        name="aa", why="the collector answered 422: forged: not signed by this device"
    )


def test_instants_are_in_nanoseconds() -> None:
    """Seconds in, boot clock out."""
    assert until(1_000, 1.5) == 1_500_001_000
