"""Which organisation holds which policy key, and the rule that none can sign alone.

TUF counts signatures; it does not know who holds the keys.  So each key in `root.json`
carries the name of its party (a field that python-tuf keeps and the signatures cover), and
`check_parties` refuses a root in which one organisation could reach a threshold by itself.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from securesystemslib.exceptions import VerificationError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Key, Metadata, Root, Targets  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from wire.ed25519 import public_key
from wire.errors import MalformedError, NotCoveredError
from wire.policy import Policy

PARTY_FIELD: Final = "x-assent-party"
SIGNING_ROLES: Final = ("root", "targets", "snapshot")
_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")
LEAST_THRESHOLD: Final = 2  # with one signature one party decides


def party_of(key: Key) -> str:
    """Return the organisation that holds *key*, or an empty text when the root does not say."""
    party = key.unrecognized_fields.get(PARTY_FIELD)
    return party if isinstance(party, str) else ""


def check_parties(root: bytes, policy: Policy) -> None:
    """Check that no single organisation can sign this policy or replace these keys.

    Raises:
        MalformedError: Not a TUF root, or a key in whose name anybody can sign.
        NotCoveredError: A threshold below 2, one key under two names, a key without a party,
            a party that reaches a threshold alone, controller or representatives missing, or
            a threshold that is reached without the representatives.

    """
    signed = _root(root)
    for role in SIGNING_ROLES:
        threshold = signed.roles[role].threshold
        keys = [signed.keys[keyid] for keyid in signed.roles[role].keyids if keyid in signed.keys]
        if threshold < LEAST_THRESHOLD:
            raise NotCoveredError(f"the {role} role asks for {threshold} signature; two is least")
        _check_distinct(keys, role)
        held = Counter(party_of(key) for key in keys)
        if "" in held:
            raise NotCoveredError(f"a {role} key does not say whose it is")
        for party, count in held.items():
            if count >= threshold:
                raise NotCoveredError(f"{party} holds {count} of the {threshold} {role} keys alone")
        for party in (policy.controller.name, policy.representatives.name):
            if party not in held:
                raise NotCoveredError(f"{party} holds no {role} key, so it cannot have agreed")
        needed = policy.representatives.name
        if held.total() - held[needed] >= threshold:
            raise NotCoveredError(f"the {role} keys reach their threshold without {needed}")


def signers(root: bytes, targets: bytes) -> Mapping[str, bool]:
    """Return for each party of the targets role whether a valid signature of it is there.

    Raises:
        MalformedError: One of the two is not in its format.

    """
    signed = _root(root)
    try:
        offered = Metadata[Targets].from_bytes(targets)
        result = signed.get_verification_result("targets", offered.signed_bytes, offered.signatures)
    except (DeserializationError, RepositoryError, VerificationError, ValueError) as exc:
        raise MalformedError(f"the policy's signatures cannot be read: {exc}") from exc
    said = {party_of(key): False for key in result.unsigned.values()}
    return said | {party_of(key): True for key in result.signed.values()}


def holders(root: bytes) -> Mapping[bytes, str]:
    """Return whose each key is that signs policies, by its 32 raw bytes.

    Raises:
        MalformedError: Not a TUF root, or a key that is none.

    """
    signed = _root(root)
    role = signed.roles["targets"]
    keys = [signed.keys[keyid] for keyid in role.keyids if keyid in signed.keys]
    values = [(str(key.keyval.get("public")), party_of(key)) for key in keys]
    return {bytes.fromhex(value): party for value, party in values if _PUBLIC.fullmatch(value)}


def _root(data: bytes) -> Root:
    try:
        metadata = Metadata[Root].from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError) as exc:
        raise MalformedError(f"the policy's root cannot be read: {exc}") from exc
    if not isinstance(metadata.signed, Root):
        raise MalformedError("the policy's root is metadata of another role")
    return metadata.signed


def _check_distinct(keys: list[Key], role: str) -> None:
    # TUF counts key ids, and an id is only a name: the key itself must be another one too.  One
    # way to write a key is allowed, or blanks between its digits would make it two.
    values = [str(key.keyval.get("public")) for key in keys]
    for key, value in zip(keys, values, strict=True):
        if key.keytype != "ed25519" or not _PUBLIC.fullmatch(value):
            raise NotCoveredError(
                f"a {role} key is not Ed25519 in 64 lower-case hexadecimal digits"
            )
        public_key(bytes.fromhex(value))
    if len(set(values)) != len(values):
        raise NotCoveredError(f"one key stands twice among the {role} keys")
