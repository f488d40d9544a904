"""What the sensors tell the agent: who has the focus, what happened, what went wrong.

The focus comes first: by it each event is judged, and not before all sensors were read.  See
`Pipeline.take` for what becomes of the events.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

from agent.children import Sensor
from agent.consent.hidden import HiddenTimeline
from agent.consent.scope import FocusTimeline
from agent.counters import Counters, Drop
from agent.pipeline import Pipeline
from agent.programme import Programme
from agent.sources import CONTEXT
from base.clock import NANOSECONDS, Clock, Now
from wire.category import Category
from wire.control import Items
from wire.event import Focus
from wire.ids import BootInstant

_LOG: Final = logging.getLogger(__name__)

TROUBLE_NANOSECONDS: Final = 5 * NANOSECONDS  # before a source that failed is tried again


class Host(Protocol):
    """On whose behalf we listen; the service is it."""

    clock: Clock
    pipeline: Pipeline
    programme: Programme
    counters: Counters

    def poke(self) -> None:
        """Look again at what may be captured."""


class Heard:
    """Listens to the three sensors."""

    def __init__(self, host: Host) -> None:
        """Nothing is known yet."""
        self.timeline = FocusTimeline()
        self.hidden = HiddenTimeline(CONTEXT)
        self._host = host
        self._in_front: Focus | None = None  # the listed program's window that has the focus
        self._trouble: dict[str, tuple[str, int]] = {}
        self._unfit: dict[str, str] = {}  # what is wrong with a sensor's redaction

    def on_items(self, sensor: Sensor, items: Items) -> None:
        """Take what a sensor saw: first where the focus was, then the events."""
        host = self._host
        self._trouble.pop(sensor.name, None)
        before = self.timeline.current(), self.hidden.current()
        for told in items.secrets:
            self.hidden.note(sensor.name, told.at, told.secret)
        events, since = list(items.events), host.pipeline.since(Category.WINDOW)
        for seen in items.focus:
            inside = seen.inside and host.programme.lists(seen.process, seen.window_class)
            self.timeline.note(seen.at, inside)
            self._in_front = seen.event() if inside else None
            if self._in_front is not None and since is not None:
                # What is told only after it was allowed is in front from that moment on.
                is_last = seen is items.focus[-1]
                events += self.in_front(max(seen.at, since)) if is_last else [self._in_front]
        host.counters.drop(Drop.BY_SENSOR, items.suppressed)
        host.pipeline.hear(events)
        if (self.timeline.current(), self.hidden.current()) != before:
            host.poke()

    def on_closed(self, sensor: Sensor) -> None:
        """Note that a source is silent; without the context source the scope is unknown."""
        now = self._host.clock.now().boot
        if sensor.name == CONTEXT:
            self.timeline.note(now, None)
            self.hidden.note(CONTEXT, now, None)
            self._in_front = None
        else:
            self.hidden.note(sensor.name, now, secret=False)  # it is asked no more
        self._host.poke()

    def on_redaction(self, sensor: Sensor, why: str) -> None:
        """Note whether a sensor's redaction works; where it does not, nothing is captured."""
        self._unfit[sensor.name] = why
        if why:
            _LOG.error("the %s sensor is of no use: %s", sensor.name, why)
        self._host.poke()

    def on_trouble(self, sensor: Sensor, why: str) -> None:
        """Note that a source failed; it is tried again later, the others go on."""
        _LOG.warning("%s", why)
        until = self._host.clock.now().boot + TROUBLE_NANOSECONDS
        self._trouble[sensor.name] = (why, until)
        self._host.poke()

    def in_front(self, since: BootInstant) -> Iterator[Focus]:
        """Yield the listed program's window that has the focus, as of *since*."""
        if self._in_front is not None:
            yield msgspec.structs.replace(self._in_front, at=since)

    def trouble(self) -> str:
        """Return what is wrong with the sensors, in one line."""
        failed = (why for why, _until in self._trouble.values())
        return " ".join(filter(None, (*self._unfit.values(), *failed)))

    def blocked(self, now: Now) -> Iterable[str]:
        """Return the sensors that are not to be tried again yet."""
        return [name for name, (_why, until) in self._trouble.items() if until > now.boot]
