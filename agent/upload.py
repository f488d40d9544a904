"""Stage 7: what to say to the collector next, and what its answer means.  Pure.

    task = next_task(view, now)      Erase | Delete | Register | Tell | Send | Wait | Idle
    step = on_response(task, ...)    Carried | Confirmed | Registered | Told | Ack | Retry |
                                     Unknown | Quarantine | Gone

The service carries out tasks and steps; nothing here touches disk, clock or network.
Deletions and withdrawals come first, also while uploads are frozen: a no of the data
subject waits for nobody.  A batch follows its consent record, never the other way round.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias, assert_never

from agent.handover import Answered, NoAnswer, Outcome
from base.clock import NANOSECONDS
from wire.errors import WireError
from wire.ids import GrantHash
from wire.linked import ConsentState

FIRST_BACK_OFF_SECONDS: Final = 1.0
LARGEST_BACK_OFF_SECONDS: Final = 15 * 60.0
UNKNOWN_SECONDS: Final = 60.0

# What is said of the device or the collector, and not of what was sent (collector-http-v1).
_OF_THE_DOOR: Final = frozenset({401, 408, 425, 429})
_MISSING_FIRST: Final = 409
_GONE: Final = 410
_TOO_MUCH: Final = 429
_NO_ROOM: Final = 507
_NOT_THIS_VERSION: Final = 501  # of a batch that a later collector will take
_NO_SUCH_REQUEST: Final = frozenset({404, 405})  # one of us is of another version


# --- what to do -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Ask the collector to delete a batch, or to refuse it when it comes."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """Tell the collector, and through it the guard, of a request of erasure."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Show the collector a consent record, so that its log has it."""

    grant: GrantHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Tell the collector what became of a consent that it has."""

    grant: GrantHash
    state: ConsentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a batch; `grant` is what it was made under."""

    name: str
    grant: GrantHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is something to do, but not before this boot instant."""

    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """There is nothing to do."""


Task: TypeAlias = Delete | Erase | Register | Tell | Send


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What there is to do, the oldest first.

    `later` says for single tasks, `uploads_open` for batches, `door_opens` for all, before
    which boot instant they are not to be tried again.
    """

    deletions: tuple[str, ...] = ()
    erasures: tuple[str, ...] = ()
    unregistered: tuple[GrantHash, ...] = ()
    untold: tuple[Tell, ...] = ()
    ready: tuple[Send, ...] = ()
    frozen: bool = False
    door_opens: int = 0
    uploads_open: int = 0
    later: Mapping[Task, int] = field(default_factory=dict)


def next_task(view: View, now: int) -> Task | Wait | Idle:
    """Return what to do at boot instant *now*."""
    tasks = {task: _not_before(view, task) for task in _tasks(view)}
    if not tasks:
        return Idle()
    due = (task for task, not_before in tasks.items() if not_before <= now)
    return next(due, Wait(until=min(tasks.values())))


def _not_before(view: View, task: Task) -> int:
    uploads = view.uploads_open if isinstance(task, Send) else 0
    return max(view.door_opens, uploads, view.later.get(task, 0))


def _tasks(view: View) -> Iterator[Task]:
    yield from (Erase(name=name) for name in view.erasures)
    yield from (Delete(name=name) for name in view.deletions)
    yield from (tell for tell in view.untold if tell.grant not in view.unregistered)
    if view.frozen:
        return
    yield from (Register(grant=grant) for grant in view.unregistered)
    yield from (batch for batch in view.ready if batch.grant not in view.unregistered)


# --- what an answer means ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The collector has deleted it."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The collector has proved its half of an erasure; `body` may hold the guard's."""

    name: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The collector's log has the consent record."""

    grant: GrantHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The collector's log has what became of the consent."""

    grant: GrantHash
    state: ConsentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The receipt was verified: the batch may be deleted here."""

    name: str


class Holds(Enum):
    """What waits together with the task that has to wait."""

    TASK = auto()
    UPLOADS = auto()  # deletions and consents go on: they make room, or need none
    DOOR = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Nothing is lost; the same again after this time, any batch, or anything at all."""

    after_seconds: float
    why: str
    holds: Holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The collector does not know this consent: register it again, and then wait a little.

    A collector that never learns it must not be asked without end.
    """

    grant: GrantHash
    after_seconds: float = UNKNOWN_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The collector will never accept these bytes."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The collector was told to forget this batch, so it is forgotten here too."""

    name: str


Step: TypeAlias = (
    Confirmed | Carried | Registered | Told | Ack | Retry | Unknown | Quarantine | Gone
)


def on_response(
    task: Task,
    outcome: Outcome,
    *,
    failures: int,
    dice: float,
    check: Callable[[bytes], object],
) -> Step:
    """Return what *outcome* means for *task*.

    *failures* is how many attempts failed in a row before this one, *dice* a random number
    from 0 to 1.  *check* raises WireError for a body that does not prove, under the log's
    signature, that the task was done.
    """
    match outcome:
        case NoAnswer(why=why):
            return Retry(after_seconds=back_off(failures, dice), why=why, holds=Holds.DOOR)
        case Answered() if outcome.status in (200, 201):
            return _accepted(task, outcome, check)
        case Answered(status=status) if status == _NOT_THIS_VERSION:
            return _later_version(outcome)
        case Answered(status=status) if status in _NO_SUCH_REQUEST:
            return _other_version(task, outcome)
        case Answered(status=status) if 400 <= status < 500 and status not in _OF_THE_DOOR:
            return _refused(task, outcome)
        case Answered():
            return _busy(task, outcome, failures, dice)
        case _:
            assert_never(outcome)


def back_off(failures: int, dice: float) -> float:
    """Return the seconds to wait after one more failure: full jitter, 1 s to 15 min.

    Full jitter, so that a whole company that lost its collector does not come back at once.
    """
    ceiling = min(LARGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** min(failures, 20))
    return max(FIRST_BACK_OFF_SECONDS, dice * ceiling)


def until(now: int, after_seconds: float) -> int:
    """Return the boot instant that lies *after_seconds* after *now*."""
    return now + int(after_seconds * NANOSECONDS)


def _accepted(task: Task, answer: Answered, check: Callable[[bytes], object]) -> Step:
    try:
        check(answer.body)
    except WireError as exc:
        # Nothing is deleted here: whoever answered cannot prove that it was done.
        why = f"the collector's receipt does not hold ({exc}); ask who runs it"
        return Retry(after_seconds=LARGEST_BACK_OFF_SECONDS, why=why, holds=Holds.TASK)
    match task:
        case Delete(name=name):
            return Confirmed(name=name)
        case Erase(name=name):
            return Carried(name=name, body=answer.body)
        case Register(grant=grant):
            return Registered(grant=grant)
        case Tell(grant=grant, state=state):
            return Told(grant=grant, state=state)
        case Send(name=name):
            return Ack(name=name)
        case _:
            assert_never(task)


def _refused(task: Task, answer: Answered) -> Step:
    """Return what a 4xx means that is about what was sent."""
    if isinstance(task, Send) and answer.status == _GONE:
        return Gone(name=task.name)
    if isinstance(task, Send) and answer.status != _MISSING_FIRST:
        return Quarantine(name=task.name, why=_said(answer))
    if isinstance(task, Send | Tell) and answer.says.startswith("consent-unknown"):
        return Unknown(grant=task.grant)
    # A consent or a deletion is never given up: it is asked again, and shown as unconfirmed.
    after = UNKNOWN_SECONDS if isinstance(task, Erase) else LARGEST_BACK_OFF_SECONDS
    return Retry(after_seconds=after, why=_said(answer), holds=Holds.TASK)


def _later_version(answer: Answered) -> Retry:
    """Keep what this collector cannot read until it is upgraded; other batches go on."""
    return Retry(after_seconds=LARGEST_BACK_OFF_SECONDS, why=_said(answer), holds=Holds.TASK)


def _other_version(task: Task, answer: Answered) -> Retry:
    """Keep everything: no batch is to blame where the request itself is not known."""
    why = f"{_said(answer)}; it is of another version than this assent; ask who runs it"
    holds = Holds.UPLOADS if isinstance(task, Send) else Holds.TASK
    return Retry(after_seconds=LARGEST_BACK_OFF_SECONDS, why=why, holds=holds)


def _busy(task: Task, answer: Answered, failures: int, dice: float) -> Retry:
    after = back_off(failures, dice)
    if answer.retry_after_seconds is not None:
        # The collector knows when; the jitter keeps all its devices from coming together.
        after = max(after, answer.retry_after_seconds * (1 + dice / 4))
    after = min(after, LARGEST_BACK_OFF_SECONDS)
    # Too many or too large batches, or no room for one: nobody's question or no waits for that.
    of_batches = isinstance(task, Send) and answer.status in (_TOO_MUCH, _NO_ROOM)
    holds = Holds.UPLOADS if of_batches else Holds.DOOR
    if isinstance(task, Erase) and answer.status == _TOO_MUCH:
        holds = Holds.TASK  # of one person's demands: a deletion or a withdrawal has its own count
    return Retry(after_seconds=after, why=_said(answer), holds=holds)


def _said(answer: Answered) -> str:
    return f"the collector answered {answer.status}" + (f": {answer.says}" if answer.says else "")
