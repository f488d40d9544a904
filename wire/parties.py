"""Which organisation holds which policy key, and the rule that none can sign alone.

TUF counts signatures; it does not know who holds the keys.  So each key in `root.json`
carries the name of its party (a field that python-tuf keeps and the signatures cover), and
`check_parties` refuses a root in which one organisation could reach a threshold by itself.
"""

import base64
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from wire.ed25519 import public_key
from wire.errors import NotCoveredError
from wire.lease import tuf_key
from wire.metadata import Key, Root, Targets, Timestamp, keys_that_signed, metadata_of
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
    """Check that no single organisation can sign this policy, replace these keys or renew alone.

    Raises:
        MalformedError: Not a TUF root, or a key in whose name anybody can sign.
        NotCoveredError: A threshold below 2, one key under two names, a key without a party,
            a party that reaches a threshold alone, controller or representatives missing,
            a threshold that is reached without the representatives, or a lease that needs
            other signatures than those of the policy's collector and guard.

    """
    signed = metadata_of(root, Root).signed
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
    _check_lease(signed, policy)


def _check_lease(root: Root, policy: Policy) -> None:
    """Check that a lease takes the collector's key and the guard's, and that neither does more."""
    role = root.roles[Timestamp.type]
    keys = [root.keys[keyid] for keyid in role.keyids if keyid in root.keys]
    _check_distinct(keys, Timestamp.type)
    named = {tuf_key(of.lease_key).keyid for of in (policy.collector, policy.guard)}
    if role.threshold != LEAST_THRESHOLD or len(named) != LEAST_THRESHOLD:
        raise NotCoveredError("a lease needs two signatures: the collector's and the guard's")
    if set(role.keyids) != named or {_keyid(key) for key in keys} != named:
        raise NotCoveredError(
            "the root's lease keys are not those of the policy's collector and guard"
        )
    for other in SIGNING_ROLES:
        signing = {_keyid(root.keys[k]) for k in root.roles[other].keyids if k in root.keys}
        if signing & named:
            raise NotCoveredError(f"a lease key stands among the {other} keys, too")


def _keyid(key: Key) -> str:
    """Return the id of the key itself: what the root calls it is only a name."""
    raw = bytes.fromhex(str(key.keyval["public"]))
    return tuf_key(base64.b64encode(raw).decode("ascii")).keyid


def signers(root: bytes, targets: bytes) -> Mapping[str, bool]:
    """Return for each party of the targets role whether a valid signature of it is there.

    Raises:
        MalformedError: One of the two is not in its format.

    """
    offered = metadata_of(targets, Targets)
    signed, unsigned = keys_that_signed(metadata_of(root, Root).signed, offered)
    said = {party_of(key): False for key in unsigned.values()}
    return said | {party_of(key): True for key in signed.values()}


def holders(root: bytes) -> Mapping[bytes, str]:
    """Return whose each key is that signs policies, by its 32 raw bytes.

    Raises:
        MalformedError: Not a TUF root, or a key that is none.

    """
    signed = metadata_of(root, Root).signed
    role = signed.roles["targets"]
    keys = [signed.keys[keyid] for keyid in role.keyids if keyid in signed.keys]
    values = [(str(key.keyval.get("public")), party_of(key)) for key in keys]
    return {bytes.fromhex(value): party for value, party in values if _PUBLIC.fullmatch(value)}


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
