"""The agent's loop is held up for seconds: what it hears late counts from when it happened.

The clock is moved instead of waiting; and the input sensor's socket is read first, which is the
order that hurts.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.attention import STALL_NANOSECONDS, Attention
from agent.service import TICK_SECONDS, Service
from tests.fakes.workstation import (
    Workstation,
    capturing,
    eventually,
    key,
    play,
    texts,
    the,
)
from wire.category import Category
from wire.control import FocusSeen, Pause
from wire.ids import BootInstant

TWO_TICKS = 2.5 * TICK_SECONDS


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


def another_program(station: Workstation) -> None:
    now = BootInstant(station.clock.now().boot)
    seen = FocusSeen(at=now, inside=False, process="", window_class="")
    the(station, "context").emit(focus=(seen,))


def a_password_field(station: Workstation) -> None:
    the(station, "context").tell(secret=True)


def a_dead_tray(station: Workstation) -> None:
    station.tray.kill()


def nothing_at_all(_station: Workstation) -> None:
    pass


async def held_up(station: Workstation, service: Service, meanwhile: Callable[..., None]) -> None:
    """Let time pass without the loop, with keys before and after what happens *meanwhile*."""
    for text, do in (("b", nothing_at_all), ("secret", meanwhile)):
        station.clock.pass_by(0.4)
        do(station)
        station.clock.pass_by(0.3)
        for letter in text:
            the(station, "input").emit(key(station, letter))
    station.clock.pass_by(1.0)
    service.sources._sensors["input"]._on_items_ready()  # noqa: SLF001 - it is read first
    await asyncio.sleep(TWO_TICKS)


@pytest.mark.parametrize(
    ("meanwhile", "kept"),
    [
        (another_program, "ab"),
        (a_password_field, "a"),
        (a_dead_tray, "a"),
        (nothing_at_all, "absecret"),
    ],
)
def test_keys_of_a_stall_are_judged_by_what_happened_in_it(
    station: Workstation, meanwhile: Callable[[Workstation], None], kept: str
) -> None:
    """By the window and the field of their time; where it has none, all of the stall is dropped."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station, "a"))
            await asyncio.sleep(TICK_SECONDS)
            station.clock.pass_by(1.0)
            await asyncio.sleep(TWO_TICKS)
            await held_up(station, service, meanwhile)
            if meanwhile is not a_dead_tray:
                await station.tray.say(Pause())
            await eventually(lambda: bool(service.spool.batches()))
            station.clock.pass_by(1.0)  # its hold
            await eventually(lambda: bool(station.collector.frames))
        assert texts(station.opened()) == kept

    play(story())


def test_a_pause_that_was_clicked_in_a_stall_counts_from_its_beginning(
    station: Workstation,
) -> None:
    """The click waits in a socket as long as the keys do; when it came, nobody can tell."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station, "a"))
            await asyncio.sleep(TICK_SECONDS)
            station.clock.pass_by(1.0)
            await asyncio.sleep(TWO_TICKS)
            click: list[asyncio.Task[object]] = []

            def clicked(_station: Workstation) -> None:
                click.append(asyncio.create_task(station.tray.say(Pause())))

            await held_up(station, service, clicked)
            await click[0]
            await eventually(lambda: bool(service.spool.batches()))
            station.clock.pass_by(1.0)
            await eventually(lambda: bool(station.collector.frames))
            assert service.counters.dropped["hold-back"] == len("bsecret")
        assert texts(station.opened()) == "a"

    play(story())


def test_after_a_stall_everybody_is_heard_once_the_loop_has_come_round_again() -> None:
    """Also where one stall follows another: it is behind by one look, and not by more."""
    attention, late = Attention(), STALL_NANOSECONDS + 1
    assert attention.until(5) == 5, "nobody looks yet"
    attention.look(0)
    assert attention.until(STALL_NANOSECONDS) == STALL_NANOSECONDS
    assert attention.until(late) == 0
    attention.look(late)
    assert attention.until(late) == 0, "what waits is read after this"
    attention.look(2 * late)
    assert attention.until(2 * late + 1) == late
    attention.look(2 * late + 2)
    assert attention.until(2 * late + 3) == 2 * late + 3
