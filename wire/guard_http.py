"""What collector, readers and guard say to each other; docs/spec/guard-http-v1.md in code.

Bodies are JSON in which bytes are base64.  The guard signs each key that it hands out
(`sign_key`), and the device checks it (`verify_key`), since it comes by way of the collector.
"""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
)

from wire.category import Category
from wire.collector_http import Logged
from wire.ed25519 import public_key
from wire.errors import ForgedError, MalformedError
from wire.grant import AccessGrant
from wire.guard_order import SignedOrder
from wire.me import SignedReturn

KEY_LABEL: Final = b"assent/guard-key/v1\0"
LARGEST_RELEASE: Final = 1_000  # batches in one request: some 10 MB of JSON
MOST_SIGNATURES: Final = 4  # of one key: a guard has three signing keys at most, and soon one
MOST_ORDERS: Final = 16  # in one answer: the proofs of so many fit into one request
_MONTH: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for the guard's public key of one subject, category and month ("YYYY-MM")."""

    subject: bytes  # SubjectId, 16 bytes
    category: Category
    month: str


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The guard's X-Wing public key (1216 bytes), signed by the key that the policy names.

    `also` are signatures by the guard's other keys, while one follows another: whoever has the
    policy before, or the next, finds among them the one that it needs.
    """

    public_key: bytes
    signature: bytes
    also: tuple[bytes, ...] = ()


class LoggedBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One batch to release: the parts of its frame that the guard needs, and its leaf.

    `entry` is the log entry of kind "release" (`wire.leaf`), whose commitment opens with
    `salt`; `proof` is its inclusion proof at `index` under the request's checkpoint.
    """

    batch_hash: bytes
    core: bytes
    shelf: bytes
    entry: bytes
    salt: bytes
    index: int
    proof: tuple[bytes, ...]


class ReleaseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reader's approved grant, the cosigned checkpoint, and the batches it wants."""

    grant: AccessGrant
    checkpoint: str
    batches: tuple[LoggedBatch, ...]


class ReturnRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data subject's own order, the cosigned checkpoint, and the batches of it."""

    order: SignedReturn
    checkpoint: str
    batches: tuple[LoggedBatch, ...]


class ReleaseAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one batch: `released` for the reader's key, or why it was refused."""

    batch_hash: bytes
    released: bytes | None = None
    refused: str | None = None  # the name of the refusal, see the specification
    error: str | None = None  # the same in words


class ReleaseAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """One answer for each batch asked for, in the order asked."""

    batches: tuple[ReleaseAnswer, ...]


class GuardState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the guard has halted the programme, why, and whose word it is.

    `stopped` says why it has stopped it, until it goes on; empty if it has not.
    """

    halted: bool
    why: str = ""
    by: str = ""
    stopped: str = ""


class Obeyed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the collector has carried out the order of this digest: its leaf, kind `deletion`."""

    order: bytes
    logged: Logged


class OrdersRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Asks what the guard has erased by its own hand; `obeyed` it need not say again.

    The orders of the digests in `again` it is to sign once more: by the key of its policy now.
    """

    obeyed: tuple[Obeyed, ...] = ()
    again: tuple[bytes, ...] = ()


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The oldest orders that the collector has not proved yet, at most `MOST_ORDERS`."""

    orders: tuple[SignedOrder, ...]


def key_message(request: KeyRequest, public_key: bytes) -> bytes:
    """Return what the guard signs when it hands out *public_key*.

    Raises:
        MalformedError: The subject is not 16 bytes, or the month is none.

    """
    if len(request.subject) != 16:
        raise MalformedError("a subject pseudonym is 16 bytes")
    if not _MONTH.fullmatch(request.month):
        raise MalformedError(f"{request.month!r} is not a month as in 2027-03")
    category, month = request.category.value.encode(), request.month.encode()
    return KEY_LABEL + request.subject + category + b"\0" + month + public_key


def sign_key(
    request: KeyRequest,
    public_key: bytes,
    guard: Ed25519PrivateKey,
    also: Iterable[Ed25519PrivateKey] = (),
) -> KeyAnswer:
    """Return *public_key* as the guard hands it out: signed by its key, and *also* by others."""
    message = key_message(request, public_key)
    return KeyAnswer(
        public_key=public_key,
        signature=guard.sign(message),
        also=tuple(other.sign(message) for other in also),
    )


def verify_key(answer: KeyAnswer, request: KeyRequest, signing_key: str) -> bytes:
    """Return the guard's public key, if it was made for exactly this request.

    *signing_key* is `Policy.guard.signing_key`.

    Raises:
        ForgedError: Not signed by the guard that the policy names, or for another request.
        MalformedError: The request or the policy's key is not in its format.

    """
    try:
        key = public_key(base64.b64decode(signing_key, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise MalformedError("the policy's guard key is not an Ed25519 key in base64") from exc
    message = key_message(request, answer.public_key)
    for signature in (answer.signature, *answer.also)[:MOST_SIGNATURES]:
        with contextlib.suppress(InvalidSignature):
            key.verify(signature, message)
            return answer.public_key
    raise ForgedError("the guard's key is not signed by the policy's guard for this")
