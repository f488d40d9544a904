"""What devices and readers say to the collector; docs/spec/collector-http-v1.md in code.

Bodies are JSON in which bytes are base64; hashes in paths are hexadecimal.  A batch itself
travels as the bytes of its frame, and its receipt is `wire.receipt`; the guard's keys come
through unchanged (`wire.guard_http.KeyAnswer`).
"""

from typing import Annotated, Final, TypeVar

import msgspec

from wire.category import Category
from wire.errors import UNREADABLE, MalformedError
from wire.grant import AccessGrant
from wire.ids import WallInstant
from wire.leaf import Kind, entry, request_payload
from wire.policy import Guard
from wire.rights import SignedErasure
from wire.tlog import leaf_hash, verify_checkpoint, verify_inclusion

T = TypeVar("T")

# Said in each answer of a collector, as `Assent-Protocol`.  The first number is that of the
# path (/v1); the second grows with each field or answer that is added.
PROTOCOL: Final = (1, 1)
PROTOCOL_HEADER: Final = "assent-protocol"


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The enrolment file: all that a device has to know before its first request.

    `tls_pins` and `root_sha256` are hexadecimal; the root is the policy's `root.json`.
    `token` is good for one device and until `expires_at`: hand the file over privately.
    """

    origin: str
    tls_pins: tuple[str, ...]
    ca_pem: str
    token: str
    root_sha256: str
    expires_at: WallInstant


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's first words: the token, and a signing request (PEM) of its Ed25519 key."""

    token: str
    csr: str


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a new certificate of a key that was enrolled before."""

    csr: str


class Certified(msgspec.Struct, frozen=True, kw_only=True):
    """The device's client certificate (PEM); its one SAN URI says what it is called here.

    `ca_pem` is the authority of the server from now on; two while one follows the other,
    empty where nothing is said.
    """

    certificate: str
    expires_at: WallInstant
    ca_pem: str = ""


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that something stands in the log: `entry(kind, payload, salt)` at `index`."""

    salt: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str  # C2SP signed note; the proof leads to its root


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """A tombstone: the batch is gone or, when it had not come yet, will be refused."""

    stored: bool  # whether there was something to delete
    tombstone: Logged


class Carried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A data subject's request as it was carried out; without `guard` its half is outstanding.

    `named` is how the policy in force names the guard, where its keys follow others.
    """

    erased: int  # batches
    logged: Logged  # kind `deletion`, payload = SHA-256 of the request
    guard: SignedErasure | None
    named: Guard | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the programme stands still, and why, in one line for the data subject.

    A halt ends with the policy under which it was called, a stop with its cause: then
    `stopped` is empty again.
    """

    halted: bool
    why: str
    stopped: str = ""


class FrameOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reader's approved grant, and the index of the last frame that it has seen listed."""

    grant: AccessGrant
    after: Annotated[int, msgspec.Meta(ge=-1, le=(1 << 53) - 1)] = -1  # that all of JSON counts


class ShownGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reader's approved grant: without one it is given no frame, nor anything about one."""

    grant: AccessGrant


class StoredFrame(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader may know of a frame before it fetches it."""

    batch_hash: bytes
    index: int  # of its leaf in the log; frames are listed in this order
    category: Category
    day: str
    bytes: int


class FrameList(msgspec.Struct, frozen=True, kw_only=True):
    """One page of frames; `more` says to ask again with `after` = the last index."""

    frames: tuple[StoredFrame, ...]
    more: bool


class KeptConsent(msgspec.Struct, frozen=True, kw_only=True):
    """A consent record as the device signed it, and the key by which to check that.

    `device_key` is raw Ed25519; SHA-256 of its SubjectPublicKeyInfo is the core's device,
    SHA-256 of `record` is the core's grant: a reader need not believe the collector.
    """

    record: bytes
    signature: bytes
    device_key: bytes


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame was recorded under: the consent, and the texts of the policies to compare.

    The policies are those that the consent was given under and that the frame names; one, when
    they are the same.
    """

    consent: KeptConsent
    policies: tuple[bytes, ...]


class ReleaseOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reader's approved grant, and the hashes of the batches it wants released."""

    grant: AccessGrant
    batches: tuple[bytes, ...]


class LoggedRelease(msgspec.Struct, frozen=True, kw_only=True):
    """One release as it stands in the log; the proof leads to the root of the checkpoint."""

    batch_hash: bytes
    entry: bytes
    salt: bytes
    index: int
    proof: tuple[bytes, ...]


class ReleaseList(msgspec.Struct, frozen=True, kw_only=True):
    """The releases in the order asked, under one checkpoint that the witness cosigned."""

    checkpoint: str
    releases: tuple[LoggedRelease, ...]


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """That the log of one size is a prefix of the log of another (RFC 6962)."""

    proof: tuple[bytes, ...]


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was refused: `name: one line for a person`."""

    error: str


def decode(data: bytes, expect: type[T]) -> T:
    """Return the message in *data*.

    Raises:
        MalformedError: Not JSON, or not the fields of *expect*.

    """
    try:
        return msgspec.json.decode(data, type=expect)
    except UNREADABLE as exc:
        raise MalformedError(f"this is no {expect.__name__}: {exc}") from exc


def newer_protocol(said: str) -> bool:
    """Whether a collector that said so knows more than this version; nonsense is no more."""
    major, dot, minor = said.partition(".")
    digits = all(part.isascii() and part.isdigit() and len(part) < 6 for part in (major, minor))
    return bool(dot) and digits and (int(major), int(minor)) > PROTOCOL


def verify_carried(body: bytes, request: bytes, log_key: str) -> Carried:
    """Return the answer to the request with this digest, if the log has the request.

    Raises:
        WireError: It is none, or the log of this verifier key has not.

    """
    carried = decode(body, Carried)
    verify_logged(carried.logged, Kind.DELETION, request_payload(request), log_key)
    return carried


def verify_logged(logged: Logged, kind: Kind, payload: bytes, log_key: str) -> None:
    """Check that the log of this verifier key holds an entry of *kind* for *payload*.

    Raises:
        ForgedError: For something else, not signed by that log, or not in its tree.
        MalformedError: The checkpoint is no signed note.

    """
    checkpoint = verify_checkpoint(logged.checkpoint, log_key)
    verify_inclusion(
        leaf=leaf_hash(entry(kind, payload, logged.salt)),
        index=logged.index,
        size=checkpoint.size,
        proof=logged.proof,
        root=checkpoint.root,
    )
