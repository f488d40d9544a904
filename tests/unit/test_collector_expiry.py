"""Retention ends by itself: what may not be kept any longer is gone, and only that."""

import asyncio
import errno
import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import select

from base.errors import RetryableError
from collector.guard.watch import TIDY_SECONDS, Watch
from collector.halt import call_halt
from collector.index.tables import batches, tombstones
from collector.rights import expiry
from collector.store.files import FileStore
from tests.conftest import NewPlace
from tests.fakes.site import Site, collector_site
from tests.fakes.tls import WAIT_SECONDS
from tests.fakes.workstation import eventually
from wire.frame import split
from wire.ids import BatchHash

KEPT_DAYS: Final = 30  # what the workstations of a site write into their batches


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
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


def test_a_defect_does_not_end_the_watch(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of halts, whatever lies in a store that others may write to."""
    seen = threading.Event()
    looks = iter([ValueError("a name that nobody thought of"), None])

    def sweep(_watch: Watch) -> None:
        if (error := next(looks, None)) is not None:
            raise error
        seen.set()

    monkeypatch.setattr(Watch, "sweep", sweep)
    monkeypatch.setattr("collector.guard.watch.LOOK_SECONDS", 0.01)
    watch = Watch(site.collector)
    watch.begin()
    try:
        assert seen.wait(WAIT_SECONDS)
    finally:
        watch.end()


def test_the_hour_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look goes through the whole index, which is not done every few seconds."""
    looks: list[object] = []

    def clear(collector: object) -> int:
        looks.append(collector)
        return 0

    monkeypatch.setattr("collector.guard.watch.clear", clear)
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
    monkeypatch.setattr("collector.rights.expiry.AT_ONCE", 1)
    monkeypatch.setattr("collector.guard.watch.AT_ONCE", 1)
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


def test_a_file_that_cannot_be_removed_stops_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others go, the watch goes on and says it in a line, and removes it once it can."""
    stuck, other = stored(site), stored(site)
    remove, stays = FileStore.remove, BatchHash(hashlib.sha256(stuck).digest())
    broken, rounds = threading.Event(), threading.Semaphore(0)

    def failing(store: FileStore, batch: BatchHash) -> None:
        if batch == stays and broken.is_set():
            rounds.release()
            raise OSError(errno.EIO, "Input/output error", "of whom")
        remove(store, batch)

    monkeypatch.setattr(FileStore, "remove", failing)
    monkeypatch.setattr("collector.guard.watch.LOOK_SECONDS", 0.01)
    site.clock.moved = timedelta(days=KEPT_DAYS + 1)
    broken.set()
    watch = Watch(site.collector)
    watch.begin()
    try:
        assert all(rounds.acquire(timeout=WAIT_SECONDS) for _ in range(3))
        assert "file" in trace(site, stuck)
        assert trace(site, other) == []
        broken.clear()
        asyncio.run(eventually(lambda: site.collector.store.get(stays) is None))
    finally:
        watch.end()
    assert trace(site, stuck) == []
    told = [record for record in caplog.records if record.name == "collector.guard.watch"]
    said = [record.getMessage() for record in told]
    assert "what was erased still lies in the store: Input/output error" in said
    assert not [line for line in said if "of whom" in line]
