"""Attacks on policy and lease by name, each through the real refresh and the real gate.

What TUF means by "refused": nothing of it comes into force, and what was in force stays until
its own lease ends, which nobody lengthens.  Then capture is closed.  A device that has nothing
yet stays closed.  So each attack is tried on a device that runs, to the end of its lease, and,
where the attack is not one on memory, on one that is just being enrolled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from agent.consent.policy import read_fetched
from agent.consent.refresh import LARGEST_BYTES
from base.clock import NANOSECONDS
from base.errors import RejectedError, RetryableError, SetupError
from collector.policies import TIMESTAMP_NAME
from governance import policy_set
from guard.lease import Leases
from tests.fakes.fleet import FleetDevice, granted, moment
from tests.fakes.organisation import (
    CONTROLLER,
    NOW,
    Organisation,
    PolicyFolder,
    ed25519,
    wall,
)
from tests.fakes.repository import Repository, enrol
from wire.control import Reason
from wire.errors import ForgedError, NotCoveredError
from wire.lease import LATE_SECONDS, lease_seconds, offer
from wire.metadata import Metadata, Root, Snapshot, Targets, metadata_of
from wire.parties import PARTY_FIELD
from wire.policy import LEASE_SECONDS

HOUR: Final = 3_600
ACME: Final = Organisation()
REFUSED: Final = (RejectedError, RetryableError)


@dataclass
class World:
    """A collector that turns bad, and a device that has been good until then."""

    organisation: Organisation
    folder: PolicyFolder
    repository: Repository
    device: FleetDevice
    path: Path

    def signs(self, **changes: object) -> None:
        """Let both parties sign another version of the policy, and publish it an hour later."""
        self.folder = self.organisation.publish(
            self.folder.folder, self.organisation.policy(version=2, **changes)
        )

    def lease(self, at: datetime, **more: Any) -> bytes:  # noqa: ANN401
        return self.organisation.lease(self.folder, at, **more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = ACME.publish(tmp_path / "policy")
    repository = Repository.of(ACME, folder)
    standing = granted(ACME, folder.digest)
    device = FleetDevice.enrolled(tmp_path / "state", folder, repository.fetch, standing, moment())
    assert device.reason(moment()) is Reason.ACTIVE
    return World(ACME, folder, repository, device, tmp_path)


LATER: Final = NOW + timedelta(hours=1)


def resign(data: bytes, change: Callable[[Any], None], *keys: Ed25519PrivateKey) -> bytes:
    """Return metadata with *change* made, signed by exactly *keys*."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    change(metadata.signed)
    metadata.signatures.clear()
    for key in keys:
        metadata.sign(CryptoSigner(key), append=True)
    return metadata.to_bytes()


def as_it_is(_signed: Any) -> None:  # noqa: ANN401
    """Change nothing but the signatures."""


def next_version(signed: Any) -> None:  # noqa: ANN401
    signed.version += 1


# --- what a bad collector serves ----------------------------------------------------------


def one_of_two(role: str) -> Callable[[World], None]:
    """Let only one party sign *role*; for the timestamp only the collector."""

    def attack(world: World) -> None:
        files, org = world.repository.files, world.organisation
        key = org.collector_lease if role == "timestamp" else org.controller
        match role:
            case "root":
                files["2.root.json"] = resign(files["root.json"], next_version, key)
            case "timestamp":
                files[TIMESTAMP_NAME] = resign(world.lease(LATER), as_it_is, key)
            case "snapshot":
                served = resign(files["snapshot.json"], next_version, key)
                files["2.snapshot.json"] = served
                files[TIMESTAMP_NAME] = lease_over(org, served)
            case _:
                both(world, resign(files["targets.json"], next_version, key))

    return attack


def lease_over(org: Organisation, snapshot: bytes, at: datetime = LATER) -> bytes:
    """Return a lease over any snapshot, signed by collector and guard, who were both deceived."""
    given = offer(
        snapshot=snapshot,
        version=int(at.timestamp()),
        expires=at + timedelta(seconds=LEASE_SECONDS),
        key=org.collector_lease,
    )
    return resign(given, as_it_is, org.collector_lease, org.guard_lease)


def both(world: World, targets: bytes) -> None:
    """Serve *targets* under a snapshot that both parties and a lease that both halves signed."""
    org, files = world.organisation, world.repository.files
    version = metadata_of(targets, Targets).signed.version

    def name_it(signed: Any) -> None:  # noqa: ANN401
        signed.version += 1
        signed.meta["targets.json"].version = version

    snapshot = resign(files["snapshot.json"], name_it, org.controller, org.council)
    files[f"{metadata_of(snapshot, Snapshot).signed.version}.snapshot.json"] = snapshot
    files[f"{version}.targets.json"] = targets
    files[TIMESTAMP_NAME] = lease_over(org, snapshot)


def mix_and_match(world: World) -> None:
    """The targets of before where the snapshot names the new ones."""
    old = world.repository.files["1.targets.json"]
    world.signs()
    world.repository.publish(world.folder, LATER)
    world.repository.files["2.targets.json"] = old


def two_keys_of_one_party(world: World) -> None:
    """A root, signed by both, in which the controller has two keys: the rule is not TUF's."""
    files, org, second = world.repository.files, world.organisation, ed25519()

    def add(signed: Any) -> None:  # noqa: ANN401
        signed.version += 1
        key = SSlibKey.from_crypto(second.public_key())
        key.unrecognized_fields[PARTY_FIELD] = CONTROLLER
        for role in ("root", "targets", "snapshot"):
            signed.add_key(key, role)

    files["2.root.json"] = resign(files["root.json"], add, org.controller, org.council)
    files[TIMESTAMP_NAME] = world.lease(LATER)


def signed_with_the_collectors_key(world: World) -> None:
    """The key that is online signs a policy of its own, twice, for it has no other."""
    org, files = world.organisation, world.repository.files
    key = org.collector_lease
    both(world, resign(files["targets.json"], next_version, key, key))


def collector_alone(world: World) -> None:
    """The collector renews the lease without the guard, with its key twice."""
    key = world.organisation.collector_lease
    world.repository.files[TIMESTAMP_NAME] = resign(world.lease(LATER), as_it_is, key, key)


def fast_forward(role: str) -> Callable[[World], None]:
    """Number *role* so high that nothing genuine could ever follow; each as far as keys reach."""

    def attack(world: World) -> None:
        files, org = world.repository.files, world.organisation

        def number(signed: Any) -> None:  # noqa: ANN401
            signed.version = 2**53

        match role:
            case "root":  # even if both parties have signed that one
                both_keys = (org.controller, org.council)
                files["2.root.json"] = resign(files["root.json"], number, *both_keys)
                files[TIMESTAMP_NAME] = world.lease(LATER)
            case "snapshot":  # one party, with a lease over it that both halves signed
                served = resign(files["snapshot.json"], number, org.controller)
                files[f"{2**53}.snapshot.json"] = served
                files[TIMESTAMP_NAME] = lease_over(org, served)
            case _:
                key = org.collector_lease
                files[TIMESTAMP_NAME] = resign(world.lease(LATER), number, key)

    return attack


def guard_alone(world: World) -> None:
    """The guard renews the lease without the collector."""
    key = world.organisation.guard_lease
    world.repository.files[TIMESTAMP_NAME] = resign(world.lease(LATER), as_it_is, key)


def endless(name: str) -> Callable[[World], None]:
    """Bytes that do not end, in the place of a file."""

    def attack(world: World) -> None:
        world.signs()
        world.repository.publish(world.folder, LATER)
        wanted = f"{world.folder.digest.hex()}.policy.json" if name == "policy" else name
        genuine = world.repository.files.get(wanted, b"{")
        world.repository.files[wanted] = genuine + b" " * (LARGEST_BYTES + 1)

    return attack


def wrong_snapshot(world: World) -> None:
    """Another snapshot than the lease names, though both parties signed it."""
    org, files = world.organisation, world.repository.files
    world.signs()
    world.repository.publish(world.folder, LATER)

    def later(signed: Any) -> None:  # noqa: ANN401
        signed.expires += timedelta(days=1)

    files["2.snapshot.json"] = resign(files["2.snapshot.json"], later, org.controller, org.council)


def target_of_another_digest(world: World) -> None:
    """A policy with one word changed, under the name of the one that was signed."""
    world.signs()
    world.repository.publish(world.folder, LATER)
    name = f"{world.folder.digest.hex()}.policy.json"
    content = world.repository.files[name]
    world.repository.files[name] = content.replace(b'"DE"', b'"FR"')
    assert world.repository.files[name] != content


def strangers(world: World) -> None:
    """A whole repository, rightly signed by people whom this device never heard of."""
    other = Organisation()
    folder = other.publish(world.path / "other")
    world.repository.files = Repository.of(other, folder, LATER).files


FORGED: Final[dict[str, tuple[Callable[[World], None], str]]] = {
    "one of two signatures on the root": (one_of_two("root"), "root was signed by 1/2"),
    "one of two signatures on the timestamp": (
        one_of_two("timestamp"),
        "timestamp was signed by 1/2",
    ),
    "one of two signatures on the snapshot": (one_of_two("snapshot"), "snapshot was signed by 1/2"),
    "one of two signatures on the targets": (one_of_two("targets"), "targets was signed by 1/2"),
    "mix-and-match": (mix_and_match, "Expected targets v2, got v1"),
    "two keys of one party": (two_keys_of_one_party, "holds 2 of the 2 root keys alone"),
    "policy signed with the collector's key": (
        signed_with_the_collectors_key,
        "targets was signed by 0/2",
    ),
    "collector alone renewing the lease": (collector_alone, "timestamp was signed by 1/2"),
    "guard alone renewing the lease": (guard_alone, "timestamp was signed by 1/2"),
    "fast forward of the lease": (fast_forward("timestamp"), "timestamp was signed by 1/2"),
    "fast forward of the root": (fast_forward("root"), "root version 2"),
    "fast forward of the snapshot": (fast_forward("snapshot"), "snapshot was signed by 1/2"),
    "endless timestamp": (endless(TIMESTAMP_NAME), "does not end"),
    "endless root": (endless("2.root.json"), "does not end"),
    "endless snapshot": (endless("2.snapshot.json"), "does not end"),
    "endless targets": (endless("2.targets.json"), "does not end"),
    "endless policy": (endless("policy"), "does not end"),
    "wrong snapshot": (wrong_snapshot, "does not match expected length"),
    "target of another digest": (target_of_another_digest, "does not match expected hash"),
    "another organisation's repository": (strangers, "timestamp was signed by 0/2"),
}


@pytest.mark.parametrize("attack", FORGED)
def test_a_device_that_runs_keeps_what_it_has_and_closes_when_its_lease_ends(
    world: World, attack: str
) -> None:
    """The old policy stays valid, as TUF means it, and not a second longer than before."""
    before = world.device.policy
    spoil, why = FORGED[attack]
    spoil(world)
    with pytest.raises(REFUSED, match=why):
        world.device.refresh(moment(seconds=HOUR))
    assert world.device.reason(moment(seconds=HOUR)) is Reason.ACTIVE
    assert (world.device.policy.digest, world.device.policy.lease) == (before.digest, before.lease)
    assert world.device.reason(moment(seconds=LEASE_SECONDS - 1)) is Reason.ACTIVE
    for at in (LEASE_SECONDS, LEASE_SECONDS + 1, 30 * HOUR):
        with pytest.raises(REFUSED):
            world.device.refresh(moment(seconds=at))
        assert world.device.reason(moment(seconds=at)) is Reason.POLICY_INVALID
    assert "lease ran out" in world.device.policy.problem


@pytest.mark.parametrize("attack", FORGED)
def test_a_device_that_has_nothing_yet_takes_nothing(world: World, attack: str) -> None:
    """It trusts the root of its enrolment file, and nothing follows from that."""
    trusted = PolicyFolder(world.path / "first")
    trusted.folder.mkdir()
    (trusted.folder / "root.json").write_bytes(world.folder.root)
    spoil, _why = FORGED[attack]
    spoil(world)
    state = world.path / "new"
    state.mkdir()
    with pytest.raises(REFUSED):
        enrol(state, trusted, world.repository.fetch, moment(seconds=HOUR))
    new = FleetDevice(state, world.repository.fetch, world.device.standing)
    assert new.reason(moment(seconds=HOUR)) is not Reason.ACTIVE
    assert new.policy.policy is None


# --- attacks on what a device remembers, and on time --------------------------------------


def test_rollback_to_an_older_policy_is_refused(world: World) -> None:
    """Even under a fresh lease that collector and guard sign: the snapshot went back."""
    old = world.folder.snapshot
    world.signs()
    world.repository.publish(world.folder, LATER)
    world.device.refresh(moment(seconds=HOUR))
    assert world.device.policy.digest == world.folder.digest
    world.device.standing = granted(ACME, world.folder.digest)
    much_later = NOW + timedelta(hours=2)
    world.repository.files[TIMESTAMP_NAME] = lease_over(ACME, old, much_later)
    with pytest.raises(RejectedError, match="snapshot version must be"):
        world.device.refresh(moment(seconds=2 * HOUR))
    assert world.device.policy.digest == world.folder.digest
    closes_with_the_lease(world, HOUR, "snapshot version must be")


def test_rollback_to_an_older_lease_is_refused(world: World) -> None:
    """A lease of before, however genuine, is not taken again."""
    first = world.repository.files[TIMESTAMP_NAME]
    world.repository.renew(world.folder, LATER)
    world.device.refresh(moment(seconds=HOUR))
    world.repository.files[TIMESTAMP_NAME] = first
    with pytest.raises(RejectedError, match="timestamp version"):
        world.device.refresh(moment(seconds=HOUR + 60))
    closes_with_the_lease(world, HOUR, "timestamp version")


def closes_with_the_lease(world: World, began: int, why: str) -> None:
    """What came an hour after the start lasts as long as a lease, however often it is tried."""
    last = moment(seconds=began + LEASE_SECONDS - 1)
    assert world.device.reason(last) is Reason.ACTIVE
    for at in (began + LEASE_SECONDS, began + 30 * HOUR):
        with pytest.raises(RejectedError, match=why):
            world.device.refresh(moment(seconds=at))
        assert world.device.reason(moment(seconds=at)) is Reason.POLICY_INVALID


def test_a_fast_forward_with_both_keys_of_the_lease_shuts_and_opens_nothing(world: World) -> None:
    """Whoever steals both can end the programme on a device, no more: no genuine lease follows."""
    world.repository.files[TIMESTAMP_NAME] = world.lease(LATER, version=2**53)
    world.device.refresh(moment(seconds=HOUR))
    world.repository.renew(world.folder, NOW + timedelta(hours=2))
    closes_with_the_lease(world, HOUR, "timestamp version")


def test_a_freeze_ends_with_the_lease(world: World) -> None:
    """Who hands out the same lease for ever makes nothing last: it counts from the first time."""
    for seconds in range(0, LEASE_SECONDS, 600):
        world.device.refresh(moment(seconds=seconds))
        assert world.device.reason(moment(seconds=seconds)) is Reason.ACTIVE
    with pytest.raises(RejectedError, match="expired"):
        world.device.refresh(moment(seconds=LEASE_SECONDS))
    assert world.device.reason(moment(seconds=LEASE_SECONDS)) is Reason.POLICY_INVALID


def test_a_freeze_with_the_clock_set_back_ends_with_the_lease_all_the_same(world: World) -> None:
    """The boot clock cannot be set, and it counts from when that lease came first."""
    for hours in range(4):
        boot = moment(seconds=hours * HOUR)
        frozen = type(boot)(boot=boot.boot, wall=moment().wall, boot_id=boot.boot_id)
        world.device.refresh(frozen)
    late = moment(seconds=LEASE_SECONDS)
    frozen = type(late)(boot=late.boot, wall=moment().wall, boot_id=late.boot_id)
    assert world.device.reason(frozen) is Reason.POLICY_INVALID


def test_after_a_reboot_the_wall_clock_tells(world: World) -> None:
    """The boot clock began anew, so it says nothing; a wall clock from before is not believed."""

    def rebooted(seconds: float) -> Any:  # noqa: ANN401
        return type(moment())(boot=1, wall=moment(seconds=seconds).wall, boot_id="two")

    assert world.device.reason(rebooted(LEASE_SECONDS - 1)) is Reason.ACTIVE
    assert world.device.reason(rebooted(LEASE_SECONDS)) is Reason.POLICY_INVALID
    assert world.device.reason(rebooted(-60)) is Reason.POLICY_INVALID
    world.device.refresh(rebooted(-60))
    assert world.device.reason(rebooted(-60)) is Reason.ACTIVE


def test_a_clock_that_is_set_back_ends_no_lease_that_the_boot_clock_counts(world: World) -> None:
    """Capture is shut for the clock itself, and the data subject reads that and not of a policy."""
    later = moment(seconds=LEASE_SECONDS - 1)
    back = type(later)(boot=later.boot, wall=moment(seconds=-7 * 24 * HOUR).wall, boot_id="one")
    assert later.boot_id == back.boot_id
    assert world.device.reason(back) is Reason.ACTIVE  # of the fleet; a workstation asks first
    over = type(later)(boot=later.boot + NANOSECONDS, wall=back.wall, boot_id="one")
    assert world.device.reason(over) is Reason.POLICY_INVALID


def test_a_lease_is_never_longer_than_the_policy_says(world: World) -> None:
    """Not even when collector and guard sign a longer one."""
    world.repository.files[TIMESTAMP_NAME] = world.lease(LATER, seconds=30 * 24 * HOUR)
    world.device.refresh(moment(seconds=HOUR))
    assert world.device.reason(moment(seconds=HOUR + LEASE_SECONDS - 1)) is Reason.ACTIVE
    assert world.device.reason(moment(seconds=HOUR + LEASE_SECONDS)) is Reason.POLICY_INVALID


def test_an_expired_root_closes_whatever_the_lease_says(tmp_path: Path) -> None:
    """The year is over and nobody has signed a new root: collector and guard cannot go on alone."""
    acme = Organisation()
    folder = acme.publish(tmp_path / "policy")

    def soon(signed: Any) -> None:  # noqa: ANN401
        signed.expires = NOW.replace(microsecond=0) + timedelta(hours=2)

    keys = (acme.controller, acme.council)
    (folder.folder / "root.json").write_bytes(resign(folder.root, soon, *keys))
    repository = Repository.of(acme, folder)
    device = FleetDevice.enrolled(
        tmp_path / "state", folder, repository.fetch, granted(acme, folder.digest), moment()
    )
    repository.renew(folder, LATER)
    device.refresh(moment(seconds=HOUR))
    assert device.reason(moment(seconds=2 * HOUR - 1)) is Reason.ACTIVE
    assert device.reason(moment(seconds=2 * HOUR)) is Reason.POLICY_INVALID
    repository.renew(folder, NOW + timedelta(hours=2))
    with pytest.raises(RejectedError, match=r"root\.json is expired"):
        device.refresh(moment(seconds=2 * HOUR))


def test_a_new_root_is_followed_and_the_old_keys_sign_nothing_more(world: World) -> None:
    """Key compromise: the council has another key, and what the old one signs is nothing."""
    acme = Organisation()
    folder = acme.publish(world.path / "p2")
    repository = Repository.of(acme, folder)
    device = FleetDevice.enrolled(
        world.path / "s2", folder, repository.fetch, granted(acme, folder.digest), moment()
    )
    stolen, acme.council = acme.council, ed25519()
    acme.name_parties(folder.folder)
    for key in (acme.controller, stolen, acme.council):
        policy_set.sign(folder.folder, key, NOW)
    repository.publish(folder, LATER)
    device.refresh(moment(seconds=HOUR))
    assert device.reason(moment(seconds=HOUR)) is Reason.ACTIVE
    fetched = read_fetched(device.state)
    assert fetched is not None
    assert metadata_of(fetched.root, Root).signed.version == 2
    assert not [path for path in device.state.rglob("*") if path.is_symlink()]
    forged = resign(repository.files["targets.json"], next_version, acme.controller, stolen)
    both(World(acme, folder, repository, device, world.path), forged)
    repository.files[TIMESTAMP_NAME] = lease_over(
        acme, repository.files["3.snapshot.json"], NOW + timedelta(hours=2)
    )
    with pytest.raises(RejectedError, match="1/2"):
        device.refresh(moment(seconds=2 * HOUR))


# --- what the guard does not sign ---------------------------------------------------------


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases.open(tmp_path / "lease.json", ACME.guard_lease)


def offered(world: World, at: datetime = NOW, **changes: Any) -> bytes:  # noqa: ANN401
    asked: dict[str, Any] = {
        "snapshot": world.folder.snapshot,
        "version": int(at.timestamp()),
        "expires": at + timedelta(seconds=LEASE_SECONDS),
        "key": ACME.collector_lease,
    }
    return offer(**(asked | changes))


def test_fast_forward_is_refused_by_the_guard(world: World, leases: Leases) -> None:
    """A stolen collector's key cannot number a lease so high that no later one counts."""
    installed = world.folder.policy_set()
    for version in (int(NOW.timestamp()) + LATE_SECONDS + 1, 2**53):
        with pytest.raises(NotCoveredError, match="another time"):
            leases.renew(offered(world, version=version), installed, wall(NOW))
    signed = leases.renew(offered(world), installed, wall(NOW))
    world.repository.files[TIMESTAMP_NAME] = signed
    world.device.refresh(moment())


def test_the_guard_never_goes_back(world: World, leases: Leases) -> None:
    """Neither the same lease twice nor an older one, also after it was started again."""
    installed = world.folder.policy_set()
    leases.renew(offered(world), installed, wall(NOW))
    again = Leases.open(leases.path, ACME.guard_lease)
    for version in (int(NOW.timestamp()), int(NOW.timestamp()) - 1):
        with pytest.raises(NotCoveredError, match="newer lease"):
            again.renew(offered(world, version=version), installed, wall(NOW))


def test_a_guard_that_cannot_remember_signs_nothing(world: World, leases: Leases) -> None:
    """A damaged memory is an error, not a new beginning."""
    leases.path.write_text("nothing")
    with pytest.raises(SetupError, match=r"lease\.json"):
        leases.renew(offered(world), world.folder.policy_set(), wall(NOW))


def test_the_guard_signs_only_for_the_policy_that_it_has_installed(
    world: World, leases: Leases
) -> None:
    """A collector that was given a newer policy waits for the guard, and the other way round."""
    old, installed = offered(world), world.folder.policy_set()
    world.signs()
    with pytest.raises(NotCoveredError, match="another snapshot"):
        leases.renew(offered(world), installed, wall(NOW))
    with pytest.raises(NotCoveredError, match="another snapshot"):
        leases.renew(old, world.folder.policy_set(), wall(NOW))


def test_the_guard_signs_no_lease_that_is_longer_than_the_policys(
    world: World, leases: Leases
) -> None:
    """To the second, by its own clock."""
    installed = world.folder.policy_set()
    late = NOW + timedelta(seconds=LEASE_SECONDS + 1)
    with pytest.raises(NotCoveredError, match="longer"):
        leases.renew(offered(world, expires=late), installed, wall(NOW))


def test_the_guard_signs_for_its_collector_alone(world: World, leases: Leases) -> None:
    """Whoever has a certificate has not therefore the key that the policy names."""
    installed = world.folder.policy_set()
    for key in (ed25519(), ACME.guard_lease, ACME.controller):
        with pytest.raises(ForgedError, match="not signed by the collector"):
            leases.renew(offered(world, key=key), installed, wall(NOW))


def test_the_guard_signs_nothing_while_halted_or_expired(world: World, leases: Leases) -> None:
    """Nothing that has ended is made to go on."""
    installed = world.folder.policy_set()
    with pytest.raises(NotCoveredError, match="halted: the council"):
        leases.renew(offered(world), installed, wall(NOW), "it is halted: the council")
    over = NOW + timedelta(days=91)
    with pytest.raises(ForgedError, match="expired"):
        leases.renew(offered(world, over), installed, wall(over))


def test_a_policy_that_asks_for_too_long_a_lease_gets_a_day() -> None:
    """What the lint refuses is cut wherever it is used, should somebody sign it unlinted."""
    assert lease_seconds(30 * 24 * HOUR) == 24 * HOUR
    assert lease_seconds(-1) == 0
