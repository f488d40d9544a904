"""A real collector, drilled by itself and by hand: holes stop it, and an operator's word ends that.

The long form asks for 45,000 objects in every role.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest
from sqlalchemy import select

from base.clock import NANOSECONDS
from collector.index.opening import open_index
from collector.index.tables import batches, stops
from collector.log import append
from collector.store.files import FileStore
from tests.conftest import ROOT, Size
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.collector_http import State
from wire.frame import batch_hash, decode_core, join_unsigned, split, verify
from wire.ids import BatchHash
from wire.leaf import Kind, batch_payload
from wire.sealing import sign

PATIENCE_SECONDS: Final = 120.0
ROLES: Final = 7
"""Probes of each object: five over TLS, its file, and its bytes; readers order some together."""


@contextmanager
def served(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run `assent-collector serve` on the folders of a site."""
    child = subprocess.Popen(
        [sys.executable, "-m", "collector", "serve"],
        cwd=folder,
        env=surroundings(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith("serving")
            yield child
        finally:
            child.terminate()


def surroundings(folder: Path) -> dict[str, str]:
    without = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    return {**without, "ASSENT_HOME": str(folder), "PYTHONPATH": str(ROOT)}


def commanded(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "collector", *words],
        cwd=folder,
        env=surroundings(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def state(site: Site) -> State:
    return msgspec.json.decode(site.door().request("GET", "/v1/state").body, type=State)


def wait_until(what: str, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE_SECONDS:g} s"
        time.sleep(0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def stopped_site(folder: Path) -> Iterator[Site]:
    """Return a site that nobody serves any more, so that a real process can."""
    with collector_site(folder) as site:
        yield site


@pytest.mark.slow
def test_a_running_collector_stops_by_itself_and_goes_on_by_an_operators_word(
    folder: Path, figure: Callable[[str], None]
) -> None:
    """First drill, uploads, a public object, a stop within a minute, a drill by hand, go-on."""
    with collector_site(folder) as site:
        ada = site.workstation()
        first, second, third = (again(ada, number) for number in (1, 2, 3))
        site.stop()
        with served(folder):
            wait_until("a first batch", lambda: ada.puts(first).status in (200, 201))
            path = site.premises.objects / batch_hash(first).hex()[:2] / batch_hash(first).hex()
            path.chmod(0o644)
            planted_at = site.collector.now()
            wait_until("a stop", lambda: bool(state(site).stopped))
            with open_index(site.premises).reading() as connection:
                stopped_at = connection.execute(select(stops.c.at)).scalar_one()
            waited = (stopped_at - planted_at) / NANOSECONDS
            assert waited <= 60
            assert "mode 644" in state(site).stopped
            assert refusal(ada.puts(second)) == (503, "stopped")

            failed = commanded(folder, "drill")
            assert failed.returncode == 1
            assert failed.stderr.startswith("assent-collector: a drill failed: a batch's file")
            early = commanded(folder, "go-on")
            assert (early.returncode, "none has passed since" in early.stderr) == (3, True)
            path.chmod(0o600)
            passed = commanded(folder, "drill", "--all", "--json")
            assert passed.returncode == 0, passed.stderr
            assert json.loads(passed.stdout)["holes"] == []
            assert refusal(ada.puts(second)) == (503, "stopped")
            over = commanded(folder, "go-on")
            assert (over.returncode, over.stdout) == (0, "The stop is over.\n")
            assert ada.puts(second).status == 201
            assert ada.puts(third).status == 201
        gone = commanded(folder, "drill")
        assert (gone.returncode, "no collector serves" in gone.stderr) == (5, True)
        figure(f"a public object stopped ingest {waited:.1f} s after it was made")


_BASES: dict[int, bytes] = {}


def again(one: Workstation, number: int) -> bytes:
    """Return a frame of *one* under another number, sealed once for all of them."""
    base = _BASES.get(id(one))
    if base is None:
        base = _BASES[id(one)] = one.seals(one.consents())
    parts = split(base)
    return sign(join_unsigned(parts.core, parts.shelf, parts.body), number, one.org.device)


def filled(site: Site, count: int) -> None:
    """Store *count* batches as uploads would have, without the way there."""
    ada = site.workstation()
    signed = ada.consents()
    frame = ada.seals(signed)
    parts = split(frame)
    core = decode_core(parts.core)
    unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
    store, now = site.collector.store, site.collector.now()
    assert isinstance(store, FileStore)
    with site.collector.index.writing() as connection:
        for number in range(count):
            made = sign(unsigned, number + 10, ada.org.device)
            name = batch_hash(made)
            path = site.premises.objects / name.hex()[:2] / name.hex()
            path.write_bytes(made)
            path.chmod(0o600)
            seen = verify(made, ada.org.device.public_key())
            leaf = append(connection, Kind.BATCH, batch_payload(name, seen.core_hash), now)
            connection.execute(
                batches.insert().values(
                    batch=name,
                    core_hash=seen.core_hash,
                    device=core.device,
                    subject=core.subject,
                    programme=core.programme,
                    purpose=core.purpose,
                    category=core.category,
                    day=core.day,
                    expires=core.expires,
                    policy=core.policy,
                    grant=core.grant,
                    bytes=len(made),
                    sequence=str(number),
                    core=parts.core,
                    sealed_sha256=seen.sealed_sha256,
                    signature=split(made).signature,
                    received_at=now,
                    leaf=leaf,
                )
            )


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_object_is_asked_for_in_every_role(
    folder: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """45,000 objects in the long form, by `drill --all` beside the server; then one is public."""
    count = size(share=300, full=45_000)
    with collector_site(folder) as site:
        filled(site, count)
        with site.collector.index.reading() as connection:
            some = BatchHash(connection.execute(select(batches.c.batch)).scalars().first() or b"")
        site.stop()
        with served(folder):
            before = time.monotonic()
            passed = commanded(folder, "drill", "--all", "--json")
            seconds = time.monotonic() - before
            assert passed.returncode == 0, passed.stderr
            outcome = json.loads(passed.stdout)
            assert outcome["holes"] == []
            assert outcome["objects"] >= count
            assert outcome["probes"] > ROLES * count
            path = site.premises.objects / some.hex()[:2] / some.hex()
            path.chmod(0o604)
            planted_at = site.collector.now()
            wait_until("a stop", lambda: bool(state(site).stopped))
            with open_index(site.premises).reading() as connection:
                waited = connection.execute(select(stops.c.at)).scalar_one() - planted_at
        figure(
            f"{outcome['objects']} objects, {outcome['probes']} probes in {seconds:.0f} s; one "
            f"made public stopped ingest after {waited / NANOSECONDS:.1f} s"
        )
