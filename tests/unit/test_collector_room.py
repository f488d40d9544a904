"""A collector whose disk is full: it takes nothing that it could not keep, and nothing is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.https import OneDoor
from tests.fakes.delivering import Delivering
from tests.fakes.proxy import relay
from tests.fakes.site import Site, collector_site, refusal
from tests.fakes.tls import WAIT_SECONDS
from tests.fakes.workstation import eventually
from wire.frame import batch_hash


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site", "spare_bytes = 1000") as running:
        yield running


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Delivering:
    return Delivering.enrolled(site, tmp_path / "state")


def leaves(site: Site, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let the disk have so many bytes left."""
    monkeypatch.setattr(site.collector.store, "free_bytes", lambda: free)


def test_a_full_collector_asks_for_no_byte_of_a_body(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 instead of 100 Continue, with the time after which to come again."""
    frame = laptop.station.seals(laptop.signed)
    leaves(site, monkeypatch, 999)
    certificate, key = laptop.station.files
    with relay() as (proxy, carried):
        ca = site.premises.trusted_pem()
        door = OneDoor(
            site.origin, site.premises.tls_pins(), ca, certificate, key, WAIT_SECONDS, proxy=proxy
        )
        answer = door.request("PUT", f"/v1/batches/{batch_hash(frame).hex()}", frame)
        door.close()
    assert refusal(answer) == (507, "storage-full")
    assert answer.retry_after_seconds == 300
    assert len(carried.up) < len(frame)  # handshake and head are all that went up
    assert site.collector.store.get(batch_hash(frame)) is None
    assert list(site.collector.store.unsettled()) == []


def test_what_is_stored_already_is_receipted_without_room(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device whose answer was lost does not wait for room that it does not need."""
    frame = laptop.station.seals(laptop.signed)
    assert laptop.station.puts(frame).status == 201
    leaves(site, monkeypatch, 0)
    assert laptop.station.puts(frame).status == 200


def test_a_full_collector_still_deletes(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spare room is for that: a no of the data subject waits for nobody."""
    frame = laptop.station.seals(laptop.signed)
    assert laptop.station.puts(frame).status == 201
    leaves(site, monkeypatch, 0)
    assert laptop.station.deletes(frame).status == 200
    assert site.collector.store.get(batch_hash(frame)) is None


def test_at_the_bound_there_is_room(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where nobody can tell how much is left, the store itself decides."""
    leaves(site, monkeypatch, 1000)
    assert laptop.station.puts(laptop.station.seals(laptop.signed)).status == 201
    monkeypatch.setattr(site.collector.store, "free_bytes", lambda: None)
    assert laptop.station.puts(laptop.station.seals(laptop.signed)).status == 201


def test_the_store_knows_how_much_is_left(site: Site) -> None:
    """Of the file system that it lies on."""
    free = site.collector.store.free_bytes()
    assert free is not None
    assert free > 0


def test_batches_wait_for_room_and_then_flow(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept, said in one line, deletions done meanwhile; room again, and all of them arrive."""
    stored = laptop.station.seals(laptop.signed)
    assert laptop.station.puts(stored).status == 201
    frames = [laptop.seal(), laptop.seal(), laptop.seal()]
    laptop.spool.ask_deletion(batch_hash(stored), "forgotten")
    leaves(site, monkeypatch, 0)

    async def story() -> None:
        async with laptop.running() as delivery:
            await eventually(lambda: "507: storage-full" in delivery.last_error, WAIT_SECONDS)
            await eventually(lambda: laptop.spool.deletions() == [], WAIT_SECONDS)
            assert len(laptop.spool.ready()) == 3
            assert laptop.spool.number_quarantined() == 0

            leaves(site, monkeypatch, 1 << 40)
            laptop.clock.pass_by(299)
            delivery.wake()
            await asyncio.sleep(0)
            assert laptop.spool.number_sent() == 0  # not before the collector said
            laptop.clock.pass_by(100)
            delivery.wake()
            await eventually(lambda: laptop.spool.number_sent() == 3, WAIT_SECONDS)
            await eventually(lambda: delivery.last_error == "", WAIT_SECONDS)

    asyncio.run(story())
    assert [site.collector.store.get(batch_hash(frame)) for frame in frames] == frames
