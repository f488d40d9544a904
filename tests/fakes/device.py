"""A workstation without a desktop: enrols, agrees, seals and uploads over the real door."""

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import SystemClock
from base.https import OneDoor
from base.pki import private_pem, signing_request, spki_sha256
from wire.age import decode_identity, decode_recipient
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category
from wire.collector_http import Certified, Enrolment, EnrolRequest
from wire.consent_record import decode_record, record_of
from wire.event import Event
from wire.frame import Core, batch_hash, core_hash, encode_core
from wire.grant import SignedConsent, grant_hash, sign_consent
from wire.guard_http import KeyAnswer, KeyRequest, verify_key
from wire.ids import BatchHash, BootInstant, DeviceId, SubjectId, WallInstant, key_id
from wire.policy import Policy, decode_policy, policy_digest
from wire.receipt import decode_receipt, verify_receipt
from wire.recipients import sealed_to
from wire.sealing import new_identity, seal, sign
from wire.xwing import public_key_of

WAIT_SECONDS = 20.0


@dataclass
class Device:
    """One device of one data subject; everything goes through `door`."""

    folder: Path
    enrolment: Enrolment
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    subject: SubjectId = field(default_factory=lambda: SubjectId(secrets.token_bytes(16)))
    identity: str = field(default_factory=new_identity)
    sequence: int = 0

    def enrol(self) -> "Device":
        """Get a certificate and the policy."""
        request = EnrolRequest(
            token=self.enrolment.token, csr=signing_request(self.key).decode("ascii")
        )
        bare = self._open(None)
        answer = bare.request("POST", "/v1/enroll", msgspec.json.encode(request))
        assert answer.status == 201, answer.body
        bare.close()
        certificate = msgspec.json.decode(answer.body, type=Certified).certificate
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "device.key").write_bytes(private_pem(self.key))
        (self.folder / "device.pem").write_text(certificate)
        self.door = self._open(self.folder / "device.pem")
        self.document = self.door.request("GET", "/v1/policy/policy.json").body
        return self

    @property
    def policy(self) -> Policy:
        return decode_policy(self.document)

    def agree(self, category: Category, *, send: bool = True) -> SignedConsent:
        """Make a consent record for *category*, and hand it in."""
        record = record_of(
            self.policy,
            policy_digest(self.document),
            category,
            record_id=str(uuid.uuid4()),
            subject=self.subject,
            device=DeviceId(spki_sha256(self.key.public_key())),
            given_at=now(),
        )
        signed = sign_consent(record, self.key)
        if send:
            answer = self.door.request("POST", "/v1/consents", msgspec.json.encode(signed))
            assert answer.status == 201, answer.body
        return signed

    def guard_key(self, category: Category) -> bytes:
        """Ask, through the collector, for the guard's key of this month."""
        month = today()[:7]
        answer = self.door.request("GET", f"/v1/guard-key?category={category.value}&month={month}")
        assert answer.status == 200, answer.body
        key = msgspec.json.decode(answer.body, type=KeyAnswer)
        asked = KeyRequest(subject=self.subject, category=category, month=month)
        return verify_key(key, asked, self.policy.guard.signing_key)

    def seal(self, consent: SignedConsent, guard_key: bytes, *events: Event) -> bytes:
        """Return a frame of *events* under *consent*."""
        record = decode_record(consent.record)
        recipients = [decode_recipient(r.key) for r in sealed_to(self.policy.recipients)]
        recipients.append(public_key_of(decode_identity(self.identity)))
        core = Core(
            origin=self.enrolment.origin,
            tenant=self.policy.collector.tenant,
            programme=self.policy.programme,
            device=DeviceId(spki_sha256(self.key.public_key())),
            subject=self.subject,
            policy=policy_digest(self.document),
            grant=grant_hash(consent),
            category=record.category,
            day=today(),
            recipients=tuple(key_id(key) for key in recipients),
            guard_key=key_id(guard_key),
            purpose=self.policy.purpose.value,
            expires=today(),
        )
        opening = Opening(
            core_hash=core_hash(encode_core(core)),
            wall=now(),
            boot=BootInstant(0),
            level=record.level,
            counters={},
            gaps=(),
        )
        plaintext = encode_batch(Batch(opening=opening, events=events))
        self.sequence += 1
        sealed = seal(core, plaintext, recipients, guard_key)
        return sign(sealed.unsigned, self.sequence, self.key)

    def upload(self, frame: bytes) -> BatchHash:
        """Hand *frame* in and check the receipt."""
        name = batch_hash(frame)
        answer = self.door.request("PUT", f"/v1/batches/{name.hex()}", frame)
        assert answer.status == 201, answer.body
        receipt = decode_receipt(answer.body)
        verify_receipt(receipt, name, receipt.core_hash, self.policy.collector.log)
        return name

    def _open(self, certificate: Path | None) -> OneDoor:
        key = self.folder / "device.key" if certificate else None
        e = self.enrolment
        return OneDoor(e.origin, e.tls_pins, e.ca_pem, certificate, key, WAIT_SECONDS)


def now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)


def today(days: int = 0) -> str:
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
