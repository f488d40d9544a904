"""Of which days batches are taken: as an audit would have it, no more and no fewer."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import NANOSECONDS
from base.door import Response
from collector import policies
from collector.commands.audit import write_bundle
from governance.audit.examine import Trusted, examine
from governance.audit.reading import Bundle
from guard.trust import read_policy_set
from tests.conftest import NewPlace
from tests.fakes.organisation import public_key_of_identity
from tests.fakes.site import Site, Workstation, collector_site, refusal, today
from wire.consent_event import ConsentEvent, sign_event
from wire.days import InForce, end_of, not_in_force
from wire.grant import SignedConsent, grant_hash
from wire.guard_http import KeyAnswer
from wire.ids import WallInstant, key_id
from wire.linked import ConsentState
from wire.tlog import cosign

OUTSIDE = (422, "outside-consent")
NOT_IN_FORCE = (422, "policy-not-in-force")
TAKEN = (201, "")


@pytest.fixture
def site(tmp_path: Path, new_place: NewPlace) -> Iterator[Site]:
    with collector_site(tmp_path, index_url=new_place(tmp_path).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


def at(days: int) -> WallInstant:
    """Return noon of the day in so many days."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return WallInstant(int((noon + timedelta(days=days)).timestamp()) * NANOSECONDS)


def agrees(workstation: Workstation, days: int) -> SignedConsent:
    """Hand in a consent that was given so many days from now."""
    workstation.agrees_at = at(days)
    return workstation.consents()


def ends(workstation: Workstation, signed: SignedConsent, days: int) -> None:
    event = ConsentEvent(grant=grant_hash(signed), state=ConsentState.EXPIRED, at=at(days))
    body = msgspec.json.encode(sign_event(event, workstation.org.device))
    assert workstation.door.request("POST", "/v1/consent-events", body).status == 201


def sends(workstation: Workstation, signed: SignedConsent, day: str, **changes: object) -> Response:
    """Hand in a batch of *day*, sealed as everything asks but for that."""
    answer = workstation.asks_key(month=day[:7])
    assert answer.status == 200, answer.body
    org = workstation.org
    keys = (org.identity, org.subject_identity)
    usual = {
        "day": day,
        "guard_key": key_id(msgspec.json.decode(answer.body, type=KeyAnswer).public_key),
        "recipients": tuple(key_id(public_key_of_identity(identity)) for identity in keys),
    }
    frame = workstation.spoils(workstation.seals(signed), **(usual | changes))
    return workstation.puts(frame)


def said(answer: Response) -> tuple[int, str]:
    return TAKEN if answer.status == 201 else refusal(answer)


def outcomes(
    workstation: Workstation, signed: SignedConsent, days: tuple[int, ...]
) -> list[tuple[int, str]]:
    return [said(sends(workstation, signed, today(day))) for day in days]


def witness(site: Site) -> None:
    """Have the log cosigned as it stands."""
    site.collector.witnessed.now(site.collector.now())


def signs(site: Site, days: int, **changes: object) -> None:
    """Publish a policy as it was signed so many days from now: with *changes* a newer one."""
    newer = {"version": site.policy.version + bool(changes), **changes}
    site.policy = msgspec.structs.replace(site.policy, **newer)
    site.org.publish(site.policy_folder, site.policy, at=datetime.now(UTC) + timedelta(days=days))
    published = policies.read_folder(site.policy_folder, site.collector.now())
    site.digest = published.digest
    with site.collector.index.writing() as connection:
        assert policies.publish(connection, published, site.collector.now())
    site.guard.policy = read_policy_set(site.policy_folder)


def is_found_clean(site: Site, folder: Path) -> bool:
    """Whether an audit of all that was taken finds nothing."""
    write_bundle(site.premises, site.collector.index, folder)
    root = (site.policy_folder / "root.json").read_bytes()
    now = site.collector.now() // NANOSECONDS
    return not examine(Bundle.open(folder), Trusted(root=root, now=now)).findings


# --- whose clock says so -------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3 * 24 * 3600, (1 << 63) - 1, (1 << 64) - 1])
def test_a_guard_whose_clock_is_wrong_has_nothing_refused_for_good(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """It cosigned the log once, days ahead, before a policy was published: that dates nothing."""

    def dated(note: str, name: str, key: Ed25519PrivateKey, at: int) -> str:
        return cosign(note, name, key, min(at + seconds, (1 << 64) - 1))

    with monkeypatch.context() as wrong:
        wrong.setattr("guard.witness.cosign", dated)
        witness(site)
        assert workstation.door.request("GET", "/v1/log/witnessed").status == 200
    signs(site, 0, reconfirm_days=9)
    assert outcomes(workstation, workstation.consents(), (0,)) == [TAKEN]
    witness(site)
    assert outcomes(workstation, workstation.consents(), (0,)) == [TAKEN]


def test_a_guard_whose_clock_was_put_back_ends_no_policy_before_its_time(
    site: Site, workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits on a device, of days on which that was in force, is taken as ever."""
    signed, before = workstation.consents(), site.digest
    witness(site)
    signs(site, 0, reconfirm_days=9)
    with monkeypatch.context() as wrong:
        wrong.setattr(
            "guard.witness.cosign",
            lambda note, name, key, at: cosign(note, name, key, at - 9 * 24 * 3600),
        )
        witness(site)
    assert said(sends(workstation, signed, today(), policy=before)) == TAKEN


# --- the days of a consent ----------------------------------------------------------------


def test_a_batch_of_a_day_before_its_consent_is_refused(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """The day of the yes is the first: the log would show that somebody was recorded unasked."""
    signed = agrees(workstation, -5)
    assert outcomes(workstation, signed, (-6, -5, 0)) == [OUTSIDE, TAKEN, TAKEN]
    answer = sends(workstation, signed, today(-6))
    assert f"is of {today(-6)}, its consent of {today(-5)} to".encode() in answer.body
    assert is_found_clean(site, tmp_path / "bundle")


def test_a_batch_of_a_day_after_its_consent_ended_is_refused(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """What was recorded on that day, and before, may have waited, and is taken as ever."""
    signed = agrees(workstation, -9)
    ends(workstation, signed, -4)
    assert outcomes(workstation, signed, (-3, 0)) == [OUTSIDE, OUTSIDE]
    assert outcomes(workstation, signed, (-9, -4)) == [TAKEN, TAKEN]
    assert is_found_clean(site, tmp_path / "bundle")


def test_of_several_ends_of_a_consent_the_first_day_counts(workstation: Workstation) -> None:
    """However late it is told."""
    signed = agrees(workstation, -9)
    ends(workstation, signed, -4)
    refused = ConsentEvent(grant=grant_hash(signed), state=ConsentState.REFUSED, at=at(-6))
    body = msgspec.json.encode(sign_event(refused, workstation.org.device))
    assert workstation.door.request("POST", "/v1/consent-events", body).status == 201
    assert outcomes(workstation, signed, (-6, -5)) == [TAKEN, OUTSIDE]


def test_a_batch_of_a_day_after_its_consent_had_to_be_confirmed_is_refused(
    tmp_path: Path,
) -> None:
    """By the policy that was agreed to."""
    with collector_site(tmp_path / "site", reconfirm_days=7) as site:
        workstation = site.workstation()
        signed = agrees(workstation, -9)
        assert outcomes(workstation, signed, (-2, -1)) == [TAKEN, OUTSIDE]
        assert is_found_clean(site, tmp_path / "bundle")


def test_a_policy_that_asks_again_sooner_ends_what_is_recorded_under_it_sooner(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """To narrow needs no new yes: the old one lasts for as long as both policies allow."""
    signed = agrees(workstation, -9)
    old = site.digest
    site.publishes(reconfirm_days=7)
    assert outcomes(workstation, signed, (-2, -1)) == [TAKEN, OUTSIDE]
    assert said(sends(workstation, signed, today(-1), policy=old)) == TAKEN
    assert is_found_clean(site, tmp_path / "bundle")


def test_a_batch_that_was_refused_for_its_day_leaves_nothing(
    site: Site, workstation: Workstation
) -> None:
    """No row, no leaf, no file without its row."""
    signed = agrees(workstation, -5)
    assert said(sends(workstation, signed, today())) == TAKEN
    before = site.collector.log.checkpoint()
    assert said(sends(workstation, signed, today(-6))) == OUTSIDE  # stored before it is judged
    assert site.collector.log.checkpoint() == before
    assert list(site.collector.store.unsettled()) == []


# --- the days of a policy -----------------------------------------------------------------


def test_a_batch_of_a_day_before_its_policy_was_published_is_refused(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """Nobody had signed it by then, says the witness of the log that it came into."""
    signed = agrees(workstation, -9)
    witness(site)
    site.publishes(applications=())
    assert outcomes(workstation, signed, (-9, -3, 0)) == [NOT_IN_FORCE, NOT_IN_FORCE, TAKEN]
    assert is_found_clean(site, tmp_path / "bundle")


def test_a_batch_of_a_day_on_which_another_policy_was_in_force_is_refused(
    site: Site, workstation: Workstation
) -> None:
    """A lease later no device goes by the old one, and what it recorded until then is taken."""
    signed = workstation.consents()
    old = site.digest
    site.publishes(applications=())
    assert said(sends(workstation, signed, today(3), policy=old)) == TAKEN  # nobody can say yet
    site.publishes(prohibited_purposes=(*site.policy.prohibited_purposes, "sale"))
    witness(site)
    assert said(sends(workstation, signed, today(3), policy=old)) == NOT_IN_FORCE
    for day in (0, 1):
        assert said(sends(workstation, signed, today(day), policy=old)) == TAKEN
    assert said(sends(workstation, signed, today(3))) == TAKEN


def test_what_a_device_recorded_under_an_old_policy_is_taken_whenever_it_comes(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """It was off for days, and the policy was replaced meanwhile."""
    frame = workstation.seals(agrees(workstation, -2))
    site.publishes(applications=())
    witness(site)
    site.clock.moved = timedelta(days=6)
    assert workstation.puts(frame).status == 201
    site.clock.moved = timedelta()
    assert is_found_clean(site, tmp_path / "bundle")


def test_a_batch_of_a_day_after_its_policy_had_run_out_is_refused(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """Signatures are good for 90 days, and for longer once they are made anew."""
    signed = workstation.consents()
    signs(site, -85, applications=())
    assert outcomes(workstation, signed, (4, 6)) == [TAKEN, NOT_IN_FORCE]
    signs(site, 6)  # it is made anew when it has run out
    assert outcomes(workstation, signed, (6,)) == [TAKEN]
    assert is_found_clean(site, tmp_path / "bundle")


def test_a_witness_dates_what_an_audit_dates_by_it(
    site: Site, workstation: Workstation, tmp_path: Path
) -> None:
    """Of each policy: what was cosigned last before its leaf, and first with the next one's."""
    workstation.consents()
    digests = [site.digest]
    for hours in range(1, 5):
        if hours != 3:  # two in one head
            site.clock.moved = timedelta(hours=hours)
            witness(site)
        site.publishes(applications=())
        digests.append(site.digest)
    with site.collector.index.reading() as connection:
        found = [policies.when(connection, digest)[1] for digest in digests]
    begin = found[1].since
    assert [each.since - begin for each in found[1:]] == pytest.approx(
        [0, 3600, 3600, 3 * 3600], abs=120
    )
    assert [each.until and each.until - begin for each in found] == pytest.approx(
        [3600, 3 * 3600, 3 * 3600, None, None], abs=120
    )
    assert found[0].since == 0


# --- the rules ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "wrong"),
    [
        ("2027-03-08", ["is of 2027-03-08, before its policy was in force"]),
        ("2027-03-09", []),
        ("2027-03-21", []),
        ("2027-03-22", ["is of 2027-03-22, when another policy had taken the place of its own"]),
    ],
)
def test_a_policy_has_its_days_with_an_hour_for_clocks_and_a_lease(
    day: str, wrong: list[str]
) -> None:
    """One that is published just after midnight, where clocks differ, has the day before."""
    midnight = end_of("2027-03-09")
    until = end_of("2027-03-19") + 22 * 3600 + 3599
    in_force = InForce(since=midnight + 3600, until=until, expires=end_of("2027-12-31"))
    assert list(not_in_force(day, in_force)) == wrong
