"""The checkpoints: signed by the log and the witnesses that the policy of their time names.

The guard's own dates each; the head of a bundle needs the policy's quorum.
"""

import base64
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from governance.audit.findings import Finding, Rule
from governance.audit.policies import Policies
from governance.audit.reading import FoundError
from governance.audit.times import Times
from wire.days import DAY, day_of
from wire.errors import ForgedError, MalformedError, WireError
from wire.policy import Policy
from wire.quorum import cosigners, verify_quorum
from wire.tlog import unsigned_checkpoint, verify_checkpoint, verify_cosignature

FRESH: Final = 7 * DAY  # seconds; an older bundle may hide what came since


def size_of(note: str) -> int:
    """Return of how many leaves a note is.

    Raises:
        MalformedError: It is no checkpoint.

    """
    return unsigned_checkpoint(note).size


def witnessed(
    note: str, roots: Mapping[int, bytes], policies: Policies, *, by_quorum: bool = False
) -> tuple[int, int]:
    """Return how many leaves *note* covers and when (seconds) the guard's witness cosigned it.

    Raises:
        FoundError: Its root is not what the entries give, it lacks the signature of log or
            witness, or (*by_quorum*) of as many as its policy asks for, or has another.

    """
    try:
        checkpoint = unsigned_checkpoint(note)
        signatures = _written(note)
    except WireError as exc:
        raise FoundError(Rule.NOT_WITNESSED, None, f"a checkpoint cannot be read: {exc}") from exc
    if roots.get(checkpoint.size) != checkpoint.root:
        what = f"the first {checkpoint.size} entries are not those that were cosigned"
        raise FoundError(Rule.REWRITTEN, None, what)
    policy = policies.before(checkpoint.size)
    try:
        if policy is None:
            raise ForgedError("no policy was in force that says whose word counts")
        verify_checkpoint(note, policy.policy.collector.log)
        check = verify_quorum if by_quorum else _by_guard
        at = check(note, policy.policy)
        if signatures != 1 + len(cosigners(note, policy.policy)):
            raise ForgedError("it has a signature that is of none of its policy's witnesses")
    except WireError as exc:
        what = f"the checkpoint over {checkpoint.size} leaves: {exc}"
        raise FoundError(Rule.NOT_WITNESSED, None, what) from exc
    return checkpoint.size, at


def seen_before(note: str, roots: Mapping[int, bytes], policies: Policies) -> None:
    """Check that what somebody was shown of the log is a part of it.

    Raises:
        FoundError: The log was shortened or rewritten since, or that is of another log.

    """
    checkpoint = unsigned_checkpoint(note)
    keys = {each.policy.collector.log for each in policies.known}
    if not any(_is_signed(note, key) for key in keys):
        raise FoundError(Rule.NOT_WITNESSED, None, "what was seen is signed by another log")
    if checkpoint.size and roots.get(checkpoint.size) != checkpoint.root:
        what = f"somebody was shown other {checkpoint.size} entries than these"
        raise FoundError(Rule.REWRITTEN, None, what)


def times_of(found: Sequence[tuple[int, int]]) -> Times:
    """Return the times of these sizes.

    Raises:
        FoundError: A longer log was cosigned before a shorter one.

    """
    times = Times(tuple(size for size, _ in found), tuple(at for _, at in found))
    for before, now in pairwise(found):
        if now[0] <= before[0] or now[1] < before[1]:
            what = f"{now[0]} leaves were cosigned before {before[0]} were"
            raise FoundError(Rule.NOT_WITNESSED, None, what)
    return times


def is_fresh(times: Times, now: int) -> list[Finding]:
    """Return what is wrong if the head is not of these days."""
    if now - FRESH <= times.head <= now + DAY:
        return []
    what = f"the bundle is of {day_of(times.head)}; the audit of {day_of(now)} needs a newer one"
    return [Finding(rule=Rule.STALE, what=what)]


def _is_signed(note: str, key: str) -> bool:
    try:
        verify_checkpoint(note, key)
    except WireError:
        return False
    return True


def _by_guard(note: str, policy: Policy) -> int:
    return verify_cosignature(note, policy.guard.witness)


def _written(note: str) -> int:
    """Return how many signatures there are; each is written in the one way."""
    lines = note.rpartition("\n\n")[2].split("\n")[:-1]
    for line in lines:
        blob = line.rpartition(" ")[2]
        if base64.b64encode(base64.b64decode(blob, validate=True)).decode() != blob:
            raise MalformedError("a signature is not in the one form of base64")
    return len(lines)
