"""What a collector answers a data subject, and the proofs that come with it.

Each thing that is said opens a leaf of the log (`wire.leaf`), and all leaves of one answer lie
under its one checkpoint.  The functions here check that: whoever asks believes the keys of log
and witness, and no collector.  What an answer leaves out, no check here can find.
"""

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from wire.errors import ForgedError, MalformedError
from wire.frame import Core, core_hash, decode_core
from wire.grant import AccessGrant, AccessRequest, access_digest, decode_request, verify_access
from wire.guard_follows import Three, that_follow
from wire.ids import BatchHash, CoreHash, KeptInstant, SubjectId, WallInstant
from wire.leaf import (
    Kind,
    batch_payload,
    deletion_payload,
    entry,
    expiry_payload,
    release_payload,
    request_payload,
)
from wire.me import ReturnOrder, SignedReturn, verify_return
from wire.policy import Guard, Policy, policy_digest, verify_signatures
from wire.rights import (
    Erasure,
    Request,
    SignedErasure,
    SignedRequest,
    verify_erasure,
    verify_request,
)
from wire.tlog import (
    Checkpoint,
    leaf_hash,
    verify_checkpoint,
    verify_cosignature,
    verify_inclusion,
)

PAGE: Final = 500  # entries: with their proofs some 1 MB


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Where a leaf stands, what opens it, and that it lies under the answer's checkpoint."""

    index: int
    salt: bytes
    proof: tuple[bytes, ...]


class OwnBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is stored; category, day, last day and policy stand in its core."""

    batch_hash: bytes
    core: bytes
    bytes: int
    received_at: KeptInstant
    leaf: Proof


class OwnBatches(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of a data subject's batches; `next` is empty on the last."""

    checkpoint: str
    batches: tuple[OwnBatch, ...]
    next: str
    named: Guard | None = None  # as in `Carried`


class OwnDemand(msgspec.Struct, frozen=True, kw_only=True):
    """A demand as it was carried out; without `guard` an erasure is outstanding there."""

    signed: SignedRequest
    received_at: KeptInstant
    erased: int
    leaf: Proof
    guard: SignedErasure | None


class OwnTombstone(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is gone, and why: `kind` of its leaf says what `of` is.

    `deletion`: `of` is the SHA-256 of the demand, as in its `signed.request`, or of what the
    guard signed that it has erased by its own hand.  `tombstone`: the
    device deleted it.  `expiry`: `of` is its last day.
    """

    batch_hash: bytes
    made_at: KeptInstant
    swept_at: KeptInstant | None  # when its bytes were removed; None: not yet
    kind: Kind
    of: bytes
    leaf: Proof


class OwnDeletions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of what is gone; the newest demands come with the first page."""

    checkpoint: str
    demands: tuple[OwnDemand, ...]
    tombstones: tuple[OwnTombstone, ...]
    next: str
    named: Guard | None = None


class OwnAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A release of one batch: `access` is the SHA-256 of the request, or of an own order."""

    batch_hash: bytes
    core_hash: bytes
    access: bytes
    policy: bytes  # the digest of the policy that was in force
    released_at: KeptInstant
    leaf: Proof


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that names approvers, with the metadata that sign it."""

    root: bytes
    snapshot: bytes
    targets: bytes
    policy: bytes


class OwnAccesses(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of releases, with the requests, orders and policies that they name, each once."""

    checkpoint: str
    accesses: tuple[OwnAccess, ...]
    grants: tuple[AccessGrant, ...]
    orders: tuple[SignedReturn, ...]
    policies: tuple[InForce, ...]
    next: str
    named: Guard | None = None


class GivenBack(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of an order, logged; `released` is its age header, sealed to the order's key.

    Without it the guard refused: by what name, and in words.
    """

    batch_hash: bytes
    core_hash: bytes
    leaf: Proof
    released: bytes | None = None
    refused: str | None = None
    error: str | None = None


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an order, batch by batch, under a checkpoint that the witness cosigned."""

    checkpoint: str
    batches: tuple[GivenBack, ...]


# --- what is believed -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """The keys that the data subject has from elsewhere; an empty `witness` checks nothing.

    `later` are keys of the guard that are proved to follow those.
    """

    origin: str
    log: str
    witness: str
    guard: str
    subject: SubjectId
    rights_key: bytes
    later: tuple[Three, ...] = ()

    def told_of(self, named: Guard | None) -> "Believed":
        """Return the same, with the keys that *named* proves to follow."""
        later = that_follow(self.guard, self.witness, named)
        return replace(self, later=later) if later else self

    def verify_word(self, word: SignedErasure, request: bytes) -> Erasure:
        """Return the guard's word on a request, by the key on paper or one that follows it.

        Raises:
            WireError: It is of none of them.

        """
        for key, _witness, _lease in self.later:
            with contextlib.suppress(ForgedError):
                return verify_erasure(word, request, key)
        return verify_erasure(word, request, self.guard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A checkpoint of the right log, and whether the witness cosigned it."""

    checkpoint: Checkpoint
    is_cosigned: bool

    def check(self, leaf: Proof, kind: Kind, payload: bytes) -> None:
        """Check that the log holds an entry of *kind* for *payload*.

        Raises:
            ForgedError: It does not.

        """
        verify_inclusion(
            leaf=leaf_hash(entry(kind, payload, leaf.salt)),
            index=leaf.index,
            size=self.checkpoint.size,
            proof=leaf.proof,
            root=self.checkpoint.root,
        )


def head_of(note: str, believed: Believed) -> Head:
    """Return the head that an answer rests on.

    Raises:
        ForgedError: Not signed by the log, or by somebody else in the witness's name.
        MalformedError: No signed note, or a key of *believed* is none.

    """
    checkpoint = verify_checkpoint(note, believed.log)
    if not believed.witness:
        return Head(checkpoint=checkpoint, is_cosigned=False)
    for witness in (believed.witness, *(key for _signing, key, _lease in believed.later)):
        with contextlib.suppress(ForgedError):
            verify_cosignature(note, witness)
            return Head(checkpoint=checkpoint, is_cosigned=True)
    return Head(checkpoint=checkpoint, is_cosigned=False)


def check_batch(shown: OwnBatch, head: Head, believed: Believed) -> Core:
    """Return the core of a batch, if it is the asker's own and the log has it.

    Raises:
        WireError: It is not.

    """
    core = decode_core(shown.core)
    if core.subject != believed.subject:
        raise ForgedError("a batch of somebody else is shown as yours")
    payload = batch_payload(BatchHash(shown.batch_hash), core_hash(shown.core))
    head.check(shown.leaf, Kind.BATCH, payload)
    return core


def check_demand(shown: OwnDemand, head: Head, believed: Believed) -> Request:
    """Return a demand, if it is the asker's own, the log has it, and the guard's word is.

    Raises:
        WireError: One of these is not so.

    """
    request = verify_request(shown.signed, believed.origin)
    if request.subject != believed.subject:
        raise ForgedError("a demand of somebody else is shown as yours")
    head.check(shown.leaf, Kind.DELETION, request_payload(shown.signed.digest))
    if shown.guard is not None:
        believed.verify_word(shown.guard, shown.signed.digest)
    return request


def check_tombstone(shown: OwnTombstone, head: Head) -> None:
    """Check that the log has what ended a batch.

    Under an erasure the leaf is of the demand, and the log does not say which batches it meant.

    Raises:
        WireError: It has not.

    """
    batch = BatchHash(shown.batch_hash)
    match shown.kind:
        case Kind.DELETION:
            payload = request_payload(shown.of)
        case Kind.TOMBSTONE:
            payload = deletion_payload(batch)
        case Kind.EXPIRY:
            payload = expiry_payload(batch, shown.of.decode("ascii", "replace"))
        case _:
            raise MalformedError(f"nothing ends with a leaf of kind {shown.kind}")
    head.check(shown.leaf, shown.kind, payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An access as it was checked: by a reader (`request`), or by the asker (`order`)."""

    request: AccessRequest | None
    order: ReturnOrder | None
    approvers: tuple[tuple[str, str], ...]  # name and party, of the policy of that time
    root_sha256: bytes  # of the root that the policy's signatures lead to


def check_access(shown: OwnAccess, page: OwnAccesses, head: Head, believed: Believed) -> Access:
    """Return who had a batch opened, if the log has it and it was approved.

    The signatures of policy and approvers are checked against the root that the answer brings;
    whether that is the root that is to be believed, the caller compares.

    Raises:
        WireError: The log has not, or it was not.

    """
    batch, core = BatchHash(shown.batch_hash), CoreHash(shown.core_hash)
    for signed in page.orders:
        if signed.digest == shown.access:
            order = verify_return(signed, believed.origin)
            if order.subject != believed.subject or shown.batch_hash not in order.batches:
                raise ForgedError("an order of somebody else, or of other batches, is shown")
            payload = release_payload(batch, core, shown.access, order.recipient)
            head.check(shown.leaf, Kind.RELEASE, payload)
            return Access(request=None, order=order, approvers=(), root_sha256=b"")
    grant = next((each for each in page.grants if access_digest(each) == shown.access), None)
    if grant is None:
        raise ForgedError("an access is shown without the request that it was for")
    request = decode_request(grant.request)
    head.check(
        shown.leaf,
        Kind.RELEASE,
        release_payload(batch, core, shown.access, request.recipient),
    )
    policy, root_sha256 = _policy_of(shown, page)
    parties = {each.name: each.party for each in policy.approvers}
    # One request can have been approved anew under another policy: whom only that one names
    # does not count, and does no harm.
    counted = tuple(each for each in grant.approvals if each.approver in parties)
    approved = AccessGrant(request=grant.request, approvals=counted)
    verify_access(approved, policy, WallInstant(request.expires_at - 1))
    return Access(
        request=request,
        order=None,
        approvers=tuple((each.approver, parties[each.approver]) for each in counted),
        root_sha256=root_sha256,
    )


def _policy_of(shown: OwnAccess, page: OwnAccesses) -> tuple[Policy, bytes]:
    for each in page.policies:
        if policy_digest(each.policy) == shown.policy:
            policy = verify_signatures(
                root=each.root, snapshot=each.snapshot, targets=each.targets, policy=each.policy
            )
            return policy, hashlib.sha256(each.root).digest()
    raise ForgedError("an access is shown without the policy of its time")


def check_given(given: GivenBack, order: SignedReturn, recipient: str, head: Head) -> None:
    """Check that the log has the release of one batch of the asker's own order.

    Raises:
        WireError: It has not.

    """
    batch, core = BatchHash(given.batch_hash), CoreHash(given.core_hash)
    payload = release_payload(batch, core, order.digest, recipient)
    head.check(given.leaf, Kind.RELEASE, payload)
