"""A drill, from its first probe to its record.

1. plant what is missing, so that there is something to ask for;
2. knock: certificates that are none must not get in at all;
3. ask every row of the table of routes as everybody whom it does not name;
   and enrol from a jurisdiction that is not served;
4. ask for objects in every role that must not have them: planted, suspected, and others;
5. look at the files, and at the objects, as who has them without any identity;
6. look at the index as who has it alone;
7. ask the guard for what the collector must not get there.

The first hole stops the programme at once; the drill goes on, to say what else there is, and is
written down in the end.  A crash before that leaves the stop, whose leaf says why.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, select

from base.errors import RetryableError
from collector.app import EVERY_DOOR, ROUTES
from collector.assembly import Collector
from collector.drill import database, local, records, targets
from collector.drill.attack import Attack, attack
from collector.drill.doors import Listening
from collector.drill.elsewhere import from_elsewhere
from collector.drill.grants import grants
from collector.drill.planted import plant
from collector.drill.planted import stored as planted_before
from collector.drill.probes import (
    CATEGORY_WORDS,
    Grants,
    Hole,
    Object,
    Unmade,
    Who,
    of_object,
    of_orders,
    of_routes,
)
from collector.drill.records import Kind, Outcome
from collector.drill.stores import StoreProbes, probes_of
from collector.index.tables import batches, devices, planted
from collector.premises import Premises
from wire.ids import WallInstant

SAMPLE: Final = 100  # objects of an hourly drill
PATROL: Final = 4  # of one every 20 s
PAGE: Final = 250  # objects asked for at a time, in every role
ORDER: Final = 25  # objects that are ordered together, where all are asked for
FILES: Final = 50_000  # whose modes one look takes in: less than a second
MOST_HOLES: Final = 20  # are told; then a drill has found enough

_KEY: Final = (
    select(devices.c.public_key)
    .join(batches, batches.c.device == devices.c.device)
    .where(batches.c.batch == bindparam("batch"))
)
_PLANTED_KEY: Final = select(planted.c.public_key).where(planted.c.batch == bindparam("batch"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What is attacked, and how much of it."""

    collector: Collector
    premises: Premises
    listening: Listening
    kind: Kind = Kind.SAMPLE
    sample: int = SAMPLE
    turn: int = 0  # of the patrol, which looks at other files each time, if there are many
    progress: Callable[[int], None] = lambda _objects: None
    found: Callable[[str], None] = lambda _line: None  # is told the first hole, at once


class StoreAwayError(RetryableError):
    """The store cannot be reached, so nobody knows; nor can anything be handed in meanwhile."""


@dataclass(kw_only=True)
class _Found:
    """What was found so far; the first hole stops everybody."""

    drill: Drill
    store: StoreProbes
    away: str = ""  # why the store was not tried to the end
    holes: list[Hole] = field(default_factory=list)
    probes: int = 0
    objects: int = 0
    left_out: list[str] = field(default_factory=list)

    def take(self, holes: Iterable[Hole | None]) -> None:
        """Take in holes that HTTP found; how many probes it took is counted there."""
        for hole in holes:
            if hole is not None:
                self._stop(hole)

    def count(self, looks: Iterable[Hole | None]) -> None:
        """Take in what was looked at, one after the other."""
        for hole in looks:
            self.probes += 1
            if hole is not None:
                self._stop(hole)
            if self.enough:
                return

    @property
    def enough(self) -> bool:
        return len(self.holes) >= MOST_HOLES

    def of_store(self, looks: Iterable[Hole | None]) -> None:
        """Take in what was looked at in the store, as long as it can be reached."""
        if self.away:
            return
        try:
            self.count(looks)
        except RetryableError as exc:
            self.away = str(exc)

    def _stop(self, hole: Hole) -> None:
        if not self.holes:
            self.drill.found(hole.line)
            collector = self.drill.collector
            with collector.index.writing() as connection:
                records.stop_for(connection, hole, collector.now())
        self.holes.append(hole)


def drill(one: Drill) -> Outcome:
    """Hold a drill; return what came of it, written down.

    Raises:
        StoreAwayError: Nothing was found, and the store could not be tried; hold it again later.
        AssentError: It could not be begun, or written down; then no drill was held.

    """
    collector, began_at = one.collector, one.collector.now()
    store = probes_of(one.premises, collector.config)
    found = _Found(drill=one, store=store, left_out=[store.left_out] if store.left_out else [])
    grounds = _grounds(one, found, began_at)  # 1
    with attack(
        one.listening.targets,
        collector.index,
        collector.registry.authority,
        collector.config.tenant,
        one.premises.paths.runtime,
        collector.now,
    ) as attacking:
        _over_tls(one, attacking, grounds, found)
        found.probes += attacking.asked
    _files(one, found)  # 5
    _index(one, found)  # 6
    _guard(one, found)  # 7
    if found.away and not found.holes:
        raise StoreAwayError(f"{found.away}, so the drill has to be held again")
    return _written(one, found, began_at)


def _grounds(one: Drill, found: _Found, now: WallInstant) -> list[Object]:
    try:
        return plant(one.collector, now)
    except RetryableError as exc:
        found.away = str(exc)
        with one.collector.index.reading() as connection:
            return planted_before(connection)


def _over_tls(one: Drill, attacking: Attack, grounds: list[Object], found: _Found) -> None:
    doors = one.listening.targets
    for door in doors.targets:
        found.take(attacking.knock(who, door) for who in (Who.STRANGER, Who.EXPIRED))  # 2
        if door in doors.required:
            found.take([attacking.knock(Who.ANONYMOUS, door)])
    served = [door for door in doors.targets if door in EVERY_DOOR]
    names = [each.batch for each in grounds]
    found.take(attacking.ask([*of_routes(ROUTES, served, names, attacking.headers)]))  # 3
    index, now = one.collector.index, one.collector.now()
    with from_elsewhere(index, now, attacking.headers) as probe:
        found.take(attacking.ask([probe]))
    with one.collector.index.reading() as connection:
        shown = grants(connection, one.premises.paths.config / "drill", one.collector.now())
    if shown is None:
        found.left_out.append("no policy was published yet, so there is nothing to ask for")
        return
    for page in _pages(one, grounds):
        _objects(one, attacking, page, shown, found)  # 4, 5
        if found.enough:
            return


def _pages(one: Drill, grounds: list[Object]) -> Iterator[list[Object]]:
    """Yield what is asked for, some at a time: the planted and the suspected first."""
    index = one.collector.index
    with index.reading() as connection:
        first = [*grounds, *targets.suspects(connection)]
        count = PATROL if one.kind is Kind.PATROL else one.sample
        drawn = [] if one.kind is Kind.ALL else targets.at_random(connection, count)
    for start in range(0, len(first) + len(drawn), PAGE):
        yield [*first, *drawn][start : start + PAGE]
    if one.kind is Kind.ALL:
        for page in targets.everything(index):
            for start in range(0, len(page), PAGE):
                yield page[start : start + PAGE]


def _objects(
    one: Drill, attacking: Attack, page: list[Object], shown: Grants, found: _Found
) -> None:
    reading = one.listening.targets.reading
    probes = [p for each in page for p in of_object(each, shown.like, reading, attacking.headers)]
    most = ORDER if one.kind is Kind.ALL else 1
    probes += of_orders(page, shown, reading, attacking.headers, most)
    with ThreadPoolExecutor(1) as meanwhile:
        answers = meanwhile.submit(attacking.ask, probes)
        found.of_store(_sealed(one.collector, each) for each in page)
        found.of_store(found.store.batches(each.batch for each in page))
        found.take(answers.result())
    found.objects += len(page)
    one.progress(found.objects)


def _sealed(collector: Collector, one: Object) -> Hole | None:
    with collector.index.reading() as connection:
        asked = {"batch": one.batch}
        raw = connection.execute(_KEY, asked).scalar()
        raw = raw or connection.execute(_PLANTED_KEY, asked).scalar()
    key = None if raw is None else Ed25519PublicKey.from_public_bytes(raw)
    return local.of_object(collector.store, one.batch, key, CATEGORY_WORDS[one.category])


def _files(one: Drill, found: _Found) -> None:
    paths, premises = one.premises.paths, one.premises
    ours = (
        *(paths.config, premises.guard_folder, premises.old_authority),
        *(paths.state, paths.logs, paths.runtime),
    )
    found.count(local.of_premises(ours))
    most = FILES if one.kind is Kind.PATROL else 1 << 62
    found.of_store(found.store.places(one.turn, most))


def _index(one: Drill, found: _Found) -> None:
    rows = {Kind.PATROL: 0, Kind.SAMPLE: database.ROWS, Kind.ALL: database.MOST_ROWS}[one.kind]
    with one.collector.index.reading() as connection:
        found.count(database.of_index(connection, rows))


def _guard(one: Drill, found: _Found) -> None:
    if one.collector.guard is None or one.kind is Kind.PATROL:
        return
    answered = one.collector.guard.refusals()
    if answered is None:
        found.left_out.append("the guard does not answer, so it was not tried")
        return
    found.count(
        Hole(line=f"the guard answered {what} with {status} to the collector")
        if status < 400
        else Unmade(line=f"{what} could not be asked of the guard: it answered {status}")
        if status not in (401, 403, 404)
        else None
        for what, status in answered
    )


def _written(one: Drill, found: _Found, began_at: WallInstant) -> Outcome:
    first = found.holes[0] if found.holes else None
    outcome = Outcome(
        kind=one.kind,
        began_at=began_at,
        ended_at=one.collector.now(),
        probes=found.probes,
        objects=found.objects,
        left_out=tuple(found.left_out),
        holes=tuple(hole.line for hole in found.holes),
        batch=None if first is None else first.batch,
    )
    if one.kind is not Kind.PATROL or not outcome.passed:
        with one.collector.index.writing() as connection:
            records.write_down(connection, outcome, one.listening.server)
    return outcome
