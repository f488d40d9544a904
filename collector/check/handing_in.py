"""Checks of what is taken and what is refused, each by its name; and of deletions."""

import secrets
import uuid
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from collector.check.verdicts import DeviationError
from collector.check.visit import Kept, Visit, gives, now, refuses, today
from wire.category import Category
from wire.collector_http import Deleted, Logged, decode, verify_logged
from wire.consent_event import ConsentEvent, sign_event
from wire.consent_record import record_of
from wire.frame import KEY_ID_BYTES, Core, batch_hash, core_hash, encode_core
from wire.grant import SignedConsent, grant_hash, sign_consent
from wire.guard_http import KeyAnswer, KeyRequest, verify_key
from wire.ids import DeviceId, GrantHash, KeyId, PolicyDigest, SubjectId, WallInstant, key_id
from wire.leaf import Kind, deletion_payload, event_payload, grant_payload
from wire.linked import ConsentState
from wire.receipt import decode_receipt, verify_receipt

BATCHES: Final = 3
TOO_LARGE: Final = (8 << 20) + 1


def record(visit: Visit, **changes: object) -> SignedConsent:
    """Return a consent record of this device, signed; nobody has clicked anything."""
    policy = visit.known(visit.policy, "the policy")
    made = record_of(
        policy,
        visit.known(visit.digest, "the policy"),
        visit.category,
        record_id=str(uuid.uuid4()),
        subject=visit.subject,
        device=visit.id,
        given_at=now(),
    )
    return sign_consent(msgspec.structs.replace(made, **changes), visit.key)


def before_consent(visit: Visit) -> None:
    """A batch whose consent record never came waits for it: 409."""
    frame = visit.frame(visit.core(grant=GrantHash(secrets.token_bytes(32))))
    refuses(visit.ask("PUT", f"/v1/batches/{batch_hash(frame).hex()}", frame), 409)


def bad_consents(visit: Visit) -> None:
    """A consent record that is forged, of another device, or widened, is refused by name."""
    good = record(visit)
    forged = msgspec.structs.replace(good, signature=bytes(64))
    refuses(visit.ask("POST", "/v1/consents", forged), 422, "forged", "malformed")
    other = record(visit, device=DeviceId(secrets.token_bytes(32)))
    refuses(visit.ask("POST", "/v1/consents", other), 403, "not-this-device")
    longer = record(visit, retention_days=9_999)
    refuses(visit.ask("POST", "/v1/consents", longer), 422, "consent-mismatch")
    elsewhere = record(visit, policy_digest=PolicyDigest(secrets.token_bytes(32)))
    refuses(visit.ask("POST", "/v1/consents", elsewhere), 409, "policy-unknown")


def consent(visit: Visit) -> None:
    """A consent record becomes a leaf of the log, and the same again is the same leaf."""
    log = visit.known(visit.policy, "the policy").collector.log
    signed = record(visit)
    payload = grant_payload(grant_hash(signed))
    first = decode(gives(visit.ask("POST", "/v1/consents", signed), 201), Logged)
    verify_logged(first, Kind.GRANT, payload, log)
    again = decode(gives(visit.ask("POST", "/v1/consents", signed), 200), Logged)
    if again.index != first.index:
        raise DeviationError("the same record again has another leaf")
    visit.consent = signed


def guard_key(visit: Visit) -> None:
    """The guard's key for this device's data subject is signed by the guard of the policy."""
    policy = visit.known(visit.policy, "the policy")
    visit.known(visit.consent, "a consent record")
    month = today()[:7]
    path = f"/v1/guard-key?category={visit.category}&month="
    answer = decode(gives(visit.ask("GET", path + month), 200), KeyAnswer)
    asked = KeyRequest(subject=visit.subject, category=visit.category, month=month)
    visit.guard_key = verify_key(answer, asked, policy.guard.signing_key)
    refuses(visit.ask("GET", f"{path}2001-01"), 422, "month-refused")


def good(visit: Visit) -> Core:
    """Return the core of a frame that everything allows."""
    signed = visit.known(visit.consent, "a consent record")
    sealed_to = key_id(visit.known(visit.guard_key, "the guard's key"))
    return visit.core(grant=grant_hash(signed), guard_key=sealed_to)


def batches(visit: Visit) -> None:
    """A batch that everything allows is taken, and its receipt leads to a leaf of the log."""
    log = visit.known(visit.policy, "the policy").collector.log
    for _ in range(BATCHES):
        core = good(visit)
        frame = visit.frame(core)
        name = batch_hash(frame)
        raw = gives(visit.ask("PUT", f"/v1/batches/{name.hex()}", frame), 201)
        receipt = decode_receipt(raw)
        verify_receipt(receipt, name, core_hash(encode_core(core)), log)
        visit.kept.append(Kept(frame=frame, core=core, receipt=receipt, raw=raw))


def again(visit: Visit) -> None:
    """The same bytes again get 200, and the same receipt to the byte."""
    kept = visit.known(visit.kept, "a batch")[0]
    path = f"/v1/batches/{batch_hash(kept.frame).hex()}"
    if gives(visit.ask("PUT", path, kept.frame), 200) != kept.raw:
        raise DeviationError("the receipt of the same bytes is another one")


def bad_frames(visit: Visit) -> None:
    """Bytes that are not their name, no frame, of another version or forged, are refused."""
    frame = visit.frame(good(visit))
    later = frame[:4] + b"2" + frame[5:]
    stranger = visit.frame(good(visit), Ed25519PrivateKey.generate())
    _refused(visit, frame, 422, "wrong-hash", name=secrets.token_bytes(32))
    _refused(visit, b"no frame at all", 422, "malformed")
    _refused(visit, frame[:-1], 422, "malformed")
    _refused(visit, stranger, 422, "forged")
    _refused(visit, later, 501, "version-unknown")


def too_large(visit: Visit) -> None:
    """What is larger than a batch can be is refused by its head."""
    _refused(visit, bytes(TOO_LARGE), 413, "too-large")


def scope(visit: Visit) -> None:
    """A frame for elsewhere, of somebody else, or of another policy, is refused by name."""
    core = good(visit)
    for status, name, changes in (
        (403, "not-this-origin", {"origin": "https://elsewhere.invalid"}),
        (403, "not-this-tenant", {"tenant": "not-this-one"}),
        (403, "not-this-device", {"device": DeviceId(secrets.token_bytes(32))}),
        (409, "policy-unknown", {"policy": PolicyDigest(secrets.token_bytes(32))}),
        (403, "not-this-programme", {"programme": "not-this-one"}),
        (422, "consent-mismatch", {"purpose": "not-this-one"}),
        (403, "not-this-subject", {"subject": SubjectId(secrets.token_bytes(16))}),
        (409, "consent-unknown", {"grant": GrantHash(secrets.token_bytes(32))}),
        (422, "guard-key-unknown", {"guard_key": KeyId(secrets.token_bytes(KEY_ID_BYTES))}),
    ):
        frame = visit.frame(msgspec.structs.replace(core, **changes))
        _refused(visit, frame, status, name)


def category(visit: Visit) -> None:
    """A category other than the consent's is refused."""
    core = good(visit)
    other = next(one for one in Category if one is not core.category)
    frame = visit.frame(msgspec.structs.replace(core, category=other))
    _refused(visit, frame, 422, "category-refused", "consent-mismatch")


def dates(visit: Visit) -> None:
    """What is over already, or kept for too long, or of a day before its consent, is refused."""
    core = good(visit)
    before = today(-2)
    answer = visit.ask("GET", f"/v1/guard-key?category={visit.category}&month={before[:7]}")
    sealed_to = key_id(decode(gives(answer, 200), KeyAnswer).public_key)
    unasked = msgspec.structs.replace(core, day=before, guard_key=sealed_to)
    _refused(visit, visit.frame(unasked), 422, "outside-consent")
    over = msgspec.structs.replace(core, expires="2025-01-01")
    _refused(visit, visit.frame(over), 422, "expired")
    forever = msgspec.structs.replace(core, expires="9999-12-31")
    _refused(visit, visit.frame(forever), 422, "kept-too-long")


def deletes(visit: Visit) -> None:
    """A deleted batch has a tombstone in the log, and does not come back: 410."""
    log = visit.known(visit.policy, "the policy").collector.log
    kept = visit.known(visit.kept, "a batch")[-1]
    _deleted(visit, kept.frame, log, stored=True)
    _refused(visit, kept.frame, 410, "erased")


def deletes_before(visit: Visit) -> None:
    """A deletion that comes before its batch holds when the batch comes."""
    log = visit.known(visit.policy, "the policy").collector.log
    frame = visit.frame(good(visit))
    _deleted(visit, frame, log, stored=False)
    _refused(visit, frame, 410, "erased")


def withdraws(visit: Visit) -> None:
    """A withdrawal becomes a leaf; one of a consent that nobody gave is refused."""
    log = visit.known(visit.policy, "the policy").collector.log
    signed = visit.known(visit.consent, "a consent record")

    def event(grant: GrantHash) -> ConsentEvent:
        return ConsentEvent(grant=grant, state=ConsentState.WITHDRAWN, at=WallInstant(now()))

    unknown = sign_event(event(GrantHash(secrets.token_bytes(32))), visit.key)
    refuses(visit.ask("POST", "/v1/consent-events", unknown), 409, "consent-unknown")
    told = sign_event(event(grant_hash(signed)), visit.key)
    logged = decode(gives(visit.ask("POST", "/v1/consent-events", told), 201), Logged)
    verify_logged(logged, Kind.CONSENT_EVENT, event_payload(told.event), log)


def cleans_up(visit: Visit) -> None:
    """All that this visit has handed in can be taken back."""
    log = visit.known(visit.policy, "the policy").collector.log
    for kept in visit.known(visit.kept, "a batch")[:-1]:
        _deleted(visit, kept.frame, log, stored=True)


def _deleted(visit: Visit, frame: bytes, log: str, *, stored: bool) -> None:
    name = batch_hash(frame)
    found = decode(gives(visit.ask("DELETE", f"/v1/batches/{name.hex()}"), 200), Deleted)
    verify_logged(found.tombstone, Kind.TOMBSTONE, deletion_payload(name), log)
    if found.stored is not stored:
        raise DeviationError(f"it says stored = {found.stored} of a batch that was not so")


def _refused(visit: Visit, frame: bytes, status: int, *names: str, name: bytes = b"") -> None:
    answer = visit.ask("PUT", f"/v1/batches/{(name or batch_hash(frame)).hex()}", frame)
    refuses(answer, status, *names)
