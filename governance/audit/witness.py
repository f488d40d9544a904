"""The checkpoints: signed by the log and the witness that the policy of their time names."""

import base64
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from governance.audit.findings import Finding, Rule
from governance.audit.policies import Policies
from governance.audit.reading import FoundError
from governance.audit.times import DAY, Times, day_of
from wire.errors import ForgedError, MalformedError, WireError
from wire.tlog import unsigned_checkpoint, verify_checkpoint, verify_cosignature

FRESH: Final = 7 * DAY  # seconds; an older bundle may hide what came since


def size_of(note: str) -> int:
    """Return of how many leaves a note is.

    Raises:
        MalformedError: It is no checkpoint.

    """
    return unsigned_checkpoint(note).size


def witnessed(note: str, roots: Mapping[int, bytes], policies: Policies) -> tuple[int, int]:
    """Return how many leaves *note* covers and when (seconds) the witness cosigned it.

    Raises:
        FoundError: Its root is not what the entries give, or it lacks one of the two signatures.

    """
    try:
        checkpoint = unsigned_checkpoint(note)
        _check_written(note)
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
        at = verify_cosignature(note, policy.policy.guard.witness)
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


def _check_written(note: str) -> None:
    """Check that there are two signatures, and each is written in the one way."""
    lines = note.rpartition("\n\n")[2].split("\n")[:-1]
    if len(lines) != 2:
        raise MalformedError("a checkpoint has two signatures, the log's and the witness's")
    for line in lines:
        blob = line.rpartition(" ")[2]
        if base64.b64encode(base64.b64decode(blob, validate=True)).decode() != blob:
            raise MalformedError("a signature is not in the one form of base64")
