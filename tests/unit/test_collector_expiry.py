"""Retention ends by itself: what may not be kept any longer is gone, and only that."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import select

from base.errors import RetryableError
from collector import expiry
from collector.halt import call_halt
from collector.index.tables import batches, tombstones
from collector.watch import TIDY_SECONDS, Watch
from tests.fakes.site import Site, collector_site
from wire.frame import split
from wire.ids import BatchHash

KEPT_DAYS: Final = 30  # what the workstations of a site write into their batches


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site")) as running:
        yield running


def stored(site: Site) -> bytes:
    workstation = site.workstation()
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    return frame


def trace(site: Site, frame: bytes) -> list[str]:
    """Say where something of this batch is still to be found."""
    batch, found = BatchHash(hashlib.sha256(frame).digest()), []
    with site.collector.index.reading() as connection:
        if connection.execute(select(batches).where(batches.c.batch == batch)).first():
            found.append("row")
    if site.collector.store.get(batch) is not None:
        found.append("file")
    needle = split(frame).body[:64]
    files = [path for path in site.premises.paths.state.rglob("*") if path.is_file()]
    return found + [path.name for path in files if needle in path.read_bytes()]


def test_a_batch_is_kept_to_its_last_day_and_gone_on_the_next(site: Site) -> None:
    """Row, file and bytes; a tombstone remains, so that it cannot come again."""
    frame = stored(site)
    site.clock.moved = timedelta(days=KEPT_DAYS)
    assert expiry.clear(site.collector) == 0
    assert {"row", "file"} <= set(trace(site, frame))
    site.clock.moved = timedelta(days=KEPT_DAYS + 1)
    assert expiry.clear(site.collector) == 1
    assert trace(site, frame) == []
    with site.collector.index.reading() as connection:
        (tombstone,) = connection.execute(select(tombstones)).all()
    assert tombstone.stored
    assert tombstone.swept_at is not None
    assert expiry.clear(site.collector) == 0


def test_a_running_collector_looks_by_itself_once_an_hour(site: Site) -> None:
    """Nobody has to think of it; a halt keeps nobody's data alive."""
    watch = Watch(site.collector)
    watch.tidy()
    first = stored(site)
    with site.collector.index.writing() as connection:
        call_halt(connection, "drill", site.collector.now())
    site.clock.moved = timedelta(days=KEPT_DAYS + 1)
    watch.tidy()
    assert trace(site, first) == []


def test_the_hour_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look goes through the whole index, which is not done every few seconds."""
    looks: list[object] = []

    def clear(collector: object) -> int:
        looks.append(collector)
        return 0

    monkeypatch.setattr("collector.watch.clear", clear)
    watch = Watch(site.collector)
    watch.tidy()
    watch.tidy()
    assert len(looks) == 1
    site.clock.moved = timedelta(seconds=TIDY_SECONDS + 1)
    watch.tidy()
    assert len(looks) == 2


def test_more_than_goes_at_once_is_gone_on_with(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look does not wait for the hour."""
    monkeypatch.setattr("collector.expiry.AT_ONCE", 1)
    monkeypatch.setattr("collector.watch.AT_ONCE", 1)
    frames = [stored(site) for _ in range(2)]
    site.clock.moved = timedelta(days=KEPT_DAYS + 1)
    watch = Watch(site.collector)
    watch.tidy()
    assert sum(trace(site, frame) == [] for frame in frames) == 1
    watch.tidy()
    assert [trace(site, frame) for frame in frames] == [[], []]


def test_a_clock_that_is_wrong_for_sure_deletes_nothing(site: Site) -> None:
    """A machine that believes that it is 2100 would delete everything."""
    frame = stored(site)
    site.clock.moved = timedelta(days=80 * 365)
    with pytest.raises(RetryableError):
        expiry.clear(site.collector)
    assert {"row", "file"} <= set(trace(site, frame))
