"""An audit bundle, made from keys alone: what a collector would export after some weeks.

`Audited` is told what happened, in order, and writes what a collector would show of it.  It does
not check anything, so a test can have it write down what must not be.
"""

import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.pki import spki_sha256
from governance.audit.examine import Report, Trusted, examine
from governance.audit.reading import Bundle
from tests.fakes.organisation import (
    LOG_NAME,
    NOW,
    WITNESS_NAME,
    Organisation,
    public_key_of_identity,
    raw,
    wall,
)
from wire import audit
from wire.age import decode_recipient
from wire.category import Category
from wire.consent_event import ConsentEvent, sign_event
from wire.frame import ALGORITHM, LABEL, Core, core_hash, encode_core
from wire.grant import (
    AccessGrant,
    SignedConsent,
    access_digest,
    decode_request,
    grant_hash,
)
from wire.guard_order import Order, sign_order
from wire.ids import (
    BatchHash,
    CoreHash,
    DeviceId,
    GrantHash,
    KeyId,
    PolicyDigest,
    SubjectId,
    key_id,
)
from wire.leaf import (
    Kind,
    batch_payload,
    deletion_payload,
    entry,
    event_payload,
    expiry_payload,
    grant_payload,
    order_payload,
    policy_payload,
    release_payload,
    request_payload,
)
from wire.linked import ConsentState
from wire.me import ReturnOrder, SignedReturn, order_in, sign_return
from wire.policy import Policy, policy_digest
from wire.rights import Demand, Erasure, Request, sign_erasure, sign_request
from wire.sealing import recipient_of
from wire.tlog import Checkpoint, Tree, cosign, leaf_hash, sign_checkpoint

DAY: Final = timedelta(days=1)
ORIGIN: Final = "https://collector.acme.example:8443"


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """A consent, and whose device gave it."""

    grant: GrantHash
    device: Ed25519PrivateKey
    subject: bytes
    policy: PolicyDigest


@dataclass(kw_only=True)
class Audited:
    """A log and what opens its leaves; `at` is the time by the witness's clock."""

    org: Organisation = field(default_factory=Organisation)
    at: datetime = NOW
    entries: list[bytes] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    notes: list[str] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    batches: dict[int, audit.BatchLine] = field(default_factory=dict)
    releases: list[audit.ReleaseLine] = field(default_factory=list)
    lines: dict[str, list[audit.Line]] = field(default_factory=dict)
    cores: dict[bytes, Core] = field(default_factory=dict)
    policy: PolicyDigest = PolicyDigest(b"")  # noqa: RUF009 - bytes
    in_force: Policy = field(default_factory=lambda: Organisation().policy())
    recipients: tuple[KeyId, ...] = ()
    version: int = 0
    _signed: dict[str, bytes] = field(default_factory=dict)  # the policy's folder

    def __post_init__(self) -> None:
        keys = (
            public_key_of_identity(self.org.identity),
            public_key_of_identity(self.org.subject_identity),
        )
        self.recipients = tuple(key_id(key) for key in keys)

    def log(self, kind: Kind, payload: bytes) -> tuple[int, bytes]:
        """Append a leaf; return its number and its salt."""
        salt = secrets.token_bytes(16)
        self.entries.append(entry(kind, payload, salt))
        return self.tree.append(leaf_hash(self.entries[-1])), salt

    def later(self, **by: float) -> None:
        self.at += timedelta(**by)

    def day(self, days: float = 0) -> str:
        return (self.at + days * DAY).date().isoformat()

    def add(self, name: str, line: audit.Line) -> None:
        self.lines.setdefault(name, []).append(line)

    # --- what happens -----------------------------------------------------------------

    def publishes(self, **changes: object) -> Policy:
        """Publish a policy, signed by both parties."""
        self.version += 1
        policy = self.org.policy(version=self.version, **changes)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, data in self._signed.items():
                (folder / file).write_bytes(data)
            files = self.org.publish(folder, policy, at=self.at).files()
            self._signed = {p.name: p.read_bytes() for p in folder.glob("*.json")}
        self.policy = policy_digest(files["policy"])
        leaf, salt = self.log(Kind.POLICY, policy_payload(self.policy))
        if files["root"] not in self.roots:
            self.roots.append(files["root"])
        line = audit.PolicyLine(leaf=leaf, salt=salt, **files)
        self.add(audit.POLICIES, line)
        self.in_force = policy
        return policy

    def consent(self, **changes: object) -> SignedConsent:
        """Return a consent to keys under the policy in force, not yet logged."""
        device = DeviceId(spki_sha256(self.org.device.public_key()))
        usual: dict[str, object] = {"given_at": wall(self.at), "device": device}
        return self.org.consent(self.policy, self.in_force, **(usual | changes))

    def agreed(self, signed: SignedConsent) -> Agreed:
        """Return what a batch needs to know of a consent."""
        return Agreed(
            grant=grant_hash(signed),
            device=self.org.device,
            subject=self.org.subject,
            policy=self.policy,
        )

    def agrees(self, **changes: object) -> Agreed:
        """Log a consent; `key` among *changes* is shown for the device's, if not that."""
        key = changes.pop("key", self.org.device)
        assert isinstance(key, Ed25519PrivateKey)
        signed = self.consent(**changes)
        leaf, salt = self.log(Kind.GRANT, grant_payload(grant_hash(signed)))
        line = audit.ConsentLine(
            leaf=leaf,
            salt=salt,
            record=signed.record,
            signature=signed.signature,
            device_key=raw(key),
        )
        self.add(audit.CONSENTS, line)
        return self.agreed(signed)

    def another_person(self) -> None:
        """Let what follows be of another data subject and device."""
        fresh = Organisation()
        self.org.device = fresh.device
        self.org.subject_identity = fresh.subject_identity
        self.org.subject = fresh.subject

    def ends(self, agreed: Agreed, state: ConsentState = ConsentState.WITHDRAWN) -> int:
        """Log what became of a consent."""
        event = ConsentEvent(grant=agreed.grant, state=state, at=wall(self.at))
        signed = sign_event(event, agreed.device)
        leaf, salt = self.log(Kind.CONSENT_EVENT, event_payload(signed.event))
        line = audit.EventLine(leaf=leaf, salt=salt, event=signed.event, signature=signed.signature)
        self.add(audit.EVENTS, line)
        return leaf

    def sends(self, agreed: Agreed, **changes: object) -> bytes:
        """Log and store a batch under *agreed*; *changes* are to its core.

        `key` among them signs it, instead of the device's.
        """
        key = changes.pop("key", agreed.device)
        assert isinstance(key, Ed25519PrivateKey)
        usual = Core(
            origin=ORIGIN,
            tenant="acme",
            programme="pilot",
            device=DeviceId(spki_sha256(agreed.device.public_key())),
            subject=SubjectId(agreed.subject),
            policy=agreed.policy,
            grant=agreed.grant,
            category=Category.KEYS,
            day=self.day(),
            recipients=self.recipients,
            guard_key=KeyId(bytes(16)),
            purpose=self.in_force.purpose,
            expires=self.day(30),
        )
        core = msgspec.structs.replace(usual, **changes)
        return self.stores(core, key)

    def stores(self, core: Core, key: Ed25519PrivateKey) -> bytes:
        """Log and store a batch with this core, whoever it is of."""
        data, batch = encode_core(core), secrets.token_bytes(32)
        shelf, body = secrets.token_bytes(32), secrets.token_bytes(32)
        sequence = len(self.batches) + 1
        message = b"".join(
            (LABEL, ALGORITHM, sequence.to_bytes(8, "big"), core_hash(data), shelf, body)
        )
        leaf, salt = self.log(Kind.BATCH, batch_payload(BatchHash(batch), core_hash(data)))
        self.batches[leaf] = audit.BatchLine(
            leaf=leaf,
            salt=salt,
            batch=batch,
            core=data,
            shelf_sha256=shelf,
            body_sha256=body,
            sequence=sequence,
            signature=key.sign(message),
        )
        self.cores[batch] = core
        return batch

    def drops(self, batch: bytes) -> None:
        """Show the record of *batch* no more."""
        (leaf,) = (leaf for leaf, line in self.batches.items() if line.batch == batch)
        del self.batches[leaf]

    def deletes(self, batch: bytes) -> int:
        """Let the device delete *batch*."""
        leaf, salt = self.log(Kind.TOMBSTONE, deletion_payload(BatchHash(batch)))
        stored = batch in self.cores
        self.add(
            audit.TOMBSTONES, audit.TombstoneLine(leaf=leaf, salt=salt, batch=batch, stored=stored)
        )
        if stored:
            self.drops(batch)
        return leaf

    def expires(self, batch: bytes) -> int:
        """Delete *batch* because its last day is over."""
        day = self.cores[batch].expires
        leaf, salt = self.log(Kind.EXPIRY, expiry_payload(BatchHash(batch), day))
        self.add(audit.EXPIRIES, audit.ExpiryLine(leaf=leaf, salt=salt, batch=batch, expires=day))
        self.drops(batch)
        return leaf

    def demands(
        self, demand: Demand = Demand.ERASE, *, erases: tuple[bytes, ...] = (), **changes: object
    ) -> int:
        """Log a demand of the data subject; the guard signs for an erasure."""
        request = Request(
            nonce=secrets.token_bytes(16),
            origin=ORIGIN,
            subject=self.org.subject,
            demand=demand,
            category=None,
            made_at=wall(self.at),
        )
        confirmed = changes.pop("confirmed", demand is Demand.ERASE)
        signed = sign_request(
            msgspec.structs.replace(request, **changes), self.org.speaker(device=False)
        )
        leaf, salt = self.log(Kind.DELETION, request_payload(signed.digest))
        word = Erasure(
            request=signed.digest, keys=1, erased_at=wall(self.at), pending_until=wall(self.at)
        )
        guard = sign_erasure(word, self.org.guard) if confirmed else None
        self.add(audit.DEMANDS, audit.DemandLine(leaf=leaf, salt=salt, signed=signed, guard=guard))
        for batch in erases:
            self.add(audit.ERASED, audit.ErasedLine(leaf=leaf, batch=batch))
            self.drops(batch)
        return leaf

    def orders(self, *, erases: tuple[bytes, ...] = (), **changes: object) -> int:
        """Log what the guard erased by its own hand."""
        guard = changes.pop("guard", self.org.guard)
        assert isinstance(guard, Ed25519PrivateKey)
        order = Order(
            origin=ORIGIN, subject=self.org.subject, category=None, month="", at=wall(self.at)
        )
        signed = sign_order(msgspec.structs.replace(order, **changes), guard)
        leaf, salt = self.log(Kind.DELETION, order_payload(signed.digest))
        self.add(audit.ORDERS, audit.OrderLine(leaf=leaf, salt=salt, signed=signed))
        for batch in erases:
            self.add(audit.ERASED, audit.ErasedLine(leaf=leaf, batch=batch))
            self.drops(batch)
        return leaf

    def approves(self, *approvers: str, **changes: object) -> AccessGrant:
        """Return an approved request for what `sends` makes today, and show its approvals."""
        usual: dict[str, object] = {
            "first_day": self.day(-60),
            "last_day": self.day(60),
            "expires_at": wall(self.at + 30 * DAY),
        }
        request = self.org.request(**(usual | changes))
        grant = self.org.grant(request, approvers or ("Ada", "Grace"))
        self.shows(grant)
        return grant

    def shows(self, grant: AccessGrant) -> None:
        for each in grant.approvals:
            line = audit.AccessLine(
                request=grant.request, approver=each.approver, signature=each.signature
            )
            self.add(audit.ACCESSES, line)

    def releases_of(self, grant: AccessGrant, batch: bytes) -> int:
        """Log a release of *batch* under *grant*."""
        core = core_hash(encode_core(self.cores[batch])) if batch in self.cores else bytes(32)
        access, recipient = access_digest(grant), decode_request(grant.request).recipient
        payload = release_payload(BatchHash(batch), CoreHash(core), access, recipient)
        leaf, salt = self.log(Kind.RELEASE, payload)
        self.releases.append(
            audit.ReleaseLine(leaf=leaf, salt=salt, batch=batch, core_hash=core, access=access)
        )
        return leaf

    def asks_back(self, *batches: bytes, **changes: object) -> SignedReturn:
        """Show an order of the data subject, for what `sends` made as their own."""
        order = ReturnOrder(
            nonce=secrets.token_bytes(16),
            origin=ORIGIN,
            subject=self.org.subject,
            recipient=recipient_of(self.org.subject_identity),
            batches=batches,
            made_at=wall(self.at),
        )
        signed = sign_return(
            msgspec.structs.replace(order, **changes), self.org.speaker(device=False)
        )
        self.add(audit.RETURNS, audit.ReturnLine(signed=signed))
        return signed

    def gives_back(self, signed: SignedReturn, batch: bytes) -> int:
        """Log that *batch* went back to the data subject on this order."""
        core, recipient = core_hash(encode_core(self.cores[batch])), order_in(signed).recipient
        payload = release_payload(BatchHash(batch), core, signed.digest, recipient)
        leaf, salt = self.log(Kind.RELEASE, payload)
        self.releases.append(
            audit.ReleaseLine(
                leaf=leaf, salt=salt, batch=batch, core_hash=core, access=signed.digest
            )
        )
        return leaf

    def own_keys(self) -> tuple[KeyId, ...]:
        """Return whom a device of this data subject seals to."""
        own = decode_recipient(recipient_of(self.org.subject_identity))
        return (self.recipients[0], key_id(own))

    def halts(self) -> int:
        """Log a halt under the policy in force."""
        payload = f"halt\n{wall(self.at)}\n{self.policy.hex()}\nno\n".encode()
        leaf, salt = self.log(Kind.HALT, payload)
        self.add(audit.HALTS, audit.HaltLine(leaf=leaf, salt=salt, payload=payload))
        return leaf

    def checkpoint(self, key: Ed25519PrivateKey | None = None) -> str:
        """Return what the log signs now."""
        head = Checkpoint(origin=LOG_NAME, size=self.tree.size, root=self.tree.root())
        return sign_checkpoint(head, key or self.org.log)

    def is_witnessed(
        self, witness: Ed25519PrivateKey | None = None, log: Ed25519PrivateKey | None = None
    ) -> str:
        """Have the log cosigned as it is now; again under the same size does nothing."""
        note = self.checkpoint(log)
        at = int(self.at.timestamp())
        note += cosign(note, WITNESS_NAME, witness or self.org.witness, at)
        if not self.notes or self.notes[-1].split("\n")[1] != str(self.tree.size):
            self.notes.append(note)
        return self.notes[-1]

    # --- the bundle -------------------------------------------------------------------

    def write(self, folder: Path, change: Callable[[dict[str, bytes]], None] | None = None) -> Path:
        """Write the bundle, after *change* to its files; return its folder."""
        files = self.files()
        if change is not None:
            change(files)
        return write_files(folder, files)

    def files(self) -> dict[str, bytes]:
        """Return every file but SHA256SUMS."""
        size = len(self.entries)
        files = dict.fromkeys(audit.SINGLE, b"")
        files |= {audit.STAMP: audit.FORMAT, audit.HEAD: self.notes[-1].encode()}
        files[audit.CHECKPOINTS] = _joined(audit.Note(note=note) for note in self.notes[:-1])
        files[audit.ROOTS] = _joined(audit.RootLine(root=root) for root in self.roots)
        files |= {name: _joined(lines) for name, lines in self.lines.items()}
        for start in range(0, size, audit.TILE):
            tile = self.entries[start : start + audit.TILE]
            files[audit.tile_name(start // audit.TILE, len(tile))] = audit.encode_entries(tile)
        for span in range(-(-size // audit.SPAN)):
            leaves = range(span * audit.SPAN, (span + 1) * audit.SPAN)
            files[audit.batches_name(span)] = _joined(
                self.batches[leaf] for leaf in leaves if leaf in self.batches
            )
            files[audit.releases_name(span)] = _joined(r for r in self.releases if r.leaf in leaves)
        return files

    def trusted(self, **changes: object) -> Trusted:
        """Return what an auditor of this day brings."""
        usual = {"root": self.roots[0], "now": int(self.at.timestamp())}
        return Trusted(**(usual | changes))  # type: ignore[arg-type]  # what a test changes

    def examined(self, folder: Path, **changes: object) -> Report:
        """Have the log witnessed, write the bundle below *folder*, and audit it."""
        self.is_witnessed()
        bundle = self.write(folder / "bundle")
        return examine(Bundle.open(bundle), self.trusted(**changes))


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write *files* and their SHA256SUMS."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (folder / audit.SUMS).write_bytes(audit.encode_sums(sums))
    return folder


def some_weeks() -> Audited:
    """Return a log with something of every kind in it, in which all is as it should be."""
    made = Audited()
    made.publishes()
    made.is_witnessed()
    first = made.agrees()
    old = made.sends(first, expires=made.day(2))
    kept = [made.sends(first) for _ in range(5)]
    made.later(hours=1)
    made.is_witnessed()
    grant = made.approves()
    for batch in (old, *kept):
        made.releases_of(grant, batch)
    made.is_witnessed()
    made.deletes(kept.pop())
    made.deletes(secrets.token_bytes(32))
    made.later(days=3)
    made.expires(old)
    made.is_witnessed()
    _second_person(made)
    made.later(hours=1)
    agreed = made.agrees()
    own = [made.sends(agreed, recipients=made.own_keys()) for _ in range(2)]
    made.halts()
    order = made.asks_back(*own)  # a halt does not hold it up
    for batch in own:
        made.gives_back(order, batch)
    made.is_witnessed()
    made.later(days=1)
    made.publishes(hold_seconds=7200)
    made.another_person()
    agreed, grant = made.agrees(), made.approves()
    for batch in [made.sends(agreed) for _ in range(3)]:
        made.releases_of(grant, batch)
    return made


def _second_person(made: Audited) -> None:
    made.another_person()
    taken, left = made.agrees(), made.agrees(category=Category.POINTER)
    gone = made.sends(taken)
    made.sends(left, category=Category.POINTER)
    made.later(hours=2)
    made.is_witnessed()
    made.ends(taken)
    made.demands(category=Category.KEYS, erases=(gone,))
    made.demands(Demand.WITHDRAW, category=Category.POINTER)
    made.orders(category=Category.SCREEN, month="2026-01")


def _joined(lines: Iterable[audit.Line]) -> bytes:
    return b"".join(audit.encode_line(line) + b"\n" for line in lines)
