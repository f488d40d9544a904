"""Which sensor has what open: from the categories that may be captured to three sources.

`plan` is pure.  `Sources` carries it out: what the plan does not have is closed, and what
it has with other settings is closed and opened anew under a new epoch.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from agent.children import Listener, Sensor, Starter
from wire.category import Category
from wire.control import ContextSettings, InputSettings, InputSource, ScreenSettings, Settings
from wire.policy import Policy

INPUT: Final = "input"
SCREEN: Final = "screen"
CONTEXT: Final = "context"

SERVES: Final[Mapping[str, frozenset[Category]]] = {
    INPUT: frozenset({Category.KEYS, Category.POINTER}),
    SCREEN: frozenset({Category.SCREEN}),
    CONTEXT: frozenset({Category.WINDOW}),
}


def plan(
    categories: frozenset[Category], policy: Policy | None, source: InputSource = "auto"
) -> dict[str, Settings]:
    """Return what each sensor should have open so that *categories* can be captured.

    The context source is open whenever another is: it says whose window has the focus, and
    without it nothing is in scope.  With no listed application nothing is open at all.
    """
    if policy is None or not policy.applications or not categories:
        return {}
    levels = {rule.category: rule.level for rule in policy.categories}
    titles = Category.WINDOW in categories and levels.get(Category.WINDOW) == "title"
    wanted: dict[str, Settings] = {
        CONTEXT: ContextSettings(titles=titles, applications=policy.applications)
    }
    if categories & SERVES[INPUT]:
        watched = InputSettings(
            keys=Category.KEYS in categories,
            pointer=Category.POINTER in categories,
            key_level=levels.get(Category.KEYS, "classes"),
            source=source,
        )
        pointer = policy.rule(Category.POINTER)
        if watched.pointer and pointer is not None:
            watched = msgspec.structs.replace(watched, move_hz=pointer.rate_hz)
        wanted[INPUT] = watched
    screen = policy.rule(Category.SCREEN)
    if Category.SCREEN in categories and screen is not None:
        wanted[SCREEN] = ScreenSettings(rate_hz=screen.rate_hz, applications=policy.applications)
    return wanted


class Sources:
    """The three sensors."""

    def __init__(self, start: Starter, listener: Listener) -> None:
        """Prepare; nothing is started yet."""
        self._sensors = {name: Sensor(name, start, listener) for name in SERVES}
        self._epoch = 0

    def begin(self) -> None:
        """Start the processes, with nothing open."""
        for sensor in self._sensors.values():
            sensor.begin()

    async def stop(self) -> None:
        """Close everything and end the processes."""
        await asyncio.gather(*(sensor.stop() for sensor in self._sensors.values()))

    async def close_unless(self, wanted: Mapping[str, Settings]) -> None:
        """Close whatever is open otherwise than *wanted*; return when all of it is silent."""
        differing = (s for s in self._sensors.values() if s.settings != wanted.get(s.name))
        await asyncio.gather(*(sensor.close() for sensor in differing))

    def are_open_unless(self, wanted: Mapping[str, Settings]) -> bool:
        """Whether something is open otherwise than *wanted*."""
        return any(s.settings not in (None, wanted.get(s.name)) for s in self._sensors.values())

    def open(self, wanted: Mapping[str, Settings], blocked: Iterable[str] = ()) -> None:
        """Open what is *wanted* and not open, except what is *blocked* for the moment."""
        for name, settings in wanted.items():
            sensor = self._sensors[name]
            if sensor.settings is None and sensor.is_running and name not in blocked:
                self._epoch += 1
                sensor.open(self._epoch, settings)

    def differ_from(self, wanted: Mapping[str, Settings]) -> bool:
        """Whether something is open that is not wanted, or the other way round."""
        return any(s.settings != wanted.get(s.name) for s in self._sensors.values())

    def redact(self) -> bool | None:
        """Return whether redaction works wherever a sensor runs; None if one has not said yet.

        One that does not run sees nothing.
        """
        said = {sensor.redacts for sensor in self._sensors.values() if sensor.is_running}
        if False in said:
            return False
        return None if None in said else True

    def open_categories(self) -> frozenset[Category]:
        """Return the categories whose sensor has its source open."""
        return frozenset(
            category
            for sensor in self._sensors.values()
            if sensor.settings is not None
            for category in SERVES[sensor.name]
        )
