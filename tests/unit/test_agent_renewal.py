"""A laptop that comes back: after weeks by itself, after too long with a new file, never anew."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from agent import enroll
from agent.__main__ import agent as cli
from agent.consent.policy import IN_FORCE, Fetched
from agent.delivery import Delivery
from agent.enroll import CERTIFICATE, ENROLMENT, KEY
from agent.renewal import certificate_ends_at
from agent.transport import Door
from base.door import UnreachableError
from base.errors import RejectedError, SetupError
from base.pki import Role, client_uri, signing_request
from collector import enrol
from tests.fakes.delivering import Delivering
from tests.fakes.organisation import PolicyFolder, wall
from tests.fakes.proxy import relay
from tests.fakes.site import TENANT, Site, collector_site
from tests.fakes.workstation import eventually
from wire.collector_http import Enrolment as EnrolmentFile
from wire.frame import batch_hash
from wire.ids import WallInstant

WAIT_SECONDS = 30.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Delivering:
    return Delivering.enrolled(site, tmp_path / "state")


def absent(laptop: Delivering, days: float) -> None:
    """Let the last certificate have run out so many days ago, on both sides and for TLS."""
    authority, key = laptop.site.premises.authority(), laptop.station.org.device
    uri = client_uri(TENANT, Role.DEVICE, laptop.station.id.hex())
    expired = authority.certify(signing_request(key), uri, days=-0.003)  # begins 5 minutes ago
    (laptop.folder / CERTIFICATE).write_bytes(expired)
    until = datetime.now(UTC) - timedelta(days=days)
    with laptop.site.collector.index.writing() as connection:
        enrol._certified_until(  # noqa: SLF001 - as a renewal of then would have left it
            connection, laptop.station.id, WallInstant(int(until.timestamp()) * 10**9)
        )


def run(laptop: Delivering, holds: Callable[[Delivery], bool]) -> None:
    """Let the delivery run until something holds."""

    async def story() -> None:
        async with laptop.running() as delivery:
            await eventually(lambda: holds(delivery), WAIT_SECONDS)

    asyncio.run(story())


def is_stored(site: Site, frame: bytes) -> bool:
    return site.collector.store.get(batch_hash(frame)) == frame


def again(laptop: Delivering, file: EnrolmentFile) -> None:
    enroll.enroll_again(file, laptop.folder, laptop.clock.now(), Door)


def test_after_three_months_a_laptop_renews_by_its_key_and_sends_what_waited(
    site: Site, laptop: Delivering
) -> None:
    """No token, no click: TLS refuses the old certificate, and the device key is proof enough."""
    frame = laptop.seal()
    absent(laptop, days=90)
    assert certificate_ends_at(laptop.folder / CERTIFICATE) < datetime.now(UTC)
    run(laptop, lambda _: laptop.spool.number_sent() == 1)
    assert is_stored(site, frame)
    assert certificate_ends_at(laptop.folder / CERTIFICATE) > datetime.now(UTC)


def test_a_policy_that_ran_out_meanwhile_is_fetched_anew_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    """Policies live 90 days without confirmation; an expired one still says where to ask."""
    then = datetime.now(UTC) - timedelta(days=100)
    with collector_site(tmp_path / "site", first_signed=then) as site:
        laptop = Delivering.enrolled(site, tmp_path / "state")
        frame = laptop.seal()
        absent(laptop, days=93)
        old = PolicyFolder(site.policy_folder.with_name("policy-then"))
        fetched = Fetched(
            root=old.root,
            timestamp=site.org.lease(old, then),
            snapshot=old.snapshot,
            targets=old.targets,
            policy=old.policy,
            boot=0,
            wall=wall(then),
            boot_id="then",
            first_boot=0,
        )
        (laptop.folder / IN_FORCE).write_bytes(msgspec.json.encode(fetched))
        assert "expired" in laptop.policy.problem
        run(laptop, lambda _: laptop.spool.number_sent() == 1)
        assert is_stored(site, frame)
        assert laptop.policy.policy == site.policy
        assert laptop.policy.digest == site.digest  # nobody has to agree again


def test_behind_a_proxy_everything_goes_through_it_and_nothing_past_it(
    site: Site, laptop: Delivering
) -> None:
    """Renewal, policy, consent, keys and batch: one origin, one way, no content for the proxy."""
    frame = laptop.seal()
    absent(laptop, days=90)
    with relay() as (laptop.proxy, carried):
        run(laptop, lambda _: laptop.spool.number_sent() == 1)
    assert is_stored(site, frame)
    assert certificate_ends_at(laptop.folder / CERTIFICATE) > datetime.now(UTC)
    assert set(carried.asked) == {("127.0.0.1", int(site.origin.rpartition(":")[2]))}
    assert all(head.startswith(b"CONNECT ") for head in carried.heads)
    assert not any(frame[at : at + 16] in carried.up for at in range(0, len(frame) - 16, 16))


def test_the_expired_certificate_itself_opens_nothing(laptop: Delivering) -> None:
    """The control: with it alone nothing would have been sent."""
    absent(laptop, days=90)
    door = laptop.device.door(laptop.site.policy.collector.tls_pins)
    outcome = door.send("aa" * 32, b"frame", lambda: True)
    assert "does not accept this program's certificate" in getattr(outcome, "why", "")


@pytest.mark.parametrize(("days", "comes_back"), [(179, True), (181, False)])
def test_how_long_an_absence_may_be_is_in_the_collectors_configuration(
    site: Site, laptop: Delivering, *, days: float, comes_back: bool
) -> None:
    """180 days where nothing else is said."""
    assert site.collector.config.absence_days == 180
    absent(laptop, days)
    door = Door(site.origin, site.premises.tls_pins(), site.premises.trusted_pem())
    expected = (
        contextlib.nullcontext()
        if comes_back
        else pytest.raises(RejectedError, match="absent-too-long")
    )
    with expected:
        door.renew(signing_request(laptop.station.org.device))


def test_who_was_away_for_too_long_is_told_to_enrol_again_and_keeps_everything(
    site: Site, laptop: Delivering
) -> None:
    """One line; then a new file, the same key and pseudonym, and the batch arrives."""
    frame, consents = laptop.seal(), laptop.standing.grants
    absent(laptop, days=400)
    line = (
        "the collector answered 401: absent-too-long: this device was away for more than 180 days; "
        "ask for a new enrolment file and run assent-agent enroll FILE; nothing on it is lost"
    )
    run(laptop, lambda delivery: delivery.last_error == line)
    before = laptop.device
    assert laptop.spool.read(batch_hash(frame).hex()) == frame

    again(laptop, site.enrolment_file())
    after = laptop.device
    assert (after.id, after.subject) == (before.id, before.subject)
    assert after.enrolment.subject_key == before.enrolment.subject_key
    run(laptop, lambda _: laptop.spool.number_sent() == 1)
    assert is_stored(site, frame)
    assert laptop.standing.grants == consents


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (
            UnreachableError("it is being upgraded"),
            "the device's certificate and its policy are not looked after: it is being upgraded",
        ),
        (
            OSError(28, "No space left on device"),
            "the new certificate could not be stored: No space left on device",
        ),
    ],
)
def test_a_renewal_that_does_not_succeed_is_said_and_tried_again_soon(
    laptop: Delivering, monkeypatch: pytest.MonkeyPatch, broken: Exception, line: str
) -> None:
    """Not only in the log, and not for an hour: days later nothing would leave any more.

    What the poll meets meanwhile is weightier, and may be what is shown.
    """
    absent(laptop, days=6)
    old = (laptop.folder / CERTIFICATE).read_bytes()

    def fail(*_arguments: object) -> None:
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr("agent.upkeep.renew", fail)
        patch.setattr("agent.upkeep.back_off", lambda _failures, _dice: 0.1)
        run(
            laptop,
            lambda delivery: line in (delivery.last_error, delivery._upkeep.waits),  # noqa: SLF001
        )
    run(laptop, lambda _: (laptop.folder / CERTIFICATE).read_bytes() != old)


def test_a_revoked_device_comes_back_by_no_way(site: Site, laptop: Delivering) -> None:
    """Neither by renewal nor with a token; and it is said, not tried for ever in silence."""
    absent(laptop, days=90)
    with site.collector.index.writing() as connection:
        enrol.revoke_device(connection, laptop.station.id.hex(), site.collector.now())
    run(laptop, lambda delivery: "revoked" in delivery.last_error)
    certificate = (laptop.folder / CERTIFICATE).read_bytes()
    with pytest.raises(RejectedError, match="revoked"):
        again(laptop, site.enrolment_file())
    assert (laptop.folder / CERTIFICATE).read_bytes() == certificate


def test_enrolling_again_at_another_collector_changes_nothing(
    site: Site, laptop: Delivering
) -> None:
    """One origin: who wants another begins anew, knowingly."""
    files = {path: path.read_bytes() for path in laptop.folder.iterdir() if path.is_file()}
    elsewhere = msgspec.structs.replace(
        site.enrolment_file(), origin="https://elsewhere.example:8443"
    )
    with pytest.raises(SetupError, match="to begin anew there"):
        again(laptop, elsewhere)
    assert {path: path.read_bytes() for path in files} == files


def test_enrolling_again_with_another_root_than_the_files_is_refused(
    site: Site, laptop: Delivering
) -> None:
    """The collector cannot choose who signs; the device stays enrolled as it was."""
    policy = (laptop.folder / IN_FORCE).read_bytes()
    enrolment = (laptop.folder / ENROLMENT).read_bytes()
    with pytest.raises(RejectedError, match="root is not the one"):
        again(laptop, msgspec.structs.replace(site.enrolment_file(), root_sha256="00" * 32))
    assert (laptop.folder / IN_FORCE).read_bytes() == policy
    assert (laptop.folder / ENROLMENT).read_bytes() == enrolment


def test_the_command_enrols_again_and_says_what_is_kept(
    site: Site, laptop: Delivering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command as the first time; it asks for no rights key and shows none."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    laptop.folder.rename(_made(tmp_path / "home") / "state")
    file = tmp_path / "again.json"
    file.write_bytes(msgspec.json.encode(site.enrolment_file()))
    key = (tmp_path / "home/state" / KEY).read_bytes()
    monkeypatch.setattr("agent.__main__.become_undumpable", lambda: None)

    refused = CliRunner().invoke(cli, ["enroll", str(file), "--rights-key", str(tmp_path / "r")])
    assert isinstance(refused.exception, SetupError)
    assert "has a rights key already" in str(refused.exception)
    done = CliRunner().invoke(cli, ["enroll", str(file)])
    assert done.exit_code == 0, done.output
    assert "enrolled again" in done.output
    assert "AGE-SECRET" not in done.output.upper()
    assert (tmp_path / "home/state" / KEY).read_bytes() == key
    assert json.loads((tmp_path / "home/state" / ENROLMENT).read_bytes())["origin"] == site.origin


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
