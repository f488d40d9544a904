"""New keys in the place of old ones: nobody is lost who was away, and nothing is half done."""

import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner
from cryptography import x509

from agent.consent import refresh as policy_refresh
from agent.consent.policy import load, read_fetched
from agent.enroll import CERTIFICATE, enroll_again
from agent.refresh import pins_of, refresh
from agent.transport import Door
from base import durable, pki
from base.clock import SystemClock
from base.door import DoorError, UntrustedServerError
from base.errors import RejectedError, SetupError
from base.pki import Authority, certificate_hosts, check_issued, load_p256, spki_sha256
from collector import enrol
from collector.__main__ import cli
from collector.commands import rotation
from collector.commands.setup import move_in
from collector.premises import Premises
from tests.fakes.delivering import Delivering
from tests.fakes.disk import BreakingDisk, CrashError, How
from tests.fakes.organisation import Organisation
from tests.fakes.repository import Repository
from tests.fakes.repository import enrol as enrol_device
from tests.fakes.served import paths
from tests.fakes.site import Site
from wire.frame import batch_hash
from wire.policy import Policy

CRASHES = [How.CRASHES_BEFORE, How.CRASHES_WITHIN, How.CRASHES_AFTER]


def publishes_pins(site: Site, *pins: str) -> Policy:
    """Put a policy in force that differs in its pins alone."""
    collector = msgspec.structs.replace(site.policy.collector, tls_pins=pins)
    return site.publishes(collector=collector)


def fetch(laptop: Delivering) -> bool:
    """Fetch the policy, as the delivery does each hour."""
    door = laptop.device.door(pins_of(laptop.device))
    try:
        return refresh(door, laptop.folder, laptop.site.origin, laptop.clock.now())
    finally:
        door.close()


def arrives(site: Site, laptop: Delivering) -> None:
    """Seal one more batch, and see it stored."""
    before, frame = laptop.spool.number_sent(), laptop.seal()
    laptop.deliver(lambda _: laptop.spool.number_sent() == before + 1)
    assert site.collector.store.get(batch_hash(frame)) == frame


# --- the server's key -------------------------------------------------------------------


def test_a_device_that_knows_both_pins_goes_through_before_and_after_the_switch(
    site: Site, laptop: Delivering
) -> None:
    """Announce, sign both, publish; who fetched the policy may sleep through the switch."""
    now, coming = rotation.announce(site.premises)
    publishes_pins(site, now, coming)
    assert fetch(laptop)
    laptop.signed = laptop.station.consents()  # under the policy in force
    frame = laptop.seal()

    assert rotation.switch(site.premises, site.policy) == coming
    site.restart()
    assert site.premises.tls_pin() == coming
    laptop.deliver(lambda _: laptop.spool.number_sent() == 1)
    assert site.collector.store.get(batch_hash(frame)) == frame


def test_a_device_learns_the_next_pin_by_itself(site: Site, laptop: Delivering) -> None:
    """The delivery fetches what was published, verified from the enrolment's root down."""
    now, coming = rotation.announce(site.premises)
    publishes_pins(site, now, coming)
    assert pins_of(laptop.device) == (now,)
    laptop.deliver(lambda _: pins_of(laptop.device) == (now, coming))


def test_a_device_that_missed_the_announcement_sends_nothing_and_enrols_again(
    site: Site, laptop: Delivering
) -> None:
    """To it the server is a stranger, until a new enrolment file says otherwise."""
    frame = laptop.seal()
    now, coming = rotation.announce(site.premises)
    policy = publishes_pins(site, now, coming)
    rotation.switch(site.premises, policy)
    site.restart()
    laptop.deliver(lambda delivery: "is not the pinned one" in delivery.last_error)
    assert site.collector.store.get(batch_hash(frame)) is None

    enroll_again(site.enrolment_file(), laptop.folder, laptop.clock.now(), Door)
    laptop.deliver(lambda _: laptop.spool.number_sent() == 1)
    assert site.collector.store.get(batch_hash(frame)) == frame


def test_the_switch_is_refused_while_the_policy_does_not_pin_the_next_key(site: Site) -> None:
    """No announcement, no policy, or one with the present key only: nothing changes."""
    before = _bytes(site.premises)
    with pytest.raises(SetupError, match="no next key is announced"):
        rotation.switch(site.premises, site.policy)
    assert _bytes(site.premises) == before
    _now, coming = rotation.announce(site.premises)
    before = _bytes(site.premises)
    for policy in (None, site.policy):
        with pytest.raises(SetupError, match=f"does not pin the next key {coming}"):
            rotation.switch(site.premises, policy)
    assert _bytes(site.premises) == before


def test_announcing_twice_announces_the_same_key(site: Site) -> None:
    """A pin that was signed must not change."""
    assert rotation.announce(site.premises) == rotation.announce(site.premises)
    assert site.premises.tls_pins() == rotation.announce(site.premises)


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    """Return a collector that nobody serves."""
    found = Premises(paths(tmp_path / "collector"))
    move_in(found, origin="https://127.0.0.1:8443", tenant="acme", listen=None)
    return found


@pytest.mark.parametrize("how", CRASHES)
@pytest.mark.parametrize("at", range(1, 6))
def test_a_switch_that_a_crash_cut_short_is_finished_by_the_same_command(
    premises: Premises, monkeypatch: pytest.MonkeyPatch, how: How, at: int
) -> None:
    """After it the announced key serves, whichever write was the last."""
    now, coming = rotation.announce(premises)
    policy = Organisation().policy()
    named = msgspec.structs.replace(policy.collector, tls_pins=(now, coming))
    policy = msgspec.structs.replace(policy, collector=named)
    broke = _crash(monkeypatch, at, how, lambda: rotation.switch(premises, policy))
    assert broke is (at <= 4)
    if premises.next_tls_certificate.exists():
        assert rotation.switch(premises, policy) == coming
    assert premises.tls_pin() == coming
    assert spki_sha256(load_p256(premises.tls_key).public_key()).hex() == coming
    assert rotation.announce(premises)[1] not in (now, coming)


def test_a_new_certificate_of_the_same_key_changes_no_pin(site: Site) -> None:
    """What an operator does before 825 days are over."""
    pins = rotation.announce(site.premises)
    before = site.premises.tls_certificate.read_bytes()
    rotation.reissue(site.premises)
    assert site.premises.tls_pins() == pins
    assert site.premises.tls_certificate.read_bytes() != before
    site.restart()
    assert not Door(site.origin, pins[:1], site.premises.trusted_pem()).state().halted


# --- the policy that carries the pins -----------------------------------------------------


def test_an_older_policy_is_refused_and_the_one_in_force_holds(
    site: Site, laptop: Delivering
) -> None:
    """A collector that goes back cannot bring an old pin to life again."""
    old = site.policy_file("timestamp.json")
    now, coming = rotation.announce(site.premises)
    publishes_pins(site, now, coming)
    assert fetch(laptop)
    held = read_fetched(laptop.folder)

    class Older(Door):
        def policy_file(self, name: str) -> bytes | None:
            return old if name == "timestamp.json" else super().policy_file(name)

    older = Older(site.origin, (now,), site.premises.trusted_pem(), *laptop.station.files)
    with pytest.raises(RejectedError, match="New timestamp version"):
        refresh(older, laptop.folder, site.origin, laptop.clock.now())
    assert read_fetched(laptop.folder) == held
    assert laptop.policy.policy is not None


@pytest.mark.parametrize("how", [*CRASHES, How.FULL, How.PERSISTS_BUT_FAILS])
@pytest.mark.parametrize("at", range(1, 7))
def test_wherever_a_new_policy_is_cut_short_a_whole_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How, at: int
) -> None:
    """The old or the new; never a mixture, never none; and the next refresh brings the new one."""
    acme, at_first = Organisation(), datetime.now(UTC)
    old = acme.publish(tmp_path / "policy", at=at_first)
    repository = Repository.of(acme, old, at_first)
    state, now = tmp_path / "state", SystemClock().now()
    state.mkdir()
    enrol_device(state, old, repository.fetch, now)
    before = old.digest
    new = acme.publish(tmp_path / "policy", acme.policy(version=2), at=at_first)
    repository.publish(new, at_first + timedelta(seconds=1))
    broke = _crash(
        monkeypatch, at, how, lambda: policy_refresh.refresh(state, repository.fetch, now)
    )
    assert broke is (at <= 5)
    found = load(state, now)
    assert found.policy is not None
    assert found.digest in (before, new.digest)
    policy_refresh.refresh(state, repository.fetch, now)
    assert load(state, now).digest == new.digest


# --- the authority ------------------------------------------------------------------------


def test_certificates_of_the_old_authority_stay_good_and_new_ones_are_of_the_new(
    site: Site, laptop: Delivering
) -> None:
    """A rotation is noticed by nobody: devices with either certificate go on."""
    rotation.begin(site.premises)
    site.restart()
    arrives(site, laptop)  # with a certificate of before
    newcomer = Delivering.enrolled(site, laptop.folder.parent / "newcomer")
    new = site.premises.authority()
    issued = (newcomer.folder / CERTIFICATE).read_bytes()
    check_issued(issued, new.pem, newcomer.station.org.device.public_key())
    arrives(site, newcomer)


def test_a_device_that_renews_in_between_goes_through_after_the_end(
    site: Site, laptop: Delivering
) -> None:
    """It comes to trust both, then the new one alone; the pin is the same all the time."""
    rotation.begin(site.premises)
    site.restart()
    _let_it_renew(laptop)
    laptop.deliver(lambda _: laptop.device.enrolment.ca_pem.count("BEGIN CERTIFICATE") == 2)
    _clock_as_before(laptop)

    rotation.finish(site.premises)
    site.restart()
    arrives(site, laptop)
    _let_it_renew(laptop)
    laptop.deliver(
        lambda _: laptop.device.enrolment.ca_pem == site.premises.authority().pem.decode()
    )
    _clock_as_before(laptop)
    arrives(site, laptop)


def test_a_device_that_was_away_all_the_time_is_told_and_enrols_again(
    site: Site, laptop: Delivering
) -> None:
    """It trusts the old authority alone, and sends nothing to the new one."""
    frame = laptop.seal()
    rotation.begin(site.premises)
    rotation.finish(site.premises)
    site.restart()
    with pytest.raises(UntrustedServerError):
        laptop.device.door(site.premises.tls_pins()).state()

    enroll_again(site.enrolment_file(), laptop.folder, laptop.clock.now(), Door)
    laptop.deliver(lambda _: laptop.spool.number_sent() == 1)
    assert site.collector.store.get(batch_hash(frame)) == frame


def test_after_the_end_a_certificate_of_the_old_authority_is_refused(
    site: Site, laptop: Delivering
) -> None:
    """Whoever has the old authority's key has nothing any more."""
    old = Authority.load(site.premises.paths.config)
    rotation.begin(site.premises)
    rotation.finish(site.premises)
    site.restart()
    door = Door(
        site.origin,
        site.premises.tls_pins(),
        site.premises.trusted_pem(),
        *laptop.station.files,
    )
    with pytest.raises(DoorError):
        door.policy_file("policy.json")
    assert old.pem not in site.premises.trusted_pem().encode()
    assert not any(path.is_file() for path in site.premises.old_authority.iterdir())


def test_an_authority_that_does_not_work_replaces_none_that_does(
    site: Site, laptop: Delivering
) -> None:
    """A collector that names a stranger's authority shuts no device out."""
    before = laptop.device.enrolment.ca_pem
    stranger = Authority.create("stranger").pem.decode()
    object.__setattr__(site.collector.registry, "ca_pem", stranger)
    _let_it_renew(laptop)
    old = (laptop.folder / CERTIFICATE).read_bytes()
    laptop.deliver(lambda _: (laptop.folder / CERTIFICATE).read_bytes() != old)
    _clock_as_before(laptop)
    arrives(site, laptop)
    assert laptop.device.enrolment.ca_pem == before


@pytest.mark.parametrize("how", CRASHES)
@pytest.mark.parametrize("step", ["begin", "finish"])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_rotation_that_a_crash_cut_short_is_finished_by_the_same_command(
    premises: Premises, monkeypatch: pytest.MonkeyPatch, how: How, step: str, at: int
) -> None:
    """After begin both are trusted, after finish the new one alone; no pin changes."""
    first, pins = premises.authority().pem, rotation.announce(premises)
    if step == "finish":
        rotation.begin(premises)
    act = rotation.begin if step == "begin" else rotation.finish
    broke = _crash(monkeypatch, at, how, lambda: act(premises))
    assert broke or at > 5
    if (step == "begin") != premises.is_rotating:
        act(premises)
    trusted = premises.trusted_pem().encode()
    assert (first in trusted) is (step == "begin")
    assert premises.authority().pem in trusted
    assert premises.tls_pins() == pins
    server = first if step == "begin" else premises.authority().pem
    for certificate in (premises.tls_certificate, premises.next_tls_certificate):
        issued = x509.load_pem_x509_certificate(certificate.read_bytes())
        issued.verify_directly_issued_by(x509.load_pem_x509_certificate(server))
        assert certificate_hosts(certificate.read_bytes()) == ("127.0.0.1",)


def test_the_end_waits_for_certificates_that_are_still_good(site: Site, laptop: Delivering) -> None:
    """Counted from the index: devices and readers, revoked ones aside."""
    site.reader("training-team")
    life, now = timedelta(days=site.collector.config.client_days), site.collector.now()
    later = type(now)(now + 400 * 24 * 3600 * 10**9)
    with site.collector.index.reading() as connection:
        good, away = enrol.certified_before(connection, type(now)(now + 10**9), life, now)
        assert (good, away) == (2, 0)
        assert enrol.certified_before(connection, type(now)(now + 10**9), life, later) == (0, 2)
        assert enrol.certified_before(connection, type(now)(now - 10**12), life, now) == (0, 0)
    with site.collector.index.writing() as connection:
        enrol.revoke_device(connection, laptop.station.id.hex(), now)
        assert enrol.certified_before(connection, type(now)(now + 10**9), life, now) == (1, 0)


# --- the commands -------------------------------------------------------------------------


def test_what_an_operator_types(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step says what comes next, and refuses what would lose somebody."""
    monkeypatch.setenv("ASSENT_HOME", str(site.premises.paths.config.parent))

    def says(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, words, catch_exceptions=True)
        said = result.output + str(result.exception or "")
        assert (result.exit_code == 0) is (code == 0), said
        return said

    assert "no next key is announced" in says("tls", "switch", code=3)
    assert "Have a policy signed" in says("tls", "announce")
    assert "does not pin the next key" in says("tls", "switch", code=3)
    publishes_pins(site, *site.premises.tls_pins())
    assert "names both" in says("tls", "announce")
    coming = site.premises.tls_pins()[1]
    assert f"The server's pin is {coming}" in says("tls", "switch")
    assert "new certificate" in says("tls", "renew")
    assert "no rotation is under way" in says("ca", "finish", code=3)
    assert "both" in says("ca", "begin")
    assert "a rotation is under way" in says("ca", "begin", code=3)
    assert "still good" in says("ca", "finish", code=3)
    assert "Of devices and readers, 1 know only the old one" in says("ca", "finish", "--force")
    assert laptop.device.enrolment.tls_pins[0] not in site.premises.tls_pins()


def _let_it_renew(laptop: Delivering) -> None:
    """Make the certificate one of which less than a third of its life remains."""
    path = laptop.folder / CERTIFICATE
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    laptop.clock.wall_shift += int(life.total_seconds() * 0.8e9)
    laptop.clock.boot_shift += int(life.total_seconds() * 0.8e9)


def _clock_as_before(laptop: Delivering) -> None:
    """Be back on the collector's time, by which the lease is in force."""
    laptop.clock.wall_shift = laptop.clock.boot_shift = 0


def _bytes(premises: Premises) -> dict[str, bytes]:
    files = sorted(path for path in premises.paths.config.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files}


def _crash(monkeypatch: pytest.MonkeyPatch, at: int, how: How, act: Callable[[], object]) -> bool:
    """Let the durable write numbered *at* break while *act* runs; whether it got that far."""
    disk = BreakingDisk(at, how)
    breaking = SimpleNamespace(**{**vars(durable), "replace": disk.replace, "remove": disk.remove})
    with monkeypatch.context() as patched:
        for module in (rotation, pki, policy_refresh):
            patched.setattr(module, "durable", breaking)
        try:
            act()
        except CrashError:
            pass
        except OSError as exc:
            assert exc.errno in (errno.ENOSPC, errno.EIO)  # noqa: PT017 - the disk says so
    return disk.broke
