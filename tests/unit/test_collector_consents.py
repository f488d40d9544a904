"""Consent records, policies and guard keys: what has to be here before a batch may come."""

import dataclasses
import hashlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import select

from base.errors import RejectedError, SetupError
from base.https import OneDoor
from collector import policies
from collector.index.tables import consents, leaves
from collector.store.files import FileStore, Mark
from tests.conftest import NewPlace
from tests.fakes.organisation import READER, ed25519
from tests.fakes.site import Site, Workstation, collector_site, fetches, lists, refusal, today
from wire.category import Category
from wire.collector_http import Logged, Terms, verify_logged
from wire.consent_event import ConsentEvent, sign_event
from wire.errors import ForgedError, WireError
from wire.frame import batch_hash
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.guard_http import KeyAnswer, KeyRequest, verify_key
from wire.ids import BatchHash
from wire.leaf import Kind, grant_payload
from wire.linked import ConsentState
from wire.policy import Policy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


# --- consent records --------------------------------------------------------------------


def test_a_consent_record_is_kept_as_signed_and_stands_in_the_log(
    site: Site, workstation: Workstation
) -> None:
    """The controller's proof, and a leaf that the device can check."""
    signed = workstation.consent()
    answer = workstation.registers(signed)
    logged = msgspec.json.decode(answer.body, type=Logged)

    assert answer.status == 201
    verify_logged(logged, Kind.GRANT, grant_payload(grant_hash(signed)), site.policy.collector.log)
    with pytest.raises(ForgedError):
        verify_logged(logged, Kind.GRANT, bytes(32), site.policy.collector.log)
    with site.collector.index.reading() as connection:
        row = connection.execute(
            select(consents).where(consents.c.grant == grant_hash(signed))
        ).one()
    assert (row.record, row.signature) == (signed.record, signed.signature)


def test_the_same_record_again_is_the_same_leaf(workstation: Workstation) -> None:
    """Handing it in twice is handing it in."""
    signed = workstation.consent()
    first, again = workstation.registers(signed), workstation.registers(signed)
    assert (first.status, again.status) == (201, 200)
    assert first.body == again.body


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"device": b"d" * 32}, (403, "not-this-device")),
        ({"programme": "other"}, (403, "not-this-programme")),
        ({"policy_digest": b"p" * 32}, (409, "policy-unknown")),
        ({"policy_digest": b"short"}, (422, "malformed")),
        ({"subject": b"short"}, (422, "malformed")),
        ({"level": "text"}, (422, "consent-mismatch")),
        ({"level": "everything"}, (422, "consent-mismatch")),
        ({"words_sha256": b"w" * 32}, (422, "consent-mismatch")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "-".join(value),
)
def test_a_consent_that_no_policy_asked_for_is_refused(
    workstation: Workstation, changes: dict[str, object], refused: tuple[int, str]
) -> None:
    """Other words, another level, another policy: no yes to what is asked here."""
    assert refusal(workstation.registers(workstation.consent(Category.KEYS, **changes))) == refused


def test_a_consent_signed_by_somebody_else_is_refused(workstation: Workstation) -> None:
    """Nobody says yes for another device."""
    workstation.org = dataclasses.replace(workstation.org, device=ed25519())
    signed = workstation.consent()
    assert refusal(workstation.registers(signed)) == (422, "forged")

    garbage = SignedConsent(record=b"{}", signature=bytes(64))
    assert refusal(workstation.registers(garbage)) == (422, "forged")


def test_no_consent_is_taken_during_a_halt(site: Site, workstation: Workstation) -> None:
    """A halt freezes what would lead to more."""
    site.halts("stop")
    answer = workstation.registers(workstation.consent())
    site.publishes()
    assert refusal(answer) == (503, "halted")


def test_a_reader_gets_the_record_behind_a_batch_and_can_check_it(
    site: Site, workstation: Workstation
) -> None:
    """The bytes that were signed, and the key that signed them."""
    signed = workstation.consents()
    frame = workstation.seals(signed)
    assert workstation.puts(frame).status == 201
    frame_hash = hashlib.sha256(frame).digest()
    reader, grant = site.reader(READER), site.grant()
    answer = fetches(reader, grant, frame_hash, "/terms")
    kept = msgspec.json.decode(answer.body, type=Terms).consent
    key = Ed25519PublicKey.from_public_bytes(kept.device_key)

    assert verify_consent(signed, key).subject == workstation.org.subject
    assert (kept.record, kept.signature) == (signed.record, signed.signature)
    assert refusal(fetches(reader, grant, bytes(32), "/terms")) == (404, "not-found")
    asked = fetches(workstation.door, grant, frame_hash, "/terms")
    assert refusal(asked) == (403, "wrong-role")


# --- after a withdrawal -----------------------------------------------------------------


def says(
    workstation: Workstation,
    signed: SignedConsent,
    state: ConsentState = ConsentState.WITHDRAWN,
    door: OneDoor | None = None,
) -> None:
    """Let the device say what became of a consent."""
    at = workstation.site.collector.now()
    event = sign_event(
        ConsentEvent(grant=grant_hash(signed), state=state, at=at), workstation.org.device
    )
    answer = (door or workstation.door).request(
        "POST", "/v1/consent-events", msgspec.json.encode(event)
    )
    assert answer.status == 201


def test_nothing_more_is_taken_under_a_consent_that_was_withdrawn(
    site: Site, workstation: Workstation
) -> None:
    """A state folder that is put back records on: nobody gets that.  What came before stays."""
    signed = workstation.consents()
    before, after = workstation.seals(signed), workstation.seals(signed)
    receipt = workstation.puts(before).body
    says(workstation, signed)

    assert refusal(workstation.puts(after)) == (410, "erased")
    assert refusal(workstation.asks_key()) == (410, "erased")
    assert workstation.registers(signed).status == 200  # told again, it is no new yes
    assert refusal(workstation.puts(after)) == (410, "erased")
    again = workstation.puts(before)
    assert (again.status, again.body) == (200, receipt)
    assert site.collector.store.get(batch_hash(after)) is None
    reader = site.reader("second-team")
    listed = lists(reader, site.grant(reader="second-team")).body
    assert b64encode(batch_hash(before)) in listed
    assert b64encode(batch_hash(after)) not in listed


def test_a_withdrawal_of_one_category_leaves_the_others(workstation: Workstation) -> None:
    """Each consent is for one category, and ends by itself."""
    keys, screen = workstation.consents(), workstation.consents(Category.SCREEN)
    says(workstation, screen)
    assert refusal(workstation.asks_key(Category.SCREEN)) == (410, "erased")
    assert workstation.puts(workstation.seals(keys)).status == 201


def test_a_withdrawal_that_comes_while_a_batch_is_on_its_way_wins(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged before is asked again where it is written down."""
    signed = workstation.consents()
    frame, other = workstation.seals(signed), workstation.site.door(*workstation.files)
    real = FileStore.put

    def put_during_a_withdrawal(store: FileStore, batch: BatchHash, data: bytes) -> Mark:
        says(workstation, signed, door=other)
        return real(store, batch, data)

    monkeypatch.setattr(FileStore, "put", put_during_a_withdrawal)
    assert refusal(workstation.puts(frame)) == (410, "erased")


def test_who_agrees_again_is_recorded_again_under_the_new_consent_alone(
    workstation: Workstation,
) -> None:
    """The end of the old one may be told late: it takes nothing from the new one."""
    first = workstation.consents()
    late = workstation.seals(first)
    workstation.agrees_at = workstation.site.collector.now()
    second = workstation.consents()
    says(workstation, first)
    assert workstation.puts(workstation.seals(second)).status == 201
    assert refusal(workstation.puts(late)) == (410, "erased")
    third = workstation.consent(given_at=workstation.site.collector.now())
    says(workstation, second)
    assert refusal(workstation.asks_key()) == (410, "erased")
    assert workstation.registers(third).status == 201
    assert workstation.puts(workstation.seals(third)).status == 201


def test_what_waits_under_a_consent_that_has_expired_is_taken(workstation: Workstation) -> None:
    """Another policy, or a newer yes, is no no: what was recorded before goes on its way."""
    signed = workstation.consents()
    says(workstation, signed, ConsentState.EXPIRED)
    assert workstation.puts(workstation.seals(signed)).status == 201


# --- guard keys -------------------------------------------------------------------------


def test_the_guards_key_comes_through_with_the_guards_word(
    site: Site, workstation: Workstation
) -> None:
    """The device checks it against the policy: the collector cannot put its own in."""
    workstation.consents()
    answer = workstation.asks_key()
    request = KeyRequest(subject=workstation.org.subject, category=Category.KEYS, month=today()[:7])
    key = msgspec.json.decode(answer.body, type=KeyAnswer)

    assert verify_key(key, request, site.policy.guard.signing_key) == key.public_key
    assert workstation.asks_key().body == answer.body


def test_another_subject_gets_another_key(site: Site, workstation: Workstation) -> None:
    """One key for each person, so that one person can be erased."""
    workstation.consents()
    other = site.workstation()
    other.consents()
    assert workstation.asks_key().body != other.asks_key().body


def test_no_consent_no_key(workstation: Workstation) -> None:
    """A key is for whoever agreed, and for what they agreed to."""
    assert refusal(workstation.asks_key()) == (409, "consent-unknown")
    workstation.consents(Category.KEYS)
    assert workstation.asks_key(Category.KEYS).status == 200
    assert refusal(workstation.asks_key(Category.SCREEN)) == (409, "consent-unknown")


@pytest.mark.parametrize("month", ["2020-01", "2999-01", "2027-13", "2027", "", "x"])
def test_only_months_around_now_have_keys(workstation: Workstation, month: str) -> None:
    """A device cannot make the guard keep keys for all eternity."""
    workstation.consents()
    path = f"/v1/guard-key?category=keys&month={month}"
    assert refusal(workstation.door.request("GET", path)) == (422, "month-refused")


def test_last_and_next_month_have_keys(workstation: Workstation) -> None:
    """Around midnight at the end of a month both are needed."""
    workstation.consents()
    first = datetime.now(UTC).replace(day=1)
    for moment in (first - timedelta(days=1), first, first + timedelta(days=31)):
        assert workstation.asks_key(month=f"{moment:%Y-%m}").status == 200


# --- policies ---------------------------------------------------------------------------


def test_the_files_are_served_as_published(site: Site, workstation: Workstation) -> None:
    """To the byte, since signatures are over bytes."""
    for name in policies.FILES:
        answer = workstation.door.request("GET", f"/v1/policy/{name}")
        published = site.premises.paths.config.parent / "policy" / name
        assert answer.body == published.read_bytes()


def signed_folder(site: Site, folder: Path, policy: Policy, *, days_ago: int = 0) -> Path:
    site.org.publish(folder, policy, at=datetime.now(UTC) - timedelta(days=days_ago))
    return folder


def publish(site: Site, folder: Path) -> bool:
    published = policies.read_folder(folder, site.collector.now())
    with site.collector.index.writing() as connection:
        return policies.publish(connection, published, site.collector.now())


def test_the_same_policy_again_changes_nothing(site: Site) -> None:
    """Publishing twice is publishing."""
    folder = site.premises.paths.config.parent / "policy"
    with site.collector.index.reading() as connection:
        before = connection.execute(select(leaves.c.number)).all()
    assert not publish(site, folder)
    with site.collector.index.reading() as connection:
        assert connection.execute(select(leaves.c.number)).all() == before


def test_a_policy_of_another_root_is_not_put_in_force(site: Site, tmp_path: Path) -> None:
    """Devices trust the root that they enrolled with, and no second one."""
    other = dataclasses.replace(site.org, controller=ed25519(), council=ed25519())
    folder = tmp_path / "policy"
    other.publish(folder, site.policy, at=datetime.now(UTC))
    with pytest.raises(ForgedError, match="another root"):
        publish(site, folder)


def test_an_unsigned_or_missing_policy_is_not_put_in_force(site: Site, tmp_path: Path) -> None:
    """Every signature is checked before anything is served."""
    folder = signed_folder(site, tmp_path / "policy", site.policy)
    text = (folder / "policy.json").read_bytes()
    (folder / "policy.json").write_bytes(text.replace(b"pilot", b"pirat"))
    with pytest.raises(WireError):
        publish(site, folder)
    (folder / "targets.json").unlink()
    with pytest.raises(SetupError, match="missing"):
        publish(site, folder)
    (folder / "targets.json").write_bytes(bytes(policies.LARGEST_BYTES + 1))
    with pytest.raises(SetupError, match="more than"):
        publish(site, folder)


@pytest.mark.parametrize("field", ["origin", "tenant", "log", "pin", "lease_key"])
def test_a_policy_about_another_collector_is_refused(site: Site, field: str) -> None:
    """A mistake in the policy is found here, not on a thousand workstations."""
    published = policies.read_folder(
        site.premises.paths.config.parent / "policy", site.collector.now()
    )
    ours = {
        "origin": site.origin,
        "tenant": "acme",
        "pin": site.premises.tls_pin(),
        "log": site.collector.log.verifier_key,
        "lease_key": site.premises.lease_public_key(),
    }
    policies.check_is_about(published, **ours)
    with pytest.raises(RejectedError, match=field if field != "pin" else "does not pin"):
        policies.check_is_about(published, **{**ours, field: "other"})
