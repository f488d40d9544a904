"""What a server tells operators in numbers, in the form of Prometheus.

A metric tells of the server, or of at least ten people together (`base.crowd`): none has a
label for a device, a data subject or a person.  `Measured` counts requests, a program adds
gauges of its own; `Exposition` writes all of them down.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.api import Door
from base.crowd import BOUNDS, Crowd
from base.errors import AssentError

_log = logging.getLogger(__name__)

PATH: Final = "assent.path"  # in the scope: the path of the row that answers, not what was asked
UNCOUNTED: Final = "assent.uncounted"  # in the scope of a request that is nobody's: a drill's
OTHER: Final = "other"
DEFECT: Final = 500

Asked: TypeAlias = tuple[Door, str, str]  # door, method, path of the row
Answered: TypeAlias = tuple[Door, str, str, int]  # the same, and the status
Values: TypeAlias = Mapping[tuple[str, ...], float]

_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


@dataclass(frozen=True, slots=True)
class Described:
    """What a metric is called, and what it says."""

    name: str
    says: str
    labels: tuple[str, ...] = ()


REQUESTS: Final = Described(
    "assent_requests",
    "requests that were answered, in steps of ten devices or more",
    ("door", "method", "path", "status"),
)
SECONDS: Final = Described(
    "assent_request_seconds",
    "how long answers took, in steps of ten devices or more",
    ("door", "method", "path"),
)
DEFECTS: Final = Described("assent_defects", "answers that were a mistake of ours; see the log")


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that is looked up when somebody asks; one for each value of its labels."""

    described: Described
    read: Callable[[], Values]


class Seen:
    """What was counted since the server started."""

    def __init__(self) -> None:
        """Nothing was."""
        self.answers: Crowd[Answered] = Crowd()
        self.times: Crowd[Asked] = Crowd()
        self.defects: Crowd[None] = Crowd()

    def note(self, asked: Asked, status: int, seconds: float, who: bytes | None) -> None:
        """Count one request."""
        self.answers.take((*asked, status), seconds, who)
        self.times.take(asked, seconds, who)
        if status == DEFECT:
            self.defects.take(None, seconds, None)


class Measured:
    """Counts what *app* answers; *who* says from the scope whose request it was."""

    def __init__(
        self, app: ASGIApp, seen: Seen, door: Door, who: Callable[[Scope], bytes | None]
    ) -> None:
        """Stand before *app*."""
        self._app, self._seen, self._door, self._who = app, seen, door, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let *app* answer, and count."""
        began, status = time.monotonic(), DEFECT

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            asked = (self._door, method, scope.get(PATH, OTHER))
            if status == DEFECT or not scope.get(UNCOUNTED):
                self._seen.note(asked, status, time.monotonic() - began, self._who(scope))


class Exposition:
    """All that is told, as text."""

    def __init__(self, seen: Seen, gauges: Sequence[Gauge]) -> None:
        """Tell what was *seen*, *gauges*, and what the system knows of this process."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Told(seen, gauges))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return it as of now."""
        return generate_latest(self._registry)


class _Told(Collector):
    def __init__(self, seen: Seen, gauges: Sequence[Gauge]) -> None:
        self._seen, self._gauges = seen, gauges

    def collect(self) -> Iterable[Metric]:
        yield from _counted(self._seen)
        for gauge in self._gauges:
            try:
                values = gauge.read()
            except (AssentError, OSError) as exc:  # the others are told all the same
                _log.warning("a metric cannot be read: %s", exc)
                continue
            described = gauge.described
            family = GaugeMetricFamily(
                described.name, described.says, labels=list(described.labels)
            )
            for labels, value in values.items():
                family.add_metric(list(labels), value)
            yield family


def _counted(seen: Seen) -> Iterable[Metric]:
    requests = CounterMetricFamily(REQUESTS.name, REQUESTS.says, labels=list(REQUESTS.labels))
    for (door, method, path, status), tally in seen.answers.shown().items():
        requests.add_metric([door, method, path, str(status)], tally.count)
    yield requests
    seconds = HistogramMetricFamily(SECONDS.name, SECONDS.says, labels=list(SECONDS.labels))
    for asked, tally in seen.times.shown().items():
        buckets, below = [], 0
        for bound, many in zip((*map(str, BOUNDS), "+Inf"), tally.classes, strict=True):
            below += many
            buckets.append((bound, float(below)))
        seconds.add_metric(list(asked), buckets, tally.seconds)
    yield seconds
    defects = CounterMetricFamily(DEFECTS.name, DEFECTS.says)
    defects.add_metric([], sum(tally.count for tally in seen.defects.shown().values()))
    yield defects
