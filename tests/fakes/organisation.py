"""A whole organisation in memory: parties, approvers, guard, log, reader, device, signed policy.

All keys are real and new; nothing listens and nothing is stored but the policy's folder.
"""

import base64
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.pki import spki_sha256
from governance import policy_set
from governance.claims import review
from governance.draft import Wishes, draft
from governance.keys import PublicKey, Role
from guard.trust import PolicySet, read_policy_set
from wire.age import decode_identity
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category
from wire.consent_record import record_of
from wire.event import Event, Key
from wire.frame import Core, batch_hash, core_hash, encode_core, split
from wire.grant import (
    AccessGrant,
    AccessRequest,
    SignedConsent,
    access_digest,
    approve,
    encode_request,
    grant_hash,
    sign_consent,
)
from wire.guard_http import LoggedBatch
from wire.ids import (
    BatchHash,
    BootInstant,
    DeviceId,
    PolicyDigest,
    SubjectId,
    WallInstant,
    key_id,
)
from wire.leaf import Kind, entry, release_payload
from wire.lease import cosign as cosign_lease
from wire.lease import offer
from wire.policy import (
    LEASE_SECONDS,
    Application,
    Approver,
    Hours,
    Policy,
    Purpose,
    Recipient,
    Weekday,
    encode_policy,
    policy_digest,
)
from wire.rights import Speaker, appoint, rights_key_of, subject_of
from wire.sealing import new_identity, recipient_of, seal, sign
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    ALGORITHM_ED25519,
    Checkpoint,
    Tree,
    cosign,
    leaf_hash,
    sign_checkpoint,
    verifier_key,
)
from wire.xwing import public_key_of

NOW: Final = datetime(2027, 3, 15, 12, 0, tzinfo=UTC)
RECORD_ID = "a6f58318-72e6-46a2-bfd7-f36d795e30cd"
ANOTHER_ID = "c3d4f1a2-5b6c-4d7e-8f90-a1b2c3d4e5f6"  # of a second record
DAY: Final = "2027-03-15"
MONTH: Final = "2027-03"
CONTROLLER: Final = "Acme Ltd"
COUNCIL: Final = "Works Council of Acme"
READER: Final = "training-team"
LOG_NAME: Final = "acme.example/log"
WITNESS_NAME: Final = "council.example/guard"


def wall(moment: datetime) -> WallInstant:
    return WallInstant(int(moment.timestamp()) * 1_000_000_000)


def ed25519() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A frame, and what only the test knows about it."""

    frame: bytes
    core: Core
    consent: SignedConsent

    @property
    def hash(self) -> BatchHash:
        return batch_hash(self.frame)


@dataclass(kw_only=True)
class Organisation:
    """Everybody's keys, and the policy that they agreed to."""

    controller: Ed25519PrivateKey = field(default_factory=ed25519)
    council: Ed25519PrivateKey = field(default_factory=ed25519)
    ada: Ed25519PrivateKey = field(default_factory=ed25519)  # approver of the controller
    grace: Ed25519PrivateKey = field(default_factory=ed25519)  # approver of the council
    guard: Ed25519PrivateKey = field(default_factory=ed25519)
    witness: Ed25519PrivateKey = field(default_factory=ed25519)
    log: Ed25519PrivateKey = field(default_factory=ed25519)
    collector_lease: Ed25519PrivateKey = field(default_factory=ed25519)
    guard_lease: Ed25519PrivateKey = field(default_factory=ed25519)
    device: Ed25519PrivateKey = field(default_factory=ed25519)
    identity: str = field(default_factory=new_identity)
    subject_identity: str = field(default_factory=new_identity)
    guard_seed: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    subject: SubjectId = SubjectId(b"")  # noqa: RUF009 - bytes; follows from the identity
    tree: Tree = field(default_factory=Tree)

    def __post_init__(self) -> None:
        self.subject = self.subject or subject_of(raw(self.rights_key))

    @property
    def rights_key(self) -> Ed25519PrivateKey:
        return rights_key_of(self.subject_identity)

    def speaker(self, *, device: bool = True) -> Speaker:
        """Return who may demand for the data subject: the device, or the rights key itself."""
        rights = raw(self.rights_key)
        if not device:
            return Speaker(key=self.rights_key, rights_key=rights)
        word = appoint(self.rights_key, raw(self.device))
        return Speaker(key=self.device, rights_key=rights, appointment=word)

    @property
    def recipient(self) -> str:
        return recipient_of(self.identity)

    @property
    def log_key(self) -> str:
        return verifier_key(LOG_NAME, ALGORITHM_ED25519, raw(self.log))

    @property
    def witness_key(self) -> str:
        return verifier_key(WITNESS_NAME, ALGORITHM_COSIGNATURE, raw(self.witness))

    def policy(self, **changes: object) -> Policy:
        """Return a policy that passes the lint, unless *changes* break it."""
        policy = draft(
            Wishes(
                controller=CONTROLLER,
                controller_contact="privacy@acme.example",
                representatives=COUNCIL,
                representatives_contact="council@acme.example",
                jurisdictions=("DE",),
                origin="https://collector.acme.example:8443",
                tenant="acme",
                pins=("ab" * 32,),
                log_key=self.log_key,
                collector_lease_key=b64(raw(self.collector_lease)),
                guard_lease_key=b64(raw(self.guard_lease)),
                guard_run_by="Council Trust",
                guard_key=b64(raw(self.guard)),
                witness=self.witness_key,
                recipients=(Recipient(name=READER, key=self.recipient),),
                approvers=(
                    Approver(name="Ada", party=CONTROLLER, key=b64(raw(self.ada))),
                    Approver(name="Grace", party=COUNCIL, key=b64(raw(self.grace))),
                ),
                applications=(Application(process="gedit", window_class="Gedit"),),
                justifications=((Category.SCREEN, "clicks mean nothing without what is there"),),
                hours=(Hours(days=tuple(Weekday), begin="00:00", end="24:00"),),
                assessment="DPIA-7",
                assessment_expires="2028-01-01",
                review=review().digest,
            )
        )
        return msgspec.structs.replace(policy, **changes)

    def publish(
        self, folder: Path, policy: Policy | None = None, *, at: datetime = NOW
    ) -> "PolicyFolder":
        """Sign *policy* (a good one by default) by both parties into *folder*."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.json").write_bytes(encode_policy(policy or self.policy()))
        self.name_parties(folder)
        policy_set.sign(folder, self.controller, at)
        policy_set.sign(folder, self.council, at)
        return PolicyFolder(folder)

    def lease(
        self,
        published: "PolicyFolder",
        at: datetime = NOW,
        *,
        seconds: int = LEASE_SECONDS,
        version: int | None = None,
    ) -> bytes:
        """Return a timestamp over *published*, made at *at* and signed by collector and guard."""
        offered = offer(
            snapshot=published.snapshot,
            version=int(at.timestamp()) if version is None else version,
            expires=at.replace(microsecond=0) + timedelta(seconds=seconds),
            key=self.collector_lease,
        )
        return cosign_lease(offered, self.guard_lease)

    def name_parties(self, folder: Path, *, council: str = COUNCIL) -> None:
        """Write the parties' public keys where the first signature looks for them."""
        parties = folder / "parties"
        parties.mkdir(exist_ok=True)
        for name, party, key in (
            ("1", CONTROLLER, self.controller),
            ("2", council, self.council),
        ):
            part = PublicKey(role=Role.POLICY, party=party, name=party, key=b64(raw(key)))
            (parties / f"{name}.json").write_bytes(msgspec.json.encode(part))

    # --- batches ----------------------------------------------------------------------

    def consent(
        self, digest: PolicyDigest, policy: Policy | None = None, **changes: object
    ) -> SignedConsent:
        """Return a consent record of this organisation's one data subject."""
        category = changes.get("category")
        record = record_of(
            policy or self.policy(),
            digest,
            category if isinstance(category, Category) else Category.KEYS,
            record_id=RECORD_ID,
            subject=self.subject,
            device=DeviceId(spki_sha256(self.device.public_key())),
            given_at=wall(NOW),
        )
        return sign_consent(msgspec.structs.replace(record, **changes), self.device)

    def seal(
        self,
        digest: PolicyDigest,
        events: tuple[Event, ...] = (),
        *,
        consent: SignedConsent | None = None,
        opening_core: bytes | None = None,
        level: str = "classes",
        **changes: object,
    ) -> Sealed:
        """Return a frame with *events* (one key press by default); *changes* are to its core."""
        signed = consent or self.consent(digest)
        keys = (
            public_key_of_identity(self.identity),
            public_key_of_identity(self.subject_identity),
        )
        core = Core(
            origin="https://collector.acme.example:8443",
            tenant="acme",
            programme="pilot",
            device=DeviceId(spki_sha256(self.device.public_key())),
            subject=self.subject,
            policy=digest,
            grant=grant_hash(signed),
            category=Category.KEYS,
            day=DAY,
            recipients=tuple(key_id(key) for key in keys),
            guard_key=key_id(public_key_of(self.guard_seed)),
            purpose=Purpose.TRAIN_COMPUTER_USE,
            expires="2027-06-13",
        )
        core = msgspec.structs.replace(core, **changes)
        opening = Opening(
            core_hash=core_hash(opening_core or encode_core(core)),
            wall=wall(NOW),
            boot=BootInstant(5_000_000_000),
            level=level,
            counters={"seen": 1},
            gaps=(),
        )
        some = events or (Key(at=BootInstant(5_500_000_000), pressed=True, kind="letter"),)
        plaintext = encode_batch(Batch(opening=opening, events=some))
        sealed = seal(core, plaintext, keys, public_key_of(self.guard_seed))
        return Sealed(frame=sign(sealed.unsigned, 1, self.device), core=core, consent=signed)

    # --- access -----------------------------------------------------------------------

    def request(self, **changes: object) -> AccessRequest:
        """Return a reader's request that covers what `seal` makes."""
        request = AccessRequest(
            request_id="r-1",
            reader=READER,
            recipient=self.recipient,
            programme="pilot",
            purpose=Purpose.TRAIN_COMPUTER_USE,
            categories=(Category.KEYS,),
            first_day="2027-03-01",
            last_day="2027-03-31",
            expires_at=wall(datetime(2027, 4, 1, tzinfo=UTC)),
            why="first training run",
        )
        return msgspec.structs.replace(request, **changes)

    def grant(
        self, request: AccessRequest | None = None, approvers: tuple[str, ...] = ("Ada", "Grace")
    ) -> AccessGrant:
        """Return *request* approved by these approvers."""
        document = encode_request(request or self.request())
        keys = {"Ada": self.ada, "Grace": self.grace}
        return AccessGrant(
            request=document,
            approvals=tuple(approve(document, name, keys[name]) for name in approvers),
        )

    # --- log --------------------------------------------------------------------------

    def checkpoint(self, size: int | None = None, *, key: Ed25519PrivateKey | None = None) -> str:
        """Return the log's signed head; not cosigned."""
        at = self.tree.size if size is None else size
        head = Checkpoint(origin=LOG_NAME, size=at, root=self.tree.root(at))
        return sign_checkpoint(head, key or self.log)

    def cosigned(self, note: str, *, key: Ed25519PrivateKey | None = None) -> str:
        """Return *note* with the guard's witness signature, as after add-checkpoint."""
        return note + cosign(note, WITNESS_NAME, key or self.witness, int(NOW.timestamp()))

    def log_release(self, sealed: Sealed, grant: AccessGrant, recipient: str) -> LoggedBatch:
        """Log one release; return it with its proof under the log's present head."""
        parts = split(sealed.frame)
        salt = secrets.token_bytes(16)
        payload = release_payload(
            sealed.hash, core_hash(parts.core), access_digest(grant), recipient
        )
        leaf = entry(Kind.RELEASE, payload, salt)
        index = self.tree.append(leaf_hash(leaf))
        return LoggedBatch(
            batch_hash=sealed.hash,
            core=parts.core,
            shelf=parts.shelf,
            entry=leaf,
            salt=salt,
            index=index,
            proof=self.tree.inclusion(index, self.tree.size),
        )


@dataclass(frozen=True)
class PolicyFolder:
    """The signed files."""

    folder: Path

    @property
    def snapshot(self) -> bytes:
        return (self.folder / "snapshot.json").read_bytes()

    def files(self) -> dict[str, bytes]:
        """Return what `wire.policy.verify` takes."""
        return {
            "root": self.root,
            "snapshot": self.snapshot,
            "targets": self.targets,
            "policy": self.policy,
        }

    def policy_set(self) -> PolicySet:
        """Return what the guard installs."""
        return read_policy_set(self.folder)

    @property
    def root(self) -> bytes:
        return (self.folder / "root.json").read_bytes()

    @property
    def targets(self) -> bytes:
        return (self.folder / "targets.json").read_bytes()

    @property
    def policy(self) -> bytes:
        return (self.folder / "policy.json").read_bytes()

    @property
    def digest(self) -> PolicyDigest:
        return policy_digest(self.policy)


def public_key_of_identity(identity: str) -> bytes:

    return public_key_of(decode_identity(identity))
