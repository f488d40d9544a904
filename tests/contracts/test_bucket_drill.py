"""What a drill finds on a real S3 store: given to nobody, and not to who may only hand in."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from base.errors import RetryableError
from base.paths import Paths
from collector.config import read_config
from collector.drill.probes import Hole
from collector.drill.records import has_passed
from collector.drill.run import Drill, StoreAwayError, drill
from collector.drill.schedule import Schedule
from collector.drill.stores import StoreProbes, probes_of
from collector.premises import Premises
from collector.store.policy import bucket_policy
from collector.store.s3 import frame_name
from tests.contracts.test_bucket_rights import BATCH, EVERYBODY, FRAME
from tests.fakes.buckets import PREFIX, PUBLIC, Rented
from tests.fakes.ceph import Ceph
from tests.fakes.drilled import a_drill
from tests.fakes.site import Site, collector_site
from wire.collector_http import State
from wire.ids import BatchHash

pytestmark = pytest.mark.slow

TO_NOBODY = "the store gives a batch to somebody without credentials"
TO_UPLOADER = "the store gives a batch to who has the uploader's credentials alone"


@pytest.fixture
def rented(ceph: Ceph, tmp_path: Path) -> Rented:
    """Return a bucket in which the collector has stored one frame."""
    rented = Rented.of(ceph)
    rented.open(tmp_path).put(BATCH, FRAME).settle()
    return rented


@pytest.fixture
def premises(rented: Rented, tmp_path: Path) -> Premises:
    """Return folders of a collector whose batches lie there."""
    folders = {name: tmp_path / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**folders))
    premises.paths.make()
    premises.config_file.write_text(
        f'origin = "https://127.0.0.1:1"\ntenant = "acme"\nlisten = "127.0.0.1:1"\n{rented.toml()}'
    )
    rented.write_credentials(premises.paths.config / "store.credentials")
    return premises


def probes(premises: Premises) -> StoreProbes:
    return probes_of(premises, read_config(premises.config_file))


def found(premises: Premises, batch: BatchHash = BATCH) -> list[str]:
    """Return what a drill finds of that store and one batch in it."""
    tried = [*probes(premises).batches([batch]), *probes(premises).places(0, 100)]
    assert len(tried) >= 3
    return [hole.line for hole in tried if hole is not None]


def test_a_bucket_with_our_policy_gives_nothing(premises: Premises) -> None:
    """Neither lists nor objects, to nobody and to who may only hand in."""
    assert found(premises) == []
    assert probes(premises).left_out == ""


def test_a_policy_that_allows_everybody_is_found(premises: Premises, rented: Rented) -> None:
    """Both lists, and the object, to both."""
    rented.owner.allows(rented.name, EVERYBODY)
    lines = found(premises)
    assert {TO_NOBODY, TO_UPLOADER} <= set(lines)
    assert "the store lists objects to somebody without credentials" in lines
    assert len(lines) == 6


def test_one_object_that_was_published_is_found_by_its_name(
    premises: Premises, rented: Rented
) -> None:
    """By its ACL, where somebody took the policy away that would still have shut it."""
    public = BatchHash(hashlib.sha256(b"public").digest())
    name = f"{rented.name}/{frame_name(PREFIX, public)}"
    ingest = rented.party(rented.ingest)
    assert ingest.asks("PUT", name, b"public", headers=PUBLIC).status == 200
    assert found(premises, public) == []
    assert rented.owner.asks("DELETE", rented.name, query={"policy": ""}).status < 300
    assert TO_NOBODY in found(premises, public)
    assert TO_NOBODY not in found(premises)


def test_an_uploader_that_may_read_is_found(premises: Premises, rented: Rented) -> None:
    """Without the explicit deny Ceph lets it, as nothing in the policy would tell."""
    policy = bucket_policy(
        bucket=rented.name, prefix=PREFIX, ingest=rented.ingest.arn, keep=rented.keep.arn
    )
    allows = [one for one in policy["Statement"] if one["Effect"] == "Allow"]
    rented.owner.allows(rented.name, json.dumps({**policy, "Statement": allows}))
    assert found(premises) == [TO_UPLOADER]


def test_one_identity_for_both_is_said_to_be_untried(premises: Premises, rented: Rented) -> None:
    """Whoever steals what hands in has all rights then; that is the operator's choice."""
    both = dataclasses.replace(rented, ingest=rented.keep)
    both.write_credentials(premises.paths.config / "store.credentials")
    assert "one identity" in probes(premises).left_out
    assert found(premises) == []


class Away:
    """A store that nobody reaches."""

    left_out = ""

    def places(self, _turn: int, _most: int) -> Iterator[Hole | None]:
        yield None
        raise RetryableError("the store cannot be reached")

    def batches(self, _named: object) -> Iterator[Hole | None]:
        yield None
        raise RetryableError("the store cannot be reached")


def test_a_store_that_is_away_stops_nobody_and_opens_no_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing can be handed in either; it is tried again when the next patrol is due."""
    with collector_site(tmp_path / "site") as site:
        one = a_drill(site)
        schedule = Schedule(one, 3600, 20)
        with monkeypatch.context() as patch:
            patch.setattr("collector.drill.run.probes_of", lambda *_of: Away())
            with pytest.raises(StoreAwayError, match="held again"):
                drill(one)
            schedule.look(0.0)
            answer = site.door().request("GET", "/v1/state")
            assert msgspec.json.decode(answer.body, type=State).stopped == ""
        schedule.look(19.0)
        assert not passed(site, one)
        schedule.look(20.0)
        assert passed(site, one)


def passed(site: Site, one: Drill) -> bool:
    with site.collector.index.reading() as connection:
        return has_passed(connection, one.listening.server)
