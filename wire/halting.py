"""A halt in the words of one party: signed by one of its policy keys, handed over as a file.

Any one party may halt a programme and none can lift a halt alone: it holds for one policy,
by digest, and ends when a policy with another digest is in force, which takes the threshold.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.ed25519 import public_key
from wire.errors import UNREADABLE, ForgedError, MalformedError, NotCoveredError
from wire.ids import PolicyDigest, WallInstant
from wire.parties import holders

LABEL: Final = b"assent/halt/v1\0"
LONGEST_WHY: Final = 200


class Halt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policy is halted, since when and why, in one line for the data subject."""

    policy: bytes  # PolicyDigest
    why: str
    called_at: WallInstant


class SignedHalt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes of a `Halt`, and one party's signature over them."""

    halt: bytes
    signature: bytes


def sign_halt(halt: Halt, key: Ed25519PrivateKey) -> SignedHalt:
    """Return *halt* signed with a policy key of one party."""
    data = msgspec.json.encode(halt)
    return SignedHalt(halt=data, signature=key.sign(LABEL + data))


def decode_halt(data: bytes) -> SignedHalt:
    """Return the signed halt that a file holds.

    Raises:
        MalformedError: It holds none.

    """
    try:
        return msgspec.json.decode(data, type=SignedHalt)
    except UNREADABLE as exc:
        raise MalformedError(f"this is no signed halt: {exc}") from exc


def verify_halt(signed: SignedHalt, root: bytes, digest: PolicyDigest) -> tuple[Halt, str]:
    """Return the halt and whose it is, if a key that signs the policy of *digest* signed it.

    *root* is the trusted root metadata; one signature is enough.

    Raises:
        MalformedError: Not in its format.
        ForgedError: Not signed by a key that *root* names for policies.
        NotCoveredError: It is for another policy.

    """
    party = _signer(signed, root)
    try:
        halt = msgspec.json.decode(signed.halt, type=Halt)
    except UNREADABLE as exc:
        raise MalformedError(f"the halt cannot be read: {exc}") from exc
    if halt.policy != digest:
        raise NotCoveredError("this halt is for another policy than the one in force")
    return halt, party


def _signer(signed: SignedHalt, root: bytes) -> str:
    for raw, party in holders(root).items():
        try:
            public_key(raw).verify(signed.signature, LABEL + signed.halt)
        except InvalidSignature:
            continue
        return party
    raise ForgedError("this halt is not signed with a policy key of a party")
