"""A device is where its token said, and a collector takes from where its policy says alone."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from base.errors import SetupError
from base.pki import signing_request, spki_sha256
from collector import enrol
from collector.index.tables import devices
from collector.ingest.receive import Receiver
from collector.jurisdiction import chosen, place, served
from collector.refusal import RefusedError, Why
from tests.fakes.organisation import ed25519
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.collector_http import Enrolment, EnrolRequest, RenewRequest
from wire.ids import DeviceId
from wire.rights import Demand

NOT_HERE = (403, "not-this-jurisdiction")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path) as running:
        yield running


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


def where(site: Site, key: Ed25519PrivateKey) -> str | None:
    """Return where the index has the device of this key; None: it is not enrolled."""
    device = spki_sha256(key.public_key())
    with site.collector.index.reading() as connection:
        query = select(devices.c.jurisdiction).where(devices.c.device == device)
        return connection.execute(query).scalar()


# --- enrolment --------------------------------------------------------------------------


def test_a_device_is_where_its_token_says(site: Site) -> None:
    """The operator says it; the device is not asked."""
    key = ed25519()
    site.publishes(jurisdictions=("DE", "FR"))
    assert site.enrols(site.token(jurisdiction="FR"), key).status == 201
    assert where(site, key) == "FR"


def test_a_device_of_a_jurisdiction_that_the_policy_does_not_name_is_not_enrolled(
    site: Site,
) -> None:
    """By name; and its token is as good as before, should the policy name it one day."""
    key, token = ed25519(), site.token(jurisdiction="US")
    assert refusal(site.enrols(token, key)) == NOT_HERE
    assert where(site, key) is None
    site.publishes(jurisdictions=("DE", "US"))
    assert site.enrols(token, key).status == 201


def test_no_device_says_for_itself_where_it_is(site: Site) -> None:
    """Neither in its request, nor in the file: where a token is good for stands in neither."""
    token = site.token(jurisdiction="US")
    asked = {"token": token, "csr": signing_request(ed25519()).decode(), "jurisdiction": "DE"}
    answer = site.door().request("POST", "/v1/enroll", msgspec.json.encode(asked))
    assert refusal(answer) == (400, "bad-request")
    assert "jurisdiction" not in Enrolment.__struct_fields__
    assert "jurisdiction" not in EnrolRequest.__struct_fields__


def test_a_token_of_before_does_not_bring_a_device_back(site: Site) -> None:
    """Whoever moved, or was moved, stays there: a used token repeats an answer and no more."""
    key, first = ed25519(), site.token(jurisdiction="DE")
    site.publishes(jurisdictions=("DE", "FR"))
    assert site.enrols(first, key).status == 201
    assert site.enrols(site.token(jurisdiction="FR"), key).status == 200
    assert where(site, key) == "FR"
    site.publishes(jurisdictions=("DE",))
    assert refusal(site.enrols(first, key)) == NOT_HERE
    assert where(site, key) == "FR"


def test_a_collector_may_serve_fewer_than_its_policy_names(site: Site) -> None:
    """Never more: config.toml alone lets nobody in."""
    site.publishes(jurisdictions=("DE", "FR"))
    assert served(site.policy, ()) == {"DE", "FR"}
    assert served(site.policy, ("FR", "US")) == {"FR"}
    assert served(site.policy, ("US",)) == served(None, ("DE",)) == frozenset()
    registry = dataclasses.replace(site.collector.registry, jurisdictions=("FR",))
    now = site.collector.now()
    for name, refused in (("DE", True), ("FR", False)):
        csr = signing_request(ed25519()).decode()
        request = EnrolRequest(token=site.token(jurisdiction=name), csr=csr)
        with site.collector.index.writing() as connection:
            if refused:
                with pytest.raises(RefusedError) as caught:
                    enrol.enrol(connection, registry, request, now)
                assert caught.value.why is Why.NOT_THIS_JURISDICTION
            else:
                assert enrol.enrol(connection, registry, request, now)[1]


# --- batches ----------------------------------------------------------------------------


def test_a_policy_that_no_longer_names_a_jurisdiction_stops_its_devices_by_name(
    site: Site, ada: Workstation
) -> None:
    """Also what was sealed before, under a policy that named it; and nothing is stored."""
    frame = ada.seals(ada.consents())
    site.publishes(jurisdictions=("FR",))
    assert refusal(ada.puts(frame)) == NOT_HERE
    site.publishes(jurisdictions=("FR", "DE"))
    assert ada.puts(frame).status == 201


def test_who_is_stopped_there_still_takes_back_and_demands(site: Site, ada: Workstation) -> None:
    """A no is nobody's to refuse: deletion, erasure, and the certificate that they need."""
    frame = ada.seals(ada.consents())
    assert ada.puts(frame).status == 201
    site.publishes(jurisdictions=("FR",))
    assert ada.deletes(frame).status == 200
    assert ada.asks(ada.demands(Demand.ERASE)).status == 200
    csr = RenewRequest(csr=signing_request(ada.org.device).decode())
    assert site.door().request("POST", "/v1/renew", msgspec.json.encode(csr)).status == 200


def test_a_device_of_which_nobody_said_where_it_is_hands_in_nothing(
    site: Site, ada: Workstation
) -> None:
    """Unknown is no, until an operator says it."""
    frame = ada.seals(ada.consents())
    for name, expected in (("", 403), ("US", 403), ("DE", 201)):
        with site.collector.index.writing() as connection:
            place(connection, DeviceId(ada.id), name)
        answer = ada.puts(frame)
        assert answer.status == expected
        if expected == 403:
            assert refusal(answer) == NOT_HERE


def test_a_batch_that_was_on_its_way_is_judged_again_before_its_row(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that comes between body and row holds for it."""
    frame = ada.seals(ada.consents())
    monkeypatch.setattr(Receiver, "in_scope", lambda _receiver, uploads: list(uploads))
    site.publishes(jurisdictions=("FR",))
    assert refusal(ada.puts(frame)) == NOT_HERE


# --- what operators type ----------------------------------------------------------------


def test_a_token_needs_to_be_told_where_only_if_there_are_several() -> None:
    """And is made for nowhere else."""
    assert chosen("", frozenset({"DE"})) == "DE"
    assert chosen("FR", frozenset({"DE", "FR"})) == "FR"
    with pytest.raises(SetupError, match="--jurisdiction, of DE, FR"):
        chosen("", frozenset({"DE", "FR"}))
    with pytest.raises(SetupError, match="US is not served here"):
        chosen("US", frozenset({"DE"}))
    with pytest.raises(SetupError, match="none"):
        chosen("", frozenset())
