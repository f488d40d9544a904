"""What holds for every wait before the collector is asked again, whatever it said and how often."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.handover import Answered, NoAnswer
from agent.upload import (
    FIRST_BACK_OFF_SECONDS,
    LARGEST_BACK_OFF_SECONDS,
    Delete,
    Register,
    Retry,
    Send,
    Task,
    back_off,
    on_response,
)
from wire.errors import ForgedError
from wire.ids import GrantHash

GRANT = GrantHash(b"g")
TASKS: tuple[Task, ...] = (
    Send(name="aa", grant=GRANT), Delete(name="dd"), Register(grant=GRANT),
)  # fmt: skip
failures = st.integers(0, 10_000)
dice = st.floats(0, 1)
waits = st.floats(0, 1e9)


def retry(task: Task, outcome: Answered | NoAnswer, number: int, at: float) -> Retry:
    step = on_response(task, outcome, failures=number, dice=at, check=refuse)
    assert isinstance(step, Retry)
    return step


def refuse(_body: bytes) -> None:
    raise ForgedError("nothing is proved")


@given(failures, dice)
def test_the_back_off_lies_between_one_second_and_a_quarter_of_an_hour(
    number: int, at: float
) -> None:
    """For every number of failures and every fall of the dice."""
    assert FIRST_BACK_OFF_SECONDS == 1
    assert LARGEST_BACK_OFF_SECONDS == 15 * 60
    assert 1 <= back_off(number, at) <= 900


@given(failures)
def test_the_jitter_is_full(number: int) -> None:
    """The dice reach from one second to the whole ceiling, evenly: nobody comes back together."""
    ceiling = min(900, 2.0 ** min(number, 20))
    steps = [back_off(number, at / 100) for at in range(101)]
    assert steps[0] == 1
    assert steps[-1] == ceiling
    assert all(a <= b for a, b in pairwise(steps))
    assert all(abs(b - a) <= ceiling / 100 + 1e-9 for a, b in pairwise(steps))


@given(failures, failures, dice)
def test_more_failures_never_shorten_the_wait(one: int, other: int, at: float) -> None:
    """The same dice, later in a row of failures."""
    assert back_off(min(one, other), at) <= back_off(max(one, other), at)


@given(st.sampled_from(TASKS), st.sampled_from([429, 503, 507]), waits, failures, dice)
def test_nobody_comes_back_before_the_collector_said(
    task: Task, status: int, said: float, number: int, at: float
) -> None:
    """Retry-After is the least wait, up to a quarter of an hour; no server holds us for longer."""
    step = retry(task, Answered(status=status, retry_after_seconds=said), number, at)
    assert min(said, 900) <= step.after_seconds <= 900


@given(
    st.sampled_from(TASKS),
    st.one_of(
        st.just(NoAnswer(why="nobody")),
        st.builds(Answered, status=st.integers(500, 599), retry_after_seconds=st.none() | waits),
        st.builds(Answered, status=st.sampled_from([200, 201, 401, 408, 425, 429])),
    ),
    failures,
    dice,
)
def test_every_wait_is_bounded_and_loses_nothing(
    task: Task, outcome: Answered | NoAnswer, number: int, at: float
) -> None:
    """What is no refusal of the batch itself ends in a wait of 1 s to 15 min, with a reason."""
    step = retry(task, outcome, number, at)
    assert 1 <= step.after_seconds <= 900
    assert step.why
