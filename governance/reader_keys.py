"""What the lint asks of readers' keys; each yields where it is broken (`governance.checks`)."""

from collections import Counter
from collections.abc import Iterator
from datetime import date

from wire.errors import ForgedError
from wire.policy import KeyState, Policy
from wire.recipients import find, key_of, sealed_to, verify_word


def two_sealed_to(policy: Policy, _today: date) -> Iterator[str]:
    """Yield readers to several keys of which new batches would be sealed."""
    for name, count in Counter(r.name for r in sealed_to(policy.recipients)).items():
        if count > 1:
            yield f"recipients seal to {count} keys of {name}"


def contradicting(policy: Policy, _today: date) -> Iterator[str]:
    """Yield keys that are named in several states."""
    for key in dict.fromkeys(key_of(r) for r in policy.recipients):
        states = {r.state for r in find(policy.recipients, key)}
        if len(states) > 1:
            yield f"recipient {key[:16]} is {' and '.join(sorted(states))} at once"


def follows_nothing(policy: Policy, _today: date) -> Iterator[str]:
    """Yield keys that follow none, two that follow one, and those that nobody vouched for."""
    for name, count in Counter(r.follows for r in policy.recipients if _able(r.state)).items():
        if name and count > 1:
            yield f"{count} recipients follow the key {name}"
    for entry in policy.recipients:
        if not entry.follows and not entry.word:
            continue
        before = find(policy.recipients, entry.follows)
        if len(before) != 1:
            yield f"recipient {entry.name!r} follows {entry.follows or 'nothing'}: no key here"
            continue
        try:
            verify_word(entry, before[0])
        except ForgedError as exc:
            yield f"recipient {entry.name!r}: {exc}"
        if before[0].state is KeyState.SEALED_TO and _able(entry.state):
            yield f"recipient {entry.name!r} follows a key that is still sealed to"


def _able(state: KeyState) -> bool:
    return state is not KeyState.REVOKED
