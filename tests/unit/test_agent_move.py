"""A policy that comes while the agent waits for a source to close."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.handover import Permit
from tests.fakes.workstation import Workstation, capturing, eventually, play, the
from tests.unit.test_agent_narrowing import change
from wire.category import Category
from wire.control import ContextSettings, OptOut


def tells_titles(station: Workstation) -> bool:
    """Whether the context sensor is open, and for titles."""
    context = the(station, "context")
    settings = context.settings if context.is_open else None
    return isinstance(settings, ContextSettings) and settings.titles


def test_a_narrower_policy_opens_nothing_while_a_source_is_open_by_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor hangs and is waited for; meanwhile titles are forbidden, which another one tells."""
    station = Workstation.enrolled(tmp_path)
    without = station.policy.categories
    titles = tuple(
        msgspec.structs.replace(rule, level="title") if rule.category is Category.WINDOW else rule
        for rule in without
    )
    change(station, categories=titles)
    permitted: list[tuple[str, bool]] = []

    async def story() -> None:
        async with capturing(station, Category.WINDOW, Category.SCREEN) as service:
            assert tells_titles(station)
            permit = service.pipeline.permit

            def noted(each: Permit) -> None:
                if each.category is Category.WINDOW:
                    permitted.append((each.level, tells_titles(station)))
                permit(each)

            monkeypatch.setattr(service.pipeline, "permit", noted)
            the(station, "screen").hangs = True
            click = asyncio.create_task(station.tray.say(OptOut(category=Category.SCREEN)))
            await eventually(lambda: service.restrictions == 1)
            change(station, categories=without)
            service.programme.keep_up(station.clock.now())
            service.poke()
            await click
            await eventually(lambda: the(station, "context").is_open)
            await eventually(lambda: not tells_titles(station))

    play(story())
    assert permitted == [("program", False)]
