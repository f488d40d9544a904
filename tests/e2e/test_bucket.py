"""The whole path with the batches in a bucket: the programs' own commands, a real S3 store, TLS.

The index is in PostgreSQL, as where several collectors share both.
From an upload to an export and an erasure; and what a permission mistake there exposes.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from collector.premises import Premises as CollectorPremises
from demo.organisation import Organisation, Plan
from tests.conftest import Size
from tests.fakes.blindness import (
    LEVELS,
    SETTINGS,
    World,
    check_blind,
    write_all,
)
from tests.fakes.buckets import Rented
from tests.fakes.ceph import Ceph
from tests.fakes.conspiracy import paths
from tests.fakes.device import Device
from tests.fakes.dump import values_of
from tests.fakes.postgres import Server, server
from wire.category import Category
from wire.collector_http import Deleted, Enrolment, State
from wire.event import Key
from wire.frame import batch_hash
from wire.ids import BootInstant

pytestmark = pytest.mark.slow

CANARY: Final = "Hausmeister"  # what all of them begin with
WAIT_SECONDS: Final = 120  # the patrol comes every 20
AUTHORITY: Final = "ceph-ca.pem"
PUBLIC: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": "*",
        }
    ],
}


@pytest.fixture(scope="module")
def rented(ceph: Ceph) -> Rented:
    return Rented.of(ceph)


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    """Run a database server of its own, so that all of it can be searched."""
    with server() as running:
        yield running


@pytest.fixture(scope="module")
def acme(
    rented: Rented, database: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    """Run an organisation whose collector keeps its batches there, over TLS, no index."""
    settings = rented.toml(rented.ceph.tls_endpoint) + f'authority = "{AUTHORITY}"\n'
    settings += f'[index]\nurl = "{database.index()}"\n{SETTINGS}'
    plan = Plan(levels=LEVELS, test_only=True, collector_settings=settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)  # programs share it no more than a home
        organisation = Organisation(tmp_path_factory.mktemp("acme"), plan)
        try:
            organisation.found()
            config = organisation.collector.home / "config"
            rented.write_credentials(config / "store.credentials")
            shutil.copyfile(rented.ceph.authority, config / AUTHORITY)
            organisation.serve()
            yield organisation
        finally:
            organisation.stop()


@pytest.fixture(scope="module")
def device(acme: Organisation) -> Device:
    enrolment = msgspec.json.decode(acme.enrolment_file("ann").read_bytes(), type=Enrolment)
    return Device(acme.folder / "ann", enrolment).enrol()


@pytest.fixture
def uploads(device: Device) -> Callable[[int], list[bytes]]:
    """Return what uploads batches of keys, each of which spells a canary."""
    consent, guard_key = device.agree(Category.KEYS), device.guard_key(Category.KEYS)

    def upload(count: int) -> list[bytes]:
        frames = []
        for number in range(count):
            word = enumerate(f"{CANARY}{number}")
            frames.append(
                device.seal(
                    consent,
                    guard_key,
                    *(
                        Key(at=BootInstant(at), sequence=at, pressed=True, kind="letter", text=one)
                        for at, one in word
                    ),
                )
            )
            device.upload(frames[-1])
        return frames

    return upload


def test_a_batch_lies_in_the_bucket_and_a_reader_opens_it(
    acme: Organisation, rented: Rented, uploads: Callable[[int], list[bytes]]
) -> None:
    """Under its hash, whole, and not on the collector's disk; no mark is left."""
    frames = uploads(3)
    stored = rented.settled()
    assert {name.split("/")[-2] for name in stored} >= {batch_hash(f).hex() for f in frames}
    assert set(frames) <= set(stored.values())
    assert not [name for name in stored if "/objects/" not in name]
    assert not (acme.collector.home / "state" / "objects").exists()
    tally = acme.reader.facts("fetch", "--grant", acme.access_grant("keys"))
    assert tally["released"] >= 3
    report = acme.reader.facts("verify")
    assert report["opened"]["keys"]["batches"] == tally["released"]
    assert report["faults"] == {}


def test_what_was_erased_is_gone_from_the_bucket(
    rented: Rented, device: Device, uploads: Callable[[int], list[bytes]]
) -> None:
    """By the answer to the deletion; and the batch is not taken in again."""
    [frame] = uploads(1)
    name = batch_hash(frame).hex()
    assert frame in rented.objects().values()
    answer = device.door.request("DELETE", f"/v1/batches/{name}")
    assert (answer.status, msgspec.json.decode(answer.body, type=Deleted).stored) == (200, True)
    assert name not in str(rented.objects().keys())
    assert device.door.request("PUT", f"/v1/batches/{name}", frame).status == 410


# --- what a permission mistake exposes ------------------------------------------------------


@pytest.fixture(scope="module")
def world(acme: Organisation, rented: Rented, database: Server, size: Size) -> World:
    """People at work; in the long form their canaries are among more batches."""

    def elsewhere(folder: Path) -> None:
        write_all(folder / "bucket", filter(None, made_public(rented).values()))
        values_of(CollectorPremises(paths(acme.collector)).config().index.url, folder / "values")
        database.stop()
        shutil.copytree(database.data, folder / "database")
        database.start()

    return World.at_work(acme, size(share=20, full=200), elsewhere)


def made_public(rented: Rented) -> dict[str, bytes | None]:
    """Return what nobody in particular gets of a bucket that is open to all: all of it."""
    nobody = rented.party(None)
    rented.owner.allows(rented.name, PUBLIC)
    try:
        names = nobody.lists(rented.name) or []
        return {name: nobody.reads(rented.name, name) for name in names}
    finally:
        rented.allows_ours()


def test_nobody_gets_anything_and_who_hands_in_gets_nothing_else(
    rented: Rented, world: World
) -> None:
    """Neither a list nor a byte, though the names are known; nor is anything removed."""
    objects = rented.objects()
    assert {frame for person in world.people for frame in person.early} <= set(objects.values())
    for thief in (rented.party(None), rented.party(rented.ingest)):
        assert thief.lists(rented.name) is None
        for name, way in itertools.product(objects, ("GET", "HEAD", "DELETE")):
            assert thief.asks(way, f"{rented.name}/{name}").status == 403, way
    assert {frame for person in world.people for frame in person.early} <= set(
        rented.objects().values()
    )


@pytest.mark.soak
def test_a_bucket_open_to_all_a_dump_of_the_rest_and_the_readers_key_show_nothing(
    world: World, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """All objects, as anybody gets them; each value of the database and its files; the machine."""
    figure(check_blind(world, world.aborted(tmp_path / "dump"), tmp_path))


@pytest.fixture
def begun_anew(acme: Organisation) -> None:
    """After the collector was aborted."""
    acme.stop()
    acme.serve()


@pytest.mark.usefixtures("begun_anew")
def test_a_bucket_that_is_made_public_stops_everybody(
    rented: Rented, device: Device, uploads: Callable[[int], list[bytes]]
) -> None:
    """The next patrol of the drills finds it."""
    [frame] = uploads(1)
    assert frame in made_public(rented).values()
    rented.owner.allows(rented.name, PUBLIC)
    try:
        assert "the store gives a batch to somebody without credentials" in stopped(device)
    finally:
        rented.allows_ours()


def stopped(device: Device) -> str:
    """Wait until the programme stands still; return why."""
    for _ in range(WAIT_SECONDS):
        answer = device.door.request("GET", "/v1/state")
        state = msgspec.json.decode(answer.body, type=State)
        if state.stopped:
            return state.stopped
        time.sleep(1)
    pytest.fail("no drill has found it")
