"""No log, no key: what was opened is what the log says was released, whatever goes wrong.

A reader has batches released over and over, under one approved grant after the other, while
answers are lost, requests come twice, processes die before and after each commit, the witness
refuses, and the collector lies.  Every plaintext is really opened with the reader's identity;
it counts for one batch under one grant, and so does a leaf.
"""

import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from base.errors import AssentError
from reader.fetch import Collector, Tally, fetch
from reader.verify import Opener
from tests.conftest import Size
from tests.fakes.liar import LIES, Liar
from tests.fakes.second_lock import DiedError, Fate, Fault, MortalLibrary, SecondLock
from tests.fakes.site import TENANT, Site, Workstation, collector_site, today
from tests.unit.test_collector_releases import approved
from wire.age import decode_identity
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category, registry
from wire.collector_http import ReleaseOrder
from wire.errors import WireError
from wire.event import Event, Key, Move, category_of
from wire.frame import Core, batch_hash, core_hash, encode_core
from wire.grant import AccessGrant, access_digest, decode_request, grant_hash
from wire.guard_http import KeyAnswer
from wire.ids import BatchHash, BootInstant, WallInstant, key_id
from wire.leaf import Kind
from wire.sealing import seal, sign
from wire.xwing import public_key_of

AT = BootInstant(5_500_000_000)
PLANTED: dict[Category, tuple[Event, ...]] = {
    Category.KEYS: (
        Key(at=AT, pressed=True, kind="letter"),
        Key(at=AT, pressed=False, kind="digit"),
    ),
    Category.POINTER: (Move(at=AT, x=7, y=1),),
}

Release = tuple[BatchHash, bytes]  # which batch, under which grant


def sealed(site: Site, station: Workstation, category: Category, event: Event) -> bytes:
    """Return a batch of one event, sealed to the reader, the data subject and the guard."""
    signed = station.consents(category)
    answer = station.asks_key(category)
    guard_key = msgspec.json.decode(answer.body, type=KeyAnswer).public_key
    people = (station.org.identity, station.org.subject_identity)
    keys = tuple(public_key_of(decode_identity(identity)) for identity in people)
    core = Core(
        origin=site.origin,
        tenant=TENANT,
        programme=site.policy.programme,
        device=station.id,
        subject=station.org.subject,
        policy=site.digest,
        grant=grant_hash(signed),
        category=category,
        day=today(),
        recipients=tuple(map(key_id, keys)),
        guard_key=key_id(guard_key),
        purpose=site.policy.purpose,
        expires=today(7),
    )
    opening = Opening(
        core_hash=core_hash(encode_core(core)),
        wall=site.collector.now(),
        boot=AT,
        level=registry()[category].lowest_level,
        counters={"seen": 1},
        gaps=(),
    )
    plaintext = encode_batch(Batch(opening=opening, events=(event,)))
    return sign(seal(core, plaintext, keys, guard_key).unsigned, 1, station.org.device)


# --- what is counted ----------------------------------------------------------------------


@dataclass
class Count:
    """What was opened, beside what stands in the collector's log."""

    lock: SecondLock
    library: MortalLibrary
    planted: dict[BatchHash, Event]
    opened: set[Release] = field(default_factory=set)

    def open_all(self) -> None:
        """Open all that the reader has; each new plaintext has its witnessed leaf by then."""
        opener = Opener(
            library=self.library,
            identity=self.lock.site.org.identity,
            today=datetime.now(UTC).date(),
        )
        for batch in self.planted:
            kept = self.library.release(batch) if self.library.has_release(batch) else None
            if kept is None or (batch, kept.access) in self.opened:
                continue
            assert opener.open(batch).batch.events == (self.planted[batch],)
            self.opened.add((batch, kept.access))
            assert self.leaf_of(batch, kept.access) < self.lock.witnessed()

    def leaf_of(self, batch: BatchHash, access: bytes) -> int:
        """Return the number of the leaf of a release; there is one, of that kind."""
        with closing(sqlite3.connect(self.lock.index_file)) as index:
            asked = (
                "SELECT leaf FROM releases JOIN leaves ON leaf = number "
                "WHERE batch = ? AND access = ? AND kind = ?"
            )
            leaves = index.execute(asked, (batch, access, Kind.RELEASE)).fetchall()
        assert len(leaves) == 1, "what was opened has no leaf in the log"
        return int(leaves[0][0])

    def logged(self) -> list[Release]:
        """Return the releases of which the log has a leaf."""
        with closing(sqlite3.connect(self.lock.index_file)) as index:
            leaves = index.execute("SELECT number FROM leaves WHERE kind = ?", (Kind.RELEASE,))
            numbers = [row[0] for row in leaves]
            rows = index.execute("SELECT batch, access, leaf FROM releases").fetchall()
        assert sorted(row[2] for row in rows) == numbers, "a leaf of no release, or the reverse"
        return [(BatchHash(batch), access) for batch, access, _ in rows]

    def is_done(self, grant: AccessGrant) -> bool:
        access = access_digest(grant)
        categories = decode_request(grant.request).categories
        return all(
            (batch, access) in self.opened
            for batch, event in self.planted.items()
            if category_of(event) in categories
        )


# --- the story ----------------------------------------------------------------------------


@dataclass
class Reader:
    """Tries to open, again and again, under one grant or another."""

    lock: SecondLock
    count: Count
    outcomes: Counter[str] = field(default_factory=Counter)

    def tries(self, grant: AccessGrant, collector: Collector | None = None) -> Tally | None:
        """Make one attempt; return what became of it, None when it broke off."""
        self._forget_others(grant)
        ours, guard = self.lock.ends()
        now = WallInstant(self.lock.site.clock.now().wall)
        try:
            return fetch(grant, self.count.library, collector or ours, guard, now=now)
        except (AssentError, WireError, DiedError) as exc:
            self.outcomes[str(exc)] += 1
            return None
        finally:
            self.count.open_all()

    def _forget_others(self, grant: AccessGrant) -> None:
        """Put away the releases of other grants: a reader has them in another folder."""
        for batch in self.count.planted:
            if self.count.library.has_release(batch):
                kept = self.count.library.release(batch)
                if kept is not None and kept.access != access_digest(grant):
                    self.count.library.put_away(batch)


@dataclass
class Story:
    """One attempt after the other, each with its grant, its faults or its lie."""

    reader: Reader
    dice: random.Random
    stored: dict[BatchHash, bytes]
    lies: Counter[str] = field(default_factory=Counter)
    unfinished: list[AccessGrant] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Have a first release logged, honestly, for liars to make something of."""
        self.lock, self.count = self.reader.lock, self.reader.count
        first = self._new_grant(*PLANTED)
        order = ReleaseOrder(grant=first, batches=tuple(self.stored))
        self.honest = self.lock.ends()[0].releases(order)
        self.unfinished.append(first)

    def attempt(self) -> None:
        if self.dice.random() < 0.15:
            self._lied_to()
            return
        if not self.unfinished or self.dice.random() < 0.5:
            self.unfinished.append(self._new_grant(*self._some()))
        grant = self.dice.choice(self.unfinished)
        self.lock.fate.next_attempt()
        self.reader.tries(grant)
        if self.count.is_done(grant):
            self.unfinished.remove(grant)

    def finish(self) -> None:
        """Ask once more for what was not answered, with nothing in the way."""
        self.lock.fate.rest()
        for grant in self.unfinished:
            self.reader.tries(grant)
            assert self.count.is_done(grant), "a release was logged and can never be opened"

    def _lied_to(self) -> None:
        lie = LIES[self.lies.total() % len(LIES)]
        grant = self._new_grant(*self._some())
        self.lock.fate.rest()
        told = self.reader.tries(grant, Liar(self.lock, self.stored, self.honest, lie))
        assert told is None or (told.released == 0 and told.refused)
        assert all(access != access_digest(grant) for _, access in self.count.opened)
        self.lies[lie] += 1

    def _new_grant(self, *categories: Category) -> AccessGrant:
        name = f"r-{next(self.numbers)}"
        return approved(self.lock.site, request_id=name, categories=categories)

    def _some(self) -> list[Category]:
        return self.dice.sample(list(PLANTED), self.dice.randint(1, len(PLANTED)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def frames(site: Site) -> dict[BatchHash, tuple[bytes, Event]]:
    """Batches that a device sent, each with the one event that is in it."""
    station, stored = site.workstation(), {}
    for category, events in PLANTED.items():
        for event in events:
            frame = sealed(site, station, category, event)
            assert station.puts(frame).status == 201
            stored[batch_hash(frame)] = frame, event
    return stored


@pytest.fixture
def lock(
    site: Site,
    frames: dict[BatchHash, tuple[bytes, Event]],
    dice: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SecondLock]:
    assert frames, "they are there before anything can go wrong"
    parties = SecondLock(site, Fate(dice), monkeypatch)
    yield parties
    parties.close()


@pytest.mark.slow
@pytest.mark.soak
def test_plaintexts_opened_are_releases_logged_whatever_goes_wrong(
    lock: SecondLock,
    frames: dict[BatchHash, tuple[bytes, Event]],
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
    tmp_path: Path,
) -> None:
    """See the module; the two are compared at each opening, and both ways in the end."""
    library = MortalLibrary(tmp_path / "library", lock.fate)
    count = Count(lock, library, {batch: event for batch, (_, event) in frames.items()})
    stored = {batch: frame for batch, (frame, _) in frames.items()}
    story = Story(Reader(lock, count), dice, stored)

    attempts = size(share=250, full=10_000)
    for _ in range(attempts):
        story.attempt()
    story.finish()

    logged = count.logged()
    assert set(logged) == count.opened
    assert len(logged) == len(count.opened)
    assert set(lock.fate.struck) == set(Fault)
    assert set(story.lies) == set(LIES)
    figure(
        f"{attempts} attempts, {lock.fate.struck.total()} faults of {len(Fault)} kinds, "
        f"{story.lies.total()} lies of {len(LIES)}: {len(count.opened)} plaintexts opened, "
        f"{len(logged)} releases logged; the collector began anew {lock.collectors.starts} "
        f"times, the guard {lock.guards.starts} times"
    )
