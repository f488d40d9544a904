"""The next version of a policy, in which a guard is named by the keys that follow.  Pure.

Which keys follow which says `wire.guard_follows`; here the same rule is a policy's next step,
refused where it would not hold, and a line of the lint.
"""

from collections.abc import Iterator
from datetime import date

import msgspec

from base.errors import RejectedError
from wire.errors import WireError
from wire.guard_follows import (
    check_line,
    check_witness_line,
    is_same,
    is_same_witness,
    raw_keys,
    three_of,
)
from wire.policy import Guard, Policy, Witness


def rotated(policy: Policy, made: Guard | Witness, *, ask_again: bool = False) -> Policy:
    """Return the next version, which names the guard, or one more witness, by the keys of *made*.

    Name and who runs it stay as they are.  With *ask_again* nobody's word is needed: then it is
    another one, and every consent stale.

    Raises:
        RejectedError: They are no keys, the present ones, or do not follow the present ones.

    """
    if isinstance(made, Witness):
        return _with_witness(policy, made, ask_again=ask_again)
    try:
        raw_keys(made)
    except WireError as exc:
        raise RejectedError(f"{exc}; give the guard.json of assent-guard") from exc
    if set(three_of(made)) & set(three_of(policy.guard)):
        raise RejectedError("the policy names one of these keys already")
    if not ask_again and not is_same(policy.guard, made):
        raise RejectedError(
            "the guard of this policy did not say that these keys follow its own; give the "
            "guard.json of that guard, or let everybody be asked again: --ask-again"
        )
    signing_key, witness, lease_key = three_of(made)
    guard = msgspec.structs.replace(
        policy.guard,
        signing_key=signing_key,
        witness=witness,
        lease_key=lease_key,
        follows=() if ask_again else made.follows,
    )
    return msgspec.structs.replace(policy, version=policy.version + 1, guard=guard)


def _with_witness(policy: Policy, made: Witness, *, ask_again: bool) -> Policy:
    before = [each for each in policy.witnesses if each.name == made.name]
    if len(before) != 1:
        raise RejectedError(f"the policy names {len(before)} witnesses {made.name!r}, not one")
    if made.key == before[0].key:
        raise RejectedError("the policy names this key already")
    if not ask_again and not is_same_witness(before[0], made):
        raise RejectedError(
            f"the witness {made.name} did not say that this key follows its own; give the "
            "guard.json of that witness, or let everybody be asked again: --ask-again"
        )
    if ask_again:
        made = msgspec.structs.replace(made, follows=(), words=())
    named = msgspec.structs.replace(made, party=before[0].party)
    witnesses = tuple(named if each is before[0] else each for each in policy.witnesses)
    return msgspec.structs.replace(policy, version=policy.version + 1, witnesses=witnesses)


def follows_nothing(policy: Policy, _today: date) -> Iterator[str]:
    """Yield lines of former keys that do not hold, of the guard and of witnesses."""
    try:
        check_line(policy.guard)
    except WireError as exc:
        yield str(exc)
    for witness in policy.witnesses:
        try:
            check_witness_line(witness)
        except WireError as exc:
            yield str(exc)
