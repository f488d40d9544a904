# ruff: noqa: SLF001 - what is planted is planted inside
"""Defects that are planted into the agent, each of which the machine has to find.

One for each promise that `core_truth` judges by; what is taken out is one rule of the real code.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import pytest

from agent import programme
from agent.children import Sensor
from agent.commands import Commands
from agent.consent import facts
from agent.consent.entries import Entry, Paused
from agent.consent.hidden import HiddenTimeline
from agent.consent.ledger import Ledger
from agent.consent.policy import LeaseHeld
from agent.consent.scope import FocusTimeline
from agent.consent.seen import SeenClock
from agent.consent.standing import Standing, pause_at
from agent.consent.states import Pause
from agent.erasures import Erasures
from agent.numbers import Numbers
from agent.pipeline import Pipeline
from agent.service import Service
from agent.session import SessionSeen
from agent.tray import Tray
from base.clock import Now
from tests.model.core_run import chunk
from tests.model.core_truth import Tally, ViolationError
from wire.event import Event, category_of

SEED: Final = 1
MACHINES: Final = 20  # of one chunk

Patch: TypeAlias = tuple[object, str, object]


def _answers(value: object) -> Callable[..., object]:
    return lambda *_arguments, **_options: value


_append: Final = Ledger.append


def _append_all_but_pauses(ledger: Ledger, entry: Entry, now: Now) -> None:
    """Say that a pause is written, and leave the file as it was."""
    if not isinstance(entry, Paused):
        _append(ledger, entry, now)
        return
    before, data = (ledger._length, ledger._hash, ledger._lines), ledger._path.read_bytes()
    _append(ledger, entry, now)
    ledger._path.write_bytes(data)
    ledger._length, ledger._hash, ledger._lines = before


def _pause_that_resumes(where: Standing, now: Now) -> Pause:
    pause = pause_at(where, now)
    return Pause.RUNNING if pause is Pause.RESUME_PENDING else pause


class _Any:
    """An epoch that is like every other."""

    def __eq__(self, _other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


_receive: Final = Sensor._on_items_ready


def _receive_of_any_epoch(sensor: Sensor) -> None:
    epoch, sensor._epoch = sensor._epoch, _Any()  # type: ignore[assignment]
    try:
        _receive(sensor)
    finally:
        sensor._epoch = epoch


_numbers: Final = Numbers.__init__


def _numbers_anew(numbers: Numbers, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
    _numbers(numbers, *arguments, **options)
    numbers._next = dict.fromkeys(numbers._next, 1)


def _has_a_permit(pipeline: Pipeline, event: Event) -> bool:
    return category_of(event) in pipeline._permits


def _judged_by_now(timeline: FocusTimeline, _at: int) -> bool:
    return timeline.current() is True


async def _adopts_nothing(*_arguments: object) -> None:
    return


YES, NO, NOTHING, NONE = _answers(True), _answers(False), _answers(""), _answers(None)  # noqa: FBT003

MUTANTS: Final[Mapping[str, tuple[Patch, ...]]] = MappingProxyType(
    {
        # Those that are found soonest come first: `make test` plants these.
        "the hold-back is kept when the gate shuts": ((Pipeline, "_drop_held", NONE),),
        "a field for secrets is like any other": ((HiddenTimeline, "permits", YES),),
        "nobody looks whether the icon is shown": ((Tray, "why_hidden", NOTHING),),
        "nobody looks whose session it is": ((SessionSeen, "ours", YES),),
        "what is opted out of stays on the disk": ((Service, "enforce", _answers(0)),),
        "a pause that has run out ends by itself": ((facts, "pause_at", _pause_that_resumes),),
        "what happened before a category was let in is taken": (
            (Pipeline, "_passes_gate", _has_a_permit),
        ),
        "what comes from an earlier opening is taken": (
            (Sensor, "_on_items_ready", _receive_of_any_epoch),
        ),
        "a pause is said to be written, and is not": ((Ledger, "append", _append_all_but_pauses),),
        "an erasure is never asked for": ((Erasures, "ask", YES), (Erasures, "has", YES)),
        "an event is judged by the focus of when it is looked at": (
            (FocusTimeline, "is_settled_inside", _judged_by_now),
        ),
        "event numbers begin anew": ((Numbers, "__init__", _numbers_anew),),
        "a clock that was set is believed": ((SeenClock, "why_not", NOTHING),),
        "a lease never ends": ((LeaseHeld, "is_over", NO),),
        "an opt-out of the machine is not adopted": ((Commands, "adopt", _adopts_nothing),),
        "a halt and a stop are not heeded": ((facts, "is_frozen", NO),),
        "any time is within the hours": (
            (programme, "is_inside", YES),
            (programme, "closes_at", NONE),
        ),
    }
)


def finds(name: str, steps: int) -> tuple[int, str]:
    """Return after how many steps the defect *name* was found, and how; "" if it never was."""
    tally = Tally()
    with pytest.MonkeyPatch.context() as patch:
        for each in MUTANTS[name]:
            patch.setattr(*each)
        seed = SEED
        while tally.steps < steps:
            try:
                chunk(tally, machines=MACHINES, seed=seed, shrinks=False)
            except ViolationError as exc:
                return tally.steps, str(exc)
            seed += 1
    return tally.steps, ""
