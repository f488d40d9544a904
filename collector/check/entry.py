"""Checks of who is let in: enrolment, certificates, and that ingest has no other verb."""

import hashlib
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base import durable
from base.pki import certificate_spki_sha256_of_pem
from collector.check.verdicts import DeviationError
from collector.check.visit import Visit, gives, name_of, refuses, request_of
from wire.collector_http import Certified, EnrolRequest, RenewRequest, State, decode
from wire.policy import policy_digest, verify
from wire.rights import Requests

NOTHING: Final = "0" * 64
# Rows that want a certificate, each with what a stranger asks there.
_CLOSED: Final = (
    ("GET", "/v1/rights", None),
    ("GET", "/v1/policy/policy.json", None),
    ("GET", "/v1/log/checkpoint", None),
    ("GET", "/v1/log/witnessed", None),
    ("GET", "/v1/log/consistency?old=0&new=0", None),
    ("GET", "/v1/log/tile/entries/000.p/1", None),
    ("POST", "/v1/consents", b"{}"),
    ("POST", "/v1/consent-events", b"{}"),
    ("GET", "/v1/guard-key?category=keys&month=2027-03", None),
    ("PUT", f"/v1/batches/{NOTHING}", b"?"),
    ("DELETE", f"/v1/batches/{NOTHING}", None),
)
_OF_READERS: Final = (
    ("POST", "/v1/frames", b"{}"),
    ("POST", f"/v1/frames/{NOTHING}", b"{}"),
    ("POST", f"/v1/frames/{NOTHING}/terms", b"{}"),
    ("GET", "/v1/frames", None),  # nor by the verb that reads elsewhere
    ("GET", f"/v1/frames/{NOTHING}", None),
    ("POST", "/v1/releases", b"{}"),
)
_VERBS: Final = (
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/"),
    ("GET", f"/v1/batches/{NOTHING}"),
    ("POST", f"/v1/batches/{NOTHING}"),
    ("PATCH", f"/v1/batches/{NOTHING}"),
)


def state(visit: Visit) -> None:
    """Anybody is told whether the programme stands still."""
    found = decode(gives(visit.ask("GET", "/v1/state", stranger=True), 200), State)
    if found.halted or found.stopped:
        raise DeviationError(f"the programme stands still ({found.why or found.stopped})")


def unknown_token(visit: Visit) -> None:
    """A token that nobody gave out enrols nobody."""
    asked = EnrolRequest(token="nobody-gave-this-out", csr=request_of(visit.key))  # noqa: S106
    refuses(visit.ask("POST", "/v1/enroll", asked, stranger=True), 403, "token-refused")


def enrols(visit: Visit) -> None:
    """The token certifies a device's key, and the same key again."""
    asked = EnrolRequest(token=visit.enrolment.token, csr=request_of(visit.key))
    answer = visit.ask("POST", "/v1/enroll", asked, stranger=True)
    if name_of(answer) == "token-refused":
        raise DeviationError(
            "the token of the enrolment file is refused: it works once, so make a file for each "
            "visit"
        )
    found = decode(gives(answer, 201, 200), Certified)
    pem = found.certificate.encode("ascii", "replace")
    if certificate_spki_sha256_of_pem(pem) != visit.id:
        raise DeviationError("the certificate is for another key than was asked about")
    certificate = visit.folder / "device.pem"
    durable.replace(certificate, pem)
    visit.certificate = certificate
    gives(visit.ask("POST", "/v1/enroll", asked, stranger=True), 200)


def token_is_used(visit: Visit) -> None:
    """A token that was used enrols no second device."""
    visit.known(visit.certificate, "a certificate")
    other = Ed25519PrivateKey.generate()
    asked = EnrolRequest(token=visit.enrolment.token, csr=request_of(other))
    refuses(visit.ask("POST", "/v1/enroll", asked, stranger=True), 403, "token-refused")


def renews(visit: Visit) -> None:
    """A signing request of an enrolled key gets a new certificate, one of a strange key none."""
    visit.known(visit.certificate, "a certificate")
    mine = visit.ask("POST", "/v1/renew", RenewRequest(csr=request_of(visit.key)), stranger=True)
    decode(gives(mine, 200), Certified)
    strange = RenewRequest(csr=request_of(Ed25519PrivateKey.generate()))
    refuses(visit.ask("POST", "/v1/renew", strange, stranger=True), 401, "unknown-client")


def strangers(visit: Visit) -> None:
    """Without a certificate every path that wants one answers 401."""
    for method, path, body in _CLOSED:
        answer = visit.ask(method, path, body, stranger=True)
        if answer.status != 401:
            raise DeviationError(f"{method} {path} answers {answer.status} to a stranger")


def no_reading(visit: Visit) -> None:
    """A device reads and lists nothing that was handed in."""
    for method, path, body in _OF_READERS:
        answer = visit.ask(method, path, body)
        if answer.status not in (403, 404, 405):
            raise DeviationError(f"{method} {path} answers {answer.status} to a device")


def no_other_verb(visit: Visit) -> None:
    """A batch can be put and deleted, and nothing else."""
    for method, path in _VERBS:
        answer = visit.ask(method, path, b"?" if method in ("POST", "PATCH") else None)
        if answer.status not in (404, 405):
            raise DeviationError(f"{method} {path} answers {answer.status}")


def unknown_fields(visit: Visit) -> None:
    """A request with a field that nobody knows, or that is no JSON, is refused."""
    more = {"csr": request_of(visit.key), "more": 1}
    refuses(visit.ask("POST", "/v1/renew", more, stranger=True), 400, "bad-request")
    refuses(visit.ask("POST", "/v1/renew", b"{", stranger=True), 400, "bad-request")


def no_such_path(visit: Visit) -> None:
    """What there is not is 404 not-found."""
    refuses(visit.ask("GET", "/v1/nothing-of-this-name", stranger=True), 404, "not-found")


def policy(visit: Visit) -> None:
    """The policy is signed from the root on that the enrolment file names, and is about here."""
    root = gives(visit.ask("GET", f"/v1/policy/{visit.enrolment.root_sha256}.root.json"), 200)
    if hashlib.sha256(root).hexdigest() != visit.enrolment.root_sha256:
        raise DeviationError("the root is not the one in the enrolment file")
    names = ("root", "snapshot", "targets", "policy")
    files = {n: gives(visit.ask("GET", f"/v1/policy/{n}.json"), 200) for n in names}
    found = verify(**files, now=datetime.now(UTC))
    if found.collector.origin != visit.enrolment.origin:
        raise DeviationError("the policy names another collector than the enrolment file")
    if not set(found.collector.tls_pins) & set(visit.enrolment.tls_pins):
        raise DeviationError("the policy pins other keys than the enrolment file")
    visit.policy, visit.policy_bytes = found, files["policy"]
    visit.digest = policy_digest(files["policy"])
    visit.category = found.categories[0].category


def policy_by_name(visit: Visit) -> None:
    """Published files are there by their digest; names that are none are 404."""
    named = f"/v1/policy/{visit.known(visit.digest, 'the policy').hex()}.policy.json"
    if gives(visit.ask("GET", named), 200) != visit.policy_bytes:
        raise DeviationError("the policy by its digest is another than the newest")
    refuses(visit.ask("GET", "/v1/policy/99999.snapshot.json"), 404, "not-found")


def rights(visit: Visit) -> None:
    """A device that nobody demanded anything of hears of no demand."""
    if decode(gives(visit.ask("GET", "/v1/rights"), 200), Requests).requests:
        raise DeviationError("it hears of demands that are of other data subjects")
