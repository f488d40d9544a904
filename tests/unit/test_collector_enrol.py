"""Who is let in: tokens, enrolment, renewal, revocation, and roles at every door."""

import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from base.errors import SetupError
from base.pki import Role, client_of, client_uri, signing_request, spki_sha256
from collector import enrol
from collector.index.tables import devices, tokens
from tests.conftest import NewPlace
from tests.fakes.indexes import in_index
from tests.fakes.organisation import READER, ed25519
from tests.fakes.site import TENANT, Site, Workstation, collector_site, lists, refusal
from tests.fakes.tls import pem_to_der
from wire.collector_http import Certified, EnrolRequest, RenewRequest, State

NOBODY = "0" * 64
DEVICE_ONLY = (
    ("POST", "/v1/consents"),
    ("GET", "/v1/guard-key?category=keys&month=2027-03"),
    ("PUT", f"/v1/batches/{NOBODY}"),
    ("DELETE", f"/v1/batches/{NOBODY}"),
)
READER_ONLY = (
    ("POST", "/v1/frames"),
    ("POST", f"/v1/frames/{NOBODY}"),
    ("POST", f"/v1/frames/{NOBODY}/terms"),
    ("POST", "/v1/releases"),
)
BOTH = (
    ("GET", "/v1/policy/root.json"),
    ("GET", "/v1/log/checkpoint"),
    ("GET", "/v1/log/consistency?old=0&new=1"),
    ("GET", "/v1/log/tile/entries/000.p/1"),
    ("GET", "/v1/log/tile/0/000.p/1"),
)
EMPTY_CONSENT = b'{"record":"","signature":""}'
BODIES = {"/v1/consents": EMPTY_CONSENT, f"/v1/batches/{NOBODY}": b"x"}


def body_for(method: str, path: str) -> bytes | None:
    return BODIES.get(path) if method in ("PUT", "POST") else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        yield running


@pytest.fixture
def workstation(site: Site) -> Workstation:
    return site.workstation()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return ed25519()


# --- enrolment --------------------------------------------------------------------------


def test_a_token_enrols_one_device_and_certifies_its_key(
    site: Site, key: Ed25519PrivateKey
) -> None:
    """The certificate names tenant, role and device id, and nothing about a person."""
    answer = site.enrols(site.token(), key)
    certified = msgspec.json.decode(answer.body, type=Certified)
    client = client_of(pem_to_der(certified.certificate.encode()))

    assert answer.status == 201
    assert (client.tenant, client.role) == (TENANT, Role.DEVICE)
    assert client.name == spki_sha256(key.public_key()).hex()
    assert client.expires_at.timestamp() * 1e9 == certified.expires_at
    assert site.with_key(key, certified).request("GET", "/v1/log/checkpoint").status == 200


def test_a_used_token_enrols_nobody_else(site: Site, key: Ed25519PrivateKey) -> None:
    """Single use: whoever finds the file later gets nothing."""
    token = site.token()
    assert site.enrols(token, key).status == 201
    assert refusal(site.enrols(token, ed25519())) == (403, "token-refused")


def test_a_device_whose_answer_was_lost_may_ask_again(site: Site, key: Ed25519PrivateKey) -> None:
    """The same token and the same key: a crash between both sides costs no new token."""
    token = site.token()
    assert site.enrols(token, key).status == 201
    assert site.enrols(token, key).status == 200


def test_notices_go_to_whom_the_later_token_names(site: Site, key: Ed25519PrivateKey) -> None:
    """Who was nobody's becomes somebody's; a used token, or one for nobody, changes nothing."""
    of_device = select(devices.c.label).where(devices.c.device == spki_sha256(key.public_key()))

    def label_after(token: str) -> str:
        assert site.enrols(token, key).status in (200, 201)
        with site.collector.index.reading() as connection:
            return str(connection.execute(of_device).scalar_one())

    ada = site.token(label="ada@acme.example")
    assert label_after(site.token()) == ""
    assert label_after(ada) == "ada@acme.example"
    assert label_after(site.token(label="grace@acme.example")) == "grace@acme.example"
    assert label_after(ada) == "grace@acme.example"
    assert label_after(site.token()) == "grace@acme.example"


def test_two_devices_with_one_token_at_once_are_one(site: Site) -> None:
    """The race for a token has one winner."""
    token = site.token()
    statuses: list[int] = []
    gate = threading.Barrier(4)

    def enrol_one() -> None:
        gate.wait()
        statuses.append(site.enrols(token, ed25519()).status)

    threads = [threading.Thread(target=enrol_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 403, 403, 403]


def test_an_expired_token_enrols_nobody(site: Site, key: Ed25519PrivateKey) -> None:
    """Tokens have a date."""
    assert refusal(site.enrols(site.token(days=-1), key)) == (403, "token-refused")


@pytest.mark.parametrize(
    "token",
    ["", "A", "x" * 43, "é", secrets.token_urlsafe(32)],
    ids=["none", "short", "long", "no-token", "guessed"],
)
def test_an_unknown_token_enrols_nobody(site: Site, key: Ed25519PrivateKey, token: str) -> None:
    """Guessed, cut short, or no token at all."""
    assert refusal(site.enrols(token, key)) == (403, "token-refused")


def test_the_index_does_not_hold_the_token(site: Site) -> None:
    """A copy of the index enrols nobody."""
    token = site.token()
    with site.collector.index.reading() as connection:
        rows = connection.execute(select(tokens)).all()
    assert token.encode() not in repr(rows).encode()
    assert not in_index(site.premises, token.encode())


def test_a_signing_request_that_is_none_is_refused(site: Site, key: Ed25519PrivateKey) -> None:
    """And the token is still good afterwards."""
    token = site.token()
    bad = msgspec.json.encode(EnrolRequest(token=token, csr="nothing"))
    assert refusal(site.door().request("POST", "/v1/enroll", bad)) == (400, "bad-request")
    assert refusal(site.door().request("POST", "/v1/enroll", b"{")) == (400, "bad-request")
    assert refusal(site.door().request("POST", "/v1/enroll")) == (400, "bad-request")
    assert site.enrols(token, key).status == 201


def test_nobody_is_enrolled_during_a_halt(site: Site, key: Ed25519PrivateKey) -> None:
    """A halt freezes what would lead to more."""
    token = site.token()
    site.halts("works council")
    answer = site.enrols(token, key)
    state = site.door().request("GET", "/v1/state")
    site.publishes()

    assert refusal(answer) == (503, "halted")
    assert b"works council" in answer.body
    assert msgspec.json.decode(state.body, type=State) == State(
        halted=True, why="works council (said by the collector)"
    )


# --- renewal ----------------------------------------------------------------------------


def renewal(key: Ed25519PrivateKey) -> bytes:
    return msgspec.json.encode(RenewRequest(csr=signing_request(key).decode()))


def test_an_enrolled_key_renews_without_certificate_and_token(
    site: Site, workstation: Workstation
) -> None:
    """After a holiday the old certificate has run out; the key is still the device's."""
    site.clock.moved = timedelta(days=30)
    try:
        late = workstation.door.request("GET", "/v1/log/checkpoint")
        answer = site.door().request("POST", "/v1/renew", renewal(workstation.org.device))
    finally:
        site.clock.moved = timedelta()

    assert refusal(late) == (401, "certificate-expired")
    assert answer.status == 200
    certified = msgspec.json.decode(answer.body, type=Certified)
    renewed = site.with_key(workstation.org.device, certified)
    assert renewed.request("GET", "/v1/log/checkpoint").status == 200


def test_a_key_that_was_never_enrolled_renews_nothing(site: Site, key: Ed25519PrivateKey) -> None:
    """Renewal is no way round the token."""
    answer = site.door().request("POST", "/v1/renew", renewal(key))
    assert refusal(answer) == (401, "unknown-client")


# --- revocation -------------------------------------------------------------------------


def test_a_revoked_device_is_refused_from_its_next_request_on(
    site: Site, workstation: Workstation
) -> None:
    """On the connection it has, with renewal, and with a new token."""
    assert workstation.door.request("GET", "/v1/log/checkpoint").status == 200
    with site.collector.index.writing() as connection:
        revoked = enrol.revoke_device(connection, workstation.id.hex()[:12], site.collector.now())
    assert revoked == workstation.id

    key = workstation.org.device
    for answer in (
        workstation.door.request("GET", "/v1/log/checkpoint"),
        workstation.puts(b"frame"),
        site.door().request("POST", "/v1/renew", renewal(key)),
        site.enrols(site.token(), key),
    ):
        assert refusal(answer) == (401, "revoked")


def test_revoking_needs_exactly_one_device(site: Site, workstation: Workstation) -> None:
    """A prefix that fits none, or is so short that it may be a slip, revokes nobody."""
    for prefix in ("", workstation.id.hex()[:5], "zzzzzz"):
        with (
            pytest.raises(SetupError, match=r"too short|devices begin with"),
            site.collector.index.writing() as connection,
        ):
            enrol.revoke_device(connection, prefix, site.collector.now())
    with site.collector.index.reading() as connection:
        kept = select(devices.c.revoked_at).where(devices.c.device == workstation.id)
        assert connection.execute(kept).scalar() is None


def test_a_revoked_reader_is_refused_and_its_name_can_be_given_again(site: Site) -> None:
    """A name belongs to one key until that is revoked."""
    first = site.reader("team-a")
    with pytest.raises(SetupError, match="has another key"):
        site.reader("team-a")
    with site.collector.index.writing() as connection:
        enrol.revoke_reader(connection, "team-a", site.collector.now())
    grant = site.grant(reader="team-a")
    assert refusal(lists(first, grant)) == (401, "revoked")

    second = site.reader("team-a")
    assert lists(second, grant).status == 200
    assert refusal(lists(first, grant)) == (401, "unknown-client")
    with (
        pytest.raises(SetupError, match="no reader"),
        site.collector.index.writing() as connection,
    ):
        enrol.revoke_reader(connection, "nobody", site.collector.now())


# --- roles ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), DEVICE_ONLY + READER_ONLY + BOTH)
def test_without_a_certificate_nothing_is_to_be_had(site: Site, method: str, path: str) -> None:
    """Neither handed in nor read."""
    answer = site.door().request(method, path, body_for(method, path))
    assert refusal(answer) == (401, "no-certificate")


@pytest.mark.parametrize(("method", "path"), READER_ONLY)
def test_a_device_can_neither_read_nor_list(
    site: Site, workstation: Workstation, method: str, path: str
) -> None:
    """Not even what it sent itself."""
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    assert refusal(workstation.door.request(method, path)) == (403, "wrong-role")


@pytest.mark.parametrize(("method", "path"), DEVICE_ONLY)
def test_a_reader_can_neither_hand_in_nor_delete(site: Site, method: str, path: str) -> None:
    """A reader reads."""
    reader = site.reader(f"reader-{secrets.token_hex(4)}")
    answer = reader.request(method, path, body_for(method, path))
    assert refusal(answer) == (403, "wrong-role")


@pytest.mark.parametrize(("method", "path"), BOTH)
def test_policy_and_log_are_for_devices_and_readers(
    site: Site, workstation: Workstation, method: str, path: str
) -> None:
    """Both check what the other side says."""
    reader = site.reader(f"reader-{secrets.token_hex(4)}")
    assert workstation.door.request(method, path).status == 200
    assert reader.request(method, path).status == 200


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        (client_uri("other", Role.DEVICE, NOBODY), "other-tenant"),
        (client_uri(TENANT, Role.DEVICE, NOBODY), "unknown-client"),
        (client_uri(TENANT, Role.READER, READER), "unknown-client"),
        (client_uri(TENANT, Role.COLLECTOR, "main"), "unknown-client"),
        ("urn:assent:acme:operator:root", "unknown-client"),
        ("https://collector.example", "unknown-client"),
    ],
)
def test_a_certificate_alone_is_not_enough(
    site: Site, key: Ed25519PrivateKey, uri: str, name: str
) -> None:
    """Signed by the right authority, but the index does not know this name with this key."""
    answer = lists(site.certify(key, uri), site.grant())
    assert refusal(answer) == (401, name)


def test_a_certificate_that_gives_one_devices_key_another_devices_name_is_refused(
    site: Site, workstation: Workstation
) -> None:
    """The name has to be the key's own digest."""
    other = site.workstation()
    mixed = site.certify(workstation.org.device, client_uri(TENANT, Role.DEVICE, other.id.hex()))
    assert refusal(mixed.request("GET", "/v1/log/checkpoint")) == (401, "unknown-client")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/batches", 404),
        ("GET", f"/v1/batches/{NOBODY}", 405),
        ("GET", "/v1/enroll", 405),
        ("GET", "/v1/state/", 404),
        ("GET", "/v1/policy/../../tls.key", 404),
        ("GET", "/v1/policy/tls.key", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
    ],
)
def test_there_is_nothing_else(
    site: Site, workstation: Workstation, method: str, path: str, status: int
) -> None:
    """No listing, no reading of batches by path, no redirect, no traversal."""
    answer = workstation.door.request(method, path)
    assert refusal(answer)[0] == status


@pytest.mark.parametrize(
    "query",
    [
        "/v1/log/consistency?old=x&new=1",
        "/v1/log/consistency?old=1",
        "/v1/log/consistency?old=5&new=1",
        "/v1/log/consistency?old=0&new=99999999",
        "/v1/log/consistency?old=-1&new=1",
        "/v1/guard-key?month=2027-03",
        "/v1/guard-key?category=thoughts&month=2027-03",
    ],
)
def test_a_malformed_query_is_refused(workstation: Workstation, query: str) -> None:
    """In words, not with a trace."""
    assert refusal(workstation.door.request("GET", query)) == (400, "bad-request")
