"""The lease between a collector and a guard that really listen."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from base.door import Response
from collector.index.tables import lease
from collector.refusal import RefusedError
from guard.halt import Halts
from guard.trust import read_policy_set
from tests.conftest import NewPlace
from tests.fakes.damage import Damage, empty, foreign, garbled, truncated
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.lease import Lease, verify_lease
from wire.metadata import Timestamp, version_of
from wire.tlog import verify_checkpoint

HOUR = timedelta(hours=1)


@pytest.fixture
def site(tmp_path: Path, new_place: NewPlace) -> Iterator[Site]:
    with collector_site(tmp_path / "site", index_url=new_place(tmp_path).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


def asks(workstation: Workstation, name: str = "timestamp.json") -> Response:
    return workstation.door.request("GET", f"/v1/policy/{name}")


def leased(site: Site, answer: Response) -> Lease:
    """Return the lease in *answer*, checked as a device does."""
    assert answer.status == 200, answer.body
    folder = site.policy_folder
    root, snapshot = ((folder / name).read_bytes() for name in ("root.json", "snapshot.json"))
    return verify_lease(root=root, snapshot=snapshot, timestamp=answer.body)


def test_the_first_who_asks_gets_a_lease_of_both(site: Site, workstation: Workstation) -> None:
    """Signed by collector and guard, a little shorter than the policy allows."""
    lease = leased(site, asks(workstation))
    length = lease.expires.timestamp() - site.collector.now() / 1e9
    assert 0 < length <= site.policy.lease_seconds
    assert length > site.policy.lease_seconds * 0.9


def test_a_lease_is_renewed_after_a_quarter_of_its_life(
    site: Site, workstation: Workstation
) -> None:
    """Before that the same one is handed out, to everybody."""
    first = asks(workstation).body
    site.clock.moved = HOUR / 2
    assert asks(workstation).body == first
    site.clock.moved = HOUR * 1.1
    second = leased(site, asks(workstation))
    assert second.version > version_of(first, Timestamp)
    assert second.expires.timestamp() > site.collector.now() / 1e9 + 3 * 3600


def test_a_new_policy_has_a_lease_at_once_and_the_guard_has_to_know_it(
    site: Site, workstation: Workstation
) -> None:
    """Until the guard has installed it, devices get the old lease, over the old snapshot."""
    old = asks(workstation).body
    there = site.guard.policy
    site.publishes(hold_seconds=601)
    site.guard.policy = there
    assert asks(workstation).body == old
    assert asks(workstation, "1.snapshot.json").status == 200
    site.guard.policy = read_policy_set(site.policy_folder)
    assert asks(workstation).body == old  # it was refused a moment ago
    site.clock.moved = timedelta(seconds=31)
    assert leased(site, asks(workstation)).snapshot_version == 2


def test_while_the_programme_is_halted_no_lease_is_made(
    site: Site, workstation: Workstation
) -> None:
    """What there is is handed out until it ends; devices close by the state before that."""
    first = asks(workstation).body
    site.halts("the council")
    site.clock.moved = HOUR * 3
    assert asks(workstation).body == first
    site.publishes()
    assert leased(site, asks(workstation)).snapshot_version == 2


def test_a_halted_guard_signs_none_for_a_collector_that_has_not_heard_of_it(
    site: Site, workstation: Workstation
) -> None:
    """Nor for one that hides the halt: agents close when the lease ends that they have."""
    first = asks(workstation).body
    halts = Halts(site.guard.folder / "halt.json")
    assert halts.call(site.guard.policy, "the council", "the guard", site.collector.now())
    site.clock.moved = HOUR * 1.1
    assert asks(workstation).body == first
    site.publishes()
    site.clock.moved += timedelta(seconds=31)
    assert leased(site, asks(workstation)).snapshot_version == 2


def test_where_the_guard_gives_none_there_is_none(site: Site, workstation: Workstation) -> None:
    """And the device is told to come again."""
    site.guard.policy = None
    assert refusal(asks(workstation)) == (503, "not-ready")


def test_a_clock_that_was_ahead_when_the_guard_refused_holds_up_no_lease(
    site: Site, workstation: Workstation
) -> None:
    """It is asked again a moment later, by the clock that is right again; heads of the log, too."""
    first = asks(workstation).body
    there, site.guard.policy = site.guard.policy, None
    site.clock.moved = timedelta(days=300)
    assert site.collector.leases.timestamp() == first
    with pytest.raises(RefusedError):
        site.collector.witnessed.latest(site.collector.now())
    site.guard.policy = there
    site.clock.moved = HOUR * 1.1
    assert leased(site, asks(workstation)).version > version_of(first, Timestamp)
    assert workstation.door.request("GET", "/v1/log/witnessed").status == 200


def test_a_head_that_was_cosigned_while_the_clock_was_ahead_does_not_stay_the_newest(
    site: Site, workstation: Workstation
) -> None:
    """Devices close when what they saw of the log is cosigned by nobody for so long."""
    site.clock.moved = timedelta(days=300)
    site.collector.witnessed.latest(site.collector.now())
    site.clock.moved = timedelta()
    workstation.consents()
    note = workstation.door.request("GET", "/v1/log/witnessed").body.decode()
    verifier = site.collector.log.verifier_key
    size = verify_checkpoint(site.collector.log.checkpoint(), verifier).size
    assert verify_checkpoint(note, verifier).size == size


DAMAGES = pytest.mark.parametrize("damage", [empty, truncated, foreign, garbled])


@DAMAGES
def test_a_kept_lease_that_is_damaged_is_made_anew(
    site: Site, workstation: Workstation, damage: Damage, tmp_path: Path
) -> None:
    """The guard has to sign it again; nothing of the old one is handed out."""
    first = leased(site, asks(workstation))
    with site.collector.index.writing() as connection:
        kept = tmp_path / "kept"
        kept.write_bytes(connection.execute(select(lease.c.signed)).scalar_one())
        damage(kept)
        connection.execute(lease.update().values(signed=kept.read_bytes()))
    site.clock.moved = timedelta(minutes=1)
    assert leased(site, asks(workstation)).version > first.version


@DAMAGES
def test_a_guard_that_does_not_know_what_it_signed_last_signs_nothing(
    site: Site, workstation: Workstation, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease could go back behind another: its operator restores the file, and is told which."""
    first = asks(workstation).body
    path = site.guard.folder / "lease.json"
    damage(path)
    before = path.read_bytes()
    site.clock.moved = HOUR * 1.1
    assert asks(workstation).body == first
    assert path.read_bytes() == before
    assert "lease.json cannot be used" in caplog.text


def test_nothing_else_has_a_name(workstation: Workstation) -> None:
    """No file of the machine, and no version that was never published."""
    for name in ("2.root.json", "9.snapshot.json", "..%2fconfig.toml", "lease.key", "00.root.json"):
        assert asks(workstation, name).status == 404, name
