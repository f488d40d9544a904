"""One person among a million batches demands erasure: unreadable at once, nothing rewritten.

The index is filled with rows like those of real uploads; a few frames of the person, and of
another one, are really there, so that store, reader and guard are asked, too.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import func, insert, select

from collector.guard.watch import Watch
from collector.index.tables import batches, leaves, salts, tombstones
from collector.rights.forget import AT_ONCE
from guard.keys import Keys, Missing
from tests.conftest import Size
from tests.fakes.site import Site, Workstation, collector_site, fetches, refusal, today
from wire.category import Category
from wire.collector_http import Carried, decode, verify_logged
from wire.leaf import SALT_BYTES, Kind, request_payload
from wire.rights import verify_erasure

REAL: Final = 4  # frames of each of the two that are really there
OF_ONE: Final = 1_000  # batches of each person
CHUNK: Final = 20  # people whose rows are written at a time


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as running:
        yield running


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)  # to fill the index takes a few seconds, at full size minutes
def test_of_a_million_batches_those_of_one_person_are_unreadable_at_once(
    site: Site, size: Size, figure: Callable[[str], None]
) -> None:
    """The log has the proof, the guard says until when it is pending, no object is rewritten."""
    ada, grace = site.workstation(), site.workstation()
    hers, others = (dict(uploaded(station) for _ in range(REAL)) for station in (ada, grace))
    people = size(share=20, full=1_000)
    fill(site, ada, grace, people)
    of_ada, everybody, before = count(site, ada), count(site), objects(site)
    reader, grant = site.reader("erasures"), site.grant(reader="erasures")

    began = time.perf_counter()
    signed = ada.demands()
    answer = ada.asks(signed)
    took = time.perf_counter() - began

    assert answer.status == 200, answer.body
    carried = decode(answer.body, Carried)
    assert carried.erased == of_ada > OF_ONE
    assert count(site) == everybody - of_ada
    assert count(site, ada) == 0
    for name in hers:
        assert refusal(fetches(reader, grant, bytes.fromhex(name))) == (410, "erased")
    assert seed_of(site, ada) is Missing.ERASED
    assert not isinstance(seed_of(site, grace), Missing)
    key = site.policy.collector.log
    verify_logged(carried.logged, Kind.DELETION, request_payload(signed.digest), key)
    assert carried.guard is not None
    word = verify_erasure(carried.guard, signed.digest, site.policy.guard.signing_key)
    assert word.keys == 1
    assert word.pending_until > word.erased_at

    looks = swept(site)
    assert objects(site) == {name: seen for name, seen in before.items() if name in others}
    figure(
        f"{of_ada:,} of {everybody:,} batches unreadable {took:.3f} s after the demand, 0 objects "
        f"rewritten; their files gone after {looks} looks of at most {AT_ONCE}"
    )


def uploaded(station: Workstation) -> tuple[str, bytes]:
    """Hand a batch in; return it by its name."""
    frame = station.seals(station.consents())
    assert station.puts(frame).status == 201
    return hashlib.sha256(frame).hexdigest(), frame


def fill(site: Site, ada: Workstation, grace: Workstation, people: int) -> None:
    """Write rows of so many people, as uploads would: ada's are of her own consent."""
    with site.collector.index.reading() as connection:
        of = {
            row.device: row._asdict()
            for row in connection.execute(select(batches).order_by(batches.c.leaf))
        }
        start = int(connection.execute(select(func.max(leaves.c.number))).scalar_one()) + 1
    for first in range(0, people, CHUNK):
        rows = []
        for person in range(first, min(first + CHUNK, people)):
            like = of[ada.id] if person == 0 else {**of[grace.id], "subject": token(16)}
            rows += [
                {**like, "batch": token(32), "core_hash": token(32), "leaf": start + number}
                for number in range(person * OF_ONE, (person + 1) * OF_ONE)
            ]
        numbers = [int(row["leaf"]) for row in rows]
        with site.collector.index.writing() as connection:
            connection.execute(
                insert(leaves),
                [{"number": n, "kind": Kind.BATCH, "entry": token(40), "at": 0} for n in numbers],
            )
            connection.execute(
                insert(salts), [{"leaf": n, "salt": token(SALT_BYTES)} for n in numbers]
            )
            connection.execute(insert(batches), rows)
    site.collector.log.take_up()


def token(size: int) -> bytes:
    return secrets.token_bytes(size)


def count(site: Site, station: Workstation | None = None) -> int:
    """Return how many batches the index has, of all or of one."""
    asked = select(func.count()).select_from(batches)
    if station is not None:
        asked = asked.where(batches.c.subject == station.org.subject)
    with site.collector.index.reading() as connection:
        return int(connection.execute(asked).scalar_one())


def objects(site: Site) -> dict[str, tuple[int, int, int]]:
    """Return what identifies each object in the store: whoever rewrites one changes it."""
    found = {path.name: path.stat() for path in site.premises.objects.glob("??/*")}
    return {name: (at.st_ino, at.st_mtime_ns, at.st_size) for name, at in found.items()}


def seed_of(site: Site, station: Workstation) -> object:
    """Return what the guard has for this month, or why it has nothing."""
    keys = Keys(site.guard.folder / "keys.sqlite")
    try:
        return keys.find(station.org.subject, Category.KEYS, today()[:7])
    finally:
        keys.close()


def swept(site: Site) -> int:
    """Let `watch` look until nothing is left behind a tombstone; return how often it looked."""
    left = select(func.count()).where(tombstones.c.swept_at.is_(None))
    watch = Watch(site.collector)
    for looks in range(1_000):
        with site.collector.index.reading() as connection:
            if connection.execute(left).scalar_one() == 0:
                return looks
        watch.sweep()
    raise AssertionError("files behind tombstones stay")
