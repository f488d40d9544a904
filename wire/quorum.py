"""Whether enough witnesses have seen a head of the log: the one place of this rule.

docs/decisions/0055-a-quorum-of-witnesses.md in code.  A log that shows different things to
different people needs each witness of a quorum to help it.  So what counts is parties, not
keys: two witnesses of one party are one, and so is one key under two names.  The guard's own
witness is always among them, for the guard believes what it has seen itself.
"""

import base64
import binascii
from collections.abc import Iterable

from wire.errors import ForgedError, WireError
from wire.policy import Policy, Witness
from wire.tlog import parse_verifier_key, verify_cosignature


def witnesses_of(policy: Policy) -> tuple[Witness, ...]:
    """Return all witnesses of *policy*, the guard's own first."""
    guard = policy.guard
    own = Witness(name=guard.name, party=guard.run_by, key=guard.witness)
    return (own, *policy.witnesses)


def cosigners(note: str, policy: Policy) -> tuple[Witness, ...]:
    """Return the witnesses of *policy* whose valid cosignature *note* carries: one a party.

    A signature that does not hold, or of somebody else, counts for nothing and harms nothing.
    """
    found: list[Witness] = []
    for witness in witnesses_of(policy):
        parties, keys = {party_of(each) for each in found}, {_key_of(each) for each in found}
        if party_of(witness) in parties or not _has_cosigned(note, witness):
            continue
        if _key_of(witness) not in keys:
            found.append(witness)
    return tuple(found)


def verify_quorum(note: str, policy: Policy) -> int:
    """Return when the guard's witness cosigned *note*, seconds since the epoch.

    Raises:
        ForgedError: The guard's own witness, or as many as `policy.quorum`, have not cosigned it.
        MalformedError: Not a signed note.

    """
    at = verify_cosignature(note, policy.guard.witness)
    there = cosigners(note, policy)
    if len(there) < policy.quorum:
        missing = ", ".join(each.name for each in witnesses_of(policy) if each not in there)
        raise ForgedError(
            f"{len(there)} of the {policy.quorum} witnesses that the policy asks for have "
            f"cosigned this head; not counted: {missing}"
        )
    return at


def with_cosignatures(note: str, lines: Iterable[str], policy: Policy) -> str:
    """Return *note* with those of *lines* that are good cosignatures, each by another witness.

    What else a witness may have answered is left out, so that it can spoil nothing.  It may
    answer with several lines, while one key of it follows another.
    """
    for line in (f"{one}\n" for answer in lines for one in answer.split("\n")[:-1]):
        before = cosigners(note, policy)
        if _is_written(line) and len(cosigners(note + line, policy)) > len(before):
            note += line
    return note


def counted(note: str, policy: Policy) -> str:
    """Return *note* with the signature of its log, and of the cosignatures those that count.

    While a witness changes its key it signs with both; what is kept has what its policy names.
    """
    head, _, signatures = note.rpartition("\n\n")
    first, _, others = signatures.partition("\n")
    return with_cosignatures(f"{head}\n\n{first}\n", [others], policy)


def party_of(witness: Witness) -> str:
    """Return a party's name as it is compared: neither spaces nor capitals make another one."""
    return " ".join(witness.party.split()).casefold()


def _key_of(witness: Witness) -> bytes:
    """Return the raw key: two names, or two texts, can be of one."""
    return parse_verifier_key(witness.key)[2]


def _has_cosigned(note: str, witness: Witness) -> bool:
    try:
        verify_cosignature(note, witness.key)
    except WireError:
        return False
    return True


def _is_written(line: str) -> bool:
    """Whether it is one signature line, in the one way to write it."""
    blob = line.rstrip("\n").rpartition(" ")[2]
    try:
        canonical = base64.b64encode(base64.b64decode(blob, validate=True)).decode("ascii")
    except (binascii.Error, ValueError):
        return False
    return canonical == blob and line.endswith("\n") and line.count("\n") == 1
