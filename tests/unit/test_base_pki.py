"""The small authority: what it certifies, and what it refuses to take from a request."""

import contextlib
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from base.errors import SetupError
from base.pki import (
    Authority,
    CertificateError,
    Role,
    certificate_expires_at,
    certificate_hosts,
    certificate_spki_sha256,
    certificate_spki_sha256_of_pem,
    check_issued,
    client_of,
    client_uri,
    load_ed25519,
    new_server_key,
    private_pem,
    requested_key,
    signing_request,
    spki_sha256,
)
from tests.fakes.tls import (
    certificate,
    der_to_pem,
    of_version_five,
    pem_to_der,
    with_an_extension_twice,
)

URI = "urn:assent:acme:device:ab12"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("Test")


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_a_client_certificate_says_who_its_holder_is(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """Tenant, role, name and key can be read back, and it ends after a week."""
    client = client_of(pem_to_der(authority.certify(signing_request(key), URI)))

    assert (client.tenant, client.role, client.name) == ("acme", Role.DEVICE, "ab12")
    assert client.spki_sha256 == spki_sha256(key.public_key())
    left = client.expires_at - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)


def test_the_authority_verifies_its_clients_and_no_other_does(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """X.509 path validation by an independent verifier; the same name is not enough."""
    issued = certificate(authority.certify(signing_request(key), URI))

    def verify(by: Authority) -> None:
        PolicyBuilder().store(Store([by.certificate])).build_client_verifier().verify(issued, [])

    verify(authority)
    with pytest.raises(VerificationError):
        verify(Authority.create("Test"))


def test_nothing_but_the_key_is_taken_from_a_request(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """Name, alternative names and CA rights that a request asks for are not in the certificate."""
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "boss")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier("urn:assent:acme:reader:boss")]
            ),
            critical=False,
        )
        .sign(key, None)
    )
    issued = certificate(authority.certify(greedy.public_bytes(Encoding.PEM), URI))

    assert client_of(issued.public_bytes(Encoding.DER)).role is Role.DEVICE
    assert issued.subject == x509.Name([])
    constraints = issued.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca


def test_a_request_signed_by_another_key_is_refused(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """Whoever cannot sign with a key does not get it certified."""
    request = bytearray(
        pem_to_der(signing_request(key).replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"))
    )
    request[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(request)).public_bytes(Encoding.PEM)

    with pytest.raises(CertificateError, match="not signed by its own key"):
        authority.certify(forged, URI)


def test_a_request_for_another_kind_of_key_is_refused(authority: Authority) -> None:
    """Device keys are Ed25519, because frames are signed with them."""
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    with pytest.raises(CertificateError, match="Ed25519"):
        authority.certify(request.public_bytes(Encoding.PEM), URI)


@pytest.mark.parametrize("text", [b"", b"nothing", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_what_is_no_request_is_refused(authority: Authority, text: bytes) -> None:
    """Garbage gets an error, not a traceback."""
    with pytest.raises(CertificateError, match="no certificate signing request"):
        authority.certify(text, URI)


@pytest.mark.parametrize(
    "uri",
    [
        "urn:assent:acme:boss:ab12",
        "urn:other:acme:device:ab12",
        "urn:assent:acme:device",
        "urn:assent:acme:device:a:b",
        "urn:assent::device:ab12",
        "urn:assent:acme:device:ab12:",
    ],
)
def test_a_certificate_that_names_nobody_of_ours_is_refused(
    authority: Authority, key: Ed25519PrivateKey, uri: str
) -> None:
    """An unknown role or a malformed name never becomes a client."""
    with pytest.raises(CertificateError, match="names a holder that is none of ours"):
        client_of(pem_to_der(authority.certify(signing_request(key), uri)))


def test_a_server_certificate_names_no_client(authority: Authority) -> None:
    """The server's own certificate cannot be shown as a client's."""
    server = authority.server_certificate(new_server_key(), ["127.0.0.1"])
    with pytest.raises(CertificateError, match="does not say who its holder is"):
        client_of(pem_to_der(server))
    with pytest.raises(CertificateError):
        client_of(b"no certificate")


def test_a_server_certificate_is_for_its_hosts(authority: Authority) -> None:
    """DNS names and addresses, as clients ask for them; the pin is the key's."""
    key = new_server_key()
    server = authority.server_certificate(key, ["collector.example", "127.0.0.1", "[::1]"])
    names = certificate(server).extensions.get_extension_for_class(x509.SubjectAlternativeName)

    assert names.value.get_values_for_type(x509.DNSName) == ["collector.example"]
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "::1"]
    assert certificate_spki_sha256(pem_to_der(server)) == spki_sha256(key.public_key())
    with pytest.raises(CertificateError):
        certificate_spki_sha256(b"")


@pytest.mark.parametrize("word", ["", "a:b", "a b", ".a", "a\n", "é", "x" * 129])
def test_a_name_that_would_be_ambiguous_is_refused(word: str) -> None:
    """What stands in a certificate can be taken apart again in one way only."""
    with pytest.raises(CertificateError):
        client_uri(word, Role.READER, "name")
    with pytest.raises(CertificateError):
        client_uri("acme", Role.READER, word)


def test_an_authority_is_kept_privately_and_found_again(
    authority: Authority, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    """Key and certificate are files of their owner alone."""
    authority.save(tmp_path)

    assert {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {
        "ca.key": 0o600,
        "ca.pem": 0o600,
    }
    assert Authority.load(tmp_path).pem == authority.pem
    (tmp_path / "ca.key").write_bytes(private_pem(key))
    with pytest.raises(SetupError, match="P-256"):
        Authority.load(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(SetupError, match="unreadable"):
        Authority.load(tmp_path)


def test_a_device_key_is_found_again_and_nothing_else_is_taken_for_one(
    key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    """PEM, Ed25519."""
    path = tmp_path / "device.key"
    path.write_bytes(private_pem(key))
    assert load_ed25519(path).private_bytes_raw() == key.private_bytes_raw()

    path.write_bytes(private_pem(new_server_key()))
    with pytest.raises(SetupError, match="no Ed25519 key"):
        load_ed25519(path)
    with pytest.raises(SetupError, match="cannot be read"):
        load_ed25519(tmp_path / "none")


def test_until_when_a_certificate_is_valid_can_be_asked(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """The agent renews by this."""
    issued = authority.certify(signing_request(key), URI, days=2)
    assert certificate_expires_at(issued) == certificate(issued).not_valid_after_utc
    with pytest.raises(CertificateError):
        certificate_expires_at(b"none")


def test_a_digest_is_only_of_a_public_key() -> None:
    """Anything else is a mistake of ours."""
    with pytest.raises(TypeError):
        spki_sha256(b"key")


def test_a_file_of_two_authorities_goes_with_the_certificates_of_either(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """While an authority is changed; that of a third is still of another party."""
    coming, third = Authority.create("Test, the next"), Authority.create("Somebody")
    for each in (authority, coming):
        mine = each.certify(signing_request(key), URI)
        check_issued(mine, coming.pem + authority.pem, key.public_key())
    strange = third.certify(signing_request(key), URI)
    with pytest.raises(SetupError, match="another authority"):
        check_issued(strange, coming.pem + authority.pem, key.public_key())


def looked_at(pem: bytes, authority: Authority, key: Ed25519PrivateKey) -> list[Exception]:
    """Return how each reader of ours refuses this certificate; any other error escapes."""
    refused: list[Exception] = []
    readers: list[Callable[[], object]] = [
        lambda: client_of(pem_to_der(pem)),
        lambda: certificate_spki_sha256(pem_to_der(pem)),
        lambda: certificate_spki_sha256_of_pem(pem),
        lambda: certificate_expires_at(pem),
        lambda: certificate_hosts(pem),
        lambda: check_issued(pem, authority.pem, key.public_key()),
        lambda: check_issued(authority.certify(signing_request(key), URI), pem, key.public_key()),
    ]
    for reader in readers:
        try:
            reader()
        except (CertificateError, SetupError) as exc:
            refused.append(exc)
    return refused


def test_a_certificate_of_a_version_that_there_is_not_is_refused(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """The library has an error for it that is no ValueError: it ended whoever asked."""
    good = authority.certify(signing_request(key), URI)
    assert len(looked_at(of_version_five(good), authority, key)) == 7


def test_a_certificate_that_says_something_twice_is_refused(
    authority: Authority, key: Ed25519PrivateKey
) -> None:
    """Likewise."""
    twice = with_an_extension_twice(authority.certify(signing_request(key), URI))
    with pytest.raises(CertificateError):
        client_of(pem_to_der(twice))
    looked_at(twice, authority, key)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("seed", range(40))
def test_a_spoilt_certificate_is_read_or_refused(
    seed: int, authority: Authority, key: Ed25519PrivateKey
) -> None:
    """Whatever byte is wrong, nothing but our own errors comes out."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret comes of it
    for pem in (
        authority.certify(signing_request(key), URI),
        authority.server_certificate(new_server_key(), ["localhost", "127.0.0.1"]),
    ):
        spoilt = bytearray(pem_to_der(pem))
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            at = chance.randrange(len(spoilt))
            spoilt[at] = chance.choice((0, 1, 5, 0x39, 0x7F, 0x80, 0xFF, spoilt[at] ^ 1))
        looked_at(der_to_pem(bytes(spoilt)), authority, key)
    request = bytearray(ssl.PEM_cert_to_DER_cert(_as_certificate(signing_request(key))))
    request[chance.randrange(len(request))] ^= 1 << chance.randrange(8)
    with contextlib.suppress(CertificateError):
        requested_key(der_to_pem(bytes(request), "CERTIFICATE REQUEST"))


def _as_certificate(pem: bytes) -> str:
    return pem.decode("ascii").replace(" REQUEST", "")
