"""Deletion: nothing left that could be opened, a tombstone, and no way back."""

import hashlib
from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from collector.index import postgres
from collector.index.tables import batches, salts, tombstones
from collector.ingest.intake import Here
from collector.rights import forget
from tests.conftest import NewPlace
from tests.fakes.indexes import in_index
from tests.fakes.organisation import READER
from tests.fakes.site import Site, Workstation, collector_site, fetches, refusal
from wire.collector_http import Deleted, verify_logged
from wire.frame import split
from wire.ids import BatchHash
from wire.leaf import Kind, deletion_payload
from wire.receipt import decode_receipt


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def trace(site: Site, frame: bytes) -> list[str]:
    """Say where something of this batch is still to be found."""
    batch, found = hash_of(frame), []
    with site.collector.index.reading() as connection:
        if connection.execute(select(batches).where(batches.c.batch == batch)).first():
            found.append("row")
    if site.collector.store.get(batch) is not None:
        found.append("file")
    body = split(frame).body[:64]
    return found + holding(site, body)


def holding(site: Site, needle: bytes) -> list[str]:
    """Return the names of the state files in whose bytes *needle* occurs, or of the database."""
    files = [path for path in site.premises.paths.state.rglob("*") if path.is_file()]
    found = [path.name for path in files if needle in path.read_bytes()]
    return found + ["PostgreSQL"] * in_index(site.premises, needle)


@pytest.fixture(autouse=True)
def _every_hour_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's table of salts is written anew once an hour: here each time."""
    monkeypatch.setattr(postgres, "REWRITE_NS", 0)


def test_a_deleted_batch_leaves_a_tombstone_and_nothing_else(
    site: Site, workstation: Workstation
) -> None:
    """Row, file and salt are gone; the tombstone stands in the log."""
    frame = workstation.seals(workstation.consents())
    receipt = decode_receipt(workstation.puts(frame).body)
    assert trace(site, frame)
    answer = workstation.deletes(frame)
    deleted = msgspec.json.decode(answer.body, type=Deleted)

    assert (answer.status, deleted.stored) == (200, True)
    payload = deletion_payload(hash_of(frame))
    verify_logged(deleted.tombstone, Kind.TOMBSTONE, payload, site.policy.collector.log)
    assert trace(site, frame) == []
    with site.collector.index.reading() as connection:
        query = select(salts.c.salt).where(salts.c.leaf == receipt.index)
        assert connection.execute(query).first() is None
    assert holding(site, receipt.salt) == []
    if not site.collector.index.is_shared:  # PostgreSQL overwrites salts alone
        assert holding(site, receipt.core_hash) == []


def test_a_batch_that_an_erasure_took_can_be_deleted_as_well(
    site: Site, workstation: Workstation
) -> None:
    """Its device asked for both; each has a leaf of its own, which its device can check."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    assert workstation.asks(workstation.demands()).status == 200
    assert trace(site, frame) == []
    first = workstation.deletes(frame)
    deleted = msgspec.json.decode(first.body, type=Deleted)
    assert (first.status, deleted.stored) == (200, True)
    payload = deletion_payload(hash_of(frame))
    verify_logged(deleted.tombstone, Kind.TOMBSTONE, payload, site.policy.collector.log)
    again = msgspec.json.decode(workstation.deletes(frame).body, type=Deleted)
    assert again.tombstone.index == deleted.tombstone.index
    assert refusal(workstation.puts(frame)) == (410, "erased")


def test_a_deleted_batch_never_comes_back(site: Site, workstation: Workstation) -> None:
    """410 to a PUT, to a reader, and to a release; deleting again is the same tombstone."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    first = workstation.deletes(frame)

    assert workstation.deletes(frame).body == first.body
    assert refusal(workstation.puts(frame)) == (410, "erased")
    reader = site.reader(READER)
    answer = fetches(reader, site.grant(), hash_of(frame))
    assert refusal(answer) == (410, "erased")
    assert trace(site, frame) == []


def test_a_deletion_may_come_before_its_batch(site: Site, workstation: Workstation) -> None:
    """*Maybe sent*: whichever arrives first, the batch does not stay."""
    frame = workstation.seals(workstation.consents())
    deleted = msgspec.json.decode(workstation.deletes(frame).body, type=Deleted)

    assert not deleted.stored
    assert refusal(workstation.puts(frame)) == (410, "erased")
    assert trace(site, frame) == []


def test_a_deletion_during_the_upload_wins(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tombstone is looked for again in the transaction that would keep the batch."""
    frame = workstation.seals(workstation.consents())
    store = site.collector.store
    real = Here.store_it

    async def deleted_first(intake: Here) -> None:
        await run_in_threadpool(workstation.deletes, frame)
        await real(intake)

    with monkeypatch.context() as patch:
        patch.setattr(Here, "store_it", deleted_first)
        assert refusal(workstation.puts(frame)) == (410, "erased")
    assert trace(site, frame) == []
    assert list(store.unsettled()) == []


def test_another_device_can_neither_delete_nor_find_out(
    site: Site, workstation: Workstation
) -> None:
    """Its answer is that of a hash that has not come; the batch stays."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    other = site.workstation()
    deleted = msgspec.json.decode(other.deletes(frame).body, type=Deleted)

    assert not deleted.stored
    assert {"row", "file"} <= set(trace(site, frame))
    assert workstation.puts(frame).status == 200
    second = f"{READER}-2"
    fetched = fetches(site.reader(second), site.grant(reader=second), hash_of(frame))
    assert fetched.body == frame


def test_a_deletion_that_a_crash_cut_short_is_finished_at_the_next_start(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Crash after the tombstone*: the file is still there, and goes at start."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    with monkeypatch.context() as patch:
        patch.setattr(forget, "sweep", lambda *_: None)
        assert workstation.deletes(frame).status == 200
    assert "file" in trace(site, frame)
    assert refusal(workstation.puts(frame)) == (410, "erased")
    site.collector.put_right()

    assert trace(site, frame) == []
    with site.collector.index.reading() as connection:
        query = select(tombstones.c.swept_at).where(tombstones.c.batch == hash_of(frame))
        assert connection.execute(query).scalar_one() is not None


def test_what_a_crash_left_in_the_write_ahead_log_goes_at_the_next_start(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """*Crash after the sweep was noted*: row and salt are overwritten all the same."""
    frame = workstation.seals(workstation.consents())
    receipt = decode_receipt(workstation.puts(frame).body)
    with monkeypatch.context() as patch:
        patch.setattr(type(site.collector.index), "forget_deleted", lambda _index: None)
        assert workstation.deletes(frame).status == 200
    assert holding(site, receipt.salt) != []
    site.collector.put_right()
    assert holding(site, receipt.salt) == []


def test_an_interrupted_removal_is_finished_too(site: Site, workstation: Workstation) -> None:
    """A file that was emptied but is still there, under a tombstone that was not swept."""
    frame = workstation.seals(workstation.consents())
    workstation.deletes(frame)
    site.collector.store.put(hash_of(frame), b"").settle()
    forget.sweep(
        site.collector.index,
        site.collector.store,
        hash_of(frame),
        workstation.id,
        site.collector.now(),
    )
    assert site.collector.store.get(hash_of(frame)) is None


def test_deleting_goes_on_during_a_halt(site: Site, workstation: Workstation) -> None:
    """A halt must never keep anybody's data alive."""
    frame = workstation.seals(workstation.consents())
    workstation.puts(frame)
    site.halts("stop")
    answer = workstation.deletes(frame)
    site.publishes()

    assert answer.status == 200
    assert trace(site, frame) == []
