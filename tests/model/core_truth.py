"""What was acknowledged and what really happened: the judge of `core_machine`.

It knows nothing of the gate.  It has a time of its own, which nobody can set and which goes on
over suspends and reboots; on it, who was told what when, and what the world was like when.  From
these follow the times at which a category was *closed*; whatever the agent has of such a time is
a violation: in memory past the hold-back, sealed, in the spool or at the collector.

It claims no more than it can be sure of: from an act whose answer was lost nothing follows but
what a restart must find; and where a fact reaches the agent late by design (a round a second), a
closed time begins `LATE` after it.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from agent.pipeline import Pipeline
from tests.model.core_station import Core
from wire.batch import decode_batch
from wire.category import Category
from wire.event import Event, Focus, Frame, Key, Move, category_of
from wire.frame import TRAILER_BYTES, core_hash, decode_core, split, split_unsigned
from wire.opening import open_body
from wire.shelf import unshelve

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
PAUSE: Final = 30 * MINUTE
NOTICE: Final = 60 * SECOND
LEASE: Final = 4 * 3600 * SECOND
CONFIRM: Final = 30 * DAY
LATE: Final = 13 * SECOND // 10  # a round a second, and its tick
EVERYTHING: Final = frozenset(Category)


class ViolationError(AssertionError):
    """Something was captured that must not be, or is there that must be gone."""


@dataclass(slots=True)
class Closing:
    """These categories are closed from `since` to `until` (None: still)."""

    kind: str
    categories: frozenset[Category]
    since: int
    until: int | None = None
    sure: bool = True  # it outlives the agent that was told

    def has(self, category: Category, at: int) -> bool:
        return (
            category in self.categories
            and self.since <= at
            and (self.until is None or at < self.until)
        )


@dataclass(frozen=True, slots=True)
class Happened:
    """One event as it was: when, to what, and whether the sensor may have told of it at all."""

    category: Category
    true: int
    boot: int
    inside: bool
    secret: bool
    forged: bool

    def of(self, event: Event) -> int:
        """Return the true time that *event* is of."""
        if isinstance(event, Focus):  # told again for the instant from which on it may be kept
            return self.true + event.at - self.boot
        return self.true


@dataclass(frozen=True, slots=True)
class Found:
    """One frame, opened."""

    category: Category
    times: Mapping[int, int]  # for each event the true time that it is of
    last: int  # true time of its youngest event


@dataclass
class Tally:
    """What a run of many machines came to."""

    steps: int = 0
    lives: int = 0
    crashes: int = 0
    faults: int = 0
    emitted: int = 0
    kept: int = 0
    frames: int = 0
    tempted: Counter[str] = field(default_factory=Counter)  # events of a closed time, by its kind
    erasures: int = 0
    righted: int = 0
    pauses_over: int = 0

    def add(self, other: "Tally") -> None:
        """Add what another run came to."""
        for each in fields(self):
            theirs = getattr(other, each.name)
            setattr(self, each.name, getattr(self, each.name) + theirs)

    def words(self) -> str:
        tempted = ", ".join(f"{kind} {n:,}" for kind, n in self.tempted.most_common())
        return (
            f"{self.steps:,} steps, {self.lives:,} lives, {self.crashes:,} crashes, "
            f"{self.faults:,} faults of the disk; of {self.emitted:,} events {self.kept:,} kept in "
            f"{self.frames:,} frames, {sum(self.tempted.values()):,} fell into closed times "
            f"({tempted}); {self.pauses_over:,} pauses ran out, {self.erasures:,} erasures "
            f"carried out, {self.righted:,} times put right again; kept of closed times: 0"
        )


class Truth:
    """The books of one machine."""

    def __init__(self, core: Core, tally: Tally) -> None:
        self._core = core
        self._tally = tally
        self.closings = [Closing("no yes", EVERYTHING, -1)]
        self.happened: dict[int, Happened] = {}
        self.focus: list[tuple[int, bool]] = [(0, False)]
        self.secret: list[tuple[int, bool]] = [(0, False)]
        self.places: list[tuple[int, str, int]] = [(0, "UTC", 0)]  # zone and skew
        self.paused_at: int | None = None
        self.clock_was_set = False
        self.granted_at: dict[Category, int] = {}
        self.granted_words: dict[Category, int] = {}
        self.erased: dict[int, int] = {}  # and when
        self._found: dict[str, Found] = {}
        self._signed: dict[str, str] = {}
        self._numbers: dict[tuple[Category, int], int] = {}
        self._batches: dict[int, str] = {}
        self._kept_in: dict[int, str] = {}
        self._looked_at: dict[Category, tuple[list[Event], int]] = {}

    # --- closed times -------------------------------------------------------------------

    def close(
        self, kind: str, categories: Iterable[Category], since: int, *, sure: bool = True
    ) -> None:
        wanted = frozenset(categories)
        for old in self.closings:
            if old.kind == kind and old.until is None and old.since <= since:
                wanted -= old.categories if old.sure or not sure else frozenset()
        if wanted:
            self.closings.append(Closing(kind, wanted, since, sure=sure))

    def open(self, kind: str, categories: Iterable[Category], at: int) -> None:
        ended = frozenset(categories)
        for closing in list(self.closings):
            if closing.kind == kind and closing.until is None and closing.categories & ended:
                rest = closing.categories - ended
                if rest:
                    self.closings.append(Closing(kind, rest, closing.since, sure=closing.sure))
                closing.categories &= ended
                closing.until = at

    def lift_unsure(self, kind: str, categories: Iterable[Category], at: int) -> None:
        """End what closes these in the agent's memory alone."""
        named = frozenset(categories)
        for closing in list(self.closings):
            if closing.kind == kind and closing.until is None and not closing.sure:
                if rest := closing.categories - named:
                    self.closings.append(Closing(kind, rest, closing.since, sure=False))
                closing.categories &= named
                closing.until = at

    def is_closed(
        self, kind: str, category: Category | None = None, *, sure: bool | None = None
    ) -> bool:
        return any(
            c.kind == kind
            and c.until is None
            and (category is None or category in c.categories)
            and sure in (None, c.sure)
            for c in self.closings
        )

    def life_ends(self, at: int) -> None:
        for closing in self.closings:
            if closing.until is None and not closing.sure:
                closing.until = at
        self.close("not running", EVERYTHING, at)

    def why_closed(self, category: Category, at: int) -> str:
        """Return what closed *category* at a true time; empty when nothing did for sure."""
        for closing in self.closings:
            if closing.has(category, at):
                return closing.kind
        if not self.clock_was_set:
            fetched = self._core.fetched_at
            if at - fetched[bisect_right(fetched, at) - 1] > LEASE + LATE:
                return "lease"
            yes = self.granted_at.get(category)
            if yes is not None and at - yes > CONFIRM + LATE:
                return "not confirmed"
        # Outside for so long, and at home nowhere in between where it was within them.
        since = at - LATE
        moved = (place[0] - 1 for place in self.places if since < place[0] <= at)
        if all(self._outside_hours(moment) for moment in (since, *moved, at)):
            return "hours"
        return ""

    def _outside_hours(self, at: int) -> bool:
        _since, zone, skew = next(p for p in reversed(self.places) if p[0] <= max(at, 0))
        clock = self._core.clock
        wall = clock.true_wall - (clock.true - at) + skew
        local = datetime.fromtimestamp(wall // SECOND, UTC).astimezone(ZoneInfo(zone))
        return not 5 <= local.hour < 23

    @staticmethod
    def _was(history: list[tuple[int, bool]], at: int) -> bool:
        return next(state for since, state in reversed(history) if since <= at)

    # --- what happened ------------------------------------------------------------------

    def note(self, event: Event, true: int, *, forged: bool) -> None:
        number = id_of(event)
        category = category_of(event)
        here = Happened(
            category=category,
            true=true,
            boot=event.at,
            inside=self._was(self.focus, true),
            secret=self._was(self.secret, true),
            forged=forged,
        )
        self.happened[number] = here
        self._tally.emitted += 1
        why = self.why_not(number, event)
        if why:
            self._tally.tempted[why] += 1

    def why_not(  # noqa: PLR0911 - one line a reason
        self, number: int, event: Event
    ) -> str:
        """Return why the agent must not have this; empty where it may."""
        here = self.happened.get(number)
        if here is None:
            return "never happened"
        if here.forged:
            return "of another opening"
        at = here.of(event)
        if not isinstance(event, Focus) and event.at != here.boot:
            return "another time"
        if why := self.why_closed(here.category, at):
            return why
        if isinstance(event, Focus):
            return "" if self._was(self.focus, at) else "outside"
        if not here.inside:
            return "outside"
        return "secret" if here.secret else ""

    # --- what the agent has -------------------------------------------------------------

    def check_memory(self, pipeline: Pipeline) -> None:
        """Look at what is past the hold-back and not sealed."""
        for category, batch in pipeline._roll._open.items():  # noqa: SLF001 - it would be there
            seen = self._looked_at.get(category, (None, 0))
            new = batch.events[seen[1] if seen[0] is batch.events else 0 :]
            self.check_events(new, "open batch")
            self._looked_at[category] = batch.events, len(batch.events)
        for sealed in pipeline._unspooled:  # noqa: SLF001
            self._open_frame(sealed.unsigned, sealed.name)

    def check_events(self, events: Iterable[Event], where: str) -> None:
        for event in events:
            number = id_of(event)
            if why := self.why_not(number, event):
                raise ViolationError(
                    f"{where}: {event} was captured in a closed time ({why}); "
                    f"{self.happened.get(number)}; {self.closings[-8:]}"
                )

    def check_silence(self, pipeline: Pipeline, categories: Iterable[Category]) -> None:
        """Nothing of what was just closed is in memory."""
        for category in categories:
            waiting = [e for _at, _n, e in pipeline._held if category_of(e) is category]  # noqa: SLF001
            if waiting or category in pipeline._roll._open:  # noqa: SLF001
                raise ViolationError(f"after 'silent' there is {category} in memory")

    def check_disk(self) -> None:
        """Look at each frame on the device and at the collector, once."""
        for path in self._core.spooled():
            if path.stem not in self._found and path.stem not in self._signed:
                frame = path.read_bytes()
                if hashlib.sha256(frame).hexdigest() != path.stem:
                    raise ViolationError("a frame is not what its name says")
                if path.parent.name == "held":
                    self._open_frame(frame, path.stem)
                else:
                    self._open_signed(frame, path.stem)
        for name, frame in self._core.collector.frames.items():
            if name not in self._signed:
                self._open_signed(frame, name)

    def _open_signed(self, frame: bytes, name: str) -> None:
        unsigned = frame[:-TRAILER_BYTES]
        hold = hashlib.sha256(unsigned).hexdigest()
        number = split(frame).sequence
        if self._batches.setdefault(number, hold) != hold:
            raise ViolationError(f"two batches have number {number}")
        self._open_frame(unsigned, hold)
        self._signed[name] = hold  # last: what was found wrong is wrong at the next look, too

    def _open_frame(self, unsigned: bytes, name: str) -> None:
        if name in self._found:
            return
        core, shelf, body = split_unsigned(unsigned)
        organisation, digest = self._core.grounds.organisation, core_hash(core)
        header = unshelve(shelf, organisation.guard_seed, digest)
        events = decode_batch(open_body(header, body, organisation.subject_identity, digest)).events
        category = decode_core(core).category
        self._tally.frames += 1
        self._tally.kept += len(events)
        self.check_events(events, "frame")
        for event in events:
            self._check_numbers(event, category, name)
        self._found[name] = Found(
            category=category,
            times={id_of(event): self.happened[id_of(event)].of(event) for event in events},
            last=max(self.happened[id_of(event)].true for event in events),
        )

    def _check_numbers(self, event: Event, category: Category, name: str) -> None:
        number = id_of(event)
        if category_of(event) is not category:
            raise ViolationError(f"a batch of {category} has {event}")
        key = category, event.sequence
        if key in self._numbers:
            raise ViolationError(f"{category} has number {event.sequence} twice")
        self._numbers[key] = number
        if not isinstance(event, Focus) and self._kept_in.setdefault(number, name) != name:
            raise ViolationError(f"{event} is in two batches")

    def frames_of(self, categories: Iterable[Category]) -> list[str]:
        """Return the frames on the device that are of these categories."""
        wanted = frozenset(categories)
        return [
            path.stem
            for path in self._core.spooled()
            if self._found[self._signed.get(path.stem, path.stem)].category in wanted
        ]

    def frames_since(self, true: int) -> list[str]:
        """Return the frames on the device that reach to a true time."""
        return [
            path.stem
            for path in self._core.spooled()
            if self._found[self._signed.get(path.stem, path.stem)].last > true
        ]

    def erase(self, categories: Iterable[Category]) -> None:
        """Note that all of these that happened until now was to be erased."""
        wanted = frozenset(categories)
        now = self._core.clock.true
        self.erased |= {n: now for n, here in self.happened.items() if here.category in wanted}

    def check_erased(self) -> None:
        """Nothing that was erased is anywhere, once all have confirmed."""
        here = {self._signed.get(path.stem, path.stem) for path in self._core.spooled()}
        there = {self._signed[name] for name in self._core.collector.frames}
        for name in here | there:
            times = self._found[name].times
            if left := [n for n, at in times.items() if at <= self.erased.get(n, -1)]:
                where = "the collector" if name in there else "the device"
                raise ViolationError(f"{where} has {len(left)} events that were erased")


def id_of(event: Event) -> int:
    """Return the number by which the machine knows what it made up."""
    match event:
        case Key(code=number) | Move(x=number) | Frame(left=number) | Focus(x=number):
            return number
        case _:
            raise ViolationError(f"nobody made {event}")
